"""A scene: things that move over a background under a camera, rendered with exact ground truth.

Coordinates are pixels, x right and y down, of a pixel's centre. Everything is a function of the scene alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from muybridge.data.world.shapes import SHAPES

Array = np.ndarray

#: Depth of the background; things lie at depths below it, 1 being nearest.
BACKGROUND_DEPTH = 10.0


@dataclass(frozen=True)
class Thing:
    """One moving shape.

    Attributes:
        shape: a name of shapes.SHAPES.
        colour: RGB, 0..255.
        centres: float [F, 2], (x, y) in world pixels at each frame.
        radii: float [F], pixels.
        angles: float [F], radians, clockwise on screen.
        depth: 1 (near) up to but excluding BACKGROUND_DEPTH.
    """

    shape: str
    colour: tuple[int, int, int]
    centres: Array
    radii: Array
    angles: Array
    depth: float = 1.0

    def local(self, x: Array, y: Array, frame: int) -> tuple[Array, Array]:
        """World pixels to this thing's own unit coordinates at a frame."""
        dx, dy = x - self.centres[frame, 0], y - self.centres[frame, 1]
        cos, sin, r = np.cos(self.angles[frame]), np.sin(self.angles[frame]), self.radii[frame]
        return (cos * dx + sin * dy) / r, (-sin * dx + cos * dy) / r

    def world(self, u: Array, v: Array, frame: int) -> tuple[Array, Array]:
        """The inverse of `local`."""
        cos, sin, r = np.cos(self.angles[frame]), np.sin(self.angles[frame]), self.radii[frame]
        return self.centres[frame, 0] + r * (cos * u - sin * v), self.centres[frame, 1] + r * (sin * u + cos * v)

    def coverage(self, x: Array, y: Array, frame: int) -> Array:
        """The share of each pixel it covers, 0..1 (an edge is one pixel wide)."""
        u, v = self.local(x, y, frame)
        return np.clip(0.5 - SHAPES[self.shape](u, v) * self.radii[frame], 0.0, 1.0)


@dataclass(frozen=True)
class Background:
    """A plain or textured backdrop.

    Attributes:
        kind: "plain", "stripes", "checks", "dots" or "waves".
        colour, second: RGB; `second` is the texture's other colour.
        period: pixels of one repeat.
    """

    kind: str = "plain"
    colour: tuple[int, int, int] = (18, 18, 22)
    second: tuple[int, int, int] = (60, 60, 70)
    period: float = 8.0

    def paint(self, x: Array, y: Array) -> Array:
        """RGB float [..., 3] at world pixels."""
        first = np.asarray(self.colour, dtype=np.float64)
        if self.kind == "plain":
            return np.broadcast_to(first, (*x.shape, 3))
        wave = 2 * np.pi / self.period
        pattern = {
            "stripes": np.sin(wave * x),
            "checks": np.sin(wave * x) * np.sin(wave * y) * 2,
            "dots": np.cos(wave * x) + np.cos(wave * y) - 1.0,
            "waves": np.sin(wave * y + 1.5 * np.sin(0.5 * wave * x)),
        }[self.kind]
        # soft edges about one pixel wide
        share = np.clip(0.5 + pattern * self.period / (2 * np.pi), 0, 1)[..., None]
        return first + share * (np.asarray(self.second, dtype=np.float64) - first)


@dataclass(frozen=True)
class Scene:
    """Things from far to near over a background, seen by a camera.

    Attributes:
        height, width, num_frames: pixels and frames.
        camera: float [F, 2], (x, y) of the view's corner in world pixels.
    """

    height: int
    width: int
    num_frames: int
    things: tuple[Thing, ...]
    background: Background
    camera: Array

    @cached_property
    def _order(self) -> list[int]:
        return sorted(range(len(self.things)), key=lambda i: -self.things[i].depth)

    def _grid(self, frame: int) -> tuple[Array, Array]:
        y, x = np.mgrid[0 : self.height, 0 : self.width].astype(np.float64)
        return x + self.camera[frame, 0], y + self.camera[frame, 1]

    def frame(self, index: int) -> Array:
        """One frame, uint8 [H, W, 3]."""
        x, y = self._grid(index)
        picture = np.array(self.background.paint(x, y))
        for i in self._order:
            cover = self.things[i].coverage(x, y, index)[..., None]
            picture += cover * (np.asarray(self.things[i].colour, dtype=np.float64) - picture)
        return np.clip(picture + 0.5, 0, 255).astype(np.uint8)

    def frames(self) -> Array:
        """All frames, uint8 [F, H, W, 3]."""
        return np.stack([self.frame(i) for i in range(self.num_frames)])

    def labels(self) -> Array:
        """The thing seen at each pixel, int [F, H, W]: its place in `things`, -1 for the background."""
        out = np.full((self.num_frames, self.height, self.width), -1)
        for f in range(self.num_frames):
            x, y = self._grid(f)
            for i in self._order:
                out[f][self.things[i].coverage(x, y, f) >= 0.5] = i
        return out

    def masks(self) -> Array:
        """Visible share of each thing, float [F, N, H, W]; with what shows of the background they add up to 1."""
        out = np.zeros((self.num_frames, len(self.things), self.height, self.width))
        for f in range(self.num_frames):
            x, y = self._grid(f)
            left = np.ones((self.height, self.width))
            for i in reversed(self._order):
                cover = self.things[i].coverage(x, y, f)
                out[f, i] = left * cover
                left = left * (1 - cover)
        return out

    def depth(self) -> Array:
        """Depth, float [F, H, W]."""
        table = np.array([t.depth for t in self.things] + [BACKGROUND_DEPTH])
        return table[self.labels()]

    def edges(self) -> Array:
        """Outlines, bool [F, H, W]: pixels whose right or lower neighbour belongs to something else."""
        labels = self.labels()
        out = np.zeros(labels.shape, dtype=bool)
        out[:, :, :-1] |= labels[:, :, 1:] != labels[:, :, :-1]
        out[:, :-1, :] |= labels[:, 1:, :] != labels[:, :-1, :]
        return out

    def flow(self) -> Array:
        """Forward optical flow in pixels, float [F - 1, H, W, 2]: a pixel of frame f is at (x, y) + flow in f + 1."""
        labels = self.labels()
        out = np.zeros((self.num_frames - 1, self.height, self.width, 2))
        for f in range(self.num_frames - 1):
            x, y = self._grid(f)
            pan = self.camera[f + 1] - self.camera[f]
            out[f] = -pan
            for i, thing in enumerate(self.things):
                there = labels[f] == i
                moved = thing.world(*thing.local(x[there], y[there], f), f + 1)
                out[f][there] = np.stack([moved[0] - x[there], moved[1] - y[there]], -1) - pan
        return out
