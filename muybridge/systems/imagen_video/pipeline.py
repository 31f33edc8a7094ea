"""Sampling a whole cascade: one stage after another, one network in memory at a time."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import torch
from torch import Tensor, nn

from muybridge.configuration import from_mapping
from muybridge.errors import UserError
from muybridge.files import read_mapping, whole_folder
from muybridge.library.index import CONFIG, index_of, settings_of, write_index, write_settings
from muybridge.nn.frames import to_uint8
from muybridge.pipelines.base import VideoPipeline, split_options
from muybridge.pipelines.running import VideoOutput, seeds_of, without_gradients
from muybridge.pipelines.settings import SamplingConfig, sampling_settings
from muybridge.systems.imagen_video.cascade import BASE, StageConfig, check_cascade
from muybridge.systems.imagen_video.stage import CascadeStagePipeline
from muybridge.systems.imagen_video.tiles import multiple

#: Settings that are every stage's own.
OF_STAGES = tuple(known.name for known in fields(SamplingConfig) if known.name != "fps")
#: A stage's seed is this many apart from the one before it, so that changing one stage's leaves those before as they
#: are.
SEED_STRIDE = 1_000_003


class CascadePipeline(VideoPipeline):
    """Words to a large video through every stage of a folder.

    A stage is opened when its turn comes and let go afterwards.

    Args:
        folder: of the cascade; its stages are folders in it.
        names: of the stages' folders, in order.
        sampling: what is told of the result: fps.
    """

    def __init__(self, folder: Path, names: Sequence[str], sampling: dict[str, Any]):
        super().__init__()
        self.register_modules(network=nn.Module())
        self.folder, self.names = folder, tuple(names)
        self.stages = tuple(_stage_of(folder / name) for name in names)
        check_cascade(self.stages)
        last = self.stages[-1]
        made = {"num_frames": last.num_frames, "height": last.height, "width": last.width, "fps": last.fps}
        self.register_to_config(sampling={**sampling, **made})
        self.where, self.dtype_of_stages = torch.device("cpu"), torch.float32

    @classmethod
    def from_folder(cls, folder: Path, dtype: torch.dtype = torch.float32) -> Self:
        """Open what `save_cascade` wrote.

        Raises:
            UserError: a stage is missing, lies outside the folder, or does not follow the one before it.
        """
        settings = settings_of(folder)
        names = settings.get("stages")
        if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
            raise UserError(f"{folder}: muybridge.json must list the folders of the cascade's stages")
        for name in names:
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise UserError(f"{folder}: the stage {name!r} lies outside the cascade's folder")
        return cls(folder, names, dict(settings.get("sampling", {})))

    def ready(self, device: torch.device, precision: str, dtype: torch.dtype) -> Self:
        """Where and in what precision stages will be opened."""
        self.where, self.precision, self.dtype_of_stages = device, precision, dtype
        self.set_progress_bar_config(disable=True)
        return self

    def opened(self, index: int) -> CascadeStagePipeline:
        """One stage's pipeline."""
        folder = self.folder / self.names[index]
        stage = CascadeStagePipeline.from_folder(folder, self.dtype_of_stages)
        return stage.ready(self.where, self.precision, self.dtype_of_stages)

    def settings(self, **overrides: Any) -> SamplingConfig:
        """What the result is: its size and rate. Steps, guidance and the rest are every stage's own.

        Raises:
            UserError: one of those is asked for.
        """
        made = sampling_settings(self.config.sampling, {})
        for name in OF_STAGES:
            if overrides.get(name) not in (None, getattr(made, name)):
                raise UserError(f"{name}: every stage of a cascade has its own; leave it out")
        return sampling_settings(self.config.sampling, overrides)

    def steps_of(self, settings: SamplingConfig) -> int:
        return sum(stage.steps for stage in self.stages)

    @without_gradients
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        seed: int | Sequence[int] = 0,
        *,
        negative_prompt: str = "",
        keep: Callable[[str, Any, float], None] | None = None,
        tile: int = 0,
        **options: Any,
    ) -> VideoOutput:
        """Sample one video a prompt.

        Args:
            keep: told each stage's (name, frames uint8 [B, F, H, W, 3], fps).
            tile: of the last stage; see CascadeStagePipeline.raise_video.
            options: as of VideoPipeline.

        Raises:
            UserError: settings or prompts that cannot be sampled.
        """
        if negative_prompt:
            raise UserError("negative_prompt: a cascade takes none")
        self.settings(**split_options(options)[0])
        options = split_options(options)[1]
        prompts = [prompt] if isinstance(prompt, str) or prompt is None else list(prompt)
        seeds = seeds_of(seed, len(prompts))
        video: Tensor | None = None
        for index, name in enumerate(self.names):
            pipeline = self.opened(index)
            own = [s + index * SEED_STRIDE for s in seeds]
            if video is None:
                made = pipeline(prompts if prompts != [None] else None, own, **options)
            else:
                last = index == len(self.names) - 1
                made = pipeline.raise_video(video, prompts, own, tile if last else 0, **options)
            video = made.samples.clamp(-1, 1).cpu()
            del pipeline  # before the next is opened
            if keep:
                keep(name, to_uint8(video), self.stages[index].fps)
        assert video is not None
        return VideoOutput(frames=to_uint8(video), samples=video)

    @property
    def multiple(self) -> int:
        """Of sides that every stage can work with."""
        found = [multiple(SimpleNamespace(**read_mapping(self.folder / n / "network" / CONFIG))) for n in self.names]
        return max(found)

    @property
    def stage_factors(self) -> list[tuple[str, int]]:
        """(kind, factor) of every stage."""
        return [(stage.kind, stage.factor) for stage in self.stages]

    def steps_of_stages(self, chosen: Sequence[int]) -> int:
        """Sampling steps of these stages."""
        return sum(self.stages[i].steps for i in chosen)

    def raised_by(
        self, chosen: Sequence[int], video: Tensor, prompt: str | None, seed: int, tile: int = 0, on_step: Any = None
    ) -> Tensor:
        """A video [1, 3, F, H, W] raised by these stages in turn, in [-1, 1]."""
        for index in chosen:
            tiles = tile if index == chosen[-1] else 0
            video = self.opened(index).raised_by([0], video, prompt, seed + index * SEED_STRIDE, tiles, on_step)
        return video

    def sample_shape(self, settings: SamplingConfig) -> tuple[int, ...]:
        return (3, *self.stages[-1].made)

    @property
    def prediction_type(self) -> str:
        return "v_prediction"


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
    with whole_folder(folder, "a model", "cascade") as unfinished:
        for stage, name in zip(stages, names, strict=True):
            shutil.copytree(stage, unfinished / name)
        write_index(unfinished, CascadePipeline.__name__)
        write_settings(unfinished, {"stages": names, "sampling": {"fps": configs[-1].fps}})
    return folder
