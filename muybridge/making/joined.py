"""Frames that lead from one video to another, or back to its own start: connect, loop; and one video that gradually
becomes another: blend."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from muybridge.configuration import setting
from muybridge.errors import Notice, UserError
from muybridge.making.base import Heard, Made, Making, Run, at_model_size
from muybridge.making.continued import Continuation
from muybridge.making.from_video import FromVideo, filled, fitted_to
from muybridge.making.used import FILE, whole_path
from muybridge.pipelines.settings import READ_BY, SamplingConfig


@dataclass(frozen=True, kw_only=True)
class WithOther(Making):
    """What commands on two videos share."""

    other: str = setting(..., "the other video")

    def check(self, model: str, settings: dict[str, Any]) -> SamplingConfig:
        if not Path(self.other).expanduser().is_file():
            raise UserError(f"no video at {self.other}")
        return super().check(model, settings)

    def placed(self) -> Self:
        return replace(super().placed(), other=whole_path(self.other))

    def uses(self, model: str) -> dict[str, str]:
        return super().uses(model) | {whole_path(self.other): FILE}


@dataclass(frozen=True, kw_only=True)
class Bridging(Continuation):
    """What they share: one block, of which both ends are given."""

    context_frames: int | None = setting(
        None, "frames at each end that are known; a quarter of the block (--num-frames) by default", low=1
    )

    def length(self, settings: SamplingConfig, source: Callable[[int], int]) -> int:
        return 2

    def blocks(self, pipeline: Any, frames: int, block: int) -> int:
        return 1

    def heard(self, run: Run, frames: int, fps: float) -> Heard:
        return Heard(run.source.partition("#")[0], silent="the video is longer than its sound now")

    def bridged(self, run: Run, before: Any, after: Any, options: dict[str, Any]) -> Any:
        from muybridge.pipelines.continuation import bridge

        return bridge(run.pipeline, before, after, self.prompt, context_frames=self.context_frames, **options)


@dataclass(frozen=True, kw_only=True)
class Loop(Bridging):
    """Make a video that can be shown over and over: new frames lead from its end to its start."""

    command: ClassVar[str] = "loop"

    def filled(self, run: Run, frames: Any, options: dict[str, Any]) -> Any:
        import numpy as np

        return np.concatenate([frames, self.bridged(run, frames, frames, options)])


@dataclass(frozen=True, kw_only=True)
class Connect(WithOther, Bridging):
    """Join two videos by new frames that lead from the one to the other."""

    command: ClassVar[str] = "connect"

    def filled(self, run: Run, frames: Any, options: dict[str, Any]) -> Any:
        import numpy as np

        assert run.read is not None
        other = replace(run, source=self.other)
        after = at_model_size(other, run.read(self.other, None).frames)
        after = fitted_to(other, after, *frames.shape[1:3])
        return np.concatenate([frames, self.bridged(run, frames, after, options), after])


@dataclass(frozen=True, kw_only=True)
class Blend(WithOther, FromVideo):
    """Turn one video gradually into another: it begins as the first and ends as the second, frame by frame (Sora).

    The longer one is taken to the length of the shorter.
    """

    command: ClassVar[str] = "blend"
    default_model: ClassVar[str] = "emoji-video"
    reads: ClassVar[Sequence[str]] = (
        "num_inference_steps", "guidance_scale", "guidance_start", "guidance_end", "guidance_rescale", "sampler",
        "reuse", *(name for names in READ_BY.values() for name in names),
    )  # fmt: skip

    prompt: str | None = setting(None, "what the video shows on the way")
    negative_prompt: str = setting("", "what it shall not show", flag="negative")
    strength: float = setting(
        0.8, "share of the steps in which the middle is drawn anew; 0 is a cross-fade", low=0, high=1
    )

    def total_steps(self, run: Run) -> int:
        from muybridge.pipelines.redraw import steps_of

        return max(1, steps_of(self.strength, super().total_steps(run)))

    def make(self, run: Run) -> Made:
        from muybridge.nn.frames import from_uint8
        from muybridge.pipelines.blending import blend

        if not run.pipeline.draws_from_words:
            raise UserError(f"{run.model} does not draw from words alone, so it cannot lead from one video to another")
        assert run.read is not None
        read, fitted, fps = self.taken(run)
        other = replace(run, source=self.other, source_sha256="")
        after = self.fitted(other, run.read(self.other, None).frames[:: self.frame_step])
        after = after if after.shape[1:] == fitted.shape[1:] else fitted_to(other, after, *fitted.shape[1:3])
        count = min(len(fitted), len(after))
        longer = run.source if len(fitted) > count else self.other
        if len(fitted) != len(after) and not (self.max_frames and count == self.max_frames):
            warnings.warn(
                f"{longer}: its first {count} frames are taken, as long as the other is", Notice, stacklevel=2
            )
        both = [filled(v[:count], run.pipeline.multiple, run.pipeline.length_for(count)) for v in (fitted, after)]
        size = {"num_frames": len(both[0]), "height": both[0].shape[1], "width": both[0].shape[2]}
        chosen = {**run.settings, "fps": min(fps, 240.0)}
        settings = run.pipeline.settings(**chosen, **size)
        first, second = (from_uint8(v)[None] for v in both)
        drawn = blend(
            run.pipeline,
            first,
            second,
            self.prompt,
            self.strength,
            run.seed,
            self.negative_prompt,
            run.on_step,
            **chosen,
        )
        return self.finished(run, drawn, settings, fps, read, fitted[:count])
