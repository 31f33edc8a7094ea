"""What a lesson shows: a plot, frames and a formula, as HTML that needs nothing else."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from html import escape

from torch import Tensor

from muybridge.nn.frames import enlarge, to_uint8

#: Of a plot, pixels; a margin for its axes' words.
WIDTH, HEIGHT, MARGIN = 420, 260, 34
COLOURS = ("#3b7dd8", "#d8663b", "#3ba55d", "#8a5cc9")
#: Frames of a strip at most.
FRAMES = 6

Points = Sequence[tuple[float, float]]


def formula(latex: str) -> str:
    """An equation typeset as MathML, which browsers draw themselves."""
    from latex2mathml.converter import convert

    return f'<div class="formula">{convert(latex, display="block")}</div>'


def plot(
    lines: Sequence[tuple[str, Points]], marks: Sequence[tuple[str, float, float]] = (), x: str = "", y: str = "",
    square: bool = False,
) -> str:  # fmt: skip
    """Lines and marked points on one pair of axes, as SVG.

    Args:
        lines: (name, [(x, y), ...]); what is not finite is left out.
        marks: (name, x, y).
        x, y: what the axes are.
        square: one unit is as long in x as in y.
    """
    kept = [(name, [p for p in points if math.isfinite(p[0]) and math.isfinite(p[1])]) for name, points in lines]
    marks = [m for m in marks if math.isfinite(m[1]) and math.isfinite(m[2])]
    every = [p for _, points in kept for p in points] + [(a, b) for _, a, b in marks]
    left, right = min(p[0] for p in every), max(p[0] for p in every)
    low, high = min(p[1] for p in every), max(p[1] for p in every)
    width = HEIGHT if square else WIDTH

    def place(point: tuple[float, float]) -> tuple[float, float]:
        return (
            MARGIN + (point[0] - left) / ((right - left) or 1) * (width - 2 * MARGIN),
            HEIGHT - MARGIN - (point[1] - low) / ((high - low) or 1) * (HEIGHT - 2 * MARGIN),
        )

    parts = [
        f'<rect x="{MARGIN}" y="{MARGIN}" width="{width - 2 * MARGIN}" height="{HEIGHT - 2 * MARGIN}" fill="none" '
        'stroke="#8886"/>'
    ]
    for i, (name, points) in enumerate(kept):
        colour = COLOURS[i % len(COLOURS)]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in map(place, points))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{MARGIN + 8}" y="{MARGIN + 15 + 14 * i}" fill="{colour}">{escape(name)}</text>')
    for name, a, b in marks:
        cx, cy = place((a, b))
        parts.append(f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="5" fill="#c22"/>')
        parts.append(f'<text x="{cx + 7:.1f}" y="{cy - 7:.1f}" fill="currentColor">{escape(name)}</text>')
    ends = f"{escape(x)}: {left:.3g} to {right:.3g}", f"{escape(y)}: {low:.3g} to {high:.3g}"
    parts.append(f'<text x="{MARGIN}" y="{HEIGHT - 12}" fill="currentColor">{ends[0]}</text>')
    parts.append(f'<text x="{MARGIN}" y="20" fill="currentColor">{ends[1]}</text>')
    return (
        f'<svg viewBox="0 0 {width} {HEIGHT}" style="max-width:{width}px;width:100%;font:12px sans-serif" role="img" '
        f'aria-label="{escape(y)} over {escape(x)}">{"".join(parts)}</svg>'
    )


def strip(name: str, video: Tensor) -> str:
    """Frames of a video [1, 3, F, H, W] in [-1, 1], evenly spaced."""
    from PIL import Image

    frames = to_uint8(video.float())[0]
    places = [
        round(i * (len(frames) - 1) / max(1, min(FRAMES, len(frames)) - 1)) for i in range(min(FRAMES, len(frames)))
    ]
    pictures = []
    for place in places:
        buffer = io.BytesIO()
        Image.fromarray(enlarge(frames[place : place + 1], 3)[0]).save(buffer, "PNG")
        data = base64.b64encode(buffer.getvalue()).decode()
        pictures.append(f'<img alt="frame {place}" src="data:image/png;base64,{data}">')
    return f'<div class="said">{escape(name)}</div><div class="strip">{"".join(pictures)}</div>'
