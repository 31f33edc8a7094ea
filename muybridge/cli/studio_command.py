"""studio: a page in the browser with everything in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from muybridge.cli.made import options_of, values_of, with_signature
from muybridge.configuration import Settings, setting
from muybridge.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Serving(Settings):
    """Open a page with everything in it: generate, edit, train, curate, compare, learn.

    It is for this machine's browser alone and needs no network. Each browser has its own files; folders of clips,
    footage, models and recipes must lie in an allowed one.

    [bold]muybridge studio --allow ~/clips[/bold]
    """

    folder: Path = setting(Path("studio"), "the page's own: what was made, and what was uploaded")
    allow: tuple[str, ...] = setting(
        (), "a folder that the page may read; may be repeated; the working folder by default"
    )
    port: int = setting(7860, "0 takes a free one", low=0, high=65535)


def register(app: typer.Typer) -> None:
    app.command("studio")(with_signature(studio, options_of(Serving), Serving.__doc__ or ""))


def studio(**values: Any) -> None:
    told = Serving(**values_of(Serving, values))
    try:
        import gradio  # noqa: F401
    except ImportError:
        raise UserError("the page needs gradio: pip install 'muybridge[studio]'") from None
    from muybridge.studio.server import serve

    serve(told.folder, tuple(Path(a).expanduser() for a in told.allow) or (Path.cwd(),), told.port)
