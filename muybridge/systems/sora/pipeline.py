"""Sampling with a transformer over spacetime patches: any size, any length, and given frames wherever they lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import lcm
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from muybridge.diffusion.conditioning import frame_mask
from muybridge.errors import UserError
from muybridge.library.index import settings_of, write_index, write_settings
from muybridge.models.latent.causal_autoencoder import CausalAutoencoder
from muybridge.models.latent.space import nearest_sides
from muybridge.models.latent.video_space import open_space, space_of
from muybridge.models.transformer import SpacetimeTransformer
from muybridge.models.weights.opening import open_network
from muybridge.pipelines.base import VideoPipeline
from muybridge.pipelines.settings import SamplingConfig
from muybridge.pipelines.words import ToldLogSNR
from muybridge.systems.sora.process import Process


class LatentVideoPipeline(VideoPipeline):
    """What pipelines on the latents of a video autoencoder share: sizes, lengths, and where given frames lie.

    Attributes:
        space: the latent space.
    """

    space: Any

    @property
    def frames_per_latent(self) -> int:
        return int(self.space.time)

    @property
    def multiple(self) -> int:
        patch: Any = self.network.config.patch_size
        return int(self.space.shrink * (patch if isinstance(patch, int) else lcm(*patch[1:])))

    def sample_shape(self, settings: SamplingConfig) -> tuple[int, ...]:
        height, width = settings.height, settings.width
        if height % self.multiple or width % self.multiple:
            raise UserError(
                f"{height}x{width} pixels: this model takes multiples of {self.multiple}, such as "
                f"{nearest_sides(height, width, self.multiple)}"
            )
        return tuple(self.space.shape(settings.num_frames, height, width))

    def to_pixels(self, samples: Tensor) -> Tensor:
        return self.space.decode(samples)

    def to_samples(self, pixels: Tensor) -> Tensor:
        return self.space.encode(pixels)[0]

    def known_samples(self, pixels: Tensor, places: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Latents of given frames, each stretch of them coded by itself: from the start a latent frame needs 1 frame,
        and T more each that follows; anywhere else a stretch of 1 + n T frames gives n, since the code of its first
        frame is that of a video's first frame, and is left out.

        Raises:
            UserError: no latent frame is given whole.
        """
        step, frames = self.frames_per_latent, pixels.shape[2]
        if step == 1:
            return super().known_samples(pixels, places)
        value = torch.zeros(1, *self.space.shape(frames, *pixels.shape[3:]), device=self.device)
        given: list[int] = []
        for first, last in stretches(places):
            start = 0 if first == 0 else -(-first // step) * step  # the frame that is coded alone
            count = (last - start) // step
            if last < start or (first and count < 1):
                continue
            code = self.to_samples(pixels[:, :, start : start + count * step + 1])
            code, at = (code, 0) if first == 0 else (code[:, :, 1:], start // step + 1)
            value[:, :, at : at + code.shape[2]] = code
            given += range(at, at + code.shape[2])
        if not given:
            raise UserError(
                f"a latent frame of this model stands for {step} frames: give the first frame, or at least "
                f"{2 * step} frames in a row elsewhere"
            )
        return value, frame_mask(given, value.shape[2], self.device)


def stretches(places: Sequence[int]) -> list[tuple[int, int]]:
    """Runs of neighbouring places, (first, last) each."""
    out: list[tuple[int, int]] = []
    for place in sorted(places):
        if out and place == out[-1][1] + 1:
            out[-1] = (out[-1][0], place)
        else:
            out.append((place, place))
    return out


class SoraPipeline(ToldLogSNR, LatentVideoPipeline):
    """Words, and given frames, to a video of any size and length.

    Args:
        network: a SpacetimeTransformer.
        vae: the autoencoder: a CausalAutoencoder, or of pictures.
        process: fields of Process, and "masks": whether it was trained with given frames.
        text_encoder, text_max_length, sampling: as in TextToVideoPipeline.
    """

    def __init__(
        self,
        network: nn.Module,
        vae: Any,
        process: Mapping[str, Any],
        text_encoder: str | None = None,
        text_max_length: int = 16,
        sampling: dict[str, Any] | None = None,
    ):
        super().__init__()
        self.register_modules(network=network, vae=vae)
        self.register_to_config(
            process=dict(process),
            text_encoder=text_encoder,
            text_max_length=text_max_length,
            sampling=dict(sampling or {}),
        )
        self.space = space_of(vae)
        self.process = Process(**{k: v for k, v in process.items() if k != "masks"})

    @classmethod
    def from_folder(cls, folder: Path, dtype: torch.dtype = torch.float32) -> Self:
        """Open what `muybridge train` wrote."""
        network = open_network(SpacetimeTransformer, folder / "network", dtype)
        return cls(network, open_space(folder / "vae").vae, **settings_of(folder))

    def write(self, folder: Path) -> None:
        """The folder that `from_folder` opens: the network, the autoencoder in the same precision, and the settings."""
        self.network.save_pretrained(str(folder / "network"))
        vae, dtype = self.space.vae, next(self.network.parameters()).dtype
        vae.to(dtype).save_pretrained(str(folder / "vae"))
        vae.float()
        config: Any = self.config
        names = ("process", "text_encoder", "text_max_length", "sampling")
        write_settings(folder, {name: config[name] for name in names})
        parts = {"network": ["muybridge.models.transformer", "SpacetimeTransformer"]}
        if isinstance(vae, CausalAutoencoder):
            parts["vae"] = ["muybridge.models.latent.causal_autoencoder", "CausalAutoencoder"]
        write_index(folder, "SoraPipeline", **parts)

    @property
    def prediction_type(self) -> str:
        return self.process.prediction

    @property
    def trained_with_given_frames(self) -> bool:
        return bool(self.config.process.get("masks"))

    def levels(self, steps: int, sampler: str = "ddim") -> Tensor:
        """Of the size that is not shifted; `levels_for` shifts."""
        return self.process.levels(steps, sampler, (1, 1, 1, max(1, self.process.base_positions)))

    def levels_for(self, settings: SamplingConfig) -> Tensor:
        return self.process.levels(settings.num_inference_steps, settings.sampler, self.sample_shape(settings))
