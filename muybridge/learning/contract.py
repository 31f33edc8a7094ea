"""What the trainer asks of a system, and the batch it hands over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from muybridge.errors import UserError
from muybridge.models.text.encoder import TextConfig
from muybridge.nn.text_conditioning import TextCondition

#: How clips share a row: any that fit, which do not see each other; or as many of one size as fit.
BATCHINGS = ("pack", "bucket")


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
        scalars: numbers a clip, [B] each: "fps", and in a latent space "motion_bucket" (0 .. 255: the clip's motion as
            a quantile of the data set's, times 255).
        first_frame: pixels [B, 3, 1, H, W] of the clips' first frames, beside their latents, for systems that ask
            (`wants_first_frame`).
        pixels: of all their frames, [B, 3, F, H, W] (`wants_pixels`).
        loops: behind a clip's last frame comes its first again.
        clips: latents [C, F, h, w] of different sizes, of systems that train on rows of them (`token_budget`), in place
            of `video`; `places` then numbers the clips of the step, and `total` counts them.
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
    loops: bool = False
    clips: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class Losses:
    """Per-sample results of a training step.

    Attributes:
        weighted: [B], what is minimised (its mean over the global batch; of rows, over the clips in them).
        error: [B], the plain error in the network's own prediction space.
        log_snr: [B], where on the schedule each sample was.
    """

    weighted: Tensor
    error: Tensor
    log_snr: Tensor


class System:
    """One system or part: a network, what of it trains, a loss. Subclasses are built from a recipe's sections.

    Attributes:
        name: in a recipe's `system`.
        model_class, config_class: settings of the recipe's `model` section and of `section`; None where a network's own
            arguments are the section, or where it has none.
        network_class: the network of this project whose arguments the `model` section holds; None for other sections.
        section: of the recipe, with its settings beside `model`: "diffusion" or "objective".
        wants_first_frame, wants_pixels: the trainer hands over pixels of the first frame, or of all, beside the
            latents.
        images_per_video: stills of other clips appended to each clip.
        find_unused_parameters: some steps leave trained layers without gradients, and several processes must know it.
        names_are_told: a prompt with none of the data's names is told when the model samples; their embeddings are then
            kept in its folder.
        space: the latent space that clips are encoded into; None trains on pixels.
        token_budget: of systems that train on rows of clips of any size: how many tokens a row has at most, of which
            `training.batch_size` make a step; 0 for batches of clips.
        batching: how rows are filled, one of BATCHINGS.
    """

    name: str = ""
    section: str = "diffusion"
    model_class: type[Any] | None = None
    config_class: type[Any] | None = None
    network_class: type[Any] | None = None
    wants_first_frame: bool = False
    wants_pixels: bool = False
    images_per_video: int = 0
    find_unused_parameters: bool = False
    names_are_told: bool = True
    space: Any = None
    token_budget: int = 0
    batching: str = "pack"

    def __init__(self, model: Mapping[str, Any], settings: Mapping[str, Any] | None, text: TextConfig | None):
        raise NotImplementedError

    def build(self) -> nn.Module:
        """The network, freshly initialised."""
        raise NotImplementedError

    def trainable(self, model: Any) -> Sequence[tuple[str, nn.Parameter]]:
        """The named parameters that train; the rest is frozen. All of them unless a system says otherwise."""
        return list(model.named_parameters())

    def tokens(self, shape: Sequence[int]) -> int:
        """Of latents of a shape [C, F, h, w], for systems with a token budget."""
        raise NotImplementedError

    def losses(self, model: Any, batch: TrainingBatch) -> Losses:
        """What is minimised, and the plain error, for each sample."""
        raise NotImplementedError

    def preview(self, model: Any, prompts: list[str], sampling: Mapping[str, Any], clips: Tensor) -> np.ndarray:
        """Something to look at during training, uint8 [B, F, H, W, 3].

        Args:
            prompts: the recipe's sample prompts; empty for none.
            sampling: the recipe's sampling settings.
            clips: a few held-out clips [B, C, F, H, W], as in a training batch.
        """
        raise UserError(f"training.sample_every: {self.name} has nothing to show; set it to 0")

    def save(self, model: Any, folder: Path, sampling: Mapping[str, Any]) -> None:
        """Write the model folder that sampling starts from: by default the network, as diffusers keeps it."""
        model.save_pretrained(str(folder))
