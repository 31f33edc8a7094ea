"""Long videos in windows of frames: every window is denoised alone, and what overlaps is averaged at every step.

    x̂_f = (1 / |{w : f in w}|) Σ_{w : f in w} x̂^w_f

Source: 2302.08113 (MultiDiffusion) eq. 5, over time.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from muybridge.diffusion.prediction import Denoise


def windows_of(frames: int, size: int, overlap: int) -> list[slice]:
    """Windows of `size` frames that share `overlap`; the last one ends at the end, so it may share more.

    Raises:
        ValueError: an overlap that leaves nothing new.
    """
    if not 0 <= overlap < size:
        raise ValueError(f"windows of {size} frames can share 0..{size - 1}, got {overlap}")
    if frames <= size:
        return [slice(0, frames)]
    starts = [*range(0, frames - size, size - overlap), frames - size]
    return [slice(s, s + size) for s in starts]


def windowed(denoise_in: Callable[[slice], Denoise], frames: int, size: int, overlap: int) -> Denoise:
    """Denoise all frames by windows.

    Args:
        denoise_in: the denoiser of one window's frames; a level a frame is cut to the window, as the frames are.
    """
    windows = windows_of(frames, size, overlap)
    if len(windows) == 1:
        return denoise_in(windows[0])

    def denoise(z: Tensor, lam: Tensor) -> Tensor:
        total, count = torch.zeros_like(z), z.new_zeros(1, 1, frames, 1, 1)
        for window in windows:
            here = lam[:, window] if lam.ndim == 2 else lam
            total[:, :, window] += denoise_in(window)(z[:, :, window], here)
            count[:, :, window] += 1
        return total / count

    return denoise
