"""What a cascade is made of: its stages, the published seven, and seven of the same roles for a laptop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from muybridge.configuration import Settings, setting
from muybridge.errors import UserError

BASE, TEMPORAL, SPATIAL = "base", "temporal", "spatial"
#: How a frame rate is raised before the network: known frames repeated, or blank frames between them and a mask.
FILLS = ("repeat", "blank")
SCHEDULES = ("constant", "oscillating")
#: Share of a stage's steps that an oscillating schedule begins with at its high scale; the paper does not say.
FIRST_CONSTANT = 0.1


@dataclass(frozen=True)
class StageConfig(Settings):
    """One model of a cascade: what it makes, out of what, and how it is sampled. Sizes are of its output."""

    where: ClassVar[str] = "diffusion.stage"

    kind: str = setting(
        BASE, "base makes a video of noise, temporal raises a rate, spatial a size", choices=(BASE, TEMPORAL, SPATIAL)
    )
    num_frames: int = setting(16, "frames that it makes", low=1, high=100_000)
    height: int = setting(24, "pixels that it makes", low=1, high=8192)
    width: int = setting(40, "pixels that it makes", low=1, high=8192)
    fps: float = setting(3.0, "frames a second that it makes", above=0, high=240)
    factor: int = setting(1, "times as many frames, or pixels a side, as it is given; 1 for the base", low=1, high=16)
    fill: str = setting("repeat", "of a temporal stage: how the frames between are filled", choices=FILLS)
    guidance_schedule: str = setting("constant", "how the guidance scale goes over the steps", choices=SCHEDULES)
    guidance_scale: float = setting(6.0, "1 is off; the paper's w is this less 1", low=0, high=100)
    guidance_low: float = setting(1.0, "every second scale of an oscillating schedule", low=0, high=100)
    augmentation_snr: float = setting(
        5.0, "signal-to-noise ratio that the given video is brought to in sampling (the paper: 3 or 5)", above=0
    )
    steps: int = setting(128, "sampling steps", low=1, high=1000)
    crop: int = setting(0, "pixels a side of the random crops that it trains on; 0 trains on whole frames", low=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.factor == 1) != (self.kind == BASE):
            wanted = "1" if self.kind == BASE else "2 or more"
            raise UserError(f"diffusion.stage.factor: {wanted} for a {self.kind} stage, got {self.factor}")
        given = {TEMPORAL: ("num_frames",), SPATIAL: ("height", "width")}.get(self.kind, ())
        for name in given:
            if getattr(self, name) % self.factor:
                raise UserError(
                    f"diffusion.stage.{name}: {getattr(self, name)} is not {self.factor} times a whole number"
                )
        if self.crop and (self.kind != SPATIAL or self.crop % self.factor or self.crop > min(self.height, self.width)):
            raise UserError(
                f"diffusion.stage.crop: a multiple of {self.factor} up to {min(self.height, self.width)} of a spatial "
                f"stage, got {self.crop}"
            )

    @property
    def given(self) -> tuple[int, int, int]:
        """(frames, height, width) of the video that it is given; of the base, of nothing."""
        if self.kind == TEMPORAL:
            return self.num_frames // self.factor, self.height, self.width
        if self.kind == SPATIAL:
            return self.num_frames, self.height // self.factor, self.width // self.factor
        return 0, 0, 0

    @property
    def made(self) -> tuple[int, int, int]:
        """(frames, height, width) of what it makes."""
        return self.num_frames, self.height, self.width

    @property
    def condition_channels(self) -> int:
        """Input channels beside the noisy video: the given video, and the mask of blank frames."""
        return {BASE: 0, SPATIAL: 3, TEMPORAL: 3 + (self.fill == "blank")}[self.kind]

    @property
    def augmentation_level(self) -> float:
        """Log-SNR of the given video in sampling."""
        return math.log(self.augmentation_snr)

    def guidance(self, steps: int) -> list[float]:
        """The scale at each step: constant, or high for the first tenth and then high and low in turn.

        Source: 2210.02303 section 2.5.
        """
        from muybridge.diffusion.guidance import oscillating_weights

        if self.guidance_schedule == "constant":
            return [self.guidance_scale] * steps
        first = round(FIRST_CONSTANT * steps)
        return oscillating_weights(steps, self.guidance_scale, self.guidance_low, first)


def check_cascade(stages: Sequence[StageConfig]) -> None:
    """Refuse stages that do not follow each other.

    Raises:
        UserError: the first is no base, another is one, or one is given another size than the one before it makes.
    """
    for i, stage in enumerate(stages):
        if (stage.kind == BASE) != (i == 0):
            raise UserError(f"stage {i + 1} of the cascade is a {stage.kind} stage; a base comes first, and only there")
        if i and stage.given != stages[i - 1].made:
            raise UserError(
                f"stage {i + 1} of the cascade is given (frames, height, width) {stage.given}, but stage {i} makes "
                f"{stages[i - 1].made}"
            )


def network_calls(stages: Sequence[StageConfig], steps: Sequence[int] | None = None, guided: bool = True) -> int:
    """Calls of all networks for one video; guidance doubles them."""
    return sum(steps or [s.steps for s in stages]) * (2 if guided else 1)


def _stage(kind: str, made: tuple[int, int, int], fps: float, factor: int, oscillating: bool) -> StageConfig:
    high = 16.0 if oscillating else 7.0  # the paper prints w = 15 and w = 6: guidance of 1 + w
    low = 2.0 if oscillating else 1.0
    schedule = "oscillating" if oscillating else "constant"
    frames, height, width = made
    return StageConfig(
        kind, frames, height, width, fps, factor, guidance_schedule=schedule, guidance_scale=high, guidance_low=low,
        steps=256 if kind == BASE else 128,
    )  # fmt: skip


#: Table of 2210.02303 section 2 (fig. 6). The guidance of each stage is of section 2.5; that the oscillating ones are
#: the first three follows from their sizes.
PUBLISHED: tuple[StageConfig, ...] = (
    _stage(BASE, (16, 24, 40), 3, 1, True),
    _stage(TEMPORAL, (32, 24, 40), 6, 2, True),
    _stage(SPATIAL, (32, 48, 80), 6, 2, True),
    _stage(SPATIAL, (32, 192, 320), 6, 4, False),
    _stage(TEMPORAL, (64, 192, 320), 12, 2, False),
    _stage(TEMPORAL, (128, 192, 320), 24, 2, False),
    _stage(SPATIAL, (128, 768, 1280), 24, 4, False),
)
#: Millions of parameters of each, as published.
PUBLISHED_PARAMETERS = (5600, 1700, 1400, 1200, 780, 630, 340)
#: The same roles in the same order for a laptop: 4 frames of 40x24 at 1 a second to 32 frames of 320x192 at 8.
LAPTOP: tuple[StageConfig, ...] = (
    _stage(BASE, (4, 24, 40), 1, 1, True),
    _stage(TEMPORAL, (8, 24, 40), 2, 2, True),
    _stage(SPATIAL, (8, 48, 80), 2, 2, True),
    _stage(SPATIAL, (8, 96, 160), 2, 2, False),
    _stage(TEMPORAL, (16, 96, 160), 4, 2, False),
    _stage(TEMPORAL, (32, 96, 160), 8, 2, False),
    _stage(SPATIAL, (32, 192, 320), 8, 2, False),
)
#: Steps of each after distillation (section 2.7).
DISTILLED_STEPS = 8
