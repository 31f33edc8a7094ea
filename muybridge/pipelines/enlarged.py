"""Videos that were enlarged after they were drawn (`--upscale`), at the size that they were drawn at."""

from __future__ import annotations

import numpy as np

from muybridge.pipelines.base import VideoPipeline


def enlargement_of(pipeline: VideoPipeline, frames: np.ndarray) -> int:
    """How many times as large as the model's frames a whole enlargement (`--upscale`) made these; 1 for others."""
    factor, rest = divmod(frames.shape[1], pipeline.working_settings().height)
    return 1 if rest or factor < 2 or frames.shape[2] % factor else factor


def reduced(frames: np.ndarray, factor: int, mean: bool = False) -> np.ndarray:
    """Undo an enlargement: of each square of pixels the middle one, or where pixels were not repeated their mean.

    Args:
        frames: uint8 [F, H, W, 3], sides multiples of `factor`.
    """
    if factor == 1:
        return frames
    if not mean:
        return frames[:, factor // 2 :: factor, factor // 2 :: factor]
    height, width = (side // factor for side in frames.shape[1:3])
    squares = (frame.reshape(height, factor, width, factor, 3) for frame in frames)
    return np.stack([(square.mean((1, 3)) + 0.5).astype(np.uint8) for square in squares])


def pixels_repeat(frames: np.ndarray, factor: int) -> bool:
    """Whether the first frame's neighbours differ at the borders of squares of `factor` pixels and hardly inside, where
    encoding alone makes differences; true of one colour."""
    first = frames[0].astype(np.float32)
    inside = across = 0.0
    for axis in (0, 1):
        steps = np.abs(np.diff(first, axis=axis)).mean((1 - axis, 2))
        border = np.arange(1, len(steps) + 1) % factor == 0
        inside += float(steps[~border].mean())
        across += float(steps[border].mean()) if border.any() else 0.0
    return 2 * inside <= across
