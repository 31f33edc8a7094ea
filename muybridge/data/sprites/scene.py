"""A composed scene: cut-outs that are shifted, scaled and turned over a painted background, with exact ground truth."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from muybridge.data.sprites.cutouts import PAD, levels_of
from muybridge.data.world.truth import Composition, Moving

Array = np.ndarray


@dataclass(frozen=True)
class Actor(Moving):
    """One cut-out in motion.

    Attributes:
        pixels: uint8 [K, h, w, 4], RGBA with PAD transparent texels around.
        extents: half width and half height in units of its radius (the larger is 1).
        centres: float [F, 2], (x, y) in pixels of a pixel's centre.
        radii: float [F], pixels: half of its longer side.
        angles: float [F], radians, clockwise on screen.
        depth: 1 (near) up to but excluding BACKGROUND_DEPTH.
        shown: int [F], which of `pixels` each frame shows.
        mirrored: left and right are exchanged.
        part: which part of the plan it belongs to.
    """

    pixels: Array
    extents: tuple[float, float]
    centres: Array
    radii: Array
    angles: Array
    depth: float
    shown: Array
    mirrored: bool = False
    part: int = 0
    _levels: dict[int, list[Image.Image]] = field(default_factory=dict, compare=False, repr=False)

    def levels(self, frame: int) -> list[Image.Image]:
        shown = int(self.shown[frame])
        if shown not in self._levels:
            self._levels[shown] = levels_of(self.pixels[shown])
        return self._levels[shown]

    def box(self, frame: int, height: int, width: int) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of the pixels it may touch, inside the picture; right may not exceed left."""
        cos, sin = abs(math.cos(self.angles[frame])), abs(math.sin(self.angles[frame]))
        (ex, ey), r, (x, y) = self.extents, self.radii[frame], self.centres[frame]
        half_x, half_y = r * (ex * cos + ey * sin) + 2, r * (ex * sin + ey * cos) + 2
        left, right = max(0, math.floor(x - half_x)), min(width, math.ceil(x + half_x) + 1)
        top, bottom = max(0, math.floor(y - half_y)), min(height, math.ceil(y + half_y) + 1)
        return left, top, max(left, right), max(top, bottom)

    def drawn(self, frame: int, box: tuple[int, int, int, int]) -> Array:
        """Its pixels in a box of the picture, uint8 [h, w, 4], premultiplied."""
        left, top, right, bottom = box
        height, width = self.pixels.shape[1] - 2 * PAD, self.pixels.shape[2] - 2 * PAD
        texels = max(height, width) / (2 * self.radii[frame])  # a pixel
        levels = self.levels(frame)
        level = min(max(0, round(math.log2(texels))), len(levels) - 1)
        # texture = middle + scale * turn(pixel - centre); PIL counts from a pixel's corner, ours from its centre
        cos, sin = math.cos(self.angles[frame]), math.sin(self.angles[frame])
        scale, flip = texels / 2**level, -1 if self.mirrored else 1
        x, y = left - 0.5 - self.centres[frame, 0], top - 0.5 - self.centres[frame, 1]
        a, b, d, e = flip * scale * cos, flip * scale * sin, -scale * sin, scale * cos
        c = (PAD + width / 2) / 2**level + a * x + b * y
        f = (PAD + height / 2) / 2**level + d * x + e * y
        size = (right - left, bottom - top)
        drawn = levels[level].transform(size, Image.Transform.AFFINE, (a, b, c, d, e, f), Image.Resampling.BILINEAR)
        return np.asarray(drawn)


@dataclass(frozen=True)
class SpriteScene(Composition):
    """Actors over a painted background; `labels`, `masks`, `depth`, `edges` and `flow` are those of `world`.

    The flow of a loop is that of its whole picture, as it is shifted, scaled and turned; what moves inside is its own.

    Attributes:
        height, width, num_frames: pixels and frames.
        things: the actors.
        paint: gives the background, float32 [H, W, 3].
        camera: float [F, 2], zeros: the camera stands still.
    """

    height: int
    width: int
    num_frames: int
    things: tuple[Actor, ...]
    paint: Callable[[], Array]
    camera: Array

    def cover(self, thing: int, frame: int) -> Array:
        out = np.zeros((self.height, self.width))
        box = self.things[thing].box(frame, self.height, self.width)
        left, top, right, bottom = box
        if left < right and top < bottom:
            out[top:bottom, left:right] = self.things[thing].drawn(frame, box)[..., 3] / 255
        return out

    def _frame(self, index: int, background: Array) -> Array:
        picture = background.copy()
        for i in self.order:
            box = self.things[i].box(index, self.height, self.width)
            left, top, right, bottom = box
            if left >= right or top >= bottom:
                continue
            drawn = self.things[i].drawn(index, box).astype(np.float32)
            part = picture[top:bottom, left:right]
            part *= 1 - drawn[..., 3:] / 255
            part += drawn[..., :3]
        return np.clip(picture + 0.5, 0, 255).astype(np.uint8)

    def frame(self, index: int) -> Array:
        """One frame, uint8 [H, W, 3]."""
        return self._frame(index, self.paint())

    def frames(self) -> Array:
        """All frames, uint8 [F, H, W, 3]."""
        background = self.paint()
        return np.stack([self._frame(i, background) for i in range(self.num_frames)])
