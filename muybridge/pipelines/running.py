"""What a run of a pipeline takes and gives, whatever the pipeline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from diffusers.utils import BaseOutput
from torch import Tensor

from muybridge.diffusion.samplers import SamplerState
from muybridge.errors import UserError

OnStep = Callable[[SamplerState], None]
F = TypeVar("F", bound=Callable[..., Any])


def without_gradients(function: F) -> F:
    """No graph is kept; and a caller's inference mode is left, whose tensors reconstruction guidance cannot go
    through."""
    wrapped: F = torch.inference_mode(False)(torch.no_grad()(function))
    return wrapped


class Condition(Protocol):
    """What a network is told, one row a video: a TextCondition, or a pipeline's own kind."""

    def rows(self, which: slice) -> Any: ...

    def to(self, device: Any) -> Any: ...


@dataclass
class VideoOutput(BaseOutput):
    """Sampled videos.

    Attributes:
        frames: uint8 [B, F, H, W, 3]; empty where latents were asked for.
        samples: float [B, C, F, H, W] in [-1, 1], before rounding; or latents.
    """

    frames: np.ndarray
    samples: Tensor


def seeds_of(seed: int | Sequence[int], count: int) -> list[int]:
    """A seed for each of `count` videos: those given, or seed, seed + 1, ...

    Raises:
        UserError: another number of seeds than of videos.
    """
    seeds = [seed + i for i in range(count)] if isinstance(seed, int) else list(seed)
    if len(seeds) != count:
        raise UserError(f"{count} prompts but {len(seeds)} seeds: give one seed each, or a single one")
    return seeds
