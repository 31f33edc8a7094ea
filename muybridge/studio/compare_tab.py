"""Compare: results side by side, frame by frame, and in what their records differ."""

from __future__ import annotations

import io
from html import escape
from typing import Any

import gradio as gr

from muybridge.errors import UserError
from muybridge.studio import shown
from muybridge.studio.page import AT_ONCE, Page, answering

#: Pixels of a shown frame's longer side at least.
SIDE = 192


def add(page: Page) -> None:
    """The tab."""
    with gr.Tab("Compare"):
        compare = Compare(page)
        with gr.Row():
            refresh = gr.Button("List my files", elem_classes=["list-compare"])
            names = gr.CheckboxGroup([], label="files")
        frame = gr.Slider(0, 100, 0, step=1, label="time, % of each video")
        board = gr.HTML(elem_classes=["board-compare"])
        refresh.click(compare.files, None, names, **AT_ONCE)
        for changed in (names.change, frame.release):
            changed(answering(compare.show), [names, frame], board, **AT_ONCE)


class Compare:
    """What the tab does."""

    def __init__(self, page: Page):
        self.page = page

    def files(self, request: gr.Request) -> Any:
        return gr.CheckboxGroup([p.name for p in self.page.visitor(request).results()], value=[])

    def show(self, request: gr.Request, names: list[str], share: float) -> str:
        """The same moment of each, and what differs from the first."""
        from muybridge.data.video_io import read_recipe, read_video
        from muybridge.making.record import differences

        visitor = self.page.visitor(request)
        if len(names) < 2:
            raise UserError("choose two files or more")
        paths = [visitor.own(name) for name in names]
        figures, records = [], [read_recipe(path) for path in paths]
        for path, record in zip(paths, records, strict=True):
            frames = read_video(path).frames
            still = frames[round((len(frames) - 1) * share / 100)]
            apart = [] if record == records[0] else differences(records[0], record)
            told = "".join(f"<li>{escape(line)}</li>" for line in apart)
            figures.append(
                f"<figure>{shown.picture(_png(still), 'png', path.name)}<figcaption><b>{escape(path.name)}</b>"
                f"<ul>{told}</ul></figcaption></figure>"
            )
        return shown.results(figures)


def _png(frame: Any) -> bytes:
    """uint8 [H, W, 3] as PNG, small ones enlarged."""
    from PIL import Image

    from muybridge.nn.frames import enlarge

    large = enlarge(frame[None], max(1, SIDE // max(frame.shape[:2])))[0]
    buffer = io.BytesIO()
    Image.fromarray(large).save(buffer, "PNG")
    return buffer.getvalue()
