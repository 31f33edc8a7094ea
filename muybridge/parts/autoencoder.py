"""The autoencoder of a latent diffusion model: L1, perceptual distance, a weak KL, and a patch critic; and its
decoder's second training, with time and a critic of videos; and causal autoencoders of videos.

Source: 2112.10752 appendix G; 2304.08818 section 3.1.2 for the temporal decoder; 2408.06072 section 2.1 and 2412.00131
for the causal one. Differs from the paper: weights are
per value (means), the adversarial weight is constant, and one optimizer trains both sides (see
models/latent/critics.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from muybridge.configuration import Settings, from_mapping, setting
from muybridge.diffusion.noise import generator_for
from muybridge.errors import UserError
from muybridge.learning.contract import Losses, System, TrainingBatch
from muybridge.library.catalogue import find_part
from muybridge.library.parts import load_video_autoencoder
from muybridge.models import built
from muybridge.models.arguments import check_arguments
from muybridge.models.latent.autoencoder import AutoencoderWithCritic
from muybridge.models.latent.causal_autoencoder import CausalAutoencoder
from muybridge.models.latent.critics import PatchCritic
from muybridge.models.latent.perceptual import PerceptualDistance, perceptual_distance
from muybridge.models.latent.space import LatentSpace
from muybridge.models.latent.video_autoencoder import VideoAutoencoder, save_decoder
from muybridge.models.text.encoder import TextConfig
from muybridge.nn.frames import frames_to_batch, to_uint8

#: Arguments of a causal autoencoder beside the picture autoencoder's.
TIME = ("time_compression", "time_kernel")


@dataclass(frozen=True)
class AutoencoderObjective(Settings):
    """Weights of the losses, against 1 for the mean absolute error."""

    where: ClassVar[str] = "objective"

    perceptual: float = setting(0.5, "of the perceptual distance", low=0)
    motion: float = setting(
        0.0,
        "of the mean absolute error of frame differences, which is what flicker is; for a decoder with time. "
        "Our choice: the paper names reconstruction and critic alone",
        low=0,
    )
    kl: float = setting(1e-4, "of the KL, mean over latent values", low=0)
    adversarial: float = setting(
        0.02, "of the critic's opinion, from step critic_start on; the critic itself learns from step 0", low=0
    )
    critic_start: int = setting(500, "step from which the critic's opinion counts", low=0)
    critic_width: int = setting(32, "channels of the critic's first layer", low=1, high=1024)
    critic_frames: int = setting(1, "its kernel's extent in time (1 judges pictures)", low=1, high=15)


class Autoencoder(System):
    """The system: pictures in, pictures out.

    Args:
        model: arguments of diffusers' AutoencoderKL, whose block types follow from `block_out_channels` unless given;
            or {"temporal_decoder_of": a bundled part or a folder}, which gives that autoencoder's decoder temporal
            layers, trains the decoder on videos and leaves the encoder as it is; or, of a causal autoencoder,
            `time_compression` and `time_kernel` (models.latent.causal_autoencoder) beside either AutoencoderKL's
            arguments or {"causal_of": a bundled part or a folder}, whose weights it starts from.
        objective: fields of AutoencoderObjective.
    """

    name = "autoencoder"
    config_class = AutoencoderObjective
    section = "objective"

    def __init__(self, model: Mapping[str, Any], objective: Mapping[str, Any] | None, text: TextConfig | None = None):
        if text is not None:
            raise UserError("text: an autoencoder reads no captions; leave the section out")
        self.model_config = dict(model)
        self.picture = str(self.model_config.pop("temporal_decoder_of", ""))
        self.causal_of = str(self.model_config.pop("causal_of", ""))
        self.time = {name: self.model_config.pop(name) for name in TIME if name in self.model_config}
        check_arguments(self.time)
        start = "temporal_decoder_of" if self.picture else "causal_of"
        others = [*self.model_config, *(self.time if self.picture else ()), *(["causal_of"] if self.causal_of else ())]
        if others if self.picture else self.causal_of and self.model_config:
            raise UserError(f"model: unknown key {others[0]!r} beside {start}")
        if not self.picture and not self.causal_of:
            _check_levels(self.model_config)
        self.objective = from_mapping(AutoencoderObjective, objective, "objective")
        if self.objective.motion and not (self.picture or self.knows_time):
            raise UserError(
                "objective: motion is for a decoder with time (model.temporal_decoder_of, causal_of, time_compression)"
            )

    @property
    def knows_time(self) -> bool:
        """Whether it is an autoencoder of videos."""
        return bool(self.causal_of or self.time)

    @cached_property
    def perceptual(self) -> PerceptualDistance:
        return perceptual_distance()

    def build(self) -> AutoencoderWithCritic:
        critic = PatchCritic(width=self.objective.critic_width, frames=self.objective.critic_frames)
        if self.picture:
            return AutoencoderWithCritic(load_video_autoencoder(self.picture), critic)
        if self.causal_of:
            image = LatentSpace.open(find_part(self.causal_of)).vae
            return AutoencoderWithCritic(CausalAutoencoder.from_image_model(image, **self.time), critic)
        if self.time:
            built(AutoencoderKL, self.model_config)  # says which argument is wrong
            return AutoencoderWithCritic(CausalAutoencoder(self.model_config, **self.time), critic)
        return AutoencoderWithCritic(built(AutoencoderKL, self.model_config), critic)

    def trainable(self, model: nn.Module) -> Sequence[tuple[str, nn.Parameter]]:
        if not self.picture:
            return list(model.named_parameters())
        assert isinstance(model, AutoencoderWithCritic) and isinstance(model.vae, VideoAutoencoder)
        decoder = {id(p) for _, p in model.vae.trainable_parameters()} | {id(p) for p in model.critic.parameters()}
        return [(n, p) for n, p in model.named_parameters() if id(p) in decoder]

    def losses(self, model: Any, batch: TrainingBatch) -> Losses:
        x, weights = batch.video, self.objective
        bare: AutoencoderWithCritic = getattr(model, "module", model)
        shape = bare.latent_shape(x)
        noise = [torch.randn(shape, generator=generator_for(batch.seed, "train", batch.step, p)) for p in batch.places]
        out = model(x, torch.stack(noise).to(x))
        error = (out.sample - x).abs().flatten(1).mean(1)
        if weights.perceptual:
            look = self.perceptual.to(x.device)(frames_to_batch(out.sample), frames_to_batch(x))
            error = error + weights.perceptual * look.unflatten(0, (len(x), -1)).mean(1)
        if weights.motion and x.shape[2] > 1:
            error = error + weights.motion * (out.sample - x).diff(dim=2).abs().flatten(1).mean(1)
        adversarial = weights.adversarial if batch.step >= weights.critic_start else 0.0
        total = error + weights.kl * out.kl + adversarial * out.maker + out.judge
        return Losses(total, error.detach(), torch.full_like(error, torch.inf))

    @torch.no_grad()
    def preview(self, model: Any, prompts: Any, sampling: Mapping[str, Any], clips: Tensor) -> np.ndarray:
        """Held-out clips and what comes back, one under the other."""
        back = model.decode(model.encode(clips)[0])
        pairs = torch.stack([clips, back], 1).flatten(0, 1)
        return to_uint8(pairs)

    def save(self, model: AutoencoderWithCritic, folder: Path, sampling: Mapping[str, Any]) -> None:
        """The autoencoder alone, with the measured scaling factor, as diffusers keeps it; or the temporal decoder
        alone."""
        if isinstance(model.vae, VideoAutoencoder):
            save_decoder(model.vae, self.picture, folder)
            return
        model.vae.register_to_config(scaling_factor=float(model.latent_power.float().rsqrt()))
        model.vae.save_pretrained(str(folder))


def _check_levels(model: dict[str, Any]) -> None:
    """One block of each kind a level, and pictures in and out; diffusers checks neither.

    Raises:
        UserError: another number of blocks or channels.
    """
    widths = model.get("block_out_channels", [64])
    if not isinstance(widths, list | tuple) or not widths:
        raise UserError(f"model.block_out_channels: expected the widths of the levels, got {widths!r}")
    for name, block in (("down_block_types", "DownEncoderBlock2D"), ("up_block_types", "UpDecoderBlock2D")):
        given = model.setdefault(name, [block] * len(widths))
        if not isinstance(given, list | tuple) or len(given) != len(widths):
            raise UserError(f"model.{name}: expected one block for each of the {len(widths)} levels, got {given!r}")
    for name in ("in_channels", "out_channels"):
        if model.setdefault(name, 3) != 3:
            raise UserError(f"model.{name}: pictures have 3 channels, got {model[name]!r}")
