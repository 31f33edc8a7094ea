"""The interleaved-frame smoother: at two steps every other frame becomes the interpolation of its neighbours
(2305.13077 section 3.2)."""

from __future__ import annotations

from torch import Tensor

from muybridge.models.vision.frame_interpolation import Interpolator


def smoothing_steps(share: float | None, steps: int) -> tuple[int, ...]:
    """The two neighbouring step indices that are smoothed, counted from the noisiest; none for None or a single
    step."""
    if share is None or steps < 2:
        return ()
    first = min(round(share * steps), steps - 2)
    return (first, first + 1)


def neighbours(frames: int, parity: int) -> dict[int, tuple[int, int]]:
    """Which frames are replaced and by the middle of which two.

    Parity 0 replaces odd frames, parity 1 even ones; the ends, which have one neighbour, are drawn to the middle of
    themselves and it (as in the official code). Sources are always of the other parity, or the end itself.
    """
    if frames < 2:
        return {}
    if parity == 0:
        return {j: (j - 1, j + 1) for j in range(1, frames - 1, 2)}
    table = {0: (0, 1)} | {j: (j - 1, j + 1) for j in range(2, frames - 1, 2)}
    if frames % 2:
        table[frames - 1] = (frames - 2, frames - 1)
    return table


def smooth(video: Tensor, parity: int, between: Interpolator) -> Tensor:
    """Replace every other frame by the interpolation of its neighbours, [B, 3, F, H, W] in [0, 1]."""
    out = video.clone()
    for j, (a, b) in neighbours(video.shape[2], parity).items():
        out[:, :, j] = between(video[:, :, a], video[:, :, b])
    return out
