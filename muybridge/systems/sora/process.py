"""The noise process of a sample: v-prediction on a table that ends at zero SNR, or a rectified flow; shifted by size.

Source: 2408.06072 (v, zero terminal SNR, 2305.08891), 2412.20404 and 2403.03206 (the flow, its times, its shift).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, prod
from typing import Any

import torch
from torch import Tensor

from muybridge.diffusion.schedule import FlowSchedule, logit_normal_times, size_shift
from muybridge.diffusion.tables import DiscreteSchedule, time_grid

#: The flow's first step begins at pure noise, and its last one ends at the data.
FLOW = FlowSchedule()


@dataclass(frozen=True)
class Process:
    """
    Args:
        prediction: "flow" or "v_prediction".
        scheduler: the table of v-prediction, as a diffusers scheduler's config.
        time_mean, time_std: of the flow's times in training, sigmoid(N(mean, std²)).
        base_positions: latent positions F' h w of the size that is not shifted; 0 shifts none.
    """

    prediction: str
    scheduler: Mapping[str, Any]
    time_mean: float = 0.0
    time_std: float = 1.0
    base_positions: int = 0

    @property
    def table(self) -> DiscreteSchedule:
        return DiscreteSchedule.from_config(self.scheduler)

    def shift(self, shape: Sequence[int]) -> float:
        """How much lower the log-SNR is for latents [C, F, h, w]."""
        return size_shift(prod(shape[1:]), self.base_positions)

    def level(self, uniform: Tensor, shape: Sequence[int]) -> Tensor:
        """Log-SNR of training, float64 like `uniform` in [0, 1): the table's entry, or the flow's at a logit-normal
        time."""
        if self.prediction == "flow":
            normal = torch.special.ndtri(uniform.double().clamp(1e-9, 1 - 1e-9))
            lam = FLOW(logit_normal_times(normal, self.time_mean, self.time_std))
        else:
            table = self.table.table
            lam = table[(uniform * len(table)).long()]
        return lam - self.shift(shape)

    def around(self, uniform: Tensor, shape: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Of v-prediction: the table's entries one step noisier than `level`, at it, and one step cleaner, +inf behind
        the last."""
        table = self.table.table - self.shift(shape)
        index = (uniform * len(table)).long()
        cleaner = torch.where(index > 0, table[(index - 1).clamp(min=0)], inf)
        return table[(index + 1).clamp(max=len(table) - 1)], table[index], cleaner

    def levels(self, steps: int, sampler: str, shape: Sequence[int]) -> Tensor:
        """Log-SNR [steps + 1] of a run on latents [C, F, h, w], noisy to clean."""
        lams = FLOW(time_grid(steps)) if self.prediction == "flow" else self.table.inference_levels(steps, sampler)
        return lams - self.shift(shape)
