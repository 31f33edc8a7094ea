"""What systems that learn to denoise share: the loss, and each of its parts under a name, for distillation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from muybridge.diffusion.losses import mse_per_sample, weight_on
from muybridge.diffusion.prediction import target_of
from muybridge.diffusion.process import diffuse
from muybridge.learning.contract import Losses, System, TrainingBatch
from muybridge.learning.draws import Draws
from muybridge.models.text.encoder import TextConfig

#: (z [B, C, F, H, W], log-SNR [B]) -> the network's own output, like z.
Predict = Callable[[Tensor, Tensor], Tensor]


class DiffusionSystem(System):
    """A network that predicts noise, data or v at a log-SNR, in pixels or latents.

    Attributes:
        text: which encoder its captions come from; None trains without text.
        distils: whether students can learn from it: a network that takes a guidance scale too (models.guided).
    """

    config: Any
    text: TextConfig | None = None
    distils: bool = False

    @property
    def prediction_type(self) -> str:
        """What the network predicts: "epsilon", "sample" or "v_prediction"."""
        raise NotImplementedError

    def told_settings(self) -> dict[str, Any]:
        """What a saved model of this system says of its noise and its words, by the names of its folder."""
        raise NotImplementedError

    @property
    def weighting(self) -> str:
        """Of the loss: a name of diffusion.losses."""
        return str(self.config.weighting)

    def prepared(self, batch: TrainingBatch) -> TrainingBatch:
        """The part of a batch that is learned from: a window or a crop of it, or all."""
        return batch

    def times(self, draws: Draws) -> Tensor:
        """Where on the schedule each sample is, [B] in [0, 1)."""
        return draws.times()

    def level(self, times: Tensor, x: Tensor) -> Tensor:
        """The log-SNR [B] at these times, for data x."""
        raise NotImplementedError

    def grid(self, steps: int) -> Tensor:
        """Log-SNR [steps + 1] that a DDIM run visits, from noisy to clean; float64 on the CPU."""
        raise NotImplementedError

    def noise(self, batch: TrainingBatch, draws: Draws, shape: Sequence[int]) -> Tensor:
        """What is added to a batch's data, [B, *shape]."""
        return draws.normal(shape)

    def dropped(self, batch: TrainingBatch, draws: Draws) -> Tensor:
        """Which captions are dropped, bool [B] or one for each caption of a sample."""
        return draws.shares() < self.config.null_probability

    def network_told(
        self, model: nn.Module, batch: TrainingBatch, dropped: Tensor, guidance: Tensor | None = None
    ) -> Predict:
        """The network with all that a batch tells it closed over.

        Args:
            dropped: as of `dropped`, on the batch's device.
            guidance: the scale [B] that it is told, if it is a student.
        """
        raise NotImplementedError

    def losses(self, model: nn.Module, batch: TrainingBatch) -> Losses:
        """E_t,eps w(lam) | target - prediction |^2, mean over all but the batch (2204.03458 eq. 2)."""
        batch = self.prepared(batch)
        x, draws = batch.video, Draws(batch)
        times, eps = self.times(draws), self.noise(batch, draws, x.shape[1:]).to(x)
        dropped = self.dropped(batch, draws).to(x.device)
        lam = self.level(times, x)
        z = diffuse(x, eps, lam)
        prediction = self.network_told(model, batch, dropped)(z, lam)
        error = mse_per_sample(prediction, target_of(x, eps, lam, self.prediction_type))
        return self.weighed(error, lam)

    def weighed(self, error: Tensor, lam: Tensor, weighting: str = "") -> Losses:
        """The losses of errors [B] in the network's own prediction type."""
        weight = weight_on(self.prediction_type, lam, weighting or self.weighting).to(error)
        return Losses(error * weight, error.detach(), lam.to(error.device, error.dtype))
