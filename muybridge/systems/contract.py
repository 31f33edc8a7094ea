"""What the trainer asks of a system, and the batch it hands over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from muybridge.nn.text_conditioning import TextCondition


@dataclass(frozen=True)
class TrainingBatch:
    """One process' share of a global batch.

    Attributes:
        video: float [B, C, F + M, H, W] in [-1, 1]: F frames of a clip, then M stills of other clips.
        text: captions [B, 1 + M, ...]: of the clip, then of each still.
        num_images: M.
        places: each sample's position in the global batch; with `seed` and `step` it keys all randomness.
        total: size of the global batch.
        seed, step: of the run.
    """

    video: Tensor
    text: TextCondition | None
    num_images: int
    places: Sequence[int]
    total: int
    seed: int
    step: int


@dataclass(frozen=True)
class Losses:
    """Per-sample results of a training step.

    Attributes:
        weighted: [B], what is minimised (its mean over the global batch).
        error: [B], the plain error in the network's own prediction space.
        log_snr: [B], where on the schedule each sample was.
    """

    weighted: Tensor
    error: Tensor
    log_snr: Tensor


class System(Protocol):
    """One published system: a network, what of it trains, a loss."""

    name: str

    def build(self) -> nn.Module:
        """The network, freshly initialised."""
        ...

    def trainable(self, model: nn.Module) -> Sequence[tuple[str, nn.Parameter]]:
        """The named parameters that train; the rest is frozen."""
        ...

    def losses(self, model: nn.Module, batch: TrainingBatch) -> Losses: ...

    def pipeline(self, model: nn.Module) -> Any:
        """A DiffusionPipeline around the network, to sample from and to save."""
        ...
