"""Curate: raw footage to clips, with the report of what is kept and dropped."""

from __future__ import annotations

from html import escape
from typing import Any
from urllib.parse import quote

import gradio as gr

from muybridge.cli.curate_commands import OF_RUN, PARTS
from muybridge.curation.settings import CurationSettings, SelectSettings
from muybridge.studio import shown, work
from muybridge.studio.clips_board import ClipsBoard, decisions_of
from muybridge.studio.forms import arguments_of, fields_of
from muybridge.studio.inputs import component
from muybridge.studio.page import AT_ONCE, EVERY, Page, answering
from muybridge.studio.visits import Visitor

COMMAND = "curate run"


def add(page: Page) -> None:
    """The tab."""
    with gr.Tab("Curate"):
        Curate(page)


class Curate:
    """The tab's components and what they do."""

    def __init__(self, page: Page):
        self.page = page
        parts = [(SelectSettings, None), *((p, None) for p in PARTS), (CurationSettings, OF_RUN)]
        self.fields = [f for f in fields_of(COMMAND, parts) if f.name != "decisions"]  # the clips' board writes them
        gr.Markdown(
            "What is kept and what is dropped follows the settings below. What was looked at once is not looked at "
            "again, so another choice of what to keep or drop is quick."
        )
        with gr.Row():
            with gr.Column():
                footage = gr.Textbox(label="footage", info="a folder of videos; it is only read")
                name = gr.Textbox("my-clips", label="name of the clips")
                keep = {f.name: component(f) for f in self.fields if f.name in ("keep", "drop", "limits", "duplicates")}
                with gr.Accordion("More settings", open=False):
                    rest = {f.name: component(f) for f in self.fields if f.name not in keep}
                with gr.Row():
                    start, stop = gr.Button("Curate", variant="primary"), gr.Button("Stop")
                    report = gr.Button("Show the report")
                told, watched = gr.HTML(elem_classes=["told-curate"]), gr.HTML(elem_classes=["watched-curate"])
            with gr.Column():
                board = gr.HTML(elem_classes=["board-curate"])
                ClipsBoard(page, name)
        self.order = [*keep, *rest]
        start.click(
            answering(self.start), [footage, name, *keep.values(), *rest.values()], told, **AT_ONCE
        )  # fmt: skip
        stop.click(answering(self.stop), name, told, **AT_ONCE)
        report.click(answering(self.report), name, board, **AT_ONCE)
        gr.Timer(EVERY).tick(answering(self.watch), name, watched, **AT_ONCE)

    def start(self, request: gr.Request, footage: str, name: str, *values: Any) -> str:
        """Put the curation into the queue."""
        visitor = self.page.visitor(request)
        folder, output = visitor.check_path(footage.strip(), "footage"), visitor.new_folder("clips", name)
        given = dict(zip(self.order, values, strict=True))
        arguments = arguments_of(COMMAND, self.fields, {"footage": str(folder.resolve()), **given})
        visitor.check_named(arguments[2:])
        decided = decisions_of(visitor, name)
        by_hand = ["--decisions", str(decided)] if decided.is_file() else []
        job = work.start(visitor, ["curate", "run", "-o", str(output), *by_hand, *arguments[2:]])
        return shown.said([f"job {job.name} is {job.state}"])

    def stop(self, request: gr.Request, name: str) -> str:
        """Stop it; the same again goes on."""
        return shown.said([work.stop(self._job(self.page.visitor(request), name))])

    def watch(self, request: gr.Request, name: str) -> str:
        """How it is."""
        return work.board(self._job(self.page.visitor(request), name))

    def report(self, request: gr.Request, name: str) -> str:
        """The report's page, in a frame that may neither run scripts nor fetch anything."""
        output = self.page.visitor(request).new_folder("clips", name)
        if not (output / "report.html").is_file():
            return shown.said([f"no report of {name} yet"])
        return (
            f'<iframe sandbox="" src="/reports/{quote(name)}" title="{escape(name)}" '
            'style="width:100%;height:70vh;border:0;background:#fff"></iframe>'
        )

    @staticmethod
    def _job(visitor: Visitor, name: str) -> Any:
        return work.newest(visitor, ["curate", "run", "-o", str(visitor.new_folder("clips", name))])
