"""Sampling a whole cascade: one stage after another, one network in memory at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

from torch import Tensor

from muybridge.configuration import from_mapping
from muybridge.errors import UserError
from muybridge.files import read_mapping
from muybridge.library.index import CONFIG, index_of
from muybridge.pipelines.running import VideoOutput
from muybridge.pipelines.settings import SamplingConfig
from muybridge.pipelines.staged import StagedPipeline, save_stages
from muybridge.systems.imagen_video.cascade import BASE, StageConfig, check_cascade
from muybridge.systems.imagen_video.stage import CascadeStagePipeline
from muybridge.systems.imagen_video.tiles import multiple


class CascadePipeline(StagedPipeline):
    """Words to a large video through every stage of a folder.

    Args:
        folder: of the cascade; its stages are folders in it.
        names: of the stages' folders, in order.
        sampling: what is told of the result: fps.
    """

    classes: ClassVar[Any] = {CascadeStagePipeline.__name__: CascadeStagePipeline}
    what = "cascade"
    told_by = ("tile",)

    def __init__(self, folder: Path, names: Sequence[str], sampling: dict[str, Any]):
        self.stages = tuple(_stage_of(folder / name) for name in names)
        check_cascade(self.stages)
        last = self.stages[-1]
        made = {"num_frames": last.num_frames, "height": last.height, "width": last.width, "fps": last.fps}
        super().__init__(folder, names, {**sampling, **made})

    def steps_of_stages(self, chosen: Sequence[int]) -> int:
        return sum(self.stages[i].steps for i in chosen)

    def run_stage(
        self,
        index: int,
        pipeline: Any,
        video: Tensor | None,
        prompts: Sequence[str | None],
        seeds: Sequence[int],
        settings: SamplingConfig,
        tile: int = 0,
        **options: Any,
    ) -> VideoOutput:
        """What one stage makes of the video before it; the first, of words.

        Args:
            tile: of the last stage; see CascadeStagePipeline.raise_video.
        """
        if video is not None and index == len(self.names) - 1:
            options["tile"] = tile
        return super().run_stage(index, pipeline, video, prompts, seeds, settings, **options)

    def rate_of(self, index: int, pipeline: Any) -> float:
        return self.stages[index].fps

    @property
    def multiple(self) -> int:
        """Of sides that every stage can work with."""
        found = [multiple(SimpleNamespace(**read_mapping(self.folder / n / "network" / CONFIG))) for n in self.names]
        return max(found)

    @property
    def stage_factors(self) -> list[tuple[str, int]]:
        """(kind, factor) of every stage."""
        return [(stage.kind, stage.factor) for stage in self.stages]


def _stage_of(folder: Path) -> StageConfig:
    index = index_of(folder)
    if index.get("_class_name") != CascadeStagePipeline.__name__:
        raise UserError(f"{folder}: not a stage of a cascade, but a {index.get('_class_name')}")
    return from_mapping(StageConfig, dict(index.get("stage") or {}), f"{folder}: stage")


def save_cascade(stages: Sequence[Path], folder: Path) -> Path:
    """Put trained stages together: copies of their folders, base first, in one folder.

    Raises:
        UserError: they do not follow each other, or `folder` holds something else.
    """
    configs = [_stage_of(stage) for stage in stages]
    check_cascade(configs)
    counts: dict[str, int] = {}
    names = []
    for i, config in enumerate(configs):
        counts[config.kind] = counts.get(config.kind, 0) + 1
        names.append(config.kind if config.kind == BASE else f"{i + 1}-{config.kind}")
    sampling = {"fps": configs[-1].fps}
    whole = dict(zip(names, stages, strict=True))
    return save_stages(whole, folder, CascadePipeline.__name__, "cascade", {"sampling": sampling})
