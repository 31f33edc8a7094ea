"""What a model of several networks takes of memory: each of its stages counted at its own first network call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from muybridge.pipelines.peak import Peak, Planned, not_counted, watch
from muybridge.pipelines.running import VideoOutput
from muybridge.pipelines.settings import SamplingConfig
from muybridge.pipelines.staged import StagedPipeline


def watch_stages(
    pipeline: StagedPipeline, told: Callable[[str, Peak], None], untold: Callable[[str], None] = not_counted
) -> None:
    """As `peak.watch`, for each stage when it is opened; `told` also gets the stage's name.

    Where `told` raises `Planned`, the stage's network is never called: the next stage gets a video of the size that it
    would have made, and behind the last `Planned` says the largest of them.
    """
    opened, planned = pipeline.opened, []

    def opened_and_watched(index: int) -> Any:
        stage: Any = opened(index)
        watch(stage, lambda peak: told(pipeline.names[index], peak), untold)
        draw = stage.draw

        def drawn(condition: Any, null: Any, seeds: Sequence[int], settings: SamplingConfig, **how: Any) -> VideoOutput:
            try:
                made: VideoOutput = draw(condition, null, seeds, settings, **how)
            except Planned as found:
                planned.append(found.peak)
                return _without_values(len(seeds), settings)
            return made

        stage.draw = drawn
        return stage

    def ends(run: Callable[..., Any], last: Callable[..., bool]) -> Callable[..., Any]:
        def ended(*args: Any, **how: Any) -> Any:
            out = run(*args, **how)
            if planned and last(*args):
                raise Planned(max(planned, key=lambda peak: peak.total))
            return out

        return ended

    own: Any = pipeline
    own.opened = opened_and_watched
    own.run_stage = ends(own.run_stage, lambda index, *_: index == len(pipeline.names) - 1)
    for name in ("raised_by", "fill"):
        if hasattr(own, name):
            setattr(own, name, ends(getattr(own, name), lambda *_: True))


def _without_values(count: int, settings: SamplingConfig) -> VideoOutput:
    """A video of the size that would have been made."""
    samples = torch.zeros(count, 3, settings.num_frames, settings.height, settings.width)
    return VideoOutput(frames=np.zeros((count, *samples.shape[2:], 3), np.uint8), samples=samples)
