"""Sora as it is built here: one transformer over spacetime patches of latents, trained on videos and pictures at their
own sizes.

The report (openai.com/research/video-generation-models-as-world-simulators) says: patches of a latent space compressed
in space and time, a diffusion transformer, native durations and sizes, descriptive captions. It gives no architecture;
every choice here is an open system's (docs/systems/sora.md).

    E_c mean_{p not given} | u(z, λ_p, c) - (ε - x) |²        (flow; v - v̂ for v-prediction)

the mean over the positions of a clip, then over the clips of a step, so that a picture counts as much as a video. With
`model.learned_variance` the variational bound of the step is added (diffusion.learned_variance).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from math import inf, prod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from muybridge.configuration import Settings, from_mapping, from_names, setting
from muybridge.diffusion.learned_variance import variational_bits
from muybridge.diffusion.prediction import target_of, to_x
from muybridge.diffusion.process import diffuse
from muybridge.errors import UserError
from muybridge.learning.contract import BATCHINGS, Losses, System, TrainingBatch
from muybridge.learning.draws import Draws
from muybridge.learning.latent_diffusion import SCHEDULER, NoiseTable
from muybridge.library.catalogue import find_part
from muybridge.models import built
from muybridge.models.arguments import check_arguments
from muybridge.models.latent.space import LatentSpace
from muybridge.models.latent.video_space import open_space
from muybridge.models.text.encoder import TextConfig
from muybridge.models.transformer import SpacetimeTransformer
from muybridge.nn.text_conditioning import TextCondition
from muybridge.systems.sora.masks import given_frames
from muybridge.systems.sora.pipeline import SoraPipeline
from muybridge.systems.sora.process import Process


@dataclass(frozen=True)
class SoraConfig(Settings):
    """The noise process, what is given in training, and how clips of different sizes share a step."""

    where: ClassVar[str] = "diffusion"

    prediction: str = setting(
        "flow",
        "flow: a rectified flow with logit-normal times; v_prediction: on a noise table that ends at zero SNR",
        choices=("flow", "v_prediction"),
    )
    scheduler: dict[str, Any] = setting(
        {}, "of v_prediction: changes to the noise table, in the words of a diffusers scheduler's config"
    )
    time_mean: float = setting(
        0.0, "of the flow's times, sigmoid(N(mean, std^2)); above 0 is more noise", low=-10, high=10
    )
    time_std: float = setting(1.0, "of the flow's times", above=0, high=10)
    base_positions: int = setting(
        0, "latent frames x rows x columns of the size whose noise is not shifted; clips of n times as many are noised "
        "by log n more log-SNR, in training and in sampling; 0 shifts none", low=0, high=10**9,
    )  # fmt: skip
    null_probability: float = setting(0.1, "how often a caption is dropped, for guidance", low=0, below=1)
    masks: float = setting(
        0.25, "share of videos of which some latent frames are given: at the start, at the end, at both, or any",
        low=0, high=1,
    )  # fmt: skip
    vlb_weight: float = setting(
        1.0, "of model.learned_variance: of the variational bound of a step, in bits a value, against 1 for the plain "
        "error; 1 is DiT's, and the 0.001 of 2102.09672 on all 1000 steps", low=0, high=1000,
    )  # fmt: skip
    token_budget: int = setting(
        0, "tokens of a row of clips of any size, of which training.batch_size make a step; 0: batches of clips of one "
        "size", low=0, high=10**7,
    )  # fmt: skip
    batching: str = setting(
        "pack", "how a row is filled: pack with any clips that fit, bucket with clips of one size", choices=BATCHINGS
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        from_names(NoiseTable, self.scheduler, "diffusion.scheduler")
        if self.prediction == "flow" and self.scheduler:
            raise UserError(
                "diffusion.scheduler: a flow has no noise table; leave it out, or set prediction v_prediction"
            )
        defaults = {known.name: known.default for known in fields(self)}
        unread = {
            "time_mean": (self.prediction != "flow", "v_prediction draws its times evenly over the noise table"),
            "time_std": (self.prediction != "flow", "v_prediction draws its times evenly over the noise table"),
            "batching": (not self.token_budget, "without a token_budget there are no rows to fill"),
        }
        for name, (is_unread, why) in unread.items():
            if is_unread and getattr(self, name) != defaults[name]:
                raise UserError(f"diffusion.{name}: {why}, so nothing reads it; leave it out")
        if self.scheduler.get("prediction_type", self.prediction) != self.prediction:
            raise UserError(f"diffusion.scheduler.prediction_type must be {self.prediction}; leave it out")

    def process(self) -> Process:
        """The noise process."""
        table = {**SCHEDULER, **self.scheduler}
        return Process(self.prediction, table, self.time_mean, self.time_std, self.base_positions)


class Sora(System):
    """The system: a SpacetimeTransformer on the latents of an autoencoder.

    Args:
        model: {"autoencoder": ..., ...arguments of SpacetimeTransformer}; its channels and what it predicts follow.
        diffusion: fields of SoraConfig.
        text: which encoder the captions come from; None trains without.
    """

    name = "sora"
    config_class = SoraConfig
    network_class = SpacetimeTransformer

    def __init__(self, model: Mapping[str, Any], diffusion: Mapping[str, Any] | None, text: TextConfig | None):
        self.model_config, self.text = dict(model), text
        self.autoencoder = str(self.model_config.pop("autoencoder", ""))
        if not self.autoencoder:
            raise UserError("model.autoencoder: name the latent space: a bundled part (emoji-image/vae) or a folder")
        self.config = from_mapping(SoraConfig, diffusion, "diffusion")
        self.process = self.config.process()
        self.token_budget, self.batching = self.config.token_budget, self.config.batching
        if self.model_config.get("guidance_embedding"):
            raise UserError(
                "model.guidance_embedding: this system trains no network that is told a scale; leave it out"
            )
        if self.config.masks and next(iter(self.model_config.get("patch_size", (1,)))) > 1:
            raise UserError(
                f"model.patch_size {self.model_config['patch_size']}: latent frames of one patch are given together or "
                "not at all; take patches of 1 frame, or set diffusion.masks 0"
            )
        for name in ("in_channels", "out_channels", "condition_channels", "prediction_type", "num_classes"):
            if name in self.model_config:
                raise UserError(f"model.{name}: it follows from the autoencoder and from diffusion; leave it out")
        check_arguments(self.model_config)
        self.learns_variance = bool(self.model_config.get("learned_variance"))
        if self.learns_variance and self.config.prediction == "flow":
            raise UserError(
                "model.learned_variance: the steps of a flow have no variance; set diffusion.prediction v_prediction, "
                "or leave it out"
            )
        if not self.learns_variance and self.config.vlb_weight != SoraConfig().vlb_weight:
            raise UserError("diffusion.vlb_weight: nothing reads it without model.learned_variance; leave it out")
        words = any(self.model_config.get(name) for name in ("text_pooled_dim", "text_token_dim"))
        if text is not None and not words:
            raise UserError(
                "text: the network reads no captions; give model.text_pooled_dim and model.text_token_dim the width of "
                "the encoder (all-MiniLM-L6-v2: 384), or leave text out"
            )
        if text is None and words:
            raise UserError("text: missing, but the network reads captions; add `text: {encoder: all-MiniLM-L6-v2}`")

    @cached_property
    def space(self) -> LatentSpace:  # type: ignore[override]
        return open_space(find_part(self.autoencoder))

    def build(self) -> nn.Module:
        channels = {"in_channels": self.space.channels, "out_channels": self.space.channels}
        network: nn.Module = built(
            SpacetimeTransformer, {**self.model_config, **channels, "prediction_type": self.config.prediction}
        )
        return network

    def tokens(self, shape: Sequence[int]) -> int:
        volume = prod(self.model_config.get("patch_size", (1, 2, 2)))
        words = self.text.max_length if self.text and self.model_config.get("text_mode") == "joint" else 0
        return prod(shape[1:]) // volume + words

    def losses(self, model: nn.Module, batch: TrainingBatch) -> Losses:
        """The formula above, for each clip; clips of one size as a batch, others as a pack."""
        clips = batch.clips or batch.video.unbind()
        draws = Draws(batch)
        uniform, shares = draws.times(), draws.shares()
        masks = [given_frames(x.shape[1], self.config.masks, g) for x, g in zip(clips, draws.generators, strict=True)]
        noises = [torch.randn(x.shape, generator=g).to(x) for x, g in zip(clips, draws.generators, strict=True)]
        levels = [self.process.level(u, x.shape) for u, x in zip(uniform, clips, strict=True)]
        told = [torch.where(mask, inf, lam) for mask, lam in zip(masks, levels, strict=True)]  # [F] each
        noisy = [diffuse(x[None], e[None], lam[None])[0] for x, e, lam in zip(clips, noises, told, strict=True)]
        outs = self._predicted(model, noisy, told, self._told_text(batch, shares))
        errors, bounds = [], []
        for x, noise, z, u, lam, mask, out in zip(clips, noises, noisy, uniform, told, masks, outs, strict=True):
            free = ~mask.to(x.device)
            prediction, said = out.float().chunk(2) if self.learns_variance else (out.float(), None)
            wanted = target_of(x[None], noise[None], lam[None], self.config.prediction)[0]
            square = (prediction - wanted.float()).square().mean((0, 2, 3))  # [F]
            errors.append(square[free].mean())
            if said is not None:
                parts = [part[None, :, free].float() for part in (x, z, prediction, said)]
                bounds.append(self._bound(parts, self.process.around(u, x.shape)))
        error = torch.stack(errors)
        weighted = error + self.config.vlb_weight * torch.stack(bounds) if bounds else error
        return Losses(weighted, error.detach(), torch.stack(levels).to(error.device, torch.float32))

    def _bound(self, parts: Sequence[Tensor], levels: Sequence[Tensor]) -> Tensor:
        """The variational bound of a clip's step, []; clean, noisy, predicted and said of the frames that are not
        given, [1, C, F', h, w] each."""
        x, z, prediction, said = parts
        x_hat = to_x(prediction, z, levels[1], self.config.prediction)
        return variational_bits(x, z, x_hat, said, levels)[0]

    @staticmethod
    def _predicted(
        model: nn.Module, noisy: Sequence[Tensor], told: Sequence[Tensor], text: TextCondition | None
    ) -> Sequence[Tensor]:
        lams = [lam.to(z.device, torch.float32) for lam, z in zip(told, noisy, strict=True)]
        if len({z.shape for z in noisy}) == 1:
            return list(model(torch.stack(list(noisy)), torch.stack(lams), text).unbind())
        return list(model(list(noisy), lams, text))

    def _told_text(self, batch: TrainingBatch, shares: Tensor) -> TextCondition | None:
        if batch.text is None or self.text is None:
            return None
        dropped = (shares < self.config.null_probability).to(batch.text.mask.device)
        return TextCondition(batch.text.pooled[:, 0], batch.text.tokens[:, 0], batch.text.mask[:, 0], dropped)

    def pipeline(self, model: nn.Module, sampling: Mapping[str, Any]) -> SoraPipeline:
        text: dict[str, Any] = {}
        if self.text is not None:
            text = {"text_encoder": self.text.encoder, "text_max_length": self.text.max_length}
        return SoraPipeline(
            model, self.space.vae, {**asdict(self.process), "masks": self.config.masks > 0}, **text,
            sampling=dict(sampling),
        )  # fmt: skip

    @torch.no_grad()
    def preview(self, model: nn.Module, prompts: list[str], sampling: Mapping[str, Any], clips: Tensor) -> np.ndarray:
        """The prompts, or one video without text, drawn with fixed seeds."""
        frames: np.ndarray = self.pipeline(model, sampling)(prompts or None, seed=0).frames
        return frames

    def save(self, model: Any, folder: Path, sampling: Mapping[str, Any]) -> None:
        self.pipeline(model, sampling).write(folder)
