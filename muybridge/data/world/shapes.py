"""Shapes as signed distances in units of their radius, and the colours they come in."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Array = np.ndarray

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 40, 40),
    "orange": (245, 140, 25),
    "yellow": (245, 225, 50),
    "green": (45, 175, 65),
    "cyan": (50, 215, 225),
    "blue": (45, 85, 230),
    "purple": (150, 55, 200),
    "white": (242, 242, 242),
    "pink": (250, 150, 190),
    "brown": (130, 80, 40),
    "grey": (140, 140, 140),
}


def _polygon(vertices: Array) -> Callable[[Array, Array], Array]:
    """Exact signed distance of a simple polygon [K, 2], negative inside."""
    ends = np.roll(vertices, 1, axis=0)

    def distance(x: Array, y: Array) -> Array:
        nearest = np.full(x.shape, np.inf)
        inside = np.zeros(x.shape, dtype=bool)
        for (ax, ay), (bx, by) in zip(vertices, ends, strict=True):
            ex, ey = bx - ax, by - ay
            wx, wy = x - ax, y - ay
            along = np.clip((wx * ex + wy * ey) / (ex * ex + ey * ey), 0, 1)
            nearest = np.minimum(nearest, (wx - ex * along) ** 2 + (wy - ey * along) ** 2)
            if ay != by:
                crosses = ((y >= ay) != (y >= by)) & (x < ax + (y - ay) * ex / ey)
                inside ^= crosses
        return np.where(inside, -1.0, 1.0) * np.sqrt(nearest)

    return distance


def _regular(corners: int, radius: float, turn: float = -90.0, inner: float | None = None) -> Array:
    """Corners on a circle (y down, the first one up), alternating with an inner radius for stars."""
    count = corners * (2 if inner else 1)
    angle = np.deg2rad(turn + np.arange(count) * 360 / count)
    length = np.where(np.arange(count) % 2 == 0, radius, inner if inner else radius)
    return np.stack([np.cos(angle), np.sin(angle)], 1) * length[:, None]


def _cross(arm: float, half: float) -> Array:
    a, h = arm, half
    corners = [
        (-h, -a),
        (h, -a),
        (h, -h),
        (a, -h),
        (a, h),
        (h, h),
        (h, a),
        (-h, a),
        (-h, h),
        (-a, h),
        (-a, -h),
        (-h, -h),
    ]
    return np.array(corners)


def _circle(x: Array, y: Array) -> Array:
    return np.hypot(x, y) - 1.0


def _ring(x: Array, y: Array) -> Array:
    return np.abs(np.hypot(x, y) - 0.74) - 0.27


def _heart(x: Array, y: Array) -> Array:
    # two discs and the tip below them
    lobes = np.minimum(np.hypot(x - 0.42, y + 0.3), np.hypot(x + 0.42, y + 0.3)) - 0.52
    return np.minimum(lobes, _HEART_TIP(x, y))


_HEART_TIP = _polygon(np.array([(-0.88, -0.08), (0.0, -0.35), (0.88, -0.08), (0.0, 0.98)]))

#: (x, y) in units of the radius, y down -> signed distance in the same unit.
SHAPES: dict[str, Callable[[Array, Array], Array]] = {
    "circle": _circle,
    "square": _polygon(_regular(4, 1.2, turn=-45.0)),
    "triangle": _polygon(_regular(3, 1.2)),
    "star": _polygon(_regular(5, 1.2, inner=0.48)),
    "cross": _polygon(_cross(1.05, 0.36)),
    "ring": _ring,
    "diamond": _polygon(np.array([(0.0, -1.2), (0.75, 0.0), (0.0, 1.2), (-0.75, 0.0)])),
    "hexagon": _polygon(_regular(6, 1.08)),
    "heart": _heart,
}

#: Shapes that look the same when they turn.
ROUND = frozenset({"circle", "ring"})
