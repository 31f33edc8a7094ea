"""Sampling Lumiere: all frames in one pass, given parts of them or not, and larger ones behind it in windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from muybridge.errors import UserError
from muybridge.library.index import settings_of
from muybridge.nn.frames import to_uint8
from muybridge.pipelines.inflated import InflatedPipeline
from muybridge.pipelines.running import VideoOutput, without_gradients
from muybridge.pipelines.settings import SamplingConfig
from muybridge.pipelines.staged import SEED_STRIDE, StagedPipeline, save_stages, settings_in
from muybridge.pipelines.style import parse_style, style_network
from muybridge.pipelines.super_resolution import SuperResolutionPipeline
from muybridge.systems.lumiere.masks import known_of


class LumiereBasePipeline(InflatedPipeline):
    """The base model; arguments as of InflatedPipeline. Its conditional form is given parts of a video (`fill`)."""

    takes_styles = True

    @property
    def fills_regions(self) -> bool:  # type: ignore[override]
        return bool(self.network.temporal.takes_known_frames)

    def use_style(self, text: str) -> None:
        """Draw the picture network's weights towards a style, FOLDER_OR_LORA:WEIGHT; see pipelines.style.

        Raises:
            UserError: it has one already: weights that were drawn to a style are not drawn back.
        """
        if self.styled:
            raise UserError(f"this model has the style {self.styled} already; open it again for {text}")
        style_network(self, text)
        self.styled = text

    @without_gradients
    def fill(
        self,
        video: Tensor,
        mask: Tensor,
        prompt: str = "",
        seed: int = 0,
        *,
        keep: bool = True,
        **options: Any,
    ) -> VideoOutput:
        """Make what is not given of a video.

        Image to video, inpainting, outpainting and cinemagraphs are masks (systems.lumiere.masks).

        Args:
            video: [1, 3, F, H, W] in [-1, 1]; hidden pixels are not looked at.
            mask: [1, 1, F, H, W], 1 where a pixel is given.
            keep: given pixels come back as they were, to the last bit; without it as the network draws them.
            options: as of a call.

        Raises:
            UserError: a model of words alone, or settings that cannot be sampled.
        """
        if not self.fills_regions:
            raise UserError("this model draws from words alone: it was not trained with diffusion.tasks")
        frames, height, width = video.shape[2:]
        size = {"num_frames": frames, "height": height, "width": width}
        mask = mask.expand(1, 1, -1, -1, -1)
        given = known_of(self.space, video.to(self.device), mask.to(self.device))
        made = self(prompt, seed, given=given, **{**options, **size})
        if not keep or options.get("output") == "latents":
            return made
        whole = torch.where(mask > 0, video, made.samples.cpu())
        return VideoOutput(frames=to_uint8(whole), samples=whole)


class LumierePipeline(StagedPipeline):
    """The base model and its super-resolution. Arguments as of StagedPipeline."""

    classes: ClassVar[Any] = {cls.__name__: cls for cls in (LumiereBasePipeline, SuperResolutionPipeline)}
    what = "Lumiere model"
    takes_styles = True

    @cached_property
    def _of_base(self) -> dict[str, int]:
        """What its base takes; it is opened to be asked, once."""
        base = self.opened(0)
        return {"regions": base.fills_regions, "sides": base.multiple, "frames": base.length_for(1)}

    @property
    def fills_regions(self) -> bool:  # type: ignore[override]
        return bool(self._of_base["regions"])

    def working_settings(self, **overrides: Any) -> SamplingConfig:
        """The base's, at the rate of the result."""
        fps = self.settings(**overrides).fps
        return replace(settings_in(self.folder / self.names[0]), fps=fps)

    def use_style(self, text: str) -> None:
        """The base's, each time that it is opened."""
        parse_style(text)
        self.styled = text

    def opened(self, index: int) -> Any:
        pipeline = super().opened(index)
        if index == 0 and self.styled:
            pipeline.use_style(self.styled)
        return pipeline

    @property
    def multiple(self) -> int:
        """Of the sides of videos that are given to the base."""
        return self._of_base["sides"]

    def length_for(self, frames: int) -> int:
        """As the base's."""
        return frames + -frames % self._of_base["frames"]

    def run_stage(
        self,
        index: int,
        pipeline: Any,
        video: Tensor | None,
        prompts: Sequence[str | None],
        seeds: Sequence[int],
        settings: SamplingConfig,
        **options: Any,
    ) -> VideoOutput:
        if index == 0:
            options["fps"] = settings.fps
        return super().run_stage(index, pipeline, video, prompts, seeds, settings, **options)

    @without_gradients
    def fill(self, video: Tensor, mask: Tensor, prompt: str = "", seed: int = 0, **options: Any) -> VideoOutput:
        """As LumiereBasePipeline.fill, and then every super-resolution.

        Args:
            video, mask: of the base's size.
        """
        made: VideoOutput = self.opened(0).fill(video, mask, prompt, seed, **options)
        told = {"on_step": options.get("on_step")}
        for index in range(1, len(self.names)):
            small = made.samples.clamp(-1, 1).cpu()
            made = self.opened(index).raise_video(small, [prompt], seed + index * SEED_STRIDE, **told)
        return made


def save_lumiere(stages: Sequence[Path], folder: Path) -> Path:
    """Put a base model and its super-resolvers, from small to large, together: copies of their folders in one.

    Raises:
        UserError: they do not follow each other, or `folder` holds something else.
    """
    names: dict[str, Path] = {}
    made: dict[str, Any] = {}
    for number, stage in enumerate(stages):
        kind = LumierePipeline.class_of(stage)
        if (kind is LumiereBasePipeline) != (number == 0):
            raise UserError(f"{stage}: the base model comes first, and only there")
        if number == 0:
            made = {name: getattr(settings_in(stage), name) for name in ("num_frames", "height", "width", "fps")}
            names["base"] = stage
        else:
            factor = int(settings_of(stage)["making"]["factor"])
            made |= {"height": made["height"] * factor, "width": made["width"] * factor}
            names[f"{number + 1}-larger"] = stage
    steps = sum(settings_in(stage).num_inference_steps for stage in stages)
    settings = {"sampling": {**made, "num_inference_steps": steps}, "image": settings_of(stages[0])["image"]}
    return save_stages(names, folder, LumierePipeline.__name__, "model", settings)
