"""Batches of rows of clips: what a step sees is a function of (seed, step, place of the row) alone, as of batches of
clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from muybridge.data.embeddings import NULL_CAPTION
from muybridge.data.packing import PACK, RowPlan
from muybridge.diffusion.noise import derive_seed, generator_for
from muybridge.learning.contract import TrainingBatch
from muybridge.training.batches import BatchMaker
from muybridge.training.feed import to_device


class RowMaker(BatchMaker):
    """Makes rows of latents: `batch_size` counts rows, each of at most `budget` tokens.

    Every clip of a step has a number of its own, counted over all rows of the step, which keys its noise: neither the
    number of processes nor where a row is computed changes it.

    Args:
        tokens: of latents of a shape [C, F, h, w].
        budget: tokens of a row.
        batching: "pack" or "bucket" (data.packing).
        others: as of BatchMaker, `latents` among them.
    """

    def __init__(
        self, *others: Any, tokens: Callable[[Sequence[int]], int], budget: int, batching: str = PACK, **more: Any
    ):
        super().__init__(*others, **more)
        assert self.latents is not None
        sizes = [tokens(tuple(self.latents.mean[int(b[0])].shape)) for b in self.buckets]
        self.plan = RowPlan(self.buckets, sizes, budget, batching, derive_seed(self.seed, "plan"))
        self.epoch = len(self.plan.rows)
        self._rows = lru_cache(maxsize=2)(lambda epoch: self.plan.epoch(derive_seed(self.seed, self.purpose, epoch)))

    def row(self, step: int, place: int) -> list[int]:
        """The clips of a row of a step."""
        epoch, position = divmod(step * self.total + place, self.epoch)
        return self._rows(epoch)[position]

    def __call__(self, step: int, places: Sequence[int], device: torch.device | str = "cpu") -> TrainingBatch:
        assert self.latents is not None
        counts = [len(self.row(step, place)) for place in range(self.total)]
        clips: list[Tensor] = []
        numbers: list[int] = []
        captions: list[list[str]] = []
        indices: list[int] = []
        for place in places:
            for turn, index in enumerate(self.row(step, place)):
                numbers.append(sum(counts[:place]) + turn)
                indices.append(index)
                clips.append(
                    self.latents(index, generator_for(self.seed, f"{self.purpose}-latents", step, numbers[-1]))
                )
                captions.append([self.captions[index]])
        made = TrainingBatch(
            torch.zeros(0),
            self._embed(captions),
            0,
            numbers,
            sum(counts),
            self.seed,
            step,
            None if self.embeddings is None else self.embeddings([NULL_CAPTION]),
            {name: getattr(self.latents, name)[indices] for name in ("fps", "motion_bucket")},
        )
        return to_device(replace(made, clips=tuple(clips)), device)
