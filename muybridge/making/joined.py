"""Frames that lead from one video to another, or back to its own start: connect, loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from muybridge.configuration import setting
from muybridge.making.base import Heard, Run, at_model_size
from muybridge.making.continued import Continuation
from muybridge.making.from_video import fitted_to
from muybridge.making.used import FILE, whole_path
from muybridge.pipelines.settings import SamplingConfig


@dataclass(frozen=True, kw_only=True)
class Bridging(Continuation):
    """What they share: one block, of which both ends are given."""

    context_frames: int | None = setting(
        None, "frames at each end that are known; a quarter of the block (--num-frames) by default", low=1
    )

    def length(self, settings: SamplingConfig, source: Callable[[int], int]) -> int:
        return 2

    def blocks(self, frames: int, block: int) -> int:
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
class Connect(Bridging):
    """Join two videos by new frames that lead from the one to the other."""

    command: ClassVar[str] = "connect"

    other: str = setting(..., "the video that follows")

    def placed(self) -> Self:
        return replace(self, other=whole_path(self.other))

    def uses(self, model: str) -> dict[str, str]:
        return super().uses(model) | {whole_path(self.other): FILE}

    def filled(self, run: Run, frames: Any, options: dict[str, Any]) -> Any:
        import numpy as np

        assert run.read is not None
        other = replace(run, source=self.other)
        after = at_model_size(other, run.read(self.other, None).frames)
        after = fitted_to(other, after, *frames.shape[1:3])
        return np.concatenate([frames, self.bridged(run, frames, after, options), after])
