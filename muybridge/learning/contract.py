"""What the trainer asks of a system, and the batch it hands over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
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
        scalars: numbers a clip, [B] each: "fps" and "motion_bucket" (0 .. 255: the clip's motion as a quantile of the data
            set's, times 255) in a latent space.
        first_frame: pixels [B, 3, 1, H, W] of the clips' first frames, beside their latents, for systems that ask
            (`wants_first_frame`).
        pixels: of all their frames, [B, 3, F, H, W] (`wants_pixels`).
        null_text: the empty caption's embedding [1, ...], for systems that train on it in place of dropped captions.
    """

    video: Tensor
    text: TextCondition | None
    num_images: int
    places: Sequence[int]
    total: int
    seed: int
    step: int
    null_text: TextCondition | None = None
    scalars: Mapping[str, Tensor] = field(default_factory=dict)
    first_frame: Tensor | None = None
    pixels: Tensor | None = None


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
    #: the recipe's section with its settings beside `model`: "diffusion" or "objective"
    section: str

    def build(self) -> nn.Module:
        """The network, freshly initialised."""
        ...

    def trainable(self, model: nn.Module) -> Sequence[tuple[str, nn.Parameter]]:
        """The named parameters that train; the rest is frozen."""
        ...

    def losses(self, model: nn.Module, batch: TrainingBatch) -> Losses: ...

    def preview(self, model: nn.Module, prompts: list[str], sampling: Mapping[str, Any], clips: Tensor) -> np.ndarray:
        """Something to look at during training, uint8 [B, F, H, W, 3].

        Args:
            prompts: the recipe's sample prompts; empty for none.
            sampling: the recipe's sampling settings.
            clips: a few held-out clips [B, C, F, H, W], as in a training batch.
        """
        ...

    def save(self, model: nn.Module, folder: Path, sampling: Mapping[str, Any]) -> None:
        """Write the model folder that sampling starts from."""
        ...
