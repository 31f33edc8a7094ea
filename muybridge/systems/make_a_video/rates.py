"""Clips at frame rates that are drawn: from high ones (small motion) to low ones (large motion) over training."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from muybridge.errors import UserError
from muybridge.learning.contract import TrainingBatch
from muybridge.learning.draws import Draws

#: Frames a second that the paper trains on.
LOWEST, HIGHEST = 1.0, 30.0


@dataclass(frozen=True)
class Rates:
    """How rates are drawn.

        fps = low + (high - low) U^(1 / a),   a from `start` to `end`, linearly over `steps`

    U^(1 / a) is Beta(a, 1): a = 4 favours high rates, 1 all alike. Source: 2209.14792 section 3.4, which prints neither
    the parameters of its beta distribution nor its curriculum's pace.

    Attributes:
        low, high: frames a second.
        start, end: a at the first step and after `steps`.
    """

    low: float = LOWEST
    high: float = HIGHEST
    start: float = 4.0
    end: float = 1.0
    steps: int = 10_000

    def exponent(self, step: int) -> float:
        """a at a step."""
        return self.start + (self.end - self.start) * min(1.0, step / max(1, self.steps))

    def wanted(self, draws: Draws, step: int) -> Tensor:
        """Rates [B], one a sample."""
        return self.low + (self.high - self.low) * draws.uniform(1)[:, 0] ** (1 / self.exponent(step))

    def strides(self, native: float, length: int, frames: int, loops: bool) -> list[int]:
        """Which strides over a clip give `frames` frames at a rate within low..high.

        Args:
            native: the clip's rate.
            length: its frames; those of a loop may be gone round more than once.

        Raises:
            UserError: none does.
        """
        most = length - 1 if loops else (length - 1) // max(1, frames - 1)
        inside = [s for s in range(1, max(1, most) + 1) if self.low <= native / s <= self.high]
        if (length < frames and not loops) or not inside:
            raise UserError(
                f"data: {frames} frames at {self.low:g} to {self.high:g} frames a second cannot be taken from clips of "
                f"{length} at {native:g}: give longer clips, or change diffusion.num_frames, fps_low and fps_high"
            )
        return inside


def at_drawn_rates(batch: TrainingBatch, frames: int, rates: Rates) -> tuple[Tensor, Tensor, Tensor]:
    """Frames of each clip at a rate of its own, from a random place of it.

    The stride is the one whose rate is nearest, in ratio, to the rate that was drawn; the network is told the rate of
    what it sees, the clip's own divided by the stride.

    Args:
        frames: of the result; 0 takes the clips whole.

    Returns:
        (data [B, C, frames, H, W], rates [B], which frames they are, int64 [B, frames]).

    Raises:
        UserError: clips too short for it.
    """
    video, native = batch.video, batch.scalars["fps"]
    length = video.shape[2]
    if not frames:
        return video, native.to(video), torch.arange(length).expand(len(video), -1)
    draws = Draws(batch, "rate")
    wanted, shares = rates.wanted(draws, batch.step).tolist(), draws.uniform(1)[:, 0].tolist()
    rows, told, places = [], [], []
    for clip, rate, own, share in zip(video, wanted, native.tolist(), shares, strict=True):
        allowed = rates.strides(own, length, frames, batch.loops)
        stride = min(allowed, key=lambda s: abs(math.log(own / s / rate)))
        room = length if batch.loops else length - (frames - 1) * stride
        place = (int(share * room) + stride * torch.arange(frames)) % length
        rows.append(clip[:, place.to(clip.device)])
        told.append(own / stride)
        places.append(place)
    return torch.stack(rows), torch.tensor(told).to(video), torch.stack(places)
