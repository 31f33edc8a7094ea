"""Sampling in a latent space with Stable Diffusion's parts: an autoencoder, a U-Net told a table's index, a scheduler's
config.

One frame is an image model: `LatentPipeline.from_folder` opens any Stable Diffusion folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from muybridge.diffusion.tables import DiscreteSchedule
from muybridge.errors import UserError
from muybridge.files import read_mapping
from muybridge.library.index import settings_of
from muybridge.library.parts import table_settings
from muybridge.library.presets import preset_of, told_of_channels
from muybridge.models.guided import takes_guidance
from muybridge.models.latent.pixels import PixelSpace
from muybridge.models.latent.space import LatentSpace
from muybridge.models.told_sizes import is_xl, told_beside_words
from muybridge.models.vision.control import Residuals
from muybridge.models.weights.opening import open_network
from muybridge.nn.embeddings import guidance_wave
from muybridge.nn.frames import batch_to_frames, frames_to_batch
from muybridge.nn.text_conditioning import TextCondition
from muybridge.pipelines.base import VideoPipeline
from muybridge.pipelines.settings import SamplingConfig
from muybridge.pipelines.words import check_negative


def predict_frames(
    network: nn.Module,
    z: Tensor,
    index: Tensor,
    tokens: Tensor,
    control: Callable[..., Residuals | None] | None = None,
    guidance: Tensor | None = None,
    added_cond_kwargs: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """A picture network on each frame: z [B, C, F, h, w], table index [B], tokens [B, L, D] -> like z.

    Args:
        control: what ControlNets add, from the folded z, index and tokens (models.vision.control).
        guidance: the scale [B] that a distilled network is told (its `time_cond_proj_dim`).
        added_cond_kwargs: what Stable Diffusion XL's network is told beside words, [B, ...].
    """
    batch, frames = z.shape[0], z.shape[2]
    wanted = int(network.config.in_channels)  # type: ignore[union-attr, arg-type]
    if wanted != z.shape[1]:
        raise UserError(
            f"this picture network takes {wanted} channels, and the noisy latents have {z.shape[1]}: "
            + told_of_channels(wanted)
        )
    folded, index, tokens = frames_to_batch(z), index.repeat_interleave(frames), tokens.repeat_interleave(frames, 0)
    more: dict[str, Any] = {}
    if added_cond_kwargs:
        more["added_cond_kwargs"] = {k: v.repeat_interleave(frames, 0) for k, v in added_cond_kwargs.items()}
    added = control(folded, index, tokens, **more) if control is not None else None
    if guidance is not None:
        more["timestep_cond"] = guidance_wave(guidance).to(z).repeat_interleave(frames, 0)
    if added is not None:
        more |= {"down_block_additional_residuals": added[0], "mid_block_additional_residual": added[1]}
    out = network(folded, index, encoder_hidden_states=tokens, **more).sample
    return batch_to_frames(out, batch)


class LatentSpacePipeline(VideoPipeline):
    """Base of all that sample on a scheduler's table, in the latent space of a picture autoencoder or, without one, in
    pixels; subclasses register network and vae.

    Attributes:
        space: the latent space, or pixels.
        table: the noise table of a diffusers scheduler's config.
    """

    def __init__(self, vae: AutoencoderKL | None, scheduler: Mapping[str, Any]):
        super().__init__()
        self.space: Any = PixelSpace() if vae is None else LatentSpace(vae)
        self.table = DiscreteSchedule.from_config(scheduler)

    @property
    def prediction_type(self) -> str:
        return str(self.config.scheduler.get("prediction_type", "epsilon"))

    @property
    def multiple(self) -> int:
        network: Any = getattr(self.network, "image", self.network)
        levels = len(getattr(network.config, "block_out_channels", (0,)))
        return int(self.space.shrink * 2 ** (levels - 1))

    def length_for(self, frames: int) -> int:
        return frames + -frames % int(getattr(getattr(self.network, "temporal", None), "frames_multiple", 1))

    def index_of(self, lam: Tensor, z: Tensor) -> Tensor:
        """The table's index of log-SNR lam [B], as a picture U-Net is told it, where z lies."""
        return self.table.index_of(lam).to(z.device, torch.float32)

    def levels(self, steps: int, sampler: str = "ddim") -> Tensor:
        return self.table.inference_levels(steps, sampler)

    def sample_shape(self, settings: SamplingConfig) -> tuple[int, ...]:
        shape: tuple[int, ...] = self.space.shape(settings.num_frames, settings.height, settings.width)
        return shape

    def to_pixels(self, samples: Tensor) -> Tensor:
        with self.autoencoder_alone(self.space):
            pixels: Tensor = self.space.decode(samples)
        return pixels

    def seen(self, samples: Tensor) -> Tensor:
        return self.space.decoded(samples)

    def to_samples(self, pixels: Tensor) -> Tensor:
        with self.autoencoder_alone(self.space):
            latents: Tensor = self.space.encode(pixels.to(self.device))[0]
        return latents


class LatentPipeline(LatentSpacePipeline):
    """Words to pictures or videos through a latent space.

    All tokens of a caption are attended to, padding too, and no caption is the empty caption, as in Stable Diffusion.

    Args:
        network: a UNet2DConditionModel (each frame alone).
        vae: its autoencoder.
        scheduler: a diffusers scheduler's config: noise table, prediction type, spacing.
        text_encoder, text_max_length, sampling: as in TextToVideoPipeline.
    """

    allow_empty = True
    joins_branches = True
    reads_long_captions = True

    def __init__(
        self,
        network: nn.Module,
        vae: AutoencoderKL,
        scheduler: dict[str, Any],
        text_encoder: str | None = None,
        text_max_length: int = 16,
        sampling: dict[str, Any] | None = None,
    ):
        super().__init__(vae, scheduler)
        self.register_modules(network=network, vae=vae)
        self.register_to_config(
            scheduler=dict(scheduler),
            text_encoder=text_encoder,
            text_max_length=text_max_length,
            sampling=dict(sampling or {}),
        )
        self.prepare()

    def prepare(self) -> None:
        """What a subclass does once its modules are there."""

    def condition(self, prompts: Sequence[str | None], settings: SamplingConfig) -> Any:
        return self.words(["" if p is None else p for p in prompts])

    def words(self, captions: Sequence[str]) -> TextCondition:
        """Embedded captions, "" among them."""
        text = self._embed(captions)
        assert text is not None
        return text

    def predict(self, z: Tensor, lam: Tensor, condition: TextCondition, guidance: Tensor | None = None) -> Tensor:
        more = self.beside_words(condition, z)
        return predict_frames(self.network, z, self.index_of(lam, z), condition.tokens.to(z), guidance=guidance, **more)

    def beside_words(self, text: TextCondition, z: Tensor) -> dict[str, Any]:
        """What Stable Diffusion XL's network is told beside words (models.text.xl); nothing for others."""
        return told_beside_words(self.network, text.pooled, z, self.space.shrink)

    def null(self, condition: Any, negative_prompt: str = "") -> Any:
        check_negative(self, negative_prompt)
        words = self.words([negative_prompt] * len(condition.pooled))
        if not negative_prompt and getattr(self._encoder, "empty_is_zero", False):
            return TextCondition(torch.zeros_like(words.pooled), torch.zeros_like(words.tokens), words.mask)
        return words

    @classmethod
    def from_folder(cls, folder: Path, dtype: torch.dtype = torch.float32) -> Self:
        """Open a Stable Diffusion folder (unet/, vae/, scheduler/, and the text encoder's own or our default one)."""
        from diffusers import UNet2DConditionModel

        space = LatentSpace.open(folder / "vae")
        network = open_network(UNet2DConditionModel, folder / "unet", dtype)
        scheduler = read_mapping(folder / "scheduler" / "scheduler_config.json")
        ours = settings_of(folder)
        if "text_encoder" not in ours:
            ours = _foreign(folder, network, space, scheduler, ours)
        return cls(network, space.vae, table_settings(scheduler), **ours)


def _foreign(
    folder: Path, network: Any, space: LatentSpace, scheduler: Mapping[str, Any], ours: Mapping[str, Any]
) -> dict[str, Any]:
    """Settings of a user's Stable Diffusion folder: its own text encoder and size, and the sampling of its kind.

    Args:
        ours: what a muybridge.json beside its files changes of the sampling.
    """
    if not (folder / "text_encoder" / "config.json").is_file():
        raise UserError(f"{folder}: has no text_encoder folder; a Stable Diffusion model needs its text encoder")
    if is_xl(network) and not (folder / "text_encoder_2" / "config.json").is_file():
        raise UserError(f"{folder}: has no text_encoder_2 folder; Stable Diffusion XL needs both text encoders")
    side = int(network.config.sample_size) * space.shrink
    text = read_mapping(folder / "text_encoder" / "config.json")
    xl = is_xl(network)
    preset = preset_of(scheduler, takes_guidance(network), xl)
    sampling = {"num_frames": 1, "height": side, "width": side, "threshold": "none", **preset}
    return {
        "text_encoder": str((folder if xl else folder / "text_encoder").resolve()),
        "text_max_length": int(text["max_position_embeddings"]),
        "sampling": {**sampling, **ours.get("sampling", {})},
    }
