"""Long videos in windows of frames: every window is denoised alone, and what overlaps is averaged at every step.

    J*_f = (1 / |{w : f in w}|) Σ_{w : f in w} Φ_w(J_w)_f      argmin over J of Σ_w |J_w - Φ_w(J_w)|²

with Φ the denoised estimate (`windowed`), or the sampler's own step (`sample_windowed`). For DDIM without added noise
and without clipping the two are the same, since a step is affine in the estimate.

Source: 2302.08113 (MultiDiffusion) eq. 5, over time; 2401.12945 section 3.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from muybridge.diffusion.prediction import Denoise
from muybridge.diffusion.samplers import SamplerState, ddim_step
from muybridge.diffusion.schedule import per_sample


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


def averaged(parts: Iterable[Tensor], windows: Sequence[slice], like: Tensor) -> Tensor:
    """What windows [B, C, F_w, H, W] say of each frame, averaged, of the shape of `like` [B, C, F, H, W].

    Args:
        parts: one a window, in their order; each is let go before the next is made.
    """
    total, count = torch.zeros_like(like), like.new_zeros(1, 1, like.shape[2], 1, 1)
    for part, window in zip(parts, windows, strict=True):
        total[:, :, window] += part
        count[:, :, window] += 1
    return total / count


@dataclass(frozen=True)
class Windowed:
    """A denoiser of all frames by windows.

    Attributes:
        denoise_in: the denoiser of one window's frames; a level a frame is cut to the window, as the frames are.
        windows: of all frames.
    """

    denoise_in: Callable[[slice], Denoise]
    windows: Sequence[slice]

    def __call__(self, z: Tensor, lam: Tensor) -> Tensor:
        if len(self.windows) == 1:
            return self.denoise_in(self.windows[0])(z, lam)
        here = [lam[:, window] if lam.ndim == 2 else lam for window in self.windows]
        parts = (self.denoise_in(w)(z[:, :, w], level) for w, level in zip(self.windows, here, strict=True))
        return averaged(parts, self.windows, z)


def windowed(denoise_in: Callable[[slice], Denoise], frames: int, size: int, overlap: int) -> Windowed:
    """Denoise all frames by windows of `size` that share `overlap`."""
    return Windowed(denoise_in, windows_of(frames, size, overlap))


def sample_windowed(by_windows: Windowed, z: Tensor, lams: Tensor) -> Iterator[SamplerState]:
    """DDIM without added noise, whose steps, not estimates, are averaged over windows.

    Args:
        by_windows: its denoisers are thresholded as each window shall be.
        z: [B, C, F, H, W].
    """
    windows = by_windows.windows
    for i in range(len(lams) - 1):
        estimates = [by_windows.denoise_in(w)(z[:, :, w], per_sample(lams[i], z)) for w in windows]
        steps = (ddim_step(z[:, :, w], x, lams[i], lams[i + 1]) for w, x in zip(windows, estimates, strict=True))
        z = averaged(steps, windows, z)
        yield SamplerState(i, z, averaged(estimates, windows, z), lams[i + 1])
