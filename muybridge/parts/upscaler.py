"""A super-resolver of videos, trained on clips at four times a model's size: L1, also of box averages,
perceptual distance, frame differences, and a patch critic.

Source: 1609.04802 (SRGAN's losses; here L1 and ST-LPIPS in place of squares and VGG). Its input is degraded as a latent
model's output is: a part of the crops went through the model's autoencoder, and all have a little noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from muybridge.configuration import Settings, from_mapping, setting
from muybridge.errors import UserError
from muybridge.learning.contract import Losses, System, TrainingBatch
from muybridge.learning.draws import Draws
from muybridge.library.catalogue import find_part
from muybridge.library.index import write_settings
from muybridge.models import built
from muybridge.models.latent.critics import PatchCritic
from muybridge.models.latent.perceptual import PerceptualDistance, perceptual_distance
from muybridge.models.latent.space import LatentSpace
from muybridge.models.text.encoder import TextConfig
from muybridge.models.vision.upscaler import SCALE, UpscalerWithCritic, VideoUpscaler, bicubic, box_averaged
from muybridge.nn.frames import batch_to_frames, frames_to_batch, to_uint8

#: The smallest crop: the perceptual distance looks at 16 pixels a side at least, the critic at 32 enlarged ones.
LEAST = 8


@dataclass(frozen=True)
class UpscalerObjective(Settings):
    """Crops of the clips, how the input is degraded, and weights of the losses, against 1 for the mean absolute
    error."""

    where: ClassVar[str] = "objective"

    crop: int = setting(32, "side of the crops, in pixels of the input; the clips are four times as large", low=LEAST)
    crops: int = setting(2, "crops of each clip in a batch, each of other frames", low=1, high=64)
    frames: int = setting(4, "consecutive frames of a crop; the clip's own length where it is shorter", low=1)
    candidates: int = setting(
        2, "places drawn for each crop; the one with the largest differences between pixels is taken", low=1, high=64
    )
    autoencoded: float = setting(
        0.5, "share of crops that went through model.autoencoder; 0 where none is named", low=0, high=1
    )
    noise: float = setting(0.02, "largest deviation of the noise that is added, on pixels in [-1, 1]", low=0, high=1)
    caption_dropout: float = setting(0.2, "share of crops whose caption is left out", low=0, high=1)
    averages: float = setting(
        4.0,
        "of the mean absolute error of box averages at the input's size: the perceptual distance sees details and lets "
        "colours drift",
        low=0,
    )
    perceptual: float = setting(1.0, "of the perceptual distance", low=0)
    motion: float = setting(1.0, "of the mean absolute error of frame differences, which is what flicker is", low=0)
    adversarial: float = setting(
        0.005, "of the critic's opinion, from step critic_start on; the critic itself learns from step 0", low=0
    )
    critic_start: int = setting(300, "step from which the critic's opinion counts", low=0)
    critic_width: int = setting(16, "channels of the critic's first layer", low=1, high=1024)
    critic_frames: int = setting(3, "its kernel's extent in time (1 judges pictures)", low=1, high=15)


class UpscalerTraining(System):
    """The system: clips of any size whose sides are multiples of four.

    Args:
        model: arguments of VideoUpscaler, and {"autoencoder": a bundled part or a folder, "made_for": names of the
            models whose videos it enlarges by default}.
        objective: fields of UpscalerObjective.
        text: the encoder of captions; None for a network without text (`text_pooled_dim: 0`).

    Raises:
        UserError: settings that do not fit each other.
    """

    name = "upscaler"
    section = "objective"
    config_class = UpscalerObjective
    network_class = VideoUpscaler
    names_are_told = False

    def __init__(self, model: Mapping[str, Any], objective: Mapping[str, Any] | None, text: TextConfig | None):
        self.model_config, self.text = dict(model), text
        self.autoencoder = str(self.model_config.pop("autoencoder", ""))
        made_for = self.model_config.pop("made_for", ())
        if not isinstance(made_for, list | tuple) or not all(isinstance(name, str) for name in made_for):
            raise UserError(f"model.made_for: a list of models' names, got {made_for!r}")
        self.made_for = list(made_for)
        given = dict(objective or {})
        if not self.autoencoder:
            given.setdefault("autoencoded", 0.0)
        self.objective = from_mapping(UpscalerObjective, given, "objective")
        if self.objective.autoencoded and not self.autoencoder:
            raise UserError("objective.autoencoded: name the autoencoder in model.autoencoder, as emoji-image/vae")
        if (text is None) != (self.model_config.get("text_pooled_dim") == 0):
            raise UserError("text: an upscaler reads captions unless model.text_pooled_dim is 0; give both, or neither")

    @cached_property
    def perceptual(self) -> PerceptualDistance:
        return perceptual_distance()

    @cached_property
    def degrading(self) -> LatentSpace:
        return LatentSpace.open(find_part(self.autoencoder))

    def build(self) -> UpscalerWithCritic:
        if self.objective.autoencoded and self.objective.crop % self.degrading.shrink:
            raise UserError(
                f"objective.crop: {self.objective.crop}, but {self.autoencoder} takes multiples of "
                f"{self.degrading.shrink}"
            )
        critic = PatchCritic(width=self.objective.critic_width, frames=self.objective.critic_frames)
        network: VideoUpscaler = built(VideoUpscaler, self.model_config)
        return UpscalerWithCritic(network, critic)

    def losses(self, model: nn.Module, batch: TrainingBatch) -> Losses:
        weights, draws, clips = self.objective, Draws(batch), batch.video
        parts = [self._drawn(clips, batch, draws) for _ in range(weights.crops)]
        high, low, told = (torch.cat(part) for part in zip(*parts, strict=True))
        text = None if batch.text is None else batch.text.pooled[:, 0].repeat(weights.crops, 1)
        made, maker, judge = model(low, high, text, told)
        error = (made - high).abs().flatten(1).mean(1)
        total = error + judge
        if weights.averages:
            total = total + weights.averages * box_averaged(made - high).abs().flatten(1).mean(1)
        if weights.perceptual:
            look = self.perceptual.to(made.device)(frames_to_batch(made), frames_to_batch(high))
            total = total + weights.perceptual * look.unflatten(0, (len(made), -1)).mean(1)
        if weights.motion and made.shape[2] > 1:
            total = total + weights.motion * (made - high).diff(dim=2).abs().flatten(1).mean(1)
        if batch.step >= weights.critic_start:
            total = total + weights.adversarial * maker
        total, error = (value.unflatten(0, (weights.crops, -1)).mean(0) for value in (total, error.detach()))
        return Losses(total, error, torch.full_like(error, torch.inf))

    @torch.no_grad()
    def _drawn(self, clips: Tensor, batch: TrainingBatch, draws: Draws) -> tuple[Tensor, Tensor, Tensor]:
        """One crop of each clip: as it is [B, 3, f, 4 c, 4 c], as the network is shown it [B, 3, f, c, c], and whether
        its caption is told, bool [B]."""
        high = torch.stack([self._crop(clip, u) for clip, u in zip(clips, self._places(draws), strict=True)])
        low, (through, loud, unsaid) = box_averaged(high), draws.shares(3).T
        chosen = through < self.objective.autoencoded
        if bool(chosen.any()):
            low[chosen] = self._through(low[chosen])
        noise = draws.normal(low.shape[1:]).to(low)
        low = low + (self.objective.noise * loud).to(low)[:, None, None, None, None] * noise
        return high, low, (unsaid >= self.objective.caption_dropout).to(clips.device)

    def _places(self, draws: Draws) -> Tensor:
        """Shares of the ways that a crop may lie in its clip: first frame, and row and column of each candidate."""
        return draws.shares(1 + 2 * self.objective.candidates)

    def _crop(self, clip: Tensor, shares: Tensor) -> Tensor:
        """A crop of [3, F, H, W] on whole pixels of the input: of the candidates the one with most in it.

        Raises:
            UserError: the clip is smaller than a crop, or its sides are no multiples of four.
        """
        frames, height, width = clip.shape[1:]
        side, count = self.objective.crop, min(self.objective.frames, frames)
        if height % SCALE or width % SCALE or min(height, width) < SCALE * side:
            raise UserError(
                f"objective.crop: crops of {side} pixels, {SCALE * side} enlarged, are cut from clips of "
                f"{width}x{height}; they must be at least as large, in multiples of {SCALE}"
            )
        first = int(shares[0] * (frames - count + 1))
        found = []
        for y, x in shares[1:].unflatten(0, (-1, 2)).tolist():
            top, left = (SCALE * int(u * (n // SCALE - side + 1)) for u, n in ((y, height), (x, width)))
            part = clip[:, first : first + count, top : top + SCALE * side, left : left + SCALE * side]
            found.append((float(part.diff(dim=-1).abs().mean() + part.diff(dim=-2).abs().mean()), part))
        return max(found, key=lambda pair: pair[0])[1]

    def _through(self, low: Tensor) -> Tensor:
        """Crops as they come back from the autoencoder."""
        space = self.degrading
        space.vae.to(low.device)
        mean, _ = space.encode(low)
        return space.decode(mean).to(low)

    @torch.no_grad()
    def preview(self, model: Any, prompts: list[str], sampling: Mapping[str, Any], clips: Tensor) -> np.ndarray:
        """Held-out clips by bicubic interpolation, by the network without words, and as they are, one under the
        other."""
        clips = clips[:, :, : self.objective.frames]
        low = box_averaged(clips)
        smooth = batch_to_frames(bicubic(frames_to_batch(low)), len(low))
        return to_uint8(torch.stack([smooth, model.network(low), clips], 1).flatten(0, 1))

    def save(self, model: UpscalerWithCritic, folder: Path, sampling: Mapping[str, Any]) -> None:
        """The network alone, as diffusers keeps it, with the encoder of its captions and what it was made for."""
        model.network.save_pretrained(str(folder))
        read = {} if self.text is None else {"text_encoder": self.text.encoder, "text_max_length": self.text.max_length}
        write_settings(folder, {**read, "made_for": self.made_for})
