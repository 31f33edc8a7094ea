"""A video made larger and smoother by the super-resolution stages of a cascade: upscale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from muybridge.configuration import setting
from muybridge.errors import UserError
from muybridge.making.base import Made, Making, Run, heard_of, read_source
from muybridge.making.from_video import check_sides, filled


@dataclass(frozen=True, kw_only=True)
class Upscale(Making):
    """Make a video larger and smoother with the super-resolution stages of a cascade (Imagen Video).

    The stages are taken in the cascade's order until the factors are reached. Every frame is drawn anew, the given ones
    too.
    """

    command: ClassVar[str] = "upscale"
    source_kind: ClassVar[str] = "video"
    reads: ClassVar[Sequence[str]] = ()

    prompt: str = setting("", "what the video shows; the stages read it if they were trained with words")
    space: int = setting(1, "times as many pixels a side", low=1, high=64)
    time: int = setting(1, "times as many frames a second", low=1, high=64)
    tile: int = setting(
        0, "pixels a side of the tiles in which the last stage sees the picture, if it is fully convolutional: less "
        "memory, the same result; 0 decides by the size", low=0, high=8192,
    )  # fmt: skip
    max_frames: int = setting(0, "take at most this many frames of the video; 0 takes all", low=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.space == self.time == 1:
            raise UserError("upscale: give --space or --time, such as --space 2 --time 2")

    def stages(self, run: Run) -> list[int]:
        """Which stages of the model are run, by their place in it.

        Raises:
            UserError: no cascade, or no stages of these factors in it.
        """
        kinds = getattr(run.pipeline, "stage_factors", None)
        if kinds is None:
            raise UserError(f"{run.model} has no super-resolution stages; give a cascade, or one trained stage of one")
        left, chosen = {"spatial": self.space, "temporal": self.time}, []
        for place, (kind, factor) in enumerate(kinds):
            if left.get(kind, 1) > 1 and left[kind] % factor == 0:
                chosen.append(place)
                left[kind] //= factor
        if any(rest > 1 for rest in left.values()):
            there = {k: " x ".join(str(f) for kind, f in kinds if kind == k) or "none" for k in left}
            raise UserError(
                f"{run.model} cannot make --space {self.space} --time {self.time}: its stages' factors are "
                f"{there['spatial']} in space and {there['temporal']} in time"
            )
        return chosen

    def total_steps(self, run: Run) -> int:
        chosen = self.stages(run)
        steps: int = run.pipeline.steps_of_stages(chosen)
        return steps

    def make(self, run: Run) -> Made:
        from muybridge.nn.frames import from_uint8, to_uint8

        chosen = self.stages(run)
        clip = read_source(run, self.max_frames or None)
        read = run.checked(clip.frames[: self.max_frames] if self.max_frames else clip.frames)
        check_sides(run, read)
        given = filled(read, run.pipeline.multiple)
        made = run.pipeline.raised_by(
            chosen, from_uint8(given)[None], self.prompt or None, run.seed, tile=self.tile, on_step=run.on_step
        )
        height, width = (side * self.space for side in read.shape[1:3])
        frames = to_uint8(made)[0][:, :height, :width]
        heard = heard_of(run, len(read), clip.fps)
        return self.made(run, frames, self._settings(run, frames, clip.fps), clip.fps * self.time, read, heard)

    def _settings(self, run: Run, frames: Any, fps: float) -> Any:
        from dataclasses import replace

        count, height, width = frames.shape[:3]
        return replace(
            run.pipeline.settings(), num_frames=count, height=height, width=width, fps=min(240.0, fps * self.time)
        )
