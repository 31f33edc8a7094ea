"""Sampling Stable Video's interpolation: frames between each two of a video."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from muybridge.diffusion.noise import Noise
from muybridge.errors import UserError
from muybridge.nn.frames import to_uint8
from muybridge.pipelines.base import split_options
from muybridge.pipelines.inflated import VideoCondition
from muybridge.pipelines.picture_token import only_token
from muybridge.pipelines.running import VideoOutput, seeds_of, without_gradients
from muybridge.pipelines.words import check_negative
from muybridge.systems.stable_video.pipeline import ImageToVideoPipeline
from muybridge.systems.stable_video.telling import ends_mask


class StableVideoBetweenPipeline(ImageToVideoPipeline):
    """The network with nine input channels: noisy latents, given ones or a learned embedding, and which. Arguments as
    of ImageToVideoPipeline."""

    animates_pictures = False

    @property
    def raises_rate(self) -> int:  # type: ignore[override]
        return int(self.settings().num_frames) - 1

    @without_gradients
    def raise_video(
        self,
        video: Tensor,
        prompts: Sequence[str | None] = (None,),
        seed: int | Sequence[int] = 0,
        *,
        motion_bucket: float = 127.0,
        noise_augmentation: float = 0.02,
        **options: Any,
    ) -> VideoOutput:
        """Put frames between each two: F frames become (F - 1) raises_rate + 1; the given ones come back as they were.

        Args:
            video: [B, 3, F, H, W] in [-1, 1], F at least 2.
            prompts: None for all: the network is told pictures.
            options: as of a call; `fps` is the rate of the result.

        Raises:
            UserError: words, fewer than two frames, or settings that cannot be sampled.
        """
        if any(prompts):
            raise UserError("this model is told pictures, not words: leave the prompt out")
        if video.shape[2] < 2:
            raise UserError(f"interpolation needs at least 2 frames, got {video.shape[2]}")
        overrides, options = split_options(options)
        settings = self.settings(**{**overrides, "height": video.shape[3], "width": video.shape[4]})
        seeds, parts = seeds_of(seed, len(video)), [video[:, :, :1].cpu()]
        for place in range(video.shape[2] - 1):
            pair = video[:, :, place : place + 2]
            own = [s + place for s in seeds]
            condition = self.told_ends(pair, own, settings.num_frames, settings.fps, motion_bucket, noise_augmentation)
            made = self.draw(condition, self.null(condition), own, settings, **options).samples.cpu()
            parts += [made[:, :, 1:-1], pair[:, :, 1:].cpu()]
        whole = torch.cat(parts, 2)
        return VideoOutput(frames=to_uint8(whole), samples=whole)

    def told_ends(
        self, pair: Tensor, seeds: Sequence[int], frames: int, fps: float, motion_bucket: float, level: float
    ) -> VideoCondition:
        """The embeddings of both ends [B, 3, 2, H, W], their noised latents at their places, and the scalars."""
        latents = self.to_samples(pair)
        noisy = (latents + level * Noise(seeds)(latents.shape[1:], "picture").to(latents)) / self.space.scale
        known = latents.new_zeros(*latents.shape[:2], frames, *latents.shape[3:])
        known[:, :, [0, -1]] = noisy
        mask = ends_mask(frames, known).expand(len(pair), -1, -1, -1, -1)
        values = {"fps": fps, "motion_bucket": motion_bucket, "noise_augmentation": level}
        scalars = {name: torch.full((len(pair),), float(value)) for name, value in values.items()}
        tokens = torch.cat([self.embedded(pair[:, :, [place]]) for place in (0, 1)], 1)
        return VideoCondition(only_token(tokens), {**scalars, "known": known, "known_mask": mask})

    def predict(self, z: Tensor, lam: Tensor, condition: Any) -> Tensor:
        tensors, tokens = dict(condition.tensors), condition.text.tokens.to(z)
        out: Tensor = self.network(z, (-lam / 8).to(z), tokens, conditions=tensors).sample
        return out

    def null(self, condition: Any, negative_prompt: str = "") -> Any:
        """No ends: their embeddings are zero and all frames hidden, the scalars stay."""
        check_negative(self, negative_prompt, has_words=False)
        dropped = only_token(torch.zeros_like(condition.text.tokens))
        hidden = torch.zeros_like(condition.tensors["known_mask"])
        return VideoCondition(dropped, {**condition.tensors, "known_mask": hidden})
