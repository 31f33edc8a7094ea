"""Randomness that belongs to a sample, never to global state.

Every draw of a sampler is keyed by (seed of the sample, purpose, step), so a video is the same whatever the batch size,
the chunking or the number of processes, and a resumed run needs only its step number. Samples differ by their seeds
alone: two equal seeds in a batch are two equal videos.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def derive_seed(seed: int, purpose: str, *indices: int) -> int:
    """A 63-bit seed from a root seed, a purpose and any number of indices."""
    text = f"{seed}/{purpose}/{'/'.join(map(str, indices))}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator_for(seed: int, purpose: str, *indices: int) -> torch.Generator:
    """A CPU generator for one purpose and any number of indices."""
    return torch.Generator().manual_seed(derive_seed(seed, purpose, *indices))


def correlated(own: Tensor, shared: Tensor, correlation: float) -> Tensor:
    """Noise whose frames share a part: sqrt(ρ) ε + sqrt(1 - ρ) ε_f, of unit variance, ρ between any two frames.

    Args:
        own: ε_f, a frame's own, [B, C, F, H, W].
        shared: ε, [B, C, 1, H, W].
        correlation: ρ in 0..1; the "mixed" noise of 2305.10474 section 4.1 has ρ = α² / (1 + α²).
    """
    return correlation**0.5 * shared + (1 - correlation) ** 0.5 * own


class Noise:
    """Gaussian noise for a batch of samples, each with its own seed.

    Args:
        seeds: one seed a sample.
        device, dtype: where the draws go; they are always made on the CPU in float32.
        correlation: of the draws of any two frames of a video, in 0..1; see `correlated`.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        correlation: float = 0.0,
    ):
        self.seeds, self.correlation = list(seeds), correlation
        self.device = device
        self.dtype = dtype

    def __call__(self, shape: Sequence[int], purpose: str, step: int = 0) -> Tensor:
        """Draw [B, *shape] for a purpose and a step."""
        draws = [torch.randn(tuple(shape), generator=generator_for(seed, purpose, step)) for seed in self.seeds]
        noise = torch.stack(draws)
        if self.correlation and len(shape) == 4:
            one = (shape[0], 1, *shape[2:])
            shared = [torch.randn(one, generator=generator_for(seed, f"{purpose} shared", step)) for seed in self.seeds]
            noise = correlated(noise, torch.stack(shared), self.correlation)
        return noise.to(device=self.device, dtype=self.dtype)

    def like(self, z: Tensor, purpose: str, step: int = 0) -> Tensor:
        """Draw a tensor of z's shape [B, ...] and dtype.

        Raises:
            ValueError: not one seed a sample.
        """
        if len(self.seeds) != len(z):
            raise ValueError(f"{len(self.seeds)} seeds for a batch of {len(z)}: noise needs one seed a sample")
        return self(z.shape[1:], purpose, step).to(z)
