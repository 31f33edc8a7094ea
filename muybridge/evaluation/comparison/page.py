"""The comparison as one HTML page beside its videos; it needs nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from muybridge.files import write_text

STYLE = """body{font:15px/1.5 system-ui,sans-serif;margin:2rem;color:#222}table{border-collapse:collapse}
td,th{padding:.3rem .7rem;border-bottom:1px solid #ddd;text-align:left;vertical-align:top}
td.n{text-align:right;font-variant-numeric:tabular-nums}video{width:12rem;image-rendering:pixelated;border-radius:4px}
thead th{position:sticky;top:0;background:#fff}p{max-width:60rem}"""

#: Figure -> how it is called on the page, and how it is written.
COLUMNS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "way": ("command", str),
    "size": ("frames x height x width", lambda v: " x ".join(str(n) for n in v)),
    "words": ("nearest to its own caption", lambda v: f"{100 * v:.0f} %"),
    "motion": ("motion, grey levels", lambda v: f"{v:.2f}"),
    "flicker": ("flicker, grey levels", lambda v: f"{v:.2f}"),
    "order": ("change in two frames over one", lambda v: f"{v:.2f}"),
    "consistency": ("frame consistency", lambda v: f"{v:.3f}"),
    "motion distance": ("motion distance", lambda v: f"{v:.2f}"),
    "appearance distance": ("appearance distance", lambda v: f"{v:.1f}"),
    "evaluations": ("network evaluations", lambda v: f"{v:g}"),
    "seconds": ("seconds a video", lambda v: f"{v:.1f}"),
    "peak": ("peak memory, GB", lambda v: f"{v / 1e9:.2f}"),
    "parameters": ("parameters, millions", lambda v: f"{v / 1e6:.1f}"),
    "of its own": ("of them its own, millions", lambda v: f"{v / 1e6:.1f}"),
    "training hours": ("training, hours", lambda v: f"{v:.1f}"),
}
NOTES = (
    "Every model draws the same captions with the same seeds, with its own steps and guidance. Figures are medians "
    "over its videos. Motion is the mean difference of consecutive frames, flicker the root mean square difference of "
    "a frame and the next one brought back along the optical flow; distances are Frechet distances to real clips, "
    "whose own halves are held against each other in the row "
    "<i>real clips</i>. Evaluations count both branches of guidance. Peak memory is that of a process of its own that "
    "opens the model and draws one video. Of its own: without the picture model behind it. Training is what the "
    "model's log tells of the machine it ran on."
)


def write_page(
    path: Path, figures: Mapping[str, Any], rows: Mapping[str, Sequence[Any]], prompts: Sequence[str]
) -> Path:
    """Write it; videos are linked by their place beside the page."""
    shown = [name for name in COLUMNS if any(name in f and f[name] is not None for f in figures.values())]
    head = "".join(f"<th>{COLUMNS[name][0]}</th>" for name in shown)
    body = "".join(f"<tr><th>{escape(model)}</th>{_cells(row, shown)}</tr>" for model, row in figures.items())
    names = "".join(f"<th>{escape(name)}</th>" for name in rows)
    videos = "".join(
        f"<tr><td>{escape(prompt)}</td>{''.join(_video(name, i) for name in rows)}</tr>"
        for i, prompt in enumerate(prompts)
    )
    write_text(
        path,
        f"<!doctype html><meta charset=utf-8><title>comparison</title><style>{STYLE}</style>"
        f"<h1>{len(rows)} models, {len(prompts)} captions</h1><p>{NOTES}</p>"
        f"<table><thead><tr><th></th>{head}</tr></thead>{body}</table>"
        f"<h2>Videos</h2><table><thead><tr><th></th>{names}</tr></thead>{videos}</table>",
    )
    return path


def _cells(row: Mapping[str, Any], shown: Sequence[str]) -> str:
    return "".join(
        f'<td class="n">{escape(COLUMNS[name][1](row[name])) if row.get(name) is not None else ""}</td>'
        for name in shown
    )


def _video(name: str, index: int) -> str:
    return f'<td><video src="{quote(name)}/{index:04d}.mp4" autoplay loop muted playsinline></video></td>'
