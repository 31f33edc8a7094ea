"""What systems in a latent space share: the noise table, the loss with the empty caption, a place for the
autoencoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from muybridge.configuration import Settings, from_mapping, from_names, setting
from muybridge.diffusion.losses import WEIGHTINGS
from muybridge.diffusion.scheduler_config import OF_TABLES
from muybridge.diffusion.tables import BETA_SCHEDULES, DiscreteSchedule
from muybridge.errors import UserError
from muybridge.learning.contract import TrainingBatch
from muybridge.learning.diffusion import DiffusionSystem, Predict
from muybridge.library.catalogue import find_part
from muybridge.library.parts import scheduler_of
from muybridge.models.latent.space import LatentSpace
from muybridge.models.text.encoder import TextConfig
from muybridge.models.told_sizes import is_xl, told_beside_words


@dataclass(frozen=True)
class NoiseTable(Settings):
    """Stable Diffusion's noise table, ended at zero SNR so that the first step starts from what training saw
    (2305.08891)."""

    where: ClassVar[str] = "diffusion.scheduler"

    num_train_timesteps: int = setting(1000, "entries of the table", low=2, high=100_000)
    beta_schedule: str = setting("scaled_linear", "how the betas grow", choices=BETA_SCHEDULES)
    beta_start: float = setting(0.00085, "the first beta", above=0, below=1)
    beta_end: float = setting(0.012, "the last beta", above=0, below=1)
    prediction_type: str = setting("v_prediction", "what the network predicts", choices=OF_TABLES)
    rescale_betas_zero_snr: bool = setting(True, "end the table at pure noise")
    timestep_spacing: str = setting(
        "trailing", "which entries a run visits", choices=("leading", "linspace", "trailing")
    )
    clip_sample: bool = setting(False, "clip the estimate to [-1, 1]: not for latents")
    set_alpha_to_one: bool = setting(True, "the last step goes to no noise at all")
    steps_offset: int = setting(0, "added to each visited entry (leading spacing)", low=0, high=1000)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beta_start > self.beta_end:
            raise UserError(
                f"diffusion.scheduler.beta_start {self.beta_start:g} must be at most beta_end {self.beta_end:g}"
            )


#: What a recipe's `diffusion.scheduler` changes.
SCHEDULER: dict[str, Any] = asdict(NoiseTable())
#: The weighting under which a network of a prediction type learns the plain error of its own output.
PLAIN = {"epsilon": "snr", "v_prediction": "snr+1", "sample": "constant"}


@dataclass(frozen=True)
class LatentDiffusionConfig(Settings):
    """Diffusion settings."""

    where: ClassVar[str] = "diffusion"

    scheduler: dict[str, Any] = setting(
        {},
        "changes to the noise table, in the words of a diffusers scheduler's config; behind a picture model they "
        "must be its own",
    )
    weighting: str = setting(
        "plain",
        "of the loss: plain is the error of what the network predicts; snr is the eps loss, snr+1 the v "
        "loss, whatever it predicts",
        choices=("plain", *WEIGHTINGS),
    )
    null_probability: float = setting(0.1, "how often a caption is replaced by the empty one", low=0, below=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        from_names(NoiseTable, self.scheduler, "diffusion.scheduler")


@dataclass(frozen=True)
class PictureModelSection(Settings):
    """A recipe's `model` section of systems behind a picture model."""

    where: ClassVar[str] = "model"

    image: str = setting(..., "the picture model that it stands behind: a bundled one, or a Stable Diffusion folder")
    autoencoder: str = setting("", "its latent space; the picture model's own by default")

    @property
    def latent_space(self) -> str:
        return self.autoencoder or f"{self.image}/vae"


def table_behind(image: str, wanted: Mapping[str, Any], own: dict[str, Any] | None = None) -> dict[str, Any]:
    """The noise table and prediction type of the picture model that a system stands behind: its layers know no other.

    Args:
        wanted: what a recipe says of it.
        own: the picture model's table, where it is not kept as Stable Diffusion's folders keep theirs.

    Raises:
        UserError: the recipe contradicts the picture model.
    """
    own = scheduler_of(image) if own is None else own
    for key, value in wanted.items():
        if own.get(key, SCHEDULER[key] if key == "num_train_timesteps" else None) != value:
            raise UserError(
                f"diffusion.scheduler: {key} is {value!r} here, but {image} was trained with {own.get(key)!r}; "
                "leave it out, it is taken from the picture model"
            )
    return own


class LatentDiffusion(DiffusionSystem):
    """Base of the latent systems: subclasses build the network and say what of it trains.

    Args:
        autoencoder: a bundled part ("emoji-image/vae") or a folder.
        diffusion: fields of `config_class`.
        text: which encoder the captions come from.
        scheduler: the noise table in full; by default SCHEDULER with the recipe's changes.
    """

    section = "diffusion"
    config_class = LatentDiffusionConfig
    text: TextConfig

    def __init__(
        self,
        autoencoder: str,
        diffusion: Mapping[str, Any] | None,
        text: TextConfig | None,
        image: str = "",
    ):
        if text is None:
            raise UserError("text: a latent model is told a caption; add `text: {encoder: all-MiniLM-L6-v2}`")
        self.autoencoder, self.text = autoencoder, text
        self.config = from_mapping(self.config_class, diffusion, "diffusion")
        changes = self.config.scheduler
        self.scheduler = table_behind(image, changes) if image else {**SCHEDULER, **changes}
        self.table = DiscreteSchedule.from_config(self.scheduler)

    @cached_property
    def space(self) -> LatentSpace:  # type: ignore[override]
        return LatentSpace.open(find_part(self.autoencoder))

    @property
    def prediction_type(self) -> str:
        return str(self.scheduler["prediction_type"])

    @property
    def weighting(self) -> str:
        return PLAIN[self.prediction_type] if self.config.weighting == "plain" else self.config.weighting

    def level(self, times: Tensor, x: Tensor) -> Tensor:
        return self.table.table[(times * len(self.table.table)).long()]

    def grid(self, steps: int) -> Tensor:
        return self.table.inference_levels(steps)

    def network_told(
        self, model: nn.Module, batch: TrainingBatch, dropped: Tensor, guidance: Tensor | None = None
    ) -> Predict:
        tokens = _tokens(batch, dropped)
        told = {} if guidance is None else {"guidance": guidance}

        def predict(z: Tensor, lam: Tensor) -> Tensor:
            index = self.table.index_of(lam).to(z.device, torch.float32)
            more = told_beside_words(model, _pooled(batch, dropped), z, self.space.shrink) if is_xl(model) else {}
            return self.predict(model, z, index, tokens, batch, **told, **more)

        return predict

    def predict(
        self, model: nn.Module, z: Tensor, index: Tensor, tokens: Tensor, batch: TrainingBatch, **told: Any
    ) -> Tensor:
        """The network's output for noisy latents z [B, C, F, h, w].

        Args:
            index: of the noise table, [B].
            tokens: captions [B, L, D].
            told: "guidance", the scale [B], of systems whose networks may be told one (`distils`), and
                "added_cond_kwargs" behind Stable Diffusion XL; both are arguments of the networks.
        """
        raise NotImplementedError

    def pipeline(self, model: nn.Module, sampling: Mapping[str, Any]) -> Any:
        """What samples from the network."""
        raise NotImplementedError

    @torch.no_grad()
    def preview(self, model: nn.Module, prompts: list[str], sampling: Mapping[str, Any], clips: Tensor) -> np.ndarray:
        """The prompts with fixed seeds, or one video of the empty caption when there are none."""
        frames: np.ndarray = self.pipeline(model, sampling)(prompts or "", seed=0).frames
        return frames

    def told_settings(self) -> dict[str, Any]:
        text = {"text_encoder": self.text.encoder, "text_max_length": self.text.max_length}
        return {**text, "scheduler": self.scheduler}

    def own_settings(self, sampling: Mapping[str, Any]) -> dict[str, Any]:
        """What a model folder says beside Stable Diffusion's own files."""
        return {
            "text_encoder": self.text.encoder,
            "text_max_length": self.text.max_length,
            "sampling": dict(sampling),
        }


def _tokens(batch: TrainingBatch, dropped: Tensor) -> Tensor:
    if batch.text is None or batch.null_text is None:
        raise UserError("text: this system trains on captions, but the batch has none")
    return torch.where(dropped[:, None, None], batch.null_text.tokens, batch.text.tokens[:, 0])


def _pooled(batch: TrainingBatch, dropped: Tensor) -> Tensor:
    assert batch.text is not None and batch.null_text is not None
    return torch.where(dropped[:, None], batch.null_text.pooled, batch.text.pooled[:, 0])
