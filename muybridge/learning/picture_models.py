"""What systems behind a picture model share: its latent space and noise table, temporal layers, and being told a
picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from muybridge.configuration import Settings, from_mapping, setting
from muybridge.errors import UserError
from muybridge.learning.contract import System
from muybridge.learning.latent_diffusion import LatentDiffusion, PictureModelSection
from muybridge.library.catalogue import find_part
from muybridge.library.inflated import save_inflated
from muybridge.library.parts import load_picture_unet
from muybridge.models.inflated_unet import InflatedUNet
from muybridge.models.latent.space import LatentSpace
from muybridge.models.text.encoder import TextConfig
from muybridge.models.text.scorers import ImageTextScorer, open_scorer
from muybridge.pipelines.inflated import InflatedPipeline


class BehindPictureModel(LatentDiffusion):
    """Base of systems told words that keep a picture model's latent space, noise table and prediction type.

    Args:
        model: fields of `model_class`.
        diffusion: fields of `config_class`.

    Attributes:
        told: the `model` section.
        temporal: settings of the temporal layers, for those that have some.
    """

    model_class = PictureModelSection

    def __init__(self, model: Mapping[str, Any], diffusion: Mapping[str, Any] | None, text: TextConfig | None):
        self.told: Any = from_mapping(self.model_class, model, "model")
        self.image = self.told.image
        super().__init__(self.told.latent_space, diffusion, text, self.image)
        self.temporal: dict[str, Any] = {}
        self.prepare()

    def prepare(self) -> None:
        """What a system makes of its sections: settings of the temporal layers, and what else it needs."""

    def build(self) -> nn.Module:
        return InflatedUNet.from_image_model(load_picture_unet(self.image), self.temporal)

    def trainable(self, model: nn.Module) -> Sequence[tuple[str, nn.Parameter]]:
        assert isinstance(model, InflatedUNet)
        return model.trainable_parameters()

    def pipeline(self, model: nn.Module, sampling: Mapping[str, Any]) -> InflatedPipeline:
        assert isinstance(model, InflatedUNet)
        settings = self.own_settings(sampling)
        return InflatedPipeline(model, self.space.vae, self.scheduler, image=self.image, **settings)

    def save(self, model: Any, folder: Path, sampling: Mapping[str, Any]) -> None:
        """What trained alone: the picture model and its autoencoder are named, not copied."""
        save_inflated(model, folder, {**self.own_settings(sampling), "scheduler": self.scheduler, "image": self.image})


@dataclass(frozen=True)
class ToldByPictureSection(Settings):
    """A recipe's `model` section of systems that are told a picture in place of words."""

    where: ClassVar[str] = "model"

    image: str = setting(..., "the picture model it starts from: a bundled one, or a Stable Diffusion folder")
    scorer: str = setting(..., "whose picture embedding the network is told")
    temporal: dict[str, Any] = setting({}, "further settings of the temporal layers")


class ToldByPicture(System):
    """Base of systems whose whole network trains, and which are told a picture's embedding in place of words.

    Args:
        model: fields of `model_class`.
        diffusion: fields of `config_class`.
        text: must be None, unless a system says otherwise.
    """

    section = "diffusion"
    model_class: type[Any] = ToldByPictureSection

    def __init__(self, model: Mapping[str, Any], diffusion: Mapping[str, Any] | None, text: TextConfig | None):
        self.text = text
        self.told: Any = self.read(model)
        self.image, self.scorer_name = self.told.image, self.told.scorer
        assert self.config_class is not None
        self.config: Any = from_mapping(self.config_class, diffusion, "diffusion")
        self.temporal: dict[str, Any] = {}
        self.check_text()
        self.prepare()

    def check_text(self) -> None:
        """Refuse a `text` section.

        Raises:
            UserError: there is one.
        """
        if self.text is not None:
            raise UserError("text: this system is told a picture, not words; leave the section out")

    def prepare(self) -> None:
        """What a system makes of its sections."""

    def read(self, model: Mapping[str, Any]) -> ToldByPictureSection:
        """The `model` section, or what follows from it."""
        made: ToldByPictureSection = from_mapping(self.model_class, model, "model")
        return made

    @cached_property
    def space(self) -> LatentSpace:  # type: ignore[override]
        return LatentSpace.open(find_part(f"{self.image}/vae"))

    @cached_property
    def scorer(self) -> ImageTextScorer:
        return open_scorer(find_part(self.scorer_name))
