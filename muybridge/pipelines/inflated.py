"""Sampling with a picture network that was given time: text, and tensors by the plug-in's names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from muybridge.diffusion.guidance import Scale, guide
from muybridge.diffusion.prediction import Denoise
from muybridge.errors import UserError
from muybridge.library.catalogue import find_model, find_part
from muybridge.library.index import settings_of
from muybridge.library.inflated import open_behind
from muybridge.library.parts import scheduler_of
from muybridge.models.inflated_unet import InflatedUNet
from muybridge.models.latent.space import LatentSpace
from muybridge.models.latent.video_autoencoder import load_decoder
from muybridge.nn.text_conditioning import TextCondition
from muybridge.pipelines.latents import LatentPipeline
from muybridge.pipelines.settings import SamplingConfig


@dataclass(frozen=True)
class VideoCondition:
    """What an inflated network is told: text, and tensors by the plug-in's names, one row a video."""

    text: TextCondition
    tensors: Mapping[str, Tensor]

    def rows(self, which: slice) -> VideoCondition:
        return replace(self, text=self.text.rows(which), tensors={k: v[which] for k, v in self.tensors.items()})

    def to(self, device: torch.device | str) -> VideoCondition:
        return replace(self, text=self.text.to(device), tensors={k: v.to(device) for k, v in self.tensors.items()})

    @staticmethod
    def stack(parts: Sequence[VideoCondition]) -> VideoCondition:
        """Several batches as one, all told the same kinds of things."""
        names = parts[0].tensors
        text = TextCondition.stack([p.text for p in parts])
        return VideoCondition(text, {k: torch.cat([p.tensors[k] for p in parts]) for k in names})

    def without_context(self) -> VideoCondition:
        return replace(self, tensors={k: v for k, v in self.tensors.items() if not k.startswith("known")})


class InflatedPipeline(LatentPipeline):
    """Words, and known frames, to video with an inflated picture network.

    Args:
        network: an InflatedUNet.
        image: the picture model it was inflated from, for the saved folder; the rest as in LatentPipeline.
        lora: what was merged into the picture model before the rest was trained, as models.weights.lora records it.
    """

    takes_picture_model = True
    told_by = ("given",)

    def __init__(
        self,
        network: InflatedUNet,
        vae: AutoencoderKL,
        scheduler: dict[str, Any],
        text_encoder: str | None = None,
        text_max_length: int = 16,
        sampling: dict[str, Any] | None = None,
        image: str = "",
        lora: Sequence[Mapping[str, Any]] = (),
    ):
        super().__init__(network, vae, scheduler, text_encoder, text_max_length, sampling)
        self.register_to_config(image=image, lora=[dict(entry) for entry in lora])

    @classmethod
    def from_folder(cls, folder: Path, dtype: torch.dtype = torch.float32, picture: str = "") -> Self:
        """Open the temporal layers of a folder behind the picture model it names, or behind another one.

        Args:
            picture: a bundled image model or a Stable Diffusion folder, in place of the one that the folder names.
        """
        settings = settings_of(folder)
        if picture:
            check_alike(settings, picture)
            settings["image"] = picture
        network = open_behind(folder, str(settings["image"]), settings.get("lora", ()))
        vae = LatentSpace.open(find_part(f"{settings['image']}/vae")).vae
        pipeline = cls(network, vae, **settings)
        pipeline.swapped = picture
        if (folder / "decoder").is_dir():
            pipeline.space = LatentSpace(vae, decoder=load_decoder(folder / "decoder", vae))
        return pipeline

    @property
    def draws_from_words(self) -> bool:  # type: ignore[override]
        return set(self.network.temporal.needs) <= {"fps"}

    @property
    def takes_known_frames(self) -> bool:  # type: ignore[override]
        return bool(self.network.temporal.takes_known_frames)

    def condition(
        self, prompts: Sequence[str | None], settings: SamplingConfig, given: Mapping[str, Tensor] | None = None
    ) -> VideoCondition:
        """What the network is told.

        Args:
            given: conditions of the plug-in, one row a video: "known" and "known_mask" for context frames, scalars.

        Raises:
            UserError: a condition is missing that the network was trained with.
        """
        told = {"fps": torch.full((len(prompts),), settings.fps), **(given or {})}
        missing = [name for name in self.network.temporal.needs if name not in told]
        if missing:
            raise UserError(
                f"this model must be told {', '.join(missing)} beside the words; it does not draw from words alone"
            )
        return VideoCondition(super().condition(prompts, settings), told)

    def predict(self, z: Tensor, lam: Tensor, condition: Any, guidance: Tensor | None = None) -> Tensor:
        tensors = {k: v.to(z) if v.is_floating_point() else v for k, v in condition.tensors.items()}
        told = {"conditions": tensors, "guidance": guidance, **self.beside_words(condition.text, z)}
        out: Tensor = self.network(z, self.index_of(lam, z), condition.text.tokens.to(z), **told).sample
        return out

    def null(self, condition: Any, negative_prompt: str = "") -> Any:
        return replace(condition, text=super().null(condition.text, negative_prompt))

    def denoiser(self, condition: Any, null: Any, settings: SamplingConfig, scale: Scale) -> Denoise:
        guided = super().denoiser(condition, null, settings, scale)
        if settings.context_scale == 1.0 or "known" not in condition.tensors:
            return guided
        bare = super().denoiser(condition.without_context(), null.without_context(), settings, scale)
        return lambda z, lam: guide(guided(z, lam), bare(z, lam), settings.context_scale)


#: What temporal layers know of the noise process of the picture model that they were trained behind.
PROCESS = (
    "num_train_timesteps", "beta_schedule", "beta_start", "beta_end", "trained_betas", "prediction_type",
    "rescale_betas_zero_snr", "snr_shift_scale",
)  # fmt: skip


def check_alike(settings: Mapping[str, Any], picture: str) -> None:
    """Refuse a picture model that is told of noise or words in another way than the one that temporal layers were
    trained behind.

    Raises:
        UserError: another noise table, prediction type or text encoder.
    """
    own, other = settings["scheduler"], scheduler_of(picture)
    for key in PROCESS:
        if own.get(key) != other.get(key) and (own.get(key) or other.get(key)):
            raise UserError(
                f"{picture}: its {key} is {other.get(key)!r}, the temporal layers were trained with {own.get(key)!r}; "
                "they can only stand behind a picture model of the same kind"
            )
    text = settings_of(find_model(picture)).get("text_encoder")
    if text is not None and text != settings["text_encoder"]:
        raise UserError(
            f"{picture}: reads words with {text}, the temporal layers were trained with {settings['text_encoder']}"
        )
