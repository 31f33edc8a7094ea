"""The page's server: on this machine alone, each browser with its own files, nothing fetched from elsewhere."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from muybridge.errors import UserError
from muybridge.studio.visits import COOKIE, TOKEN, Studio, new_token

HOST = "127.0.0.1"
#: Names under which the page may be asked for; others are another site's that leads here (DNS rebinding).
HOSTS = (HOST, "localhost", "[::1]")
#: The page's own scripts and styles are gradio's, inline ones among them; everything comes from here.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' blob:; font-src 'self' data:; worker-src 'self' blob:; "
    "frame-ancestors 'self'"
)


class EachTheirOwn:
    """ASGI middleware: gives a browser its cookie, refuses other sites, and says what the page may load."""

    def __init__(self, app: Any):
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":  # other sites may open those, and nothing here speaks through one
            await send({"type": "websocket.close"})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        from starlette.requests import Request
        from starlette.responses import PlainTextResponse

        request = Request(scope)
        origin = request.headers.get("origin")
        from_elsewhere = origin is not None and urlsplit(origin).netloc != request.headers.get("host")
        if _bare(request.headers.get("host", "")) not in HOSTS or from_elsewhere:
            await PlainTextResponse("this page is for this machine's own browser", 403)(scope, receive, send)
            return
        known = TOKEN.fullmatch(request.cookies.get(COOKIE, ""))

        async def answered(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = message["headers"] = list(message.get("headers", []))
                headers.append((b"content-security-policy", POLICY.encode()))
                headers.append((b"x-content-type-options", b"nosniff"))
                headers.append((b"referrer-policy", b"no-referrer"))
                if not known and request.url.path == "/":
                    cookie = f"{COOKIE}={new_token()}; HttpOnly; SameSite=Strict; Path=/; Max-Age=31536000"
                    headers.append((b"set-cookie", cookie.encode()))
            await send(message)

        await self.app(scope, receive, answered)


def _bare(host: str) -> str:
    """A Host header without its port."""
    return host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host


def application(studio: Studio) -> Any:
    """The whole server as an ASGI application."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str(studio.folder.absolute() / "uploads")
    import gradio as gr
    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import FileResponse, PlainTextResponse, Response
    from starlette.routing import Route

    from muybridge.data.video_io import read_recipe
    from muybridge.studio.page import Page, options

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    def own(request: Request, find: Any) -> Any:
        """A response from a visitor's own folder; to others there is nothing."""
        try:
            return find(studio.visitor(request.cookies.get(COOKIE, "")), request.path_params["name"])
        except UserError as error:
            return PlainTextResponse(str(error), 404)

    def file(request: Request) -> Any:
        return own(request, lambda visitor, name: FileResponse(visitor.own(name)))

    def recipe(request: Request) -> Any:
        def answer(visitor: Any, name: str) -> Any:
            text = json.dumps(read_recipe(visitor.own(name)), indent=1, sort_keys=True)
            return Response(text, 200, {"content-disposition": "attachment"}, "application/json")

        return own(request, answer)

    def report(request: Request) -> Any:
        def answer(visitor: Any, name: str) -> Any:
            path = visitor.new_folder("clips", name) / "report.html"
            return FileResponse(path) if path.is_file() else PlainTextResponse("no report", 404)

        return own(request, answer)

    for where, answer in (("files", file), ("recipes", recipe), ("reports", report)):
        app.router.routes.append(Route(f"/{where}/{{name}}", answer))
    page = Page(studio)
    blocks = page.build()
    blocks.queue(max_size=None)
    gr.mount_gradio_app(app, blocks, path="/", server_name=HOST, allowed_paths=[], **options())
    return EachTheirOwn(app)


def serve(folder: Path, allowed: tuple[Path, ...], port: int) -> None:
    """Serve the page until it is interrupted.

    Args:
        folder: of the page: visitors and what they uploaded; made where it is not there.
        allowed: folders that visitors may name.
        port: 0 takes a free one.

    Raises:
        UserError: the port is taken, or a folder is none.
    """
    import socket

    import typer
    import uvicorn

    for path in allowed:
        if not path.is_dir():
            raise UserError(f"--allow {path}: no folder there")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--folder {folder}: no folder for the page ({error.strerror}); give another") from error
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
    except OSError as error:
        raise UserError(f"port {port}: {error.strerror}; give another --port, 0 takes a free one") from error
    app = application(Studio(folder, allowed))
    typer.echo(f"http://{HOST}:{listening.getsockname()[1]}")
    uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="on")).run(sockets=[listening])
