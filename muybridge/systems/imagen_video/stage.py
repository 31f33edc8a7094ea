"""Sampling one stage of a cascade: the base from words, the others from words and the video of the stage before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from muybridge.configuration import from_mapping
from muybridge.diffusion.noise import Noise
from muybridge.diffusion.process import augment_condition
from muybridge.errors import UserError
from muybridge.nn.text_conditioning import TextCondition
from muybridge.pipelines.base import split_options
from muybridge.pipelines.pixels import TextToVideoPipeline
from muybridge.pipelines.running import VideoOutput, seeds_of, without_gradients
from muybridge.pipelines.settings import SamplingConfig
from muybridge.systems.imagen_video.cascade import BASE, StageConfig
from muybridge.systems.imagen_video.pairs import raised
from muybridge.systems.imagen_video.tiles import check_tiles, in_tiles, is_convolutional, multiple, receptive_radius


@dataclass(frozen=True)
class GivenVideo:
    """What a super-resolution network is told, one row a video.

    Attributes:
        text: captions; None for a model or a call without words.
        condition: the given video at the stage's size, noised, [B, 3 or 4, F, H, W].
        level: its log-SNR, [B].
        tile: pixels a side of the tiles that the network sees at a time; 0 is the whole picture.
    """

    text: TextCondition | None
    condition: Tensor
    level: Tensor
    tile: int = 0

    def rows(self, which: slice) -> GivenVideo:
        text = None if self.text is None else self.text.rows(which)
        return replace(self, text=text, condition=self.condition[which], level=self.level[which])

    def to(self, device: torch.device | str) -> GivenVideo:
        text = None if self.text is None else self.text.to(device)
        return replace(self, text=text, condition=self.condition.to(device), level=self.level.to(device))

    def null(self) -> GivenVideo:
        """The words dropped; the given video stays."""
        return replace(self, text=None if self.text is None else self.text.null())


class CascadeStagePipeline(TextToVideoPipeline):
    """One stage.

    Args:
        network: a UNet3DModel that takes the stage's condition.
        stage: fields of StageConfig; the rest as of TextToVideoPipeline.
    """

    def __init__(
        self,
        network: nn.Module,
        schedule: str = "cosine",
        schedule_options: dict[str, Any] | None = None,
        text_encoder: str | None = None,
        text_max_length: int = 16,
        sampling: dict[str, Any] | None = None,
        stage: dict[str, Any] | None = None,
    ):
        super().__init__(network, schedule, schedule_options, text_encoder, text_max_length, sampling)
        self.register_to_config(stage=dict(stage or {}))
        self.stage = from_mapping(StageConfig, dict(stage or {}), "stage")

    @property
    def draws_from_words(self) -> bool:  # type: ignore[override]
        return self.stage.kind == BASE

    @without_gradients
    def __call__(self, prompt: Any = None, seed: Any = 0, **options: Any) -> VideoOutput:
        """Sample the base, with its own guidance schedule unless a guidance scale is given; see VideoPipeline.

        Raises:
            UserError: another stage, which needs a video (`raise_video`).
        """
        if self.stage.kind != BASE:
            raise UserError(
                f"a {self.stage.kind} stage of a cascade is given a video: use `upscale`, or a whole cascade"
            )
        return super().__call__(prompt, seed, **self._with_schedule(options))

    @without_gradients
    def raise_video(
        self, video: Tensor, prompts: Sequence[str | None], seed: int | Sequence[int] = 0, tile: int = 0, **options: Any
    ) -> VideoOutput:
        """Raise the rate or the size of videos.

        Args:
            video: [B, 3, F, H, W] in [-1, 1], of any size and length; values beyond are clipped.
            prompts: one a video, or None for all.
            seed: as of a call.
            tile: pixels a side that the network sees at a time, of fully convolutional networks: the same result in
                memory that does not grow with the picture; 0 is the whole picture, or where that is large tiles of
                `tile_for`.
            options: as of a call.

        Raises:
            UserError: the base of a cascade, which is given no video; a tile that does not fit the network.
        """
        if self.stage.kind == BASE:
            raise UserError("the base of a cascade makes a video of words alone: nothing to raise")
        check_tiles(self.network, tile)
        overrides, options = split_options(self._with_schedule(options))
        given = raised(video.clamp(-1, 1), self.stage).to(self.device)
        frames, height, width = given.shape[2:]
        tile = tile or tile_for(self, height, width)
        rate = {"fps": overrides.get("fps") or self.stage.fps}
        settings = self.settings(**{**overrides, "num_frames": frames, "height": height, "width": width, **rate})
        seeds = seeds_of(seed, len(given))
        # one draw a stage: what the condition looks like is the same at all steps
        grain = Noise(seeds, self.device)((3, frames, height, width), "augmentation").to(given)
        level = torch.full((len(given),), self.stage.augmentation_level, device=given.device)
        pixels = augment_condition(given[:, :3], grain, level)
        text = self._embed(prompts)
        condition = GivenVideo(text, torch.cat([pixels, given[:, 3:]], 1), level, tile)
        if text is None:
            options["guidance"] = 1.0
        return self.draw(condition, condition.null(), seeds, settings, **options)

    @property
    def multiple(self) -> int:
        return multiple(self.network.config)

    @property
    def stage_factors(self) -> list[tuple[str, int]]:
        """(kind, factor) of what `upscale` can run: this stage."""
        return [(self.stage.kind, self.stage.factor)]

    def steps_of_stages(self, chosen: Sequence[int]) -> int:
        """Sampling steps of these stages."""
        return len(chosen) * self.settings().num_inference_steps

    def raised_by(
        self, chosen: Sequence[int], video: Tensor, prompt: str | None, seed: int, tile: int = 0, on_step: Any = None
    ) -> Tensor:
        """A video [1, 3, F, H, W] raised by this stage, in [-1, 1]."""
        for _ in chosen:
            made = self.raise_video(video, [prompt], seed, tile, on_step=on_step)
            video = made.samples.clamp(-1, 1).cpu()
        return video

    def _with_schedule(self, options: dict[str, Any]) -> dict[str, Any]:
        """The stage's guidance schedule among a call's options, unless they say another guidance."""
        if options.get("guidance") is not None or options.get("guidance_scale") is not None:
            return options
        asked = {k: v for k, v in options.items() if k in ("num_inference_steps", "sampler") and v is not None}
        drawn = {**self.config.sampling, **asked}
        steps = int(drawn.get("num_inference_steps", self.stage.steps))
        return {
            "num_inference_steps": steps,
            **options,
            "guidance": self.scale_over(steps, str(drawn.get("sampler", "ddim"))),
        }

    def scale_over(self, steps: int, sampler: str = "ddim") -> Callable[[Tensor], Tensor] | float:
        """The stage's guidance schedule as a function of the log-SNR."""
        scales = self.stage.guidance(steps)
        if len(set(scales)) == 1:
            return scales[0]
        lams, table = self.levels(steps, sampler)[:-1], torch.tensor(scales)

        def at(lam: Tensor) -> Tensor:
            near = (lam.double().cpu().reshape(-1, 1) - lams).abs().argmin(1)
            return table[near].to(lam)

        return at

    def predict(self, z: Tensor, lam: Tensor, condition: Any, guidance: Tensor | None = None) -> Tensor:
        if not isinstance(condition, GivenVideo):
            return super().predict(z, lam, condition, guidance)
        told = {"text": condition.text, "condition_log_snr": condition.level.float(), "guidance": guidance}
        given = condition.condition.to(z)
        if condition.tile:
            return in_tiles(self.network, z, lam.float(), given, condition.tile, told)
        output: Tensor = self.network(z, lam.float(), condition=given, **told)
        return output

    def sample_shape(self, settings: SamplingConfig) -> tuple[int, ...]:
        return (3, settings.num_frames, settings.height, settings.width)


def tile_for(pipeline: CascadeStagePipeline, height: int, width: int) -> int:
    """A tile for a stage that makes a picture of this size, where it can be run in tiles and is large enough for it;
    else 0."""
    config = pipeline.network.config
    if not is_convolutional(config):
        return 0
    tile = 4 * receptive_radius(config)
    return tile if max(height, width) > 2 * tile else 0
