"""Ground truth of things that move rigidly before a background: labels, masks, depth, edges and optical flow."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

Array = np.ndarray

#: Depth of the background; things lie at depths below it, 1 being nearest.
BACKGROUND_DEPTH = 10.0


class Moving:
    """A thing that is shifted, scaled and turned from frame to frame.

    Attributes:
        centres: float [F, 2], (x, y) in world pixels at each frame.
        radii: float [F], pixels.
        angles: float [F], radians, clockwise on screen.
        depth: 1 (near) up to but excluding BACKGROUND_DEPTH.
    """

    centres: Array
    radii: Array
    angles: Array
    depth: float

    def local(self, x: Array, y: Array, frame: int) -> tuple[Array, Array]:
        """World pixels to this thing's own unit coordinates at a frame."""
        dx, dy = x - self.centres[frame, 0], y - self.centres[frame, 1]
        cos, sin, r = np.cos(self.angles[frame]), np.sin(self.angles[frame]), self.radii[frame]
        return (cos * dx + sin * dy) / r, (-sin * dx + cos * dy) / r

    def world(self, u: Array, v: Array, frame: int) -> tuple[Array, Array]:
        """The inverse of `local`."""
        cos, sin, r = np.cos(self.angles[frame]), np.sin(self.angles[frame]), self.radii[frame]
        return self.centres[frame, 0] + r * (cos * u - sin * v), self.centres[frame, 1] + r * (sin * u + cos * v)


class Composition:
    """Things over a background, seen by a camera; `cover` says where each one is.

    Attributes:
        height, width, num_frames: pixels and frames.
        things: in any order; those of smaller depth hide those of larger depth.
        camera: float [F, 2], (x, y) of the view's corner in world pixels.
    """

    height: int
    width: int
    num_frames: int
    things: Sequence[Moving]
    camera: Array

    def cover(self, thing: int, frame: int) -> Array:
        """The share of each pixel that a thing would cover if nothing hid it, float [H, W] in 0..1."""
        raise NotImplementedError

    @cached_property
    def order(self) -> list[int]:
        """The things' places in `things`, the farthest first."""
        return sorted(range(len(self.things)), key=lambda i: -self.things[i].depth)

    def grid(self, frame: int) -> tuple[Array, Array]:
        """World coordinates (x, y) of every pixel of a frame, float [H, W] each."""
        y, x = np.mgrid[0 : self.height, 0 : self.width].astype(np.float64)
        return x + self.camera[frame, 0], y + self.camera[frame, 1]

    def labels(self) -> Array:
        """The thing seen at each pixel, int [F, H, W]: its place in `things`, -1 for the background."""
        out = np.full((self.num_frames, self.height, self.width), -1)
        for f in range(self.num_frames):
            for i in self.order:
                out[f][self.cover(i, f) >= 0.5] = i
        return out

    def masks(self) -> Array:
        """Visible share of each thing, float [F, N, H, W]; with what shows of the background they add up to 1."""
        out = np.zeros((self.num_frames, len(self.things), self.height, self.width))
        for f in range(self.num_frames):
            left = np.ones((self.height, self.width))
            for i in reversed(self.order):
                cover = self.cover(i, f)
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
            x, y = self.grid(f)
            pan = self.camera[f + 1] - self.camera[f]
            out[f] = -pan
            for i, thing in enumerate(self.things):
                there = labels[f] == i
                moved = thing.world(*thing.local(x[there], y[there], f), f + 1)
                out[f][there] = np.stack([moved[0] - x[there], moved[1] - y[there]], -1) - pan
        return out
