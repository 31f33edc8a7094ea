"""The random numbers of a training step: each sample's own, from (seed, step, place in the global batch).

So a step is the same however a batch is split over processes and accumulation rounds, and a resumed run needs only its
step.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from muybridge.diffusion.noise import generator_for
from muybridge.diffusion.schedule import stratified_times
from muybridge.learning.contract import TrainingBatch


class Draws:
    """One generator a sample. Each method draws the same kind of number for every sample; their order is part of a
    recipe.

    Args:
        batch: whose seed, step and places key the generators.
        purpose: what the numbers are for; those of different purposes are independent.
    """

    def __init__(self, batch: TrainingBatch, purpose: str = "train"):
        self.places, self.total = batch.places, batch.total
        self.generators = [generator_for(batch.seed, purpose, batch.step, place) for place in batch.places]

    def uniform(self, *shape: int) -> Tensor:
        """U[0, 1), float64 [B, *shape]."""
        return torch.stack([torch.rand(shape, generator=g, dtype=torch.float64) for g in self.generators])

    def shares(self, *shape: int) -> Tensor:
        """U[0, 1), float32 [B, *shape]: another stream of numbers than `uniform`'s."""
        return torch.stack([torch.rand(shape, generator=g) for g in self.generators])

    def normal(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """N(0, 1), [B, *shape]."""
        return torch.stack([torch.randn(tuple(shape), generator=g, dtype=dtype) for g in self.generators])

    def integers(self, high: int) -> list[int]:
        """One of 0 .. high - 1 for each sample."""
        return [int(torch.randint(high, (), generator=g)) for g in self.generators]

    def choices(self, weights: Tensor) -> list[int]:
        """An index for each sample, with these probabilities."""
        return [int(torch.multinomial(weights, 1, generator=g)) for g in self.generators]

    def times(self, stratified: bool = True) -> Tensor:
        """Times in [0, 1), float64 [B]; stratified over the global batch, so that every step covers the whole range."""
        return self.as_times(self.uniform(1)[:, 0], stratified)

    def as_times(self, uniform: Tensor, stratified: bool = True) -> Tensor:
        """Uniform numbers [B] as times."""
        if not stratified:
            return uniform
        rows = [stratified_times(u[None], p, self.total) for u, p in zip(uniform, self.places, strict=True)]
        return torch.cat(rows)
