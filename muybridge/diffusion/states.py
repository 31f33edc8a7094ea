"""What samplers yield, and what a sampler is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor


@dataclass
class SamplerState:
    """What a sampler yields after each step.

    Attributes:
        step: index of the finished step, 0..N-1.
        z: the data at the level reached, λ_s; the sample itself where that is +inf.
        x: the denoised estimate of this step.
        lam: the level reached, [], or [B or 1, F].
    """

    step: int
    z: Tensor
    x: Tensor
    lam: Tensor


Sampler = Callable[..., Iterator[SamplerState]]
