"""Backgrounds, painted: plain, gradients, sky, night, grass, sea, snow, city; any size, no two alike."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from muybridge.data.sprites.vocabulary import COLOURS

Array = np.ndarray
Rng = np.random.Generator
#: Backgrounds with a ground that reaches from the horizon down.
GROUNDS = ("grass", "sea", "snow", "city")


def _vertical(height: int, width: int, top: Array, bottom: Array) -> Array:
    share = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    return np.broadcast_to(top + share * (bottom - top), (height, width, 3)).copy()


def _around(rng: Rng, colour: tuple[float, float, float], by: float = 12) -> Array:
    return np.clip(np.array(colour) + rng.uniform(-by, by, 3), 0, 255).astype(np.float32)


def _blobs(rng: Rng, height: int, width: int, count: int, low: float, high: float, radius: float) -> Array:
    """Soft discs at heights `low` to `high` (shares of the picture), float [H, W] in 0..1."""
    y, x = np.ogrid[0:height, 0:width]
    side = min(height, width)
    out = np.zeros((height, width), np.float32)
    for _ in range(count):
        r = side * radius * rng.uniform(0.5, 1.2)
        cx, cy = rng.uniform(0, width), rng.uniform(low, high) * height
        squared = ((x - cx) / (2.2 * r)) ** 2 + ((y - cy) / r) ** 2
        np.maximum(out, np.clip(1.6 - 1.6 * squared, 0, 1), out=out)
    return out


def _day(rng: Rng, height: int, width: int) -> Array:
    return _vertical(height, width, _around(rng, (90, 165, 235)), _around(rng, (195, 228, 250)))


def _sky(rng: Rng, height: int, width: int, horizon: int) -> Array:
    out = _day(rng, height, width)
    cloud = _blobs(rng, height, width, int(rng.integers(3, 7)), 0.05, 0.95, 0.1)[..., None]
    return out + 0.9 * cloud * (np.float32(252) - out)


def _night(rng: Rng, height: int, width: int, horizon: int) -> Array:
    out = _vertical(height, width, _around(rng, (10, 12, 36), 6), _around(rng, (34, 36, 84), 10))
    count = max(6, height * width // 100)
    rows, columns = rng.integers(0, height, count), rng.integers(0, width, count)
    out[rows, columns] = rng.uniform(120, 245, (count, 1))
    return out


def _ground(rng: Rng, out: Array, horizon: int, near: Array, far: Array) -> Array:
    """A ground from `far` at the horizon to `near` at the bottom, below an uneven line. Returns its mask [H, W]."""
    height, width = out.shape[:2]
    x = np.arange(width) / width * 2 * np.pi
    hills = horizon + height * 0.03 * np.sin(x * rng.uniform(0.5, 1.5) + rng.uniform(0, 6))
    y = np.arange(height)[:, None]
    mask = np.clip(y - hills[None] + 0.5, 0, 1).astype(np.float32)[..., None]
    share = np.clip((y - horizon) / max(1, height - horizon), 0, 1).astype(np.float32)[..., None]
    out += mask * (far + share * (near - far) - out)
    return mask[..., 0]


def _grass(rng: Rng, height: int, width: int, horizon: int) -> Array:
    out = _day(rng, height, width)
    mask = _ground(rng, out, horizon, _around(rng, (60, 150, 50)), _around(rng, (125, 195, 85)))
    blades = rng.random((height, width), np.float32)
    blades[1:] = (blades[1:] + blades[:-1]) / 2  # upright
    out += (mask * (blades - 0.5))[..., None] * np.array([36, 50, 24], np.float32)
    return out


def _sea(rng: Rng, height: int, width: int, horizon: int) -> Array:
    out = _day(rng, height, width)
    near, far = _around(rng, (20, 80, 160)), _around(rng, (70, 150, 205))
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    share = np.clip((y - horizon) / max(1, height - horizon), 0, 1)
    water = far + share[..., None] * (near - far)
    phase = 40 * np.sqrt(share) + np.sin(x / width * rng.uniform(12, 30) + 7 * share + rng.uniform(0, 6))
    water += (np.clip(np.sin(phase) - 0.55, 0, 1) * 120)[..., None]
    return np.where((y >= horizon)[..., None], water, out)


def _snow(rng: Rng, height: int, width: int, horizon: int) -> Array:
    out = _vertical(height, width, _around(rng, (165, 185, 210)), _around(rng, (215, 225, 236)))
    mask = _ground(rng, out, horizon, np.array([248, 250, 254], np.float32), np.array([226, 234, 246], np.float32))
    drift = _blobs(rng, height, width, 4, horizon / height, 1.0, 0.12) * mask
    out -= drift[..., None] * np.array([22, 14, 6], np.float32)
    count = max(8, height * width // 80)
    out[rng.integers(0, height, count), rng.integers(0, width, count)] = 255  # flakes that hang in the air
    return out


def _city(rng: Rng, height: int, width: int, horizon: int) -> Array:
    out = _day(rng, height, width)
    x, unit = 0, max(2, width // 16)
    while x < width:
        wide = int(unit * rng.integers(2, 5))
        top = int(max(0, horizon - height * rng.uniform(0.12, 0.5)))
        wall = _around(rng, (112, 116, 134), 34)
        out[top:horizon, x : x + wide] = wall
        lit = np.where(rng.random() < 0.5, np.float32(235), wall + 45)
        pane = max(1, unit // 3)
        for left in range(x + pane, min(x + wide - pane, width), 2 * pane):
            for upper in range(top + pane, horizon - pane, 2 * pane):
                out[upper : upper + pane, left : left + pane] = lit
        x += wide
    out[horizon:] = _around(rng, (92, 92, 98), 8)
    kerb = max(1, height // 32)
    out[horizon : horizon + kerb] = 170
    line = (height + horizon) // 2
    out[line : line + kerb, (np.arange(width) // (2 * unit)) % 2 == 0] = 225
    return out


PAINTERS: dict[str, Callable[[Rng, int, int, int], Array]] = {
    "sky": _sky, "night": _night, "grass": _grass, "sea": _sea, "snow": _snow, "city": _city,
}  # fmt: skip


def paint(name: str, colours: tuple[str, ...], height: int, width: int, horizon: int, seed: int) -> Array:
    """A background, float32 [H, W, 3] in about 0..255.

    Args:
        name: of vocabulary.BACKGROUNDS.
        colours: the one of "plain", the two of "gradient" (top and bottom); none for others.
        horizon: the row where the ground of GROUNDS begins.
        seed: of what is drawn at random in it.
    """
    rng = np.random.default_rng(seed)
    if name == "white":
        return np.full((height, width, 3), 255, np.float32)
    if name == "plain":
        return np.broadcast_to(_around(rng, COLOURS[colours[0]], 8), (height, width, 3)).copy()
    if name == "gradient":
        return _vertical(height, width, _around(rng, COLOURS[colours[0]], 8), _around(rng, COLOURS[colours[1]], 8))
    return PAINTERS[name](rng, height, width, horizon)
