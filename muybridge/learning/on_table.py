"""A training step on a scheduler's table: clean data to noisy ones, and the plain error of what a network predicts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from muybridge.diffusion.losses import mse_per_sample
from muybridge.diffusion.prediction import target_of
from muybridge.diffusion.process import diffuse
from muybridge.diffusion.tables import DiscreteSchedule
from muybridge.learning.contract import Losses
from muybridge.learning.draws import Draws


@dataclass(frozen=True)
class Noised:
    """Data with noise.

    Attributes:
        x, eps, z: clean data, noise, and z = alpha x + sigma eps, [B, C, F, H, W].
        index: of the table, as a picture U-Net is told it, [B].
        lam: its log-SNR, [B].
    """

    x: Tensor
    eps: Tensor
    z: Tensor
    index: Tensor
    lam: Tensor

    @classmethod
    def draw(cls, table: DiscreteSchedule, x: Tensor, draws: Draws) -> Noised:
        """Levels spread evenly over the table, each sample's own noise."""
        index = (draws.times() * len(table.table)).long()
        lam, eps = table.table[index], draws.normal(x.shape[1:]).to(x)
        return cls(x, eps, diffuse(x, eps, lam), index.to(x.device), lam)

    def losses(self, prediction: Tensor, prediction_type: str) -> Losses:
        """E | target - prediction |^2, in the network's own prediction space."""
        error = mse_per_sample(prediction, target_of(self.x, self.eps, self.lam, prediction_type))
        return Losses(error, error.detach(), self.lam.to(self.x.device, torch.float32))
