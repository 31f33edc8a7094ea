"""Videos made larger and smoother: by the super-resolution stages of a cascade (upscale), or by any model that draws
videos (super-resolve)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from muybridge.configuration import setting
from muybridge.errors import UserError
from muybridge.making.base import Made, Making, Run, heard_of, read_source
from muybridge.making.from_video import check_sides, filled
from muybridge.making.from_words import EVERY
from muybridge.pipelines.methods import CONTINUATION_SAMPLER
from muybridge.pipelines.settings import SamplingConfig


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
            raise UserError(f"{run.model} has no super-resolution stages; give a model that has some, or one of them")
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


@dataclass(frozen=True, kw_only=True)
class SuperResolve(Making):
    """Make a video larger and smoother with any model that draws from words, held to the video by reconstruction
    guidance (Video Diffusion Models).

    The result has the model's size: a model of 64x64 pixels takes a video of 16x16 for --space 4.
    """

    command: ClassVar[str] = "super-resolve"
    source_kind: ClassVar[str] = "video"
    default_model: ClassVar[str] = "world-vdm"
    reads: ClassVar[Sequence[str]] = tuple(n for n in EVERY if n not in ("fps", "context_scale"))

    prompt: str | None = setting(None, "what the video shows")
    space: int = setting(1, "times as many pixels a side", low=1, high=64)
    time: int = setting(1, "times as many frames a second", low=1, high=64)
    weight: float | None = setting(
        None, "w_r of reconstruction guidance: how strictly the video is kept; 1.5 times --space squared by default",
        above=0, high=10000,
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.space == self.time == 1:
            raise UserError("super-resolve: give --space or --time, such as --space 4")

    def check(self, model: str, settings: dict[str, Any]) -> Any:
        return super().check(model, self._drawn(settings))

    def length(self, settings: SamplingConfig, source: Callable[[int], int]) -> int:
        return source(1) * self.time

    def total_steps(self, run: Run) -> int:
        from muybridge.pipelines.guided_super_resolution import blocks_of

        settings = run.pipeline.settings(**self._drawn(run.settings))
        return settings.num_inference_steps * blocks_of(len(read_source(run).frames), self.time, settings.num_frames)

    def make(self, run: Run) -> Made:
        from muybridge.pipelines.guided_super_resolution import super_resolve

        if not run.pipeline.draws_from_words:
            raise UserError(f"{run.model} does not draw from words alone; give a model that `generate` takes")
        clip = read_source(run)
        frames = run.checked(clip.frames)
        drawn = self._drawn(run.settings)
        out = super_resolve(
            run.pipeline, frames, self.prompt, self.space, self.time, run.seed, self.weight, run.on_step, **drawn
        )
        heard = heard_of(run, len(frames), clip.fps)
        return self.made(run, out, run.pipeline.settings(**drawn), clip.fps * self.time, frames, heard)

    @staticmethod
    def _drawn(settings: dict[str, Any]) -> dict[str, Any]:
        """Fresh noise at every step lets the video and what is known of it agree."""
        return {"sampler": CONTINUATION_SAMPLER, **{n: v for n, v in settings.items() if v is not None}}
