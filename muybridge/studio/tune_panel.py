"""Tune an image model on one video (Tune-A-Video): a job, whose model the panel beside it edits with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from muybridge.cli.tune_command import Tuning
from muybridge.studio import shown, work
from muybridge.studio.forms import arguments_of, fields_of
from muybridge.studio.inputs import Sources, component
from muybridge.studio.page import AT_ONCE, EVERY, Page, answering
from muybridge.studio.visits import Visitor

#: Settings that are not folded away; `folder` is the name of the run here.
FIRST, NOT_HERE = ("caption", "model", "train_steps"), ("folder",)


class Tune:
    """The panel's components and what they do."""

    def __init__(self, page: Page):
        self.page = page
        self.fields = [f for f in fields_of("tune", [(Tuning, None)]) if f.name not in NOT_HERE]
        gr.Markdown("A model learns one video; then *A tuned model* shows something else in it. It takes minutes.")
        with gr.Row():
            with gr.Column():
                self.sources = Sources(page, ["video"], "tune")
                name = gr.Textbox("my-video", label="name of the tuned model", elem_classes=["tune-name"])
                first = {f.name: component(f) for f in self.fields if f.name in FIRST}
                with gr.Accordion("More settings", open=False):
                    rest = {f.name: component(f) for f in self.fields if f.name not in FIRST}
                with gr.Row():
                    start = gr.Button("Tune or go on", variant="primary", elem_classes=["tune-start"])
                    stop = gr.Button("Stop", elem_classes=["tune-stop"])
            with gr.Column():
                told, watched = gr.HTML(elem_classes=["told-tune"]), gr.HTML(elem_classes=["watched-tune"])
        own = {**self.sources.components, **first, **rest}
        self.order = list(own)
        start.click(answering(self.start), [name, *own.values()], told, **AT_ONCE)
        stop.click(answering(self.stop), name, told, **AT_ONCE)
        gr.Timer(EVERY).tick(answering(self.watch), name, watched, **AT_ONCE)

    def start(self, request: gr.Request, name: str, *values: Any) -> str:
        """Put the tuning into the queue; the same again goes on."""
        visitor = self.page.visitor(request)
        given = dict(zip(self.order, values, strict=True))
        given["video"] = str(self.sources.chosen(visitor, given)["video"])
        arguments = arguments_of("tune", self.fields, given)
        visitor.check_named(arguments[1:])
        job = work.start(visitor, ["tune", "--folder", str(self._folder(visitor, name)), *arguments[1:]])
        return shown.said([f"job {job.name} is {job.state}"])

    def stop(self, request: gr.Request, name: str) -> str:
        """Stop it with a checkpoint."""
        return shown.said([work.stop(self._job(self.page.visitor(request), name))])

    def watch(self, request: gr.Request, name: str) -> str:
        """How it is."""
        visitor = self.page.visitor(request)
        run = self._folder(visitor, name)
        return work.board(self._job(visitor, name)) + (work.run_board(run) if run.is_dir() else "")

    @staticmethod
    def _folder(visitor: Visitor, name: str) -> Path:
        return visitor.new_folder("tuned", name)

    def _job(self, visitor: Visitor, name: str) -> Any:
        return work.newest(visitor, ["tune", "--folder", str(self._folder(visitor, name))])
