"""The visitor's jobs: what waits, what runs and how far it is, and a button that stops one."""

from __future__ import annotations

from html import escape
from typing import Any

import gradio as gr

from muybridge.jobs.queue import QUEUED, RUNNING, Job, Queue
from muybridge.studio import shown, work
from muybridge.studio.forms import shown_command
from muybridge.studio.page import AT_ONCE, EVERY, Page, answering

#: How many jobs are shown, the newest first.
SHOWN = 12


class Jobs:
    """The table under the tabs."""

    def __init__(self, page: Page):
        self.page = page
        with gr.Accordion("Jobs", open=False, elem_classes=["jobs"]):
            gr.Markdown("They run one after another and go on when this page is closed.")
            with gr.Row():
                which = gr.Dropdown([], label="job", allow_custom_value=True)
                stop = gr.Button("Stop it", elem_classes=["stop-job"])
            told, board = gr.HTML(elem_classes=["told-jobs"]), gr.HTML(elem_classes=["board-jobs"])
        which.focus(self.names, None, which, **AT_ONCE)
        stop.click(answering(self.stop), which, told, **AT_ONCE)
        gr.Timer(EVERY).tick(answering(self.board), None, board, **AT_ONCE)

    def names(self, request: gr.Request) -> Any:
        """Those that can be stopped."""
        return gr.Dropdown([j.name for j in self._jobs(request) if j.state in (QUEUED, RUNNING)])

    def stop(self, request: gr.Request, name: str | None) -> str:
        """Ask one of theirs to stop."""
        return shown.said([work.stop(Queue().job(name or "", self.page.visitor(request).name))])

    def board(self, request: gr.Request) -> str:
        """A row a job."""
        rows = []
        for job in self._jobs(request)[:SHOWN]:
            state = job.state
            bar = work.bar_of(job) if state == RUNNING else ""
            last = job.log(400).strip().splitlines()[-1:] if job.code else []
            rows.append(
                f"<tr><td>{job.name}</td><td>{state}{bar}{shown.said(last)}</td>"
                f"<td><code>{escape(shown_command(job.arguments))}</code></td></tr>"
            )
        return f'<table class="plain">{"".join(rows)}</table>' if rows else shown.said(["no jobs yet"])

    def _jobs(self, request: gr.Request) -> list[Job]:
        return Queue().jobs(self.page.visitor(request).name)[::-1]
