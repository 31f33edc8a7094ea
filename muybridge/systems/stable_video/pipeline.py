"""Sampling image to video as Stable Video Diffusion does: EDM noise levels, guidance that grows over the frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from muybridge.diffusion.guidance import linear_frame_scale
from muybridge.diffusion.noise import Noise
from muybridge.diffusion.tables import karras_levels
from muybridge.errors import UserError
from muybridge.library.catalogue import find_part
from muybridge.library.index import settings_of
from muybridge.models.inflated_unet import InflatedUNet
from muybridge.models.latent.space import LatentSpace
from muybridge.models.text.scorers import ImageTextScorer, open_scorer
from muybridge.models.weights.opening import open_network
from muybridge.nn.text_conditioning import TextCondition
from muybridge.pipelines.base import VideoOutput, VideoPipeline
from muybridge.pipelines.inflated import VideoCondition
from muybridge.pipelines.picture_token import context_of
from muybridge.pipelines.settings import SamplingConfig

#: What the network is told of a clip, in the order of diffusers' `added_time_ids`.
SCALARS = ("fps", "motion_bucket", "noise_augmentation")
#: The paper's sampling: Euler on Karras' grid.
SIGMA_MIN, SIGMA_MAX, RHO = 0.002, 700.0, 7.0


class ImageToVideoPipeline(VideoPipeline):
    """A picture brought to life.

    Args:
        network: an InflatedUNet with twice the latent channels at its input.
        vae: the autoencoder.
        scorer: gives the picture's embedding; not part of the saved folder.
        sampling: default values of SamplingConfig; guidance_scale is that of the last frame.
    """

    joins_branches = True

    def __init__(
        self, network: nn.Module, vae: AutoencoderKL, scorer: Any = None, sampling: dict[str, Any] | None = None
    ):
        super().__init__()
        self.register_modules(network=network, vae=vae)
        self.register_to_config(scorer=None, sampling=dict(sampling or {}))
        self.scorer: ImageTextScorer | None = scorer
        self.space = LatentSpace(vae)
        self._told: VideoCondition | None = None

    @classmethod
    def from_folder(cls, folder: Path, dtype: torch.dtype = torch.float32) -> Self:
        """Open what `muybridge train` wrote: the network, and by name the picture model's autoencoder and the scorer."""
        settings = settings_of(folder)
        network = open_network(InflatedUNet, folder / "network", dtype)
        vae = LatentSpace.open(find_part(f"{settings['image']}/vae")).vae
        return cls(network, vae, open_scorer(find_part(settings["scorer"])), settings["sampling"])

    @torch.no_grad()
    def __call__(  # type: ignore[override]
        self,
        pictures: Tensor,
        seed: int | Sequence[int] = 0,
        *,
        motion_bucket: float = 127.0,
        noise_augmentation: float = 0.02,
        first_guidance: float = 1.0,
        batch_size: int = 1,
        **options: Any,
    ) -> VideoOutput:
        """Sample one video a picture.

        Args:
            pictures: [N, 3, H, W] in [-1, 1], of the model's size.
            motion_bucket: 0 (the stillest of the training clips) to 255.
            noise_augmentation: noise put on the picture that is given beside the noisy latents.
            first_guidance: guidance of the first frame; it grows linearly to `guidance_scale` at the last.
            options: as VideoPipeline's: on_step, and fields of SamplingConfig.

        Raises:
            UserError: settings that cannot be sampled.
        """
        if self.scorer is None:
            raise UserError("this pipeline needs the scorer whose picture embeddings its network was trained on")
        if not 0 <= motion_bucket <= 255:
            raise UserError(f"motion_bucket must be in 0..255, got {motion_bucket}")
        overrides = {k: v for k, v in options.items() if k != "on_step"}
        settings = self.settings(**overrides)
        size = (pictures.shape[2], pictures.shape[3])
        if size != (settings.height, settings.width):
            raise UserError(
                f"the picture is {size[0]}x{size[1]} pixels, the video {settings.height}x{settings.width}: resize it first"
            )
        count = len(pictures)
        seeds = [seed + i for i in range(count)] if isinstance(seed, int) else list(seed)
        self._told = self._condition(pictures, seeds, settings.fps, motion_bucket, noise_augmentation)
        scale = linear_frame_scale(settings.num_frames, first_guidance, settings.guidance_scale)
        if first_guidance == settings.guidance_scale:
            scale = settings.guidance_scale  # type: ignore[assignment]
        try:
            return super().__call__([""] * count, seeds, batch_size=batch_size, guidance=scale, **options)
        finally:
            self._told = None

    def _condition(
        self, pictures: Tensor, seeds: Sequence[int], fps: float, motion_bucket: float, noise_augmentation: float
    ) -> VideoCondition:
        """The pictures' embeddings, their noised latents, and the scalars."""
        assert self.scorer is not None
        count, first = len(pictures), pictures[:, :, None]
        grain = Noise(seeds)(first.shape[1:], "picture").to(first)
        latents = self.space.encode(first + noise_augmentation * grain)[0] / self.space.scale
        values = {"fps": fps, "motion_bucket": motion_bucket, "noise_augmentation": noise_augmentation}
        tensors = {name: torch.full((count,), float(value)) for name, value in values.items()}
        context = context_of(self.scorer, first, int(self.network.image.config.cross_attention_dim))
        text = TextCondition(context[:, 0], context, torch.ones(context.shape[:2], dtype=torch.bool))
        return VideoCondition(text, {**tensors, "picture": latents})

    def condition_on_video(self, prompt: str | None, video: Tensor, settings: SamplingConfig) -> Any:
        """The video's first frame is the picture; there are no words."""
        return self._condition(video[:, :, 0], [0], settings.fps, 127.0, 0.02)

    def condition(self, prompts: Sequence[str | None], settings: SamplingConfig) -> Any:
        assert self._told is not None
        return self._told

    @property
    def prediction_type(self) -> str:
        return "v_prediction"

    def predict(self, z: Tensor, lam: Tensor, text: Any) -> Tensor:
        tensors = dict(text.tensors)
        picture = tensors.pop("picture").to(z).expand(-1, -1, z.shape[2], -1, -1)
        level = (-lam / 8).to(z)  # 0.25 ln sigma
        out: Tensor = self.network(torch.cat([z, picture], 1), level, text.text.tokens.to(z), conditions=tensors).sample
        return out

    def null_text(self, text: Any) -> Any:
        """No picture: its embedding and its latents are zero, the scalars stay."""
        tokens = torch.zeros_like(text.text.tokens)
        dropped = TextCondition(torch.zeros_like(text.text.pooled), tokens, text.text.mask)
        return VideoCondition(dropped, {**text.tensors, "picture": torch.zeros_like(text.tensors["picture"])})

    def levels(self, steps: int, sampler: str = "ddim") -> Tensor:
        return karras_levels(steps, SIGMA_MIN, SIGMA_MAX, RHO)

    def sample_shape(self, settings: SamplingConfig) -> tuple[int, ...]:
        return self.space.shape(settings.num_frames, settings.height, settings.width)

    def to_pixels(self, samples: Tensor) -> Tensor:
        return self.space.decode(samples)
