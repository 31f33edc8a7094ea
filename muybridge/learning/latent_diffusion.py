"""What systems in a latent space share: the noise table, the loss with the empty caption, a place for the autoencoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from muybridge.configuration import from_mapping
from muybridge.diffusion.losses import WEIGHTINGS, mse_per_sample, weight_on
from muybridge.diffusion.noise import generator_for
from muybridge.diffusion.prediction import target_of
from muybridge.diffusion.process import diffuse
from muybridge.diffusion.schedule import stratified_times
from muybridge.diffusion.tables import DiscreteSchedule
from muybridge.errors import UserError, nearest
from muybridge.learning.contract import Losses, TrainingBatch
from muybridge.library.catalogue import find_part
from muybridge.models.latent.space import LatentSpace
from muybridge.models.text.encoder import TextConfig

#: Stable Diffusion's noise table, ended at zero SNR so that the first step starts from what training saw (2305.08891).
SCHEDULER: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
    "clip_sample": False,
    "set_alpha_to_one": True,
    "steps_offset": 0,
}


@dataclass(frozen=True)
class LatentDiffusionConfig:
    """Diffusion settings.

    Attributes:
        scheduler: changes to SCHEDULER, in the words of a diffusers scheduler's config.
        weighting: loss weighting; "snr" is the eps loss, "snr+1" the v loss, whatever the network predicts.
        null_probability: how often a caption is replaced by the empty one.
    """

    scheduler: dict[str, Any] = field(default_factory=dict)
    weighting: str = "snr+1"
    null_probability: float = 0.1

    def __post_init__(self) -> None:
        if self.weighting not in WEIGHTINGS:
            raise UserError(f"diffusion.weighting: unknown {self.weighting!r}; {nearest(self.weighting, WEIGHTINGS)}")
        if not 0 <= self.null_probability < 1:
            raise UserError(f"diffusion.null_probability must be in [0, 1), got {self.null_probability}")
        for key in self.scheduler:
            if key not in SCHEDULER:
                raise UserError(f"diffusion.scheduler: unknown key {key!r}; {nearest(key, SCHEDULER)}")


class LatentDiffusion:
    """Base of the latent systems: subclasses build the network and say what of it trains.

    Args:
        model: {"autoencoder": a bundled part ("emoji-image/vae") or a folder, ...the network's own settings}.
        diffusion: fields of `config_class`.
        text: which encoder the captions come from.
    """

    section = "diffusion"
    config_class: type[LatentDiffusionConfig] = LatentDiffusionConfig

    def __init__(self, model: Mapping[str, Any], diffusion: Mapping[str, Any] | None, text: TextConfig | None):
        settings = dict(model)
        if "autoencoder" not in settings:
            raise UserError("model.autoencoder: name the latent space: a bundled part (emoji-image/vae) or a folder")
        if text is None:
            raise UserError("text: a latent model is told a caption; add `text: {encoder: all-MiniLM-L6-v2}`")
        self.autoencoder = str(settings.pop("autoencoder"))
        self.model_config = settings
        self.config = from_mapping(self.config_class, diffusion, "diffusion")
        self.scheduler = {**SCHEDULER, **self.config.scheduler}
        self.table = DiscreteSchedule.from_config(self.scheduler)
        self.text = text

    @cached_property
    def space(self) -> LatentSpace:
        return LatentSpace.open(find_part(self.autoencoder))

    def trainable(self, model: nn.Module) -> Sequence[tuple[str, nn.Parameter]]:
        return list(model.named_parameters())

    def losses(self, model: nn.Module, batch: TrainingBatch) -> Losses:
        """E_t,eps w(lam) | target - prediction |^2 on latents (2112.10752 eq. 2)."""
        x = batch.video
        times, eps, dropped = self._draw(x, batch)
        index = (times * len(self.table.table)).long()
        lam = self.table.table.to(index.device)[index]
        z = diffuse(x, eps, lam)
        prediction = self.predict(model, z, index, _tokens(batch, dropped), batch)
        kind = str(self.scheduler["prediction_type"])
        error = mse_per_sample(prediction, target_of(x, eps, lam, kind))
        return Losses(error * weight_on(kind, lam, self.config.weighting).to(error), error.detach(), lam.float())

    def predict(self, model: nn.Module, z: Tensor, index: Tensor, tokens: Tensor, batch: TrainingBatch) -> Tensor:
        """The network's output for noisy latents z [B, C, F, h, w]."""
        raise NotImplementedError

    def _draw(self, x: Tensor, batch: TrainingBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Times, noise and dropped captions, each sample's own: the same however the batch is split."""
        times, noises, drops = [], [], []
        for place in batch.places:
            generator = generator_for(batch.seed, "train", batch.step, place)
            uniform = torch.rand(1, generator=generator, dtype=torch.float64)
            times.append(stratified_times(uniform, place, batch.total))
            noises.append(torch.randn(x.shape[1:], generator=generator))
            drops.append(torch.rand((), generator=generator) < self.config.null_probability)
        return torch.cat(times).to(x.device), torch.stack(noises).to(x), torch.stack(drops).to(x.device)

    def pipeline(self, model: nn.Module, sampling: Mapping[str, Any]) -> Any:
        """What samples from the network."""
        raise NotImplementedError

    @torch.no_grad()
    def preview(self, model: nn.Module, prompts: list[str], sampling: Mapping[str, Any], clips: Tensor) -> np.ndarray:
        """The prompts, or the held-out clips' latents decoded when there are none, with fixed seeds."""
        frames: np.ndarray = self.pipeline(model, sampling)(prompts or "", seed=0).frames
        return frames

    def own_settings(self, sampling: Mapping[str, Any]) -> dict[str, Any]:
        """What a model folder says beside Stable Diffusion's own files."""
        return {
            "text_encoder": self.text.encoder,
            "text_max_length": self.text.max_length,
            "sampling": dict(sampling),
        }


def _tokens(batch: TrainingBatch, dropped: Tensor) -> Tensor:
    if batch.text is None or batch.null_text is None:
        raise UserError("text: this system trains on captions, but the batch has none")
    return torch.where(dropped[:, None, None], batch.null_text.tokens, batch.text.tokens[:, 0])
