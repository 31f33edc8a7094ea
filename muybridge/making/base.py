"""A video to be made: a frozen dataclass a command, whose fields are its options; what is recorded is what runs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from muybridge.configuration import Settings
from muybridge.errors import Notice, UserError
from muybridge.library.catalogue import DEFAULT_MODEL, check_weights, find_model, sampling_of
from muybridge.library.index import index_of, settings_of
from muybridge.making.record import frames_hash, record_of
from muybridge.making.used import FOLDER, place_of, whole_name
from muybridge.nn.devices import BALANCED
from muybridge.pipelines.settings import SamplingConfig, sampling_settings

if TYPE_CHECKING:
    import numpy as np

    Frames = np.ndarray


class Clip(Protocol):
    """Frames that were read, uint8 [F, H, W, 3], at a rate."""

    @property
    def frames(self) -> Any: ...

    @property
    def fps(self) -> float: ...


#: Reads a video or a picture: (path, at most so many frames or None).
Read = Callable[[str, int | None], Clip]
#: Makes of a video what is drawn next time from the cache; None keeps nothing.
Cache = Path | None
#: In a model's settings, the parts that it names beside the picture model, which its own hash holds.
NAMED_PARTS = ("scorer", "prior", "projection")


@dataclass
class Run:
    """One run of a command.

    Attributes:
        pipeline: the opened model.
        model: its name or folder.
        seed: of the video.
        settings: the sampling settings that were given, not the model's own.
        source: path of the video or picture that it starts from.
        read: opens videos and pictures.
        cache: a folder for structure found in videos.
        on_step: told each step.
        source_sha256: of the frames that it must start from; "" takes any.
        source_mean: enlarged sources are reduced to the mean of each square of pixels, not to its middle; None decides
            by whether their pixels repeat, and says so here.
    """

    pipeline: Any
    model: str
    seed: int = 0
    settings: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    read: Read | None = None
    cache: Cache = None
    on_step: Callable[[Any], None] | None = None
    source_sha256: str = ""
    source_mean: bool | None = None

    def checked(self, frames: Any) -> Any:
        """The frames that a run starts from, if they are the ones that it must start from.

        Raises:
            UserError: others.
        """
        if self.source_sha256 and frames_hash(frames) != self.source_sha256:
            raise UserError(f"{self.source} has changed since this video was made from it")
        return frames


@dataclass(frozen=True)
class Heard:
    """The sound that belongs to a video that was made from another.

    Attributes:
        path: the other video; it may have no sound.
        start, seconds: of its sound, from its first frame.
        silent: why the sound cannot be kept, "" where it can.
    """

    path: str
    start: float = 0.0
    seconds: float = 0.0
    silent: str = ""


@dataclass(frozen=True)
class Made:
    """A video that was made: frames uint8 [F, H, W, 3], its rate, its record, and what is heard with it."""

    frames: Any
    fps: float
    record: dict[str, Any]
    heard: Heard | None = None


@dataclass(frozen=True)
class Making(Settings):
    """Base of what makes a video; a subclass holds a command's options.

    Attributes:
        command: its name on the command line and in records.
        default_model: the model that it uses unless another is named.
        source_kind: "video", "picture", or "" for none.
        reads: the sampling settings that it takes; others are refused.
        zero_shot: whether an image model is opened for videos.
        defaults: sampling settings in place of the model's own, where none are given.
    """

    command: ClassVar[str] = ""
    default_model: ClassVar[str] = DEFAULT_MODEL
    source_kind: ClassVar[str] = ""
    reads: ClassVar[Sequence[str]] = ()
    zero_shot: ClassVar[bool] = False
    defaults: ClassVar[Mapping[str, Any]] = {}

    def check(self, model: str, settings: dict[str, Any]) -> SamplingConfig:
        """Everything that can be checked without opening the model; returns the settings that will run.

        Raises:
            UserError: an unknown model, or settings that it, its sampler or this command does not read.
        """
        for name, value in settings.items():
            if value is not None and name not in self.reads:
                raise UserError(f"{self.command} does not take {name}; it takes {', '.join(self.reads)}")
        folder = find_model(model)
        check_weights(folder, index_of(folder))
        return sampling_settings(sampling_of(folder), settings)

    def unread(self, given: Collection[str]) -> dict[str, str]:
        """Options of this command that have no effect beside the others -> why; one that was given is refused.

        Args:
            given: names of the options and settings that were given, whatever their values.
        """
        return {}

    def notices(self, settings: SamplingConfig, seed: int) -> list[str]:
        """What a user should know of options that change nothing with the settings that will run."""
        if getattr(self, "negative_prompt", "") and settings.guidance_scale == 1:
            return ["--negative changes nothing at guidance scale 1; give a higher --guidance-scale"]
        return []

    def length(self, settings: SamplingConfig, source: Callable[[int], int]) -> int:
        """How many frames are made: 1, or what tells that it is more.

        Args:
            source: counts the source's frames, up to a number.
        """
        return settings.num_frames

    def placed(self) -> Self:
        """The same with paths that hold from any working folder, as it is recorded."""
        return self

    def uses(self, model: str) -> dict[str, str]:
        """What the frames depend on beside model, source and LoRAs: a path or a bundled name -> its kind (`used`)."""
        named = settings_of(find_model(model))
        return {whole_name(str(named[part])): FOLDER for part in NAMED_PARTS if named.get(part)}

    def files(self, model: str) -> list[Path]:
        """Files and folders that are read, beside the source and LoRAs; none of them is written over."""
        folder = find_model(model)
        picture = settings_of(folder).get("image")
        pictured = [find_model(str(picture))] if picture else []
        return [folder, *pictured, *(place_of(name) for name in self.uses(model))]

    def total_steps(self, run: Run) -> int:
        """Sampling steps that a run reports, for a progress bar."""
        steps: int = run.pipeline.steps_of(run.pipeline.settings(**run.settings))
        return steps

    def make(self, run: Run) -> Made:
        """Make the video with its record.

        Raises:
            UserError: a model of another kind, a source that cannot be used, or settings that cannot be sampled.
        """
        raise NotImplementedError

    def made(
        self,
        run: Run,
        frames: Any,
        settings: SamplingConfig,
        fps: float | None = None,
        source: Any = None,
        heard: Heard | None = None,
    ) -> Made:
        """A finished video with its record.

        Args:
            fps: of the file; the settings' by default.
            source: the frames that were read, whose hash is recorded.
            heard: the sound of the video that it was made from.
        """
        record = record_of(self, run, settings) | {"frames_sha256": frames_hash(frames)}
        if source is not None:
            record |= {"source": run.source, "source_sha256": frames_hash(source)}
            record |= {"source_mean": True} if run.source_mean else {}
        return Made(frames, settings.fps if fps is None else fps, record, heard)


def open_pipeline(
    making: Making,
    model: str,
    device: str,
    precision: str,
    picture: str = "",
    memory: str = BALANCED,
    compiled: bool = False,
    motion: str = "",
) -> Any:
    """The pipeline that a command works with.

    Raises:
        UserError: a model that cannot be opened, or of another kind.
    """
    from muybridge.opening.sampling import load_pipeline

    return load_pipeline(model, device, picture, precision, making.zero_shot, memory, compiled, motion)


def heard_of(run: Run, frames: int, fps: float) -> Heard:
    """The sound of a run's source that belongs to its first frames."""
    return Heard(run.source.partition("#")[0], 0.0, frames / fps)


def at_model_size(run: Run, frames: Any) -> Any:
    """A source's frames with a whole enlargement (`--upscale`) undone; others as they are."""
    from muybridge.pipelines.enlarged import enlargement_of, pixels_repeat, reduced

    factor = enlargement_of(run.pipeline, frames)
    if factor > 1:
        warnings.warn(
            f"{run.source}: {frames.shape[2]}x{frames.shape[1]} pixels are {factor} times the model's size a side, and "
            f"are taken at {frames.shape[2] // factor}x{frames.shape[1] // factor}",
            Notice,
            stacklevel=2,
        )
        if run.source_mean is None:
            run.source_mean = not pixels_repeat(frames, factor)
    return reduced(frames, factor, bool(run.source_mean))


def read_source(run: Run, max_frames: int | None = None) -> Clip:
    """The frames that a run starts from; of "FILE#16" the first 16."""
    assert run.read is not None
    path, _, most = run.source.partition("#")
    return run.read(path, int(most) if most else max_frames)
