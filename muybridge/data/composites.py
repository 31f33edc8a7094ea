"""`composites`: pictures put together from cut-outs on a ground, with their exact inverse depth.

A clip has two frames: the picture, and its inverse depth as a grey picture (0 far, 255 near). Half of the pictures are
landscapes - a ground that reaches the horizon, cut-outs standing on it, nearer ones larger and in front - and half are one
thing before a plain backdrop, as emoji are.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from muybridge.data.clips import Clip
from muybridge.data.emoji import default_store
from muybridge.data.packs import PackedSource
from muybridge.data.sources.composites import CompositesConfig
from muybridge.diffusion.noise import derive_seed

Array = np.ndarray


class CompositesSource:
    """A numbered set of composites; each is a function of the seed and its number alone."""

    def __init__(self, config: CompositesConfig):
        self.config = config
        store = Path(config.store).expanduser() if config.store else default_store("stills")
        self.cutouts = PackedSource(store, config.split, 1, styles=config.styles)

    def __len__(self) -> int:
        return self.config.num_clips

    def captions(self) -> list[str]:
        return ["a composite"] * len(self)

    def clip(self, index: int) -> Clip:
        rng = np.random.default_rng(derive_seed(self.config.seed, f"composites-{self.config.split}", index))
        picture, depth = self._landscape(rng) if rng.random() < 0.5 else self._portrait(rng)
        grey = (np.clip(depth, 0, 1) * 255 + 0.5).astype(np.uint8)[..., None].repeat(3, -1)
        return Clip(np.stack([np.clip(picture + 0.5, 0, 255).astype(np.uint8), grey]), "a composite")

    def still(self, index: int, frame: int) -> Clip:
        clip = self.clip(index)
        return Clip(clip.frames[frame : frame + 1], clip.caption)

    def _landscape(self, rng: np.random.Generator) -> tuple[Array, Array]:
        n = self.config.size
        horizon = rng.uniform(0.2, 0.6) * n
        y, x = np.mgrid[0:n, 0:n].astype(np.float64)
        nearness = np.clip((y - horizon) / (n - horizon), 0, 1)
        sky, ground, stripe = (rng.uniform(40, 255, 3) for _ in range(3))
        picture = np.broadcast_to(sky, (n, n, 3)) * (1 - 0.25 * (y / n))[..., None]
        phase = rng.uniform(4, 16) * np.where(nearness > 0, 1 / np.maximum(nearness, 0.02), 0) + rng.uniform(0, 6)
        across = (x - n / 2) / np.maximum(nearness, 0.02) / n * rng.uniform(1, 4)
        checks = np.where(np.sin(phase) * np.sin(np.pi * across) > 0, 1.0, 0.0)[..., None] * rng.uniform(0, 0.6)
        floor = ground * (1 - checks) + stripe * checks
        picture = np.where((nearness > 0)[..., None], floor, picture)
        depth = nearness.copy()
        near = np.sort(rng.uniform(0.12, 0.95, rng.integers(1, 5)))
        for value in near:  # far ones first
            side = max(4, int(value * n * rng.uniform(0.6, 1.1)))
            foot = horizon + value * (n - horizon)
            self._paste(picture, depth, rng, side, rng.uniform(0, n), foot - side / 2, value)
        return picture, depth

    def _portrait(self, rng: np.random.Generator) -> tuple[Array, Array]:
        n = self.config.size
        plain = np.full(3, 255.0) if rng.random() < 0.5 else rng.uniform(0, 255, 3)
        picture, depth = np.broadcast_to(plain, (n, n, 3)).copy(), np.zeros((n, n))
        side = int(n * rng.uniform(0.5, 1.0))
        middle = n / 2 + rng.uniform(-0.5, 0.5, 2) * (n - side)
        self._paste(picture, depth, rng, side, middle[0], middle[1], rng.uniform(0.6, 1.0))
        return picture, depth

    def _paste(
        self, picture: Array, depth: Array, rng: np.random.Generator, side: int, x: float, y: float, value: float
    ) -> None:
        """Put a random cut-out of `side` pixels with its middle at (x, y); it hides what is behind it."""
        from PIL import Image

        sprite = Image.fromarray(self.cutouts.raw(int(rng.integers(len(self.cutouts))))[0])
        drawn = np.asarray(sprite.resize((side, side), Image.Resampling.BOX), np.float64)
        n, left, top = self.config.size, round(x - side / 2), round(y - side / 2)
        x0, y0, x1, y1 = max(0, left), max(0, top), min(n, left + side), min(n, top + side)
        if x0 >= x1 or y0 >= y1:
            return
        part = drawn[y0 - top : y1 - top, x0 - left : x1 - left]
        cover = part[..., 3:] / 255
        picture[y0:y1, x0:x1] += cover * (part[..., :3] - picture[y0:y1, x0:x1])
        depth[y0:y1, x0:x1] = np.where(cover[..., 0] > 0.5, value, depth[y0:y1, x0:x1])
