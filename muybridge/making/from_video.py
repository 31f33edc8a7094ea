"""What makings of a given video share: which of its frames are taken, at which size, and what structure is seen in
them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from muybridge.configuration import check_request, setting
from muybridge.errors import Notice, UserError
from muybridge.making.base import Made, Making, Run, at_model_size, heard_of, read_source
from muybridge.making.used import FOLDER, whole_path
from muybridge.pipelines.settings import SamplingConfig

#: Of these structures a given estimator's folder may take the place of the bundled network.
BY_FOLDER = ("depth",)
#: Pixels; the smallest side that a network with three halvings leaves anything of.
LEAST_SIDE = 8
#: A share of a picture that is more than rounding of its sides.
SEEN = 0.03


@dataclass(frozen=True, kw_only=True)
class FromVideo(Making):
    """What commands on a given video share: which of its frames are taken, and at which size the model works."""

    source_kind: ClassVar[str] = "video"

    max_frames: int = setting(0, "take at most this many frames of the video; 0 takes all", low=0)
    frame_step: int = setting(1, "take every which frame", low=1)
    height: int | None = setting(None, "pixels to work at; the model's own by default, in the video's shape", low=8)
    width: int | None = setting(None, "pixels to work at", low=8)
    own_size: bool = setting(False, "work at the video's own size, whatever size the model knows")

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.height is None) != (self.width is None):
            raise UserError("give --height and --width together, or neither")
        check_request(self.width or 0, self.height or 0, "--height and --width")
        if self.own_size and self.height is not None:
            raise UserError("--own-size works at the video's size: leave --height and --width out")

    def length(self, settings: SamplingConfig, source: Callable[[int], int]) -> int:
        return min(len(range(0, source(1 + self.frame_step), self.frame_step)), self.max_frames or 2)

    def taken(self, run: Run) -> tuple[Any, Any, float]:
        """(frames as they were read, frames at the size to work at, rate)."""
        most = self.max_frames * self.frame_step if self.max_frames else None
        clip = read_source(run, most)
        read = clip.frames[:: self.frame_step]
        read = run.checked(read[: self.max_frames] if self.max_frames else read)
        return read, self.fitted(run, read), clip.fps / self.frame_step

    def fitted(self, run: Run, frames: Any) -> Any:
        """Frames at the size to work at: asked for, the video's own, or the shorter side as long as the model's."""
        check_sides(run, frames)
        if self.own_size:
            return frames
        if self.height is not None and self.width is not None:
            return fitted_to(run, frames, self.height, self.width)
        frames = at_model_size(run, frames)
        own = run.pipeline.working_settings()
        shorter, known = min(frames.shape[1:3]), min(own.height, own.width)
        if shorter == known:
            return frames
        return fitted_to(run, frames, *(round(side * known / shorter) for side in frames.shape[1:3]))

    def finished(self, run: Run, drawn: Any, settings: SamplingConfig, fps: float, read: Any, fitted: Any) -> Made:
        """Cropped to what was given: the model's sides are multiples, and its length may be."""
        frames = drawn.frames[0][: len(fitted), : fitted.shape[1], : fitted.shape[2]]
        return self.made(run, frames, settings, fps, read, heard_of(run, len(read), fps))


def check_sides(run: Run, frames: Any) -> None:
    """Refuse pictures in which nothing can be seen.

    Raises:
        UserError: fewer than LEAST_SIDE pixels high or wide.
    """
    height, width = frames.shape[1:3]
    if min(height, width) < LEAST_SIDE:
        raise UserError(
            f"{run.source}: {width}x{height} pixels are too few to work with; expected at least {LEAST_SIDE} a side"
        )


def fitted_to(run: Run, frames: Any, height: int, width: int) -> Any:
    """Frames resized to cover a size and cropped in the middle, uint8 [F, height, width, 3]; says so.

    Raises:
        UserError: `check_sides`.
    """
    from muybridge.nn.frames import fit_frames

    check_sides(run, frames)
    own_height, own_width = frames.shape[1:3]
    if (own_height, own_width) == (height, width):
        return frames
    scale = max(height / own_height, width / own_width)
    lost = 1 - height * width / (own_height * own_width * scale**2)
    cropped = f", which leaves out {lost:.0%} of it at the sides" if lost > SEEN else ""
    warnings.warn(
        f"{run.source}: {own_width}x{own_height} pixels are resized to {width}x{height}{cropped}", Notice, stacklevel=2
    )
    return fit_frames(frames, height, width)


def structure(run: Run, name: str, frames: Any, folder: str = "") -> Any:
    """What an estimator, or a user's own in a folder, sees in frames; taken from the cache where it was found
    before."""
    from muybridge.models.vision.structure import Depth, estimator_named, structure_of

    if folder and name not in BY_FOLDER:
        raise UserError(f"--structure-model is for {', '.join(BY_FOLDER)}, not for {name}")
    estimator = Depth(Path(folder).expanduser()) if folder else estimator_named(name)
    return structure_of(estimator, frames, run.cache)


def estimators_of(name: str, folder: str = "") -> dict[str, str]:
    """The network that `structure` finds a structure with, as `Making.uses` has it; weights that packages hold are
    checked when they are opened."""
    if name not in BY_FOLDER:
        return {}
    return {whole_path(folder) if folder else name: FOLDER}


def filled(frames: Any, multiple: int, length: int = 0) -> Any:
    """Repeat the last row and column until both sides are multiples, and the last frame until there are `length`, uint8
    [F, H, W, 3]."""
    import numpy as np

    height, width = frames.shape[1:3]
    more = max(0, length - len(frames))
    return np.pad(frames, ((0, more), (0, -height % multiple), (0, -width % multiple), (0, 0)), mode="edge")
