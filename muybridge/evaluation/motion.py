"""Numbers for how a video moves."""

from __future__ import annotations

import numpy as np


def frame_differences(frames: np.ndarray) -> np.ndarray:
    """Mean absolute difference of each pair of consecutive frames, [F - 1], grey levels; frames uint8 [F, H, W, 3]."""
    return np.abs(np.diff(frames.astype(np.int16), axis=0)).mean((1, 2, 3))


def mean_frame_difference(frames: np.ndarray) -> float:
    """Mean absolute difference of consecutive frames, grey levels; frames [..., F, H, W, 3]."""
    if frames.shape[-4] < 2:
        return 0.0
    return float(np.abs(np.diff(frames.astype(np.int16), axis=-4)).mean())


def order_ratio(frames: np.ndarray) -> float:
    """How far frames change in two steps against one: 1 for frames in no order, towards 2 for steady motion; 0 for a
    still.

    Frechet distances of motion cannot tell frames in order from shuffled ones that differ as much; this can.
    """
    values = frames.astype(np.int16)
    one = float(np.abs(values[1:] - values[:-1]).mean())
    return float(np.abs(values[2:] - values[:-2]).mean()) / one if one else 0.0


def seam_ratio(frames: np.ndarray, seams: list[int]) -> float:
    """Mean difference across seams over the mean difference elsewhere; 1 is no seam to be seen.

    Args:
        seams: indices i such that a seam lies between frames i and i + 1.
    """
    differences = frame_differences(frames)
    inside = np.delete(differences, seams)
    return float(differences[seams].mean() / max(inside.mean(), 1e-9))


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio of two uint8 arrays, decibels; infinite for equal ones."""
    error = float(np.square(a.astype(np.float64) - b.astype(np.float64)).mean())
    return float("inf") if error == 0 else 10 * np.log10(255**2 / error)
