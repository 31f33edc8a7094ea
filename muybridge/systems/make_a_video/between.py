"""Sampling Make-A-Video's frame interpolation network: frames between, behind or before given ones, and one picture
brought to life."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from muybridge.diffusion.guidance import Scale
from muybridge.diffusion.prediction import Denoise
from muybridge.diffusion.windows import windowed
from muybridge.errors import UserError
from muybridge.nn.frames import to_uint8
from muybridge.pipelines.base import split_options
from muybridge.pipelines.inflated import VideoCondition
from muybridge.pipelines.running import VideoOutput, seeds_of, without_gradients
from muybridge.pipelines.settings import SamplingConfig
from muybridge.systems.make_a_video.masks import extrapolation_mask, interpolation_mask, target_frames
from muybridge.systems.make_a_video.pipeline import MakeAVideoDecoderPipeline


@dataclass(frozen=True)
class Given(VideoCondition):
    """A condition with given frames, of which the network sees so many at a time; 0 is all of them."""

    window: int = 0

    def frames(self, which: slice) -> Given:
        """Those of a window, which is one whole."""
        known = {n: self.tensors[n][:, :, which] for n in ("known", "known_mask")}
        return replace(self, tensors={**self.tensors, **known}, window=0)


class MakeAVideoBetweenPipeline(MakeAVideoDecoderPipeline):
    """The decoder with input channels for given frames; what is given comes back as it was. Arguments as there."""

    draws_from_words = False
    animates_pictures = True
    in_windows = True

    @property
    def raises_rate(self) -> int:  # type: ignore[override]
        return int(self.config.skip)

    @without_gradients
    def raise_video(
        self,
        video: Tensor,
        prompts: Sequence[str | None] = (None,),
        seed: int | Sequence[int] = 0,
        *,
        skip: int = 0,
        embedding: Tensor | None = None,
        **options: Any,
    ) -> VideoOutput:
        """Put skip - 1 frames between each two: F frames become (F - 1) skip + 1.

        The network sees as many frames as it was trained on at a time; windows meet at a given frame.

        Args:
            video: key frames [B, 3, F, H, W] in [-1, 1], F at least 2.
            prompts: one a video; None shows the embedding of the first frame.
            skip: the model's own by default.
            embedding: of a picture [B, E], in place of words.
            options: as of a call; `fps` is the rate of the result.

        Raises:
            UserError: fewer than two frames, or settings that cannot be sampled.
        """
        count, skip = video.shape[2], skip or int(self.config.skip)
        if count < 2:
            raise UserError(f"interpolation needs at least 2 frames, got {count}")
        frames = target_frames(count, skip)
        known = video.new_zeros(*video.shape[:2], frames, *video.shape[3:])
        known[:, :, ::skip] = video
        trained = int(self.config.sampling.get("num_frames", frames))
        window = max(1, (trained - 1) // skip) * skip + 1
        mask = interpolation_mask(frames, skip)
        return self.fill(known, mask, prompts, seed, embedding=embedding, window=window, **options)

    @without_gradients
    def extended(
        self, video: Tensor, num_frames: int, prompts: Sequence[str | None] = (None,), seed: int | Sequence[int] = 0,
        *, backwards: bool = False, **options: Any,
    ) -> VideoOutput:  # fmt: skip
        """Frames behind the given ones [B, 3, F, H, W], or before them, num_frames in all.

        Raises:
            UserError: no more frames than are given, or settings that cannot be sampled.
        """
        count = video.shape[2]
        if num_frames <= count:
            raise UserError(f"num_frames: more than the {count} given ones, got {num_frames}")
        rest = video.new_zeros(*video.shape[:2], num_frames - count, *video.shape[3:])
        known = torch.cat([rest, video] if backwards else [video, rest], 2)
        return self.fill(known, extrapolation_mask(num_frames, count, backwards), prompts, seed, **options)

    @without_gradients
    def animated(self, pictures: Tensor, seed: int | Sequence[int] = 0, **options: Any) -> VideoOutput:
        """Bring pictures [B, 3, H, W] in [-1, 1] to life, each the first frame of a video."""
        frames = self.settings(**split_options(options)[0]).num_frames
        options.pop("num_frames", None)
        return self.extended(pictures[:, :, None], frames, [None] * len(pictures), seed, **options)

    def fill(
        self,
        known: Tensor,
        mask: Tensor,
        prompts: Sequence[str | None],
        seed: int | Sequence[int] = 0,
        *,
        embedding: Tensor | None = None,
        window: int = 0,
        **options: Any,
    ) -> VideoOutput:
        """Make the frames that are not given.

        Args:
            known: [B, 3, F, H, W] in [-1, 1]; what lies at other frames is not read.
            mask: [F], 1 where a frame is given.
            window: frames that the network sees at a time, 0 for all; neighbouring windows share one.

        Raises:
            UserError: settings that cannot be sampled.
        """
        overrides, options = split_options(options)
        batch, _, frames, height, width = known.shape
        settings = self.settings(**{**overrides, "num_frames": frames, "height": height, "width": width})
        seeds = seeds_of(seed, batch)
        if embedding is None:
            first = known[:, :, int(mask.argmax())]
            bare = all(p is None for p in prompts)
            embedding = self.seen(first) if bare else self.embedded(prompts, seeds)
        condition = self.told(embedding, settings.fps)
        shape = (batch, 1, frames, 1, 1)
        given = {"known": self.to_samples(known), "known_mask": mask.reshape(1, 1, -1, 1, 1).expand(shape)}
        condition = Given(condition.text, {**condition.tensors, **given}, window)
        made = self.draw(condition, self.null(condition), seeds, settings, **options)
        if options.get("output") == "latents":
            return made
        whole = torch.where(mask.reshape(1, 1, -1, 1, 1) > 0, known.cpu(), made.samples.cpu())
        return VideoOutput(frames=to_uint8(whole), samples=whole)

    def denoiser(self, condition: Any, null: Any, settings: SamplingConfig, scale: Scale) -> Denoise:
        whole = super().denoiser
        size = min(condition.window or settings.num_frames, settings.num_frames)
        return windowed(
            lambda w: whole(condition.frames(w), null.frames(w), settings, scale), settings.num_frames, size, 1
        )

    def seen(self, pictures: Tensor) -> Tensor:
        """The embedding of pictures themselves, [B, E]."""
        assert self.scorer is not None
        return self.scorer.embed_pictures(pictures) if self.model is None else self.model.seen(self.scorer, pictures)
