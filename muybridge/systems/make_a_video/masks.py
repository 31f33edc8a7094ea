"""Which frames the frame interpolation network is given, and which it makes. 1 is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from muybridge.errors import UserError
from muybridge.learning.draws import Draws

TASKS = ("interpolation", "extrapolation", "animation")


def target_frames(frames: int, skip: int) -> int:
    """F' = (F - 1) s + 1: frames of a video whose every s-th is given (16 at a skip of 5 make 76)."""
    return (frames - 1) * skip + 1


def interpolation_mask(frames: int, skip: int) -> Tensor:
    """[F'], 1 at 0, s, 2s, ...

    Raises:
        UserError: the last frame is not among them.
    """
    if skip < 1 or (frames - 1) % skip:
        raise UserError(f"a skip of {skip} does not end at the last of {frames} frames: it must divide {frames - 1}")
    return (torch.arange(frames) % skip == 0).float()


def extrapolation_mask(frames: int, given: int, backwards: bool = False) -> Tensor:
    """[F'], 1 at the first `given` frames, or at the last ones."""
    mask = (torch.arange(frames) < given).float()
    return mask.flip(0) if backwards else mask


def drawn_masks(draws: Draws, frames: int, tasks: Mapping[str, float], skips: Sequence[int]) -> Tensor:
    """A mask a sample, [B, 1, F', 1, 1].

    Interpolation at one of `skips`; extrapolation from a random number of frames at either end; animation from the
    first one.

    Args:
        tasks: how often each is, by name; shares that need not add up to 1.
    """
    shares = torch.tensor([float(tasks.get(name, 0.0)) for name in TASKS])
    kinds, chosen = draws.choices(shares), draws.integers(len(skips))
    counts, ends = draws.integers(max(1, frames - 1)), draws.integers(2)
    rows = []
    for kind, skip, count, end in zip(kinds, chosen, counts, ends, strict=True):
        if TASKS[kind] == "interpolation":
            rows.append(interpolation_mask(frames, skips[skip]))
        else:
            animated = TASKS[kind] == "animation"
            rows.append(extrapolation_mask(frames, 1 if animated else 1 + count, bool(end) and not animated))
    return torch.stack(rows)[:, None, :, None, None]
