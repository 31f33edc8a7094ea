"""The clips of a curation with what was decided of each, and a box to decide otherwise."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from muybridge.curation.select import read_decisions
from muybridge.errors import UserError
from muybridge.files import write_text
from muybridge.studio import shown
from muybridge.studio.page import AT_ONCE, Page, answering
from muybridge.studio.visits import Visitor

#: Clips on a page, and which can be looked at.
SHOWN, WHICH = 24, ("all", "kept", "dropped")


class ClipsBoard:
    """A page of clips; a ticked one is kept.

    Args:
        name: the box with the curation's name.
    """

    def __init__(self, page: Page, name: Any):
        self.page = page
        with gr.Row():
            which = gr.Dropdown(WHICH, value="all", label="clips")
            number = gr.Number(1, label="page", minimum=1, precision=0)
            show = gr.Button("Show the clips", elem_classes=["show-clips"])
        pictures = gr.HTML(elem_classes=["pictures-clips"])
        ticked = gr.CheckboxGroup([], label="kept", elem_classes=["ticked-clips"])
        decide = gr.Button("Decide so", elem_classes=["decide-clips"])
        told = gr.HTML(elem_classes=["told-clips"])
        seen = gr.State({})  # what is shown: of which curation, what holds of each clip now, and what was said by hand
        show.click(self.show, [name, which, number], [pictures, ticked, seen, told], **AT_ONCE)
        decide.click(answering(self.decide), [name, seen, ticked], told, **AT_ONCE)

    def show(self, request: gr.Request, name: str, which: str, number: float) -> tuple[str, Any, dict[str, Any], str]:
        """Pictures with their reasons, and the boxes."""
        try:
            visitor = self.page.visitor(request)
            clips, there = self._page(visitor, name, which, number)
            figures = _figures(visitor.new_folder("clips", name), clips)
            decided = _read(decisions_of(visitor, name))
        except UserError as error:
            return "", gr.CheckboxGroup([], value=[]), {}, shown.said([f"error: {error}"])
        # a decision that no run has followed yet counts as well
        now = {c["clip_id"]: decided.get(c["clip_id"], "keep" if c["keep"] else "drop") for c in clips}
        boxes = [(f"{i + 1}", clip_id) for i, clip_id in enumerate(now)]
        ticked = gr.CheckboxGroup(boxes, value=[clip_id for clip_id, word in now.items() if word == "keep"])
        seen = {"name": name, "now": now, "by hand": {i: decided[i] for i in now if i in decided}}
        return figures, ticked, seen, shown.said([f"{len(clips)} of {there} clips"])

    def decide(self, request: gr.Request, name: str, seen: dict[str, Any], ticked: list[str]) -> str:
        """Note every clip whose box differs from what was shown; the next run follows it. A box that was put back
        leaves its clip as it was before."""
        if not seen:
            raise UserError("no clips are shown; press Show the clips first")
        if seen["name"] != name:
            raise UserError(f"the clips that are shown are of {seen['name']}, not of {name}; press Show the clips")
        file = decisions_of(self.page.visitor(request), name)
        words = {clip_id: "keep" if clip_id in ticked else "drop" for clip_id in seen["now"]}
        other = {clip_id: word for clip_id, word in words.items() if word != seen["now"][clip_id]}
        elsewhere = {clip_id: word for clip_id, word in _read(file).items() if clip_id not in words}
        decided = elsewhere | seen["by hand"] | other
        _write(file, decided)
        return shown.said([
            f"{len(other)} clips decided otherwise, {len(decided)} by hand in all ({file.name}); press Curate: "
            "the clips follow, and nothing is looked at again"
        ])  # fmt: skip

    @staticmethod
    def _page(visitor: Visitor, name: str, which: str, number: float) -> tuple[list[dict[str, Any]], int]:
        """The clips of a page as the manifest has them, and how many there are in all."""
        import pyarrow.parquet as pq

        manifest = visitor.new_folder("clips", name) / "manifest.parquet"
        if not manifest.is_file():
            raise UserError(f"no clips of {name} yet; press Curate first")
        columns = ["clip_id", "source_id", "path", "start", "end", "keep", "reasons"]
        rows = [row for row in pq.read_table(manifest, columns=columns).to_pylist() if row["clip_id"]]
        rows = [row for row in rows if which == "all" or row["keep"] == (which == "kept")]
        first = SHOWN * (max(1, int(number or 1)) - 1)
        return rows[first : first + SHOWN], len(rows)


def decisions_of(visitor: Visitor, name: str) -> Path:
    """The file with what a visitor decided by hand; beside the clips, whose folder holds nothing of others."""
    folder = visitor.new_folder("clips", name)
    return folder.with_name(f"{folder.name}.decisions.yaml")


def _read(file: Path) -> dict[str, str]:
    return read_decisions(str(file)) if file.is_file() else {}


def _write(file: Path, decided: dict[str, str]) -> None:
    import yaml

    write_text(file, yaml.safe_dump(decided) if decided else "{}\n")


def _figures(output: Path, clips: list[dict[str, Any]]) -> str:
    """A picture of every clip with its number and what speaks against it."""
    from muybridge.curation.pipeline import Curation

    run, figures = Curation.reopened(output), []
    for i, clip in enumerate(clips):
        data = run.picture_of(clip)
        seen = shown.picture(data, "jpeg", clip["path"]) if data else ""
        note = "; ".join(clip["reasons"]) or "kept"
        where = f"{clip['path']} {clip['start']:.1f}-{clip['end']:.1f} s"
        figures.append(
            f"<figure>{seen}<figcaption><b>{i + 1}</b> {escape(where)}<br>{escape(note)}</figcaption></figure>"
        )
    return shown.results(figures)
