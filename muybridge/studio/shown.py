"""What is made, as HTML. Everything that a user or a file said is escaped."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

#: Of the page and of what is shown on it; only the system's own fonts.
STYLE = """
.results{display:flex;flex-wrap:wrap;gap:1rem}.results figure{margin:0;max-width:26rem}
.results video,.results img,.preview img{min-width:12rem;max-width:100%;image-rendering:pixelated;border-radius:6px}
.results pre,.log,.command{white-space:pre-wrap;overflow-wrap:anywhere;font-size:12px;margin:.3rem 0}
.said{white-space:pre-wrap;overflow-wrap:anywhere}.error{color:#b3261e}
.bar{height:6px;background:#8884;border-radius:3px;max-width:26rem}
.bar div{height:100%;background:#3b7dd8;border-radius:3px}
.formula{font-size:1.35rem;margin:.6rem 0}.strip{display:flex;gap:2px;flex-wrap:wrap}
.strip img{width:5rem;image-rendering:pixelated}.curve{max-width:34rem;width:100%}
table.plain{border-collapse:collapse}
table.plain td,table.plain th{padding:.15rem .6rem;text-align:left;vertical-align:top}
"""


def said(lines: Sequence[str]) -> str:
    """Notices and errors, a line each, as text."""
    rows = [f'<div class="said{" error" if line.startswith("error:") else ""}">{escape(line)}</div>' for line in lines]
    return "".join(rows)


def bar(what: str, done: float, total: float) -> str:
    """How far something is."""
    share = 100 * done / total if total else 0
    return (
        f'<div class="said">{escape(what)} {done:g} of {total:g}</div>'
        f'<div class="bar"><div style="width:{share:.1f}%"></div></div>'
    )


def moving_picture(data: bytes) -> str:
    """A preview."""
    return f'<div class="preview">{_inline(data, "webp", "what the sampler believes so far")}</div>'


def picture(data: bytes, kind: str = "png", what: str = "") -> str:
    """A picture inside the page."""
    return _inline(data, kind, what)


def _inline(data: bytes, kind: str, what: str) -> str:
    return f'<img alt="{escape(what)}" src="data:image/{kind};base64,{base64.b64encode(data).decode()}">'


def result(path: Path, command: str = "", note: str = "") -> str:
    """A video or a picture of the visitor's with its file, its recipe, and the command that makes the same."""
    from muybridge.data.video_io import read_recipe

    name, where = escape(path.name), f"/files/{quote(path.name)}"
    if path.suffix == ".mp4":
        seen = f'<video src="{where}" controls loop autoplay muted playsinline></video>'
    else:
        seen = f'<img src="{where}" alt="{name}">'
    recipe = read_recipe(path)
    said_of = recipe.get("options", {})
    words = str(said_of.get("prompt") or said_of.get("instruction") or said_of.get("content") or recipe.get("command"))
    told = json.dumps(recipe, indent=1, sort_keys=True, ensure_ascii=False)
    return (
        f'<figure data-name="{name}">{seen}<figcaption><b>{escape(words)}</b> {escape(note)}<br>'
        f'<a href="{where}" download>{name}</a> · <a href="/recipes/{quote(path.name)}" download>its recipe</a>'
        f"<details><summary>recipe</summary><pre>{escape(told)}</pre></details>"
        f"{f'<pre class=command>{escape(command)}</pre>' if command else ''}</figcaption></figure>"
    )


def results(figures: Sequence[str]) -> str:
    """Several of them side by side."""
    return f'<div class="results">{"".join(figures)}</div>' if figures else ""


def curve(points: Sequence[tuple[float, float]], label: str, width: int = 560, height: int = 180) -> str:
    """A line through (x, y), as SVG, with its ends and extremes written beside it."""
    if len(points) < 2:
        return f'<div class="said">{escape(label)}: not enough points yet</div>'
    xs, ys = zip(*points, strict=True)
    low, high, first, last = min(ys), max(ys), min(xs), max(xs)
    rise, run = (high - low) or 1.0, (last - first) or 1.0
    line = " ".join(
        f"{(x - first) / run * width:.1f},{height - (y - low) / rise * (height - 16) - 8:.1f}" for x, y in points
    )
    return (
        f'<svg class="curve" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">'
        f'<polyline points="{line}" fill="none" stroke="#3b7dd8" stroke-width="2"/></svg>'
        f'<div class="said">{escape(label)}: {ys[-1]:.4g} at {last:g} (from {high:.4g} down to {low:.4g})</div>'
    )
