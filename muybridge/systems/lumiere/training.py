"""Lumiere (2401.12945): temporal layers behind a frozen picture model, which see all frames in one pass.

The conditional form is the same with input channels for known pixels and their mask; the first convolution trains with
the temporal layers then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from muybridge.configuration import setting
from muybridge.errors import UserError
from muybridge.learning.contract import TrainingBatch
from muybridge.learning.draws import Draws
from muybridge.learning.latent_diffusion import LatentDiffusionConfig, PictureModelSection
from muybridge.learning.picture_models import BehindPictureModel
from muybridge.learning.super_resolution import SuperResolution
from muybridge.library.inflated import save_inflated
from muybridge.models.inflated_unet import InflatedUNet
from muybridge.systems.lumiere.masks import TASKS, drawn_masks, known_of
from muybridge.systems.lumiere.pipeline import LumiereBasePipeline


@dataclass(frozen=True)
class LumiereConfig(LatentDiffusionConfig):
    """Diffusion settings."""

    tasks: dict[str, float] = setting(
        {},
        "of the conditional form: how often nothing is given (text), the first frame (image), all but a box (inpaint), "
        "a box alone (outpaint), or the first frame and all but a box of the others (cinemagraph); empty trains the "
        "model of words alone",
        low=0, choices=TASKS,
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tasks and not sum(self.tasks.values()) > 0:
            raise UserError("diffusion.tasks: at least one of them must be drawn, all shares are 0")


@dataclass(frozen=True)
class LumiereSection(PictureModelSection):
    """A recipe's `model` section."""

    temporal: dict[str, Any] = setting({}, "settings of the temporal layers (models.plugins.lumiere)")


class Lumiere(BehindPictureModel):
    """The system: the base model, of words or conditional."""

    name = "lumiere"
    model_class = LumiereSection
    config_class = LumiereConfig
    config: LumiereConfig

    def prepare(self) -> None:
        self.temporal = {"type": "lumiere", **self.told.temporal}
        self.wants_pixels = bool(self.config.tasks)
        if self.config.tasks:
            self.temporal["known_channels"] = self.space.channels

    def predict(
        self, model: nn.Module, z: Tensor, index: Tensor, tokens: Tensor, batch: TrainingBatch, **told: Any
    ) -> Tensor:
        out: Tensor = model(z, index, tokens, conditions=self.known(batch), **told).sample
        return out

    def known(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """Of the conditional form, what is given of a batch's clips."""
        if not self.config.tasks:
            return {}
        if batch.pixels is None:
            raise UserError("this system needs the clips' pixels beside the latents")
        frames, height, width = batch.pixels.shape[2:]
        mask = drawn_masks(Draws(batch, "mask"), (frames, height, width), self.config.tasks)
        return known_of(self.space, batch.pixels, mask.to(batch.pixels))

    def pipeline(self, model: nn.Module, sampling: Mapping[str, Any]) -> LumiereBasePipeline:
        assert isinstance(model, InflatedUNet)
        settings = self.own_settings(sampling)
        return LumiereBasePipeline(model, self.space.vae, self.scheduler, image=self.image, **settings)

    def save(self, model: Any, folder: Path, sampling: Mapping[str, Any]) -> None:
        settings = {**self.own_settings(sampling), "scheduler": self.scheduler, "image": self.image}
        save_inflated(model, folder, settings, LumiereBasePipeline.__name__)


class LumiereSR(SuperResolution):
    """Super-resolution, inflated the same way and sampled in overlapping windows over time."""

    name = "lumiere_sr"
    layers: ClassVar[Mapping[str, Any]] = {"type": "lumiere"}
