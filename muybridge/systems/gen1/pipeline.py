"""Sampling as Gen-1 does: the structure of a given video, the content of a picture or of words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from muybridge.diffusion.guidance import Scale, content_and_time
from muybridge.diffusion.prediction import Denoise, to_x
from muybridge.diffusion.tables import DiscreteSchedule
from muybridge.diffusion.windows import windowed
from muybridge.errors import UserError
from muybridge.library.catalogue import find_part
from muybridge.library.index import settings_of
from muybridge.models.inflated_unet import InflatedUNet
from muybridge.models.latent.space import LatentSpace
from muybridge.models.text.prior import ContentPrior
from muybridge.models.text.scorers import ImageTextScorer, open_scorer
from muybridge.models.vision.structure_level import LEVELS, coarsened, level_channels
from muybridge.models.weights.opening import open_network
from muybridge.nn.frames import frames_to_batch
from muybridge.nn.text_conditioning import TextCondition
from muybridge.pipelines.base import VideoOutput, VideoPipeline
from muybridge.pipelines.inflated import VideoCondition
from muybridge.pipelines.picture_token import context_of
from muybridge.pipelines.settings import SamplingConfig


def structure_latents(space: LatentSpace, depth: Tensor, level: Tensor) -> Tensor:
    """The network's structure channels: depth [B, 1, F, H, W] in [-1, 1] and level [B] -> [B, C + 4, F, h, w]."""
    rows = []
    for one, at in zip(depth, level.tolist(), strict=True):
        coarse = coarsened(one.transpose(0, 1), int(at)).transpose(0, 1)
        rows.append(space.encode(coarse[None].expand(-1, 3, -1, -1, -1))[0])
    latents = torch.cat(rows)
    return torch.cat([latents, level_channels(level, tuple(latents.shape[2:])).to(latents)], 1)


class Gen1Pipeline(VideoPipeline):
    """A video restyled: its depth kept, its look taken from a picture or from words.

    Args:
        network: an InflatedUNet with Gen-1's layers and further input channels for structure and its level.
        vae: the autoencoder; scorer, prior: give the content's embedding; not part of the saved folder.
        scheduler, sampling: as in LatentPipeline.
    """

    in_windows = True

    def __init__(
        self,
        network: nn.Module,
        vae: AutoencoderKL,
        scheduler: dict[str, Any],
        scorer: Any = None,
        prior: Any = None,
        sampling: dict[str, Any] | None = None,
    ):
        super().__init__()
        self.register_modules(network=network, vae=vae)
        self.register_to_config(scheduler=dict(scheduler), scorer=None, prior=None, sampling=dict(sampling or {}))
        self.scorer: ImageTextScorer | None = scorer
        self.prior: ContentPrior | None = prior
        self.space = LatentSpace(vae)
        self.table = DiscreteSchedule.from_config(scheduler)
        self._told: VideoCondition | None = None
        self._temporal_scale = 1.0

    @classmethod
    def from_folder(cls, folder: Path, dtype: torch.dtype = torch.float32) -> Self:
        """Open what `muybridge train` wrote: the network, and by name the autoencoder, the scorer and the prior."""
        settings = settings_of(folder)
        network = open_network(InflatedUNet, folder / "network", dtype)
        vae = LatentSpace.open(find_part(f"{settings['image']}/vae")).vae
        scorer, where = open_scorer(find_part(settings["scorer"])), str(find_part(settings["prior"]))
        prior = ContentPrior.from_pretrained(where, local_files_only=True, torch_dtype=torch.float32).eval()
        return cls(network, vae, settings["scheduler"], scorer, prior, settings["sampling"])

    def content(self, content: str | Tensor, seed: int = 0) -> Tensor:
        """The content's token [1, 1, D]: of words (through the prior), or of a picture [1, 3, H, W] in [-1, 1].

        Raises:
            UserError: words without a prior.
        """
        assert self.scorer is not None
        width = int(self.network.image.config.cross_attention_dim)
        if isinstance(content, Tensor):
            return context_of(self.scorer, content[:, :, None], width)
        if self.prior is None:
            raise UserError("content in words needs the prior that turns them into a picture's embedding")
        embedded = self.prior.picture_embedding(self.scorer.embed_texts([content]), seed)
        scaled = embedded * embedded.shape[1] ** 0.5
        return nn.functional.pad(scaled, (0, width - scaled.shape[1]))[:, None]

    @torch.no_grad()
    def __call__(  # type: ignore[override]
        self,
        depth: Tensor,
        content: str | Tensor,
        seed: int = 0,
        *,
        level: int = 2,
        temporal_scale: float = 1.0,
        **options: Any,
    ) -> VideoOutput:
        """Sample one video.

        Args:
            depth: inverse depth of the given video, [1, 1, F, H, W] in [-1, 1], scaled over the clip.
            content: words, or a picture [1, 3, H, W].
            level: of the structure, 0 (all of it) to 7 (hardly any).
            temporal_scale: omega_t; above 1 is smoother. `guidance_scale` is omega.
            options: as VideoPipeline's: on_step, and fields of SamplingConfig.

        Raises:
            UserError: settings that cannot be sampled.
        """
        if not 0 <= level < LEVELS:
            raise UserError(f"the structure level must be in 0..{LEVELS - 1}, got {level}")
        frames, height, width = depth.shape[2:]
        token = self.content(content, seed)
        text = TextCondition(token[:, 0], token, torch.ones(token.shape[:2], dtype=torch.bool))
        structure = structure_latents(self.space, depth, torch.tensor([level]))
        self._told, self._temporal_scale = VideoCondition(text, {"structure": structure}), temporal_scale
        try:
            return super().__call__("", seed, num_frames=frames, height=height, width=width, **options)
        finally:
            self._told, self._temporal_scale = None, 1.0

    def condition(self, prompts: Sequence[str | None], settings: SamplingConfig) -> Any:
        assert self._told is not None
        return self._told

    @property
    def prediction_type(self) -> str:
        return str(self.config.scheduler["prediction_type"])

    def predict(self, z: Tensor, lam: Tensor, text: Any, images_only: bool = False) -> Tensor:
        index = self.table.index_of(lam).to(z.device, torch.float32)
        inputs = torch.cat([z, text.tensors["structure"].to(z)], 1)
        out: Tensor = self.network(inputs, index, text.text.tokens.to(z), images_only=images_only).sample
        return out

    def denoiser(self, text: Any, settings: SamplingConfig, scale: Scale) -> Denoise:
        """Guided by content and time; longer videos than the network's in windows that share half of their frames."""
        assert isinstance(scale, int | float)
        if not settings.guided_throughout:
            raise UserError(
                "Gen-1's guidance of content and time acts throughout the run; leave guidance_start and guidance_end"
            )

        def branch(condition: Any, place: slice, images_only: bool = False) -> Denoise:
            def denoise(z: Tensor, lam: Tensor) -> Tensor:
                here = VideoCondition(condition.text, {k: v[:, :, place] for k, v in condition.tensors.items()})
                return to_x(self.predict(z, lam, here, images_only), z, lam, self.prediction_type)

            return denoise

        def guided(place: slice) -> Denoise:
            null = self.null_text(text)
            parts = branch(text, place), branch(null, place), branch(null, place, True)
            return content_and_time(*parts, float(scale), self._temporal_scale)

        size = int(self.network.temporal.max_frames)
        return windowed(guided, settings.num_frames, size, size // 2)

    def null_text(self, text: Any) -> Any:
        """No content; the structure stays, it is never dropped."""
        tokens = torch.zeros_like(text.text.tokens)
        dropped = TextCondition(torch.zeros_like(text.text.pooled), tokens, text.text.mask)
        return VideoCondition(dropped, text.tensors)

    def levels(self, steps: int, sampler: str = "ddim") -> Tensor:
        return self.table.inference_levels(steps, sampler)

    def sample_shape(self, settings: SamplingConfig) -> tuple[int, ...]:
        return self.space.shape(settings.num_frames, settings.height, settings.width)

    def to_pixels(self, samples: Tensor) -> Tensor:
        return self.space.decode(samples)


def depth_video(depth: Any) -> Tensor:
    """An estimator's depth, [F, H, W] in [0, 1] -> [1, 1, F, H, W] in [-1, 1]."""
    return torch.as_tensor(depth)[None, None].float() * 2 - 1


def first_picture(video: Tensor) -> Tensor:
    """[B, 3, F, H, W] -> [B, 3, H, W]."""
    return frames_to_batch(video[:, :, :1])
