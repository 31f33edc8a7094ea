"""Train: choose clips and a recipe, look at them, plan, start, watch, stop, go on, export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from muybridge.cli.outputs import places_in
from muybridge.configuration import from_mapping
from muybridge.configuration import shown as short
from muybridge.documents import read_yaml
from muybridge.errors import UserError
from muybridge.files import write_text
from muybridge.jobs.queue import QUEUED
from muybridge.studio import shown, work
from muybridge.studio.page import AT_ONCE, AT_WORK, EVERY, Page, answering
from muybridge.studio.running import run_whole
from muybridge.studio.visits import Visitor


def add(page: Page) -> None:
    """The tab."""
    with gr.Tab("Train"):
        Train(page)


class Train:
    """The tab's components and what they do."""

    def __init__(self, page: Page):
        self.page = page
        gr.Markdown("A recipe says what is trained on what. The run goes on when this page is closed.")
        with gr.Row():
            with gr.Column():
                recipe = gr.Textbox(label="recipe", info="a YAML file in a folder that this page may read")
                opened = gr.Button("Open", elem_classes=["open-recipe"])
                clips = gr.Textbox(label="clips", info="a folder of captioned clips, in place of the recipe's data")
                steps = gr.Textbox(label="steps", info="in place of the recipe's", max_lines=1)
                put = gr.Button("Put them into the recipe")
                text = gr.Code(language="yaml", label="recipe", lines=12, elem_classes=["recipe-text"])
            with gr.Column():
                name = gr.Textbox("my-run", label="name of the run", elem_classes=["run-name"])
                with gr.Row():
                    buttons = {n: gr.Button(n, elem_classes=[f"train-{n.split()[0].lower()}"]) for n in (
                        "Look at the clips", "Plan", "Start or go on", "Stop", "Export",
                    )}  # fmt: skip
                told = gr.HTML(elem_classes=["told-train"])
                watched = gr.HTML(elem_classes=["watched-train"])
        opened.click(self.open, recipe, [text, told], **AT_ONCE)
        put.click(self.put, [text, clips, steps], [text, told], **AT_ONCE)
        for label, function, limits in (
            ("Look at the clips", self.look, AT_WORK), ("Plan", self.plan, AT_WORK),
            ("Start or go on", self.start, AT_ONCE), ("Stop", self.stop, AT_ONCE), ("Export", self.export, AT_WORK),
        ):  # fmt: skip
            inputs = [name] if label in ("Stop", "Export") else [text, name]
            buttons[label].click(answering(function), inputs, told, **limits)
        gr.Timer(EVERY).tick(answering(self.watch), name, watched, **AT_ONCE)

    def open(self, request: gr.Request, recipe: str) -> tuple[Any, str]:
        """The text of a recipe's file."""
        try:
            path = self.page.visitor(request).check_path(recipe.strip(), "recipe")
            read_yaml(path)
            return path.read_text(encoding="utf-8"), ""
        except UserError as error:
            return gr.skip(), shown.said([f"error: {error}"])

    def put(self, request: gr.Request, text: str, clips: str, steps: str) -> tuple[Any, str]:
        """The recipe with a folder's clips and a number of steps."""
        import yaml

        try:
            visitor = self.page.visitor(request)
            values = self._values(visitor, text)
            if clips.strip():
                folder = visitor.check_path(clips.strip(), "clips")
                former = _section(values, "data")
                kept = {k: former.get(k) for k in ("height", "width", "num_frames", "fps")}
                data = {k: v for k, v in kept.items() if v is not None}
                values["data"] = {"source": "folder", "path": str(folder.resolve()), "short": "hold", **data}
            if steps.strip():
                values["training"] = {**_section(values, "training"), "steps": _steps(steps)}
            return yaml.safe_dump(values, sort_keys=False), ""
        except UserError as error:
            return gr.skip(), shown.said([f"error: {error}"])

    def look(self, request: gr.Request, text: str, name: str) -> str:
        """What the recipe trains on: numbers, captions, a sheet, and what was left out."""
        visitor = self.page.visitor(request)
        recipe = self._written(visitor, text, name)
        sheet = visitor.folder / f".{name}-clips.png"
        printed = run_whole(["data", "show", str(recipe), "--count", "6", "-o", str(sheet)])
        lines = printed.replace(str(sheet), "").strip().splitlines()
        return shown.said([*lines, *self._left_out(recipe)]) + shown.picture(sheet.read_bytes(), "png", "clips")

    @staticmethod
    def _left_out(recipe: Path) -> list[str]:
        """Of a folder's clips what was dropped or trimmed, a line each."""
        from muybridge.data.folder import build_folder
        from muybridge.data.packs import report_lines
        from muybridge.data.sources.folder import FolderConfig

        data = _section(read_yaml(recipe), "data")
        if data.get("source") != "folder":
            return []
        store = build_folder(from_mapping(FolderConfig, {k: v for k, v in data.items() if k != "source"}, "data"))
        return [": ".join(str(v) for v in line.values()) for line in report_lines(store)]

    def plan(self, request: gr.Request, text: str, name: str) -> str:
        """What the recipe needs before it runs."""
        visitor = self.page.visitor(request)
        return shown.said([run_whole(["plan", str(self._written(visitor, text, name))])])

    def start(self, request: gr.Request, text: str, name: str) -> str:
        """Put the run into the queue; the same again goes on from its newest checkpoint."""
        visitor = self.page.visitor(request)
        recipe = self._written(visitor, text, name)
        job = work.start(visitor, ["train", str(recipe), "-o", str(visitor.new_folder("runs", name))])
        return shown.said([f"job {job.name} is {job.state}"])

    def stop(self, request: gr.Request, name: str) -> str:
        """Stop the run with a checkpoint."""
        return shown.said([work.stop(self._job(self.page.visitor(request), name))])

    def export(self, request: gr.Request, name: str) -> str:
        """The averaged weights of the newest checkpoint as a model folder."""
        visitor = self.page.visitor(request)
        run, model = visitor.new_folder("runs", name), visitor.new_folder("models", name)
        if not run.is_dir():
            raise UserError(f"no run {name!r} yet; start it first")
        return shown.said([run_whole(["export", str(run), str(model)]).strip()])

    def watch(self, request: gr.Request, name: str) -> str:
        """How the run is."""
        visitor = self.page.visitor(request)
        run = visitor.new_folder("runs", name)
        return work.board(self._job(visitor, name)) + (work.run_board(run) if run.is_dir() else "")

    def _job(self, visitor: Visitor, name: str) -> Any:
        visitor.new_folder("runs", name)  # a name that could lead elsewhere is refused
        return work.newest(visitor, ["train", str(visitor.folder / "recipes" / f"{name}.yaml")])

    def _values(self, visitor: Visitor, text: str) -> dict[str, Any]:
        """The keys of a recipe, none of which leads out of the allowed folders."""
        draft = visitor.folder / ".draft.yaml"
        write_text(draft, text or "")
        try:
            values = read_yaml(draft)
        except UserError as error:  # it is a text in a box, whatever it is written to
            raise UserError(str(error).replace(f"{draft}:", "recipe:").replace(f"{draft}.", "recipe: ")) from None
        for place in places_in(values.get("data")):
            visitor.check_path(str(place), "data")
        visitor.check_named(_texts(values))
        return values

    def _written(self, visitor: Visitor, text: str, name: str) -> Path:
        """The recipe as a file of the visitor's.

        Raises:
            UserError: no recipe, or one of a run that waits in the queue and shall train as it was started.
        """
        visitor.new_folder("runs", name)
        job = self._job(visitor, name)
        if job is not None and job.state == QUEUED:
            raise UserError(f"{name} waits in the queue (job {job.name}); stop it first, or take another name")
        self._values(visitor, text)
        path = visitor.folder / "recipes" / f"{name}.yaml"
        write_text(path, text)
        return path


def _section(values: dict[str, Any], name: str) -> dict[str, Any]:
    """A section of a recipe, empty where there is none.

    Raises:
        UserError: it is no section.
    """
    found = values.get(name) or {}
    if not isinstance(found, dict):
        raise UserError(f"{name}: expected keys and values, got {type(found).__name__} {short(found)}")
    return found


def _steps(text: str) -> int:
    """A number of steps that was typed.

    Raises:
        UserError: it is no whole number.
    """
    if not text.strip().isdecimal():
        raise UserError(f"steps: expected a whole number, such as 2000; got {short(text)}")
    return int(text)


def _texts(values: Any) -> list[str]:
    """Every text in a document."""
    if isinstance(values, dict):
        return [text for inner in values.values() for text in _texts(inner)]
    if isinstance(values, list):
        return [text for inner in values for text in _texts(inner)]
    return [values] if isinstance(values, str) else []
