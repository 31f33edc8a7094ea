"""Several trained models one after another, from words to a large video, one network in memory at a time."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from muybridge.errors import UserError
from muybridge.files import whole_folder
from muybridge.library.catalogue import sampling_of
from muybridge.library.index import index_of, settings_of, write_index, write_settings
from muybridge.nn.frames import to_uint8
from muybridge.pipelines.base import VideoPipeline, split_options
from muybridge.pipelines.running import VideoOutput, seeds_of, without_gradients
from muybridge.pipelines.settings import SamplingConfig, sampling_settings

#: Settings that are every stage's own.
OF_STAGES = tuple(known.name for known in fields(SamplingConfig) if known.name != "fps")
#: A stage's seed is this many apart from the one before it, so that changing one stage's leaves those before as they
#: are.
SEED_STRIDE = 1_000_003


class StagedPipeline(VideoPipeline):
    """Words to a large video through every stage of a folder.

    The first stage draws from words; each later one has `raise_video(video, prompts, seeds, **options)`. A stage is
    opened when its turn comes and let go afterwards.

    Args:
        folder: it holds the stages' folders.
        names: of the stages' folders, in order.
        sampling: what the result is: num_frames, height, width, fps.

    Attributes:
        classes: of pipelines, by the class name in a stage's index.
        what: what such a folder is called in messages.
    """

    classes: ClassVar[Mapping[str, Any]] = {}
    what: ClassVar[str] = "model of several stages"

    def __init__(self, folder: Path, names: Sequence[str], sampling: dict[str, Any]):
        super().__init__()
        self.register_modules(network=nn.Module())
        self.folder, self.names = folder, tuple(names)
        self.register_to_config(sampling=dict(sampling))
        self.where, self.dtype_of_stages, self.compiled = torch.device("cpu"), torch.float32, False

    @classmethod
    def from_folder(cls, folder: Path, dtype: torch.dtype = torch.float32) -> Self:
        """Open what `save_stages` wrote.

        Raises:
            UserError: a stage is missing, lies outside the folder, or does not follow the one before it.
        """
        settings = settings_of(folder)
        names = settings.get("stages")
        if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
            raise UserError(f"{folder}: muybridge.json must list the folders of the {cls.what}'s stages")
        for name in names:
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise UserError(f"{folder}: the stage {name!r} lies outside the {cls.what}'s folder")
            cls.class_of(folder / name)
        return cls(folder, names, dict(settings.get("sampling", {})))

    @classmethod
    def class_of(cls, folder: Path) -> Any:
        """The pipeline of a stage.

        Raises:
            UserError: another kind of model.
        """
        kind = str(index_of(folder).get("_class_name"))
        if kind not in cls.classes:
            raise UserError(f"{folder}: not a stage of a {cls.what}, but a {kind}")
        return cls.classes[kind]

    def ready(self, device: torch.device, precision: str, dtype: torch.dtype) -> Self:
        """Where and in what precision stages will be opened."""
        self.where, self.precision, self.dtype_of_stages = device, precision, dtype
        self.set_progress_bar_config(disable=True)
        return self

    def run_with(self, memory: str, compiled: bool, device: torch.device) -> Self:
        """How stages will be run."""
        self.memory, self.compiled = memory, compiled
        return self

    @property
    def device(self) -> torch.device:
        return self.where

    def opened(self, index: int) -> Any:
        """One stage's pipeline."""
        folder = self.folder / self.names[index]
        stage = self.class_of(folder).from_folder(folder, self.dtype_of_stages)
        stage.know_names(folder)
        stage.ready(self.where, self.precision, self.dtype_of_stages)
        return stage.run_with(self.memory, self.compiled, self.where)

    def settings(self, **overrides: Any) -> SamplingConfig:
        """What the result is: its size and rate. Steps, guidance and the rest are every stage's own.

        Raises:
            UserError: one of those is asked for.
        """
        made = sampling_settings(self.config.sampling, {})
        for name in OF_STAGES:
            if overrides.get(name) not in (None, getattr(made, name)):
                raise UserError(
                    f"{name}: every stage of a {self.what} has its own; leave it out. What sets it itself, such as "
                    f"redrawing or going on, takes the first stage's folder: {self.folder / self.names[0]}"
                )
        return sampling_settings(self.config.sampling, overrides)

    @property
    def stage_factors(self) -> list[tuple[str, int]]:
        """(kind, factor) of every stage: by how much `upscale` makes a video larger with it; ("", 1) for one that makes
        it of words."""
        making = [settings_of(self.folder / name).get("making") for name in self.names]
        return [("spatial", int(m["factor"])) if m else ("", 1) for m in making]

    def raised_by(
        self, chosen: Sequence[int], video: Tensor, prompt: str | None, seed: int, tile: int = 0, on_step: Any = None
    ) -> Tensor:
        """A video [1, 3, F, H, W] raised by these stages in turn, in [-1, 1].

        Args:
            tile: of the last one; see CascadeStagePipeline.raise_video.
        """
        for index in chosen:
            tiles = tile if index == chosen[-1] else 0
            video = self.opened(index).raised_by([0], video, prompt, seed + index * SEED_STRIDE, tiles, on_step)
        return video

    def steps_of_stages(self, chosen: Sequence[int]) -> int:
        """Sampling steps of these stages."""
        return sum(settings_in(self.folder / self.names[i]).num_inference_steps for i in chosen)

    def steps_of(self, settings: SamplingConfig) -> int:
        return self.steps_of_stages(range(len(self.names)))

    @without_gradients
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        seed: int | Sequence[int] = 0,
        *,
        negative_prompt: str = "",
        keep: Callable[[str, Any, float], None] | None = None,
        **options: Any,
    ) -> VideoOutput:
        """Sample one video a prompt.

        Args:
            keep: told each stage's (name, frames uint8 [B, F, H, W, 3], fps).
            options: as of VideoPipeline, and what `run_stage` takes.

        Raises:
            UserError: settings or prompts that cannot be sampled.
        """
        if negative_prompt:
            raise UserError(f"negative_prompt: a {self.what} takes none")
        told = {name: options.pop(name) for name in self.told_by if name in options}
        overrides, options = split_options(options)
        settings = self.settings(**overrides)
        prompts = [prompt] if isinstance(prompt, str) or prompt is None else list(prompt)
        seeds = seeds_of(seed, len(prompts))
        video: Tensor | None = None
        for index, name in enumerate(self.names):
            pipeline = self.opened(index)
            own = [s + index * SEED_STRIDE for s in seeds]
            made = self.run_stage(index, pipeline, video, prompts, own, settings, **told, **options)
            self.evaluations += pipeline.evaluations
            video = made.samples.clamp(-1, 1).cpu()
            if keep:
                keep(name, to_uint8(video), self.rate_of(index, pipeline))
            del pipeline  # before the next is opened
        assert video is not None
        return VideoOutput(frames=to_uint8(video), samples=video)

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
        """What one stage makes of the video before it; the first, of words."""
        if video is None:
            made: VideoOutput = pipeline(prompts if list(prompts) != [None] else None, seeds, **options)
        else:
            made = pipeline.raise_video(video, prompts, seeds, **options)
        return made

    def rate_of(self, index: int, pipeline: Any) -> float:
        """Frames a second of what a stage makes."""
        return float(self.config.sampling["fps"])

    def sample_shape(self, settings: SamplingConfig) -> tuple[int, ...]:
        return (3, settings.num_frames, settings.height, settings.width)

    @property
    def prediction_type(self) -> str:
        return "v_prediction"


def settings_in(folder: Path) -> SamplingConfig:
    """The sampling settings of a trained model, without opening it."""
    return sampling_settings(sampling_of(folder), {})


def save_stages(
    stages: Mapping[str, Path], folder: Path, class_name: str, what: str, settings: Mapping[str, Any]
) -> Path:
    """Put trained stages together: copies of their folders in one folder, which appears whole or not at all.

    Args:
        stages: name of each within the folder -> where it lies now, in order.
        class_name: of the pipeline that opens it.
        settings: kept beside the stages' names: `sampling`, what the result is.

    Raises:
        UserError: `folder` holds something else.
    """
    with whole_folder(folder, "a model", what) as unfinished:
        for name, stage in stages.items():
            shutil.copytree(stage, unfinished / name)
        write_index(unfinished, class_name)
        write_settings(unfinished, {"stages": list(stages), **settings})
    return folder
