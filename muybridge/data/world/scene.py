"""A scene: things that move over a background under a camera, rendered with exact ground truth.

Coordinates are pixels, x right and y down, of a pixel's centre. Everything is a function of the scene alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from muybridge.data.world.shapes import SHAPES
from muybridge.data.world.truth import Composition, Moving

Array = np.ndarray


@dataclass(frozen=True)
class Thing(Moving):
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
class Scene(Composition):
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

    def cover(self, thing: int, frame: int) -> Array:
        return self.things[thing].coverage(*self.grid(frame), frame)

    def frame(self, index: int) -> Array:
        """One frame, uint8 [H, W, 3]."""
        x, y = self.grid(index)
        picture = np.array(self.background.paint(x, y))
        for i in self.order:
            cover = self.things[i].coverage(x, y, index)[..., None]
            picture += cover * (np.asarray(self.things[i].colour, dtype=np.float64) - picture)
        return np.clip(picture + 0.5, 0, 255).astype(np.uint8)

    def frames(self) -> Array:
        """All frames, uint8 [F, H, W, 3]."""
        return np.stack([self.frame(i) for i in range(self.num_frames)])
