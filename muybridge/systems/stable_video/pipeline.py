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
from muybridge.models.text.scorers import ImageTextScorer
from muybridge.pipelines.base import split_options
from muybridge.pipelines.inflated import VideoCondition
from muybridge.pipelines.latents import LatentSpacePipeline
from muybridge.pipelines.picture_token import context_of, only_token, opened_parts
from muybridge.pipelines.running import VideoOutput, seeds_of, without_gradients
from muybridge.pipelines.settings import SamplingConfig
from muybridge.pipelines.words import check_negative

#: What the network is told of a clip, in the order of diffusers' `added_time_ids`.
SCALARS = ("fps", "motion_bucket", "noise_augmentation")
#: The paper's sampling: Euler on Karras' grid.
SIGMA_MIN, SIGMA_MAX, RHO = 0.002, 700.0, 7.0


class ImageToVideoPipeline(LatentSpacePipeline):
    """A picture brought to life.

    Args:
        network: an InflatedUNet with twice the latent channels at its input.
        vae: the autoencoder.
        scorer: gives the picture's embedding; not part of the saved folder.
        sampling: default values of SamplingConfig; guidance_scale is that of the last frame.
    """

    joins_branches = True
    draws_from_words = False
    animates_pictures = True

    def __init__(
        self, network: nn.Module, vae: AutoencoderKL, scorer: Any = None, sampling: dict[str, Any] | None = None
    ):
        super().__init__(vae, {})  # its levels are Karras', not a table's
        self.register_modules(network=network, vae=vae)
        self.register_to_config(scorer=None, sampling=dict(sampling or {}))
        self.scorer: ImageTextScorer | None = scorer

    @classmethod
    def from_folder(cls, folder: Path, dtype: torch.dtype = torch.float32) -> Self:
        """Open what `muybridge train` wrote: the network, and by name the picture model's autoencoder and the
        scorer."""
        network, vae, scorer, settings = opened_parts(folder, dtype)
        return cls(network, vae, scorer, settings["sampling"])

    @without_gradients
    def __call__(  # type: ignore[override]
        self,
        pictures: Tensor,
        seed: int | Sequence[int] = 0,
        *,
        motion_bucket: float = 127.0,
        noise_augmentation: float = 0.02,
        first_guidance: float = 1.0,
        **options: Any,
    ) -> VideoOutput:
        """Sample one video a picture.

        Args:
            pictures: [N, 3, H, W] in [-1, 1], of the model's size.
            motion_bucket: 0 (the stillest of the training clips) to 255.
            noise_augmentation: noise put on the picture that is given beside the noisy latents.
            first_guidance: guidance of the first frame; it grows linearly to `guidance_scale` at the last.
            options: as VideoPipeline's: batch_size, on_step, output, and fields of SamplingConfig.

        Raises:
            UserError: settings that cannot be sampled.
        """
        if not 0 <= motion_bucket <= 255:
            raise UserError(f"motion_bucket must be in 0..255, got {motion_bucket}")
        if not 0 <= noise_augmentation <= 10:
            raise UserError(f"noise_augmentation must be in 0..10, got {noise_augmentation}")
        overrides, options = split_options(options)
        settings = self.settings(**overrides)
        size = (pictures.shape[2], pictures.shape[3])
        if size != (settings.height, settings.width):
            raise UserError(
                f"the picture is {size[0]}x{size[1]} pixels, the video {settings.height}x{settings.width}: resize "
                f"it first"
            )
        seeds = seeds_of(seed, len(pictures))
        condition = self.condition_on(pictures, seeds, settings.fps, motion_bucket, noise_augmentation)
        scale: Any = settings.guidance_scale
        if first_guidance != scale:
            scale = linear_frame_scale(settings.num_frames, first_guidance, scale)
        return self.draw(condition, self.null(condition), seeds, settings, **{"guidance": scale, **options})

    #: by the name that it has where other kinds of models do the same
    animated = __call__

    def condition_on(
        self, pictures: Tensor, seeds: Sequence[int], fps: float, motion_bucket: float, noise_augmentation: float
    ) -> VideoCondition:
        """The pictures' embeddings, their noised latents, and the scalars."""
        if self.scorer is None:
            raise UserError("this pipeline needs the scorer whose picture embeddings its network was trained on")
        count, first = len(pictures), pictures[:, :, None]
        grain = Noise(seeds)(first.shape[1:], "picture").to(first)
        latents = self.space.encode(first + noise_augmentation * grain)[0] / self.space.scale
        values = {"fps": self.told_fps(fps), "motion_bucket": motion_bucket, "noise_augmentation": noise_augmentation}
        tensors = {name: torch.full((count,), float(value)) for name, value in values.items()}
        return VideoCondition(only_token(self.embedded(first)), {**tensors, "picture": latents})

    def told_fps(self, fps: float) -> float:
        """What the network is told of a rate."""
        return fps

    def embedded(self, first_frame: Tensor) -> Tensor:
        """The picture's token [N, 1, D] of first frames [N, 3, 1, H, W]."""
        assert self.scorer is not None
        return context_of(self.scorer, first_frame, int(self.network.image.config.cross_attention_dim))

    def condition_on_video(self, prompt: str | None, video: Tensor, settings: SamplingConfig) -> Any:
        """The video's first frame is the picture; there are no words."""
        if prompt:
            raise UserError("this model is told a picture, not words: redraw with a model of words, or leave them out")
        return self.condition_on(video[:, :, 0], [0], settings.fps, 127.0, 0.02)

    @property
    def prediction_type(self) -> str:
        return "v_prediction"

    def predict(self, z: Tensor, lam: Tensor, condition: Any) -> Tensor:
        tensors = dict(condition.tensors)
        picture = tensors.pop("picture").to(z).expand(-1, -1, z.shape[2], -1, -1)
        level = (-lam / 8).to(z)  # 0.25 ln sigma
        inputs, tokens = torch.cat([z, picture], 1), condition.text.tokens.to(z)
        out: Tensor = self.network(inputs, level, tokens, conditions=tensors).sample
        return out

    def null(self, condition: Any, negative_prompt: str = "") -> Any:
        """No picture: its embedding and its latents are zero, the scalars stay."""
        check_negative(self, negative_prompt, has_words=False)
        dropped = only_token(torch.zeros_like(condition.text.tokens))
        return VideoCondition(dropped, {**condition.tensors, "picture": torch.zeros_like(condition.tensors["picture"])})

    def levels(self, steps: int, sampler: str = "ddim") -> Tensor:
        return karras_levels(steps, SIGMA_MIN, SIGMA_MAX, RHO)
