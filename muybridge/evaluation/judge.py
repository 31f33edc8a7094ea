"""Says from pixels alone what a small video of one moving shape shows: its colour, its shape, its direction.

Shares no code and no table with the generator: colours are told by hue, shapes by the geometry of the silhouette,
directions by the drift of its centre.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Array = np.ndarray

#: Ranges of hue in degrees.
HUES = {
    "red": (-20, 16),
    "orange": (16, 43),
    "yellow": (43, 75),
    "green": (75, 160),
    "cyan": (160, 205),
    "blue": (205, 260),
    "purple": (260, 320),
}
WHITE_SATURATION = 0.25
FOREGROUND = 0.35
UPSAMPLE = 4
MIN_DRIFT = 0.06
#: Pixels of the shorter side that larger pictures are reduced towards, by means of whole blocks.
COARSE = 48


@dataclass(frozen=True)
class Verdict:
    """What a video shows; None where nothing can be told."""

    colour: str | None
    shape: str | None
    direction: str | None


def judge(frames: Array) -> Verdict:
    """Judge a video, uint8 [F, H, W, 3], of one shape on a plain dark ground."""
    frames = _coarse(frames)
    weights = [_foreground(f) for f in frames]
    seen = [i for i, w in enumerate(weights) if w.sum() > 4]
    if len(seen) < max(2, len(frames) // 2):
        return Verdict(None, None, None)
    return Verdict(
        _colour(frames[seen], [weights[i] for i in seen]),
        _vote([_shape(weights[i]) for i in seen]),
        _direction([weights[i] for i in seen], seen, frames.shape[1:3]),
    )


def _coarse(frames: Array) -> Array:
    """Block means, float [F, h, w, 3], of a large video; pixels that fill no block are left out."""
    count, height, width, channels = frames.shape
    size = max(1, min(height, width) // COARSE)
    rows, columns = height // size, width // size
    blocks = frames[:, : rows * size, : columns * size].reshape(count, rows, size, columns, size, channels)
    return blocks.mean((2, 4)) if size > 1 else frames


def _foreground(frame: Array) -> Array:
    """Share of each pixel that is not background, 0..1: distance from the median border colour over the largest
    such."""
    pixels = frame.astype(np.float64)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    distance = np.linalg.norm(pixels - np.median(border, axis=0), axis=-1)
    top = np.percentile(distance, 99.5)
    if top < 40:
        return np.zeros(distance.shape)
    share = np.clip(distance / top, 0, 1)
    return np.where(share > 0.15, share, 0.0)


def _colour(frames: Array, weights: list[Array]) -> str:
    """The mean of the most solid pixels, named by hue."""
    solid = np.stack(weights) > 0.8
    red, green, blue = frames[solid].mean(0) / 255
    hue, saturation, _ = colorsys.rgb_to_hsv(red, green, blue)
    if saturation < WHITE_SATURATION:
        return "white"
    degrees = hue * 360
    degrees = degrees - 360 if degrees > 320 else degrees
    return next(name for name, (low, high) in HUES.items() if low <= degrees < high)


def _direction(weights: list[Array], places: list[int], size: tuple[int, int]) -> str:
    """The axis and sign along which the centre drifts over the clip, or "still"."""
    centres = np.array([_centre(w) for w in weights]) / np.array([size[1], size[0]])
    slope = np.polyfit(np.array(places, dtype=np.float64), centres, 1)[0] * (places[-1] - places[0])
    if np.abs(slope).max() < MIN_DRIFT:
        return "still"
    if abs(slope[0]) > abs(slope[1]):
        return "right" if slope[0] > 0 else "left"
    return "down" if slope[1] > 0 else "up"


def _centre(weight: Array) -> tuple[float, float]:
    y, x = np.mgrid[0 : weight.shape[0], 0 : weight.shape[1]]
    total = weight.sum()
    return float((x * weight).sum() / total), float((y * weight).sum() / total)


# --- shapes: the silhouette against drawn silhouettes of the same centre and area ------------------------------------


def _shape(weight: Array) -> str:
    """The template with the largest overlap, after matching centre and area."""
    fine = np.kron(weight, np.ones((UPSAMPLE, UPSAMPLE)))
    mask = _smooth(fine) > FOREGROUND * 1.3
    area = mask.sum()
    if area < 10:
        return "none"
    y, x = np.mgrid[0 : mask.shape[0], 0 : mask.shape[1]].astype(np.float64)
    cx, cy = x[mask].mean(), y[mask].mean()
    scores = {}
    for name, (inside, unit_area, offset) in TEMPLATES.items():
        best = 0.0
        for factor in (0.92, 1.0, 1.08):
            scale = np.sqrt(area / unit_area) * factor
            drawn = inside((x - cx) / scale, (y - cy) / scale + offset)
            best = max(best, np.logical_and(mask, drawn).sum() / np.logical_or(mask, drawn).sum())
        scores[name] = best
    return max(scores, key=scores.__getitem__)


def _smooth(fine: Array) -> Array:
    """A box filter of the upsampling width, twice: linear interpolation of the pixels."""
    kernel = np.ones(UPSAMPLE) / UPSAMPLE
    for axis in (0, 1):
        fine = np.apply_along_axis(lambda row: np.convolve(row, kernel, mode="same"), axis, fine)
    return fine


def _sector(x: Array, y: Array, points: int) -> tuple[Array, Array]:
    """Radius and the angle to the nearest of `points` upward-starting spikes."""
    step = 2 * np.pi / points
    angle = np.mod(np.arctan2(x, -y) + step / 2, step) - step / 2
    return np.hypot(x, y), np.abs(angle)


def _star(x: Array, y: Array) -> Array:
    """A five-pointed star with outer radius 1 and inner radius 0.4: the line between spike and notch in polar form."""
    radius, angle = _sector(x, y, 5)
    outer, inner, half = 1.0, 0.4, np.pi / 5
    edge = outer * inner * np.sin(half) / (inner * np.sin(half - angle) + outer * np.sin(angle))
    return radius < edge


def _triangle(x: Array, y: Array) -> Array:
    radius, angle = _sector(x, -y, 3)  # flat sides face the spikes of the mirrored one
    return radius * np.cos(angle) < 0.5


def _template(inside: Callable[[Array, Array], Array]) -> tuple[Callable[[Array, Array], Array], float, float]:
    y, x = np.mgrid[-1.5:1.5:300j, -1.5:1.5:300j]
    drawn = inside(x, y)
    return inside, float(drawn.sum()) * (3 / 299) ** 2, float(y[drawn].mean())


TEMPLATES = {
    "circle": _template(lambda x, y: np.hypot(x, y) < 1),
    "square": _template(lambda x, y: np.maximum(np.abs(x), np.abs(y)) < 0.8),
    "triangle": _template(_triangle),
    "star": _template(_star),
    "cross": _template(lambda x, y: (np.minimum(np.abs(x), np.abs(y)) < 0.34) & (np.maximum(np.abs(x), np.abs(y)) < 1)),
    "ring": _template(lambda x, y: np.abs(np.hypot(x, y) - 0.735) < 0.265),
}


def _vote(names: list[str]) -> str | None:
    counted = {n: names.count(n) for n in names if n != "none"}
    return max(counted, key=counted.__getitem__) if counted else None
