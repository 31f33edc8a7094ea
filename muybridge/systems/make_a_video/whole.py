"""A whole Make-A-Video: prior, decoder, frame interpolation and super-resolution, from words to a large video.

    y = SR_h . SR_l^t . upF . D^t . P (words)

Source: 2209.14792 eq. 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from muybridge.errors import UserError
from muybridge.library.index import settings_of
from muybridge.pipelines.running import VideoOutput
from muybridge.pipelines.settings import SamplingConfig
from muybridge.pipelines.staged import SEED_STRIDE, StagedPipeline, save_stages, settings_in
from muybridge.pipelines.super_resolution import SuperResolutionPipeline
from muybridge.systems.make_a_video.between import MakeAVideoBetweenPipeline
from muybridge.systems.make_a_video.masks import target_frames
from muybridge.systems.make_a_video.pipeline import MakeAVideoDecoderPipeline

CLASSES = (MakeAVideoDecoderPipeline, MakeAVideoBetweenPipeline, SuperResolutionPipeline)


class MakeAVideoPipeline(StagedPipeline):
    """Every network of a folder in turn. `fps` is the rate of the result: the decoder is told it divided by the skips
    of the frame interpolation behind it. The embedding is made once, with the seed of the video.

    Args: as of StagedPipeline.
    """

    classes: ClassVar[Any] = {cls.__name__: cls for cls in CLASSES}
    what = "Make-A-Video model"

    def settings(self, **overrides: Any) -> SamplingConfig:
        """As of StagedPipeline.

        Raises:
            UserError: a rate at which one of its networks was not trained.
        """
        made, (low, high) = super().settings(**overrides), self._rates
        if not low <= made.fps <= high:
            raise UserError(
                f"fps {made.fps:g}: at the rate of the result, this model's networks were trained on {low:g} to "
                f"{high:g} frames a second; take one of those"
            )
        return made

    @cached_property
    def _rates(self) -> tuple[float, float]:
        """Lowest and highest rate of the result at which every network was trained."""
        told = [
            [rate * self._skips_behind(index) for rate in settings_of(self.folder / name).get("rates", ())]
            for index, name in enumerate(self.names)
        ]
        return max(r[0] for r in told if r), min(r[1] for r in told if r)

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
        if isinstance(pipeline, MakeAVideoDecoderPipeline):
            options["fps"] = settings.fps / self._skips_behind(index)
            # the same for every stage: from the seed of the video, not the stage's own
            options["embedding"] = pipeline.embedded(prompts, [seed - index * SEED_STRIDE for seed in seeds])
        return super().run_stage(index, pipeline, video, prompts, seeds, settings, **options)

    def _skips_behind(self, index: int) -> int:
        """By how much the rate grows behind a stage."""
        out = 1
        for name in self.names[index + 1 :]:
            if self.class_of(self.folder / name) is MakeAVideoBetweenPipeline:
                out *= int(settings_of(self.folder / name)["skip"])
        return out


def save_make_a_video(stages: Sequence[Path], folder: Path) -> Path:
    """Put trained networks together: copies of their folders in one, the decoder first, then frame interpolation, then
    super-resolvers from small to large, as many as there are.

    Raises:
        UserError: they do not follow each other, or `folder` holds something else.
    """
    names: dict[str, Path] = {}
    made: dict[str, Any] = {}
    for number, stage in enumerate(stages):
        kind, own = MakeAVideoPipeline.class_of(stage), settings_of(stage)
        if (kind is MakeAVideoDecoderPipeline) != (number == 0):
            raise UserError(f"{stage}: the decoder comes first, and only there")
        if number == 0:
            if own.get("stage") != "video":
                raise UserError(f"{stage}: a decoder of pictures; give the one that was trained on videos")
            made = {name: getattr(settings_in(stage), name) for name in ("num_frames", "height", "width", "fps")}
            names["decoder"] = stage
        elif kind is MakeAVideoBetweenPipeline:
            if any(name.endswith("larger") for name in names):
                raise UserError(f"{stage}: frame interpolation comes before super-resolution")
            skip = int(own["skip"])
            made |= {"num_frames": target_frames(made["num_frames"], skip), "fps": made["fps"] * skip}
            names[f"{number + 1}-between"] = stage
        else:
            factor = int(own["making"]["factor"])
            made |= {"height": made["height"] * factor, "width": made["width"] * factor}
            names[f"{number + 1}-larger"] = stage
    steps = {"num_inference_steps": sum(settings_in(s).num_inference_steps for s in stages)}
    # what the decoder names is what the whole depends on: its hash and its records follow
    own = settings_of(stages[0])
    named: dict[str, Any] = {name: own[name] for name in ("image", "scorer", "prior", "projection") if name in own}
    settings: dict[str, Any] = {"sampling": {**made, **steps}, **named}
    return save_stages(names, folder, MakeAVideoPipeline.__name__, "model", settings)
