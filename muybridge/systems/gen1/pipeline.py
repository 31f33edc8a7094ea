"""Sampling as Gen-1 does: the structure of a given video, the content of a picture or of words."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from muybridge.diffusion.guidance import Scale, content_and_time
from muybridge.diffusion.prediction import Denoise
from muybridge.diffusion.windows import windowed
from muybridge.errors import UserError
from muybridge.library.catalogue import find_part
from muybridge.models.latent.space import LatentSpace
from muybridge.models.text.prior import ContentPrior
from muybridge.models.text.scorers import ImageTextScorer
from muybridge.models.vision.structure_level import LEVELS, coarsened, level_channels
from muybridge.models.weights.opening import open_part
from muybridge.nn.text_conditioning import TextCondition
from muybridge.pipelines.base import split_options
from muybridge.pipelines.latents import LatentSpacePipeline
from muybridge.pipelines.picture_token import as_token, context_of, only_token, opened_parts
from muybridge.pipelines.running import VideoOutput, without_gradients
from muybridge.pipelines.settings import SamplingConfig


def structure_latents(space: LatentSpace, depth: Tensor, level: Tensor) -> Tensor:
    """The network's structure channels: depth [B, 1, F, H, W] in [-1, 1] and level [B] -> [B, C + 4, F, h, w]."""
    rows = []
    for one, at in zip(depth, level.tolist(), strict=True):
        coarse = coarsened(one.transpose(0, 1), int(at)).transpose(0, 1)
        rows.append(space.encode(coarse[None].expand(-1, 3, -1, -1, -1))[0])
    latents = torch.cat(rows)
    return torch.cat([latents, level_channels(level, tuple(latents.shape[2:])).to(latents)], 1)


@dataclass(frozen=True)
class StructureAndContent:
    """What Gen-1's network is told of one video.

    Attributes:
        text: the content's one token.
        structure: latents of the coarsened structure and channels of its level, [1, C + 4, F, h, w].
        temporal_scale: omega_t of the guidance over time.
    """

    text: TextCondition
    structure: Tensor
    temporal_scale: float = 1.0

    def rows(self, which: slice) -> StructureAndContent:
        return replace(self, text=self.text.rows(which), structure=self.structure[which])

    def to(self, device: Any) -> StructureAndContent:
        return replace(self, text=self.text.to(device), structure=self.structure.to(device))

    def frames(self, which: slice) -> StructureAndContent:
        """Some of its frames."""
        return replace(self, structure=self.structure[:, :, which])


class Gen1Pipeline(LatentSpacePipeline):
    """A video restyled: its depth kept, its look taken from a picture or from words.

    Args:
        network: an InflatedUNet with Gen-1's layers and further input channels for structure and its level.
        vae: the autoencoder; scorer, prior: give the content's embedding; not part of the saved folder.
        scheduler, sampling: as in LatentPipeline.
        structure: the estimator that the network was trained behind (models.vision.structure).
    """

    in_windows = True
    draws_from_words = False

    def __init__(
        self,
        network: nn.Module,
        vae: AutoencoderKL,
        scheduler: dict[str, Any],
        scorer: Any = None,
        prior: Any = None,
        sampling: dict[str, Any] | None = None,
        structure: str = "depth",
    ):
        super().__init__(vae, scheduler)
        self.register_modules(network=network, vae=vae)
        settings: dict[str, Any] = {
            "scheduler": dict(scheduler),
            "structure": structure,
            "sampling": dict(sampling or {}),
        }
        self.register_to_config(scorer=None, prior=None, **settings)
        self.scorer: ImageTextScorer | None = scorer
        self.prior: ContentPrior | None = prior

    @classmethod
    def from_folder(cls, folder: Path, dtype: torch.dtype = torch.float32) -> Self:
        """Open what `muybridge train` wrote: the network, and by name the autoencoder, the scorer and the prior."""
        network, vae, scorer, settings = opened_parts(folder, dtype)
        prior = open_part(ContentPrior, find_part(settings["prior"]))
        return cls(
            network, vae, settings["scheduler"], scorer, prior, settings["sampling"], settings.get("structure", "depth")
        )

    @without_gradients
    def __call__(  # type: ignore[override]
        self,
        structure: Tensor,
        content: str | Tensor,
        seed: int = 0,
        *,
        level: int = 2,
        temporal_scale: float = 1.0,
        **options: Any,
    ) -> VideoOutput:
        """Sample one video.

        Args:
            structure: of the given video, [1, 1, F, H, W] in [-1, 1]: inverse depth scaled over the clip, or what the
                model's own estimator gives.
            content: words, or a picture [1, 3, H, W].
            level: of the structure, 0 (all of it) to 7 (hardly any).
            temporal_scale: omega_t; above 1 is smoother. `guidance_scale` is omega.
            options: as VideoPipeline's: on_step, output, and fields of SamplingConfig.

        Raises:
            UserError: settings that cannot be sampled.
        """
        overrides, options = split_options(options)
        frames, height, width = structure.shape[2:]
        settings = self.settings(num_frames=frames, height=height, width=width, **overrides)
        condition = self.condition_on(structure, content, seed, level, temporal_scale)
        return self.draw(condition, self.null(condition), [seed], settings, **options)

    def condition_on(
        self, structure: Tensor, content: str | Tensor, seed: int, level: int, temporal_scale: float
    ) -> StructureAndContent:
        """What the network is told; arguments as for a call."""
        if not 0 <= level < LEVELS:
            raise UserError(f"the structure level must be in 0..{LEVELS - 1}, got {level}")
        if not 0 <= temporal_scale <= 100:
            raise UserError(f"temporal_scale must be in 0..100, got {temporal_scale}")
        latents = structure_latents(self.space, structure, torch.tensor([level]))
        return StructureAndContent(only_token(self.content(content, seed)), latents, temporal_scale)

    def content(self, content: str | Tensor, seed: int = 0) -> Tensor:
        """The content's token [1, 1, D]: of words (through the prior), or of a picture [1, 3, H, W] in [-1, 1].

        Raises:
            UserError: words without a prior, or without one for this scorer.
        """
        assert self.scorer is not None
        width = int(self.network.image.config.cross_attention_dim)
        if isinstance(content, Tensor):
            return context_of(self.scorer, content[:, :, None], width)
        if self.prior is None:
            raise UserError("content in words needs the prior that turns them into a picture's embedding")
        words = self.scorer.embed_texts([content])
        if words.shape[1] != self.prior.config.width:
            raise UserError(
                f"this model's prior is for embeddings of {self.prior.config.width} values, its scorer's have "
                f"{words.shape[1]}: give the content as a picture, or train a prior for this scorer"
            )
        return as_token(self.prior.picture_embedding(words, seed), width)

    def condition_on_video(self, prompt: str | None, video: Tensor, settings: SamplingConfig) -> Any:
        raise UserError("this model keeps a video's structure by itself: restyle with it without a strength")

    def predict(self, z: Tensor, lam: Tensor, condition: Any, images_only: bool = False) -> Tensor:
        inputs, tokens = torch.cat([z, condition.structure.to(z)], 1), condition.text.tokens.to(z)
        out: Tensor = self.network(inputs, self.index_of(lam, z), tokens, images_only=images_only).sample
        return out

    def denoiser(self, condition: Any, null: Any, settings: SamplingConfig, scale: Scale) -> Denoise:
        """Guided by content and time; longer videos than the network's in windows that share half of their frames."""
        assert isinstance(scale, int | float)
        if not settings.guided_throughout:
            raise UserError(
                "Gen-1's guidance of content and time acts throughout the run; leave guidance_start and guidance_end"
            )

        def guided(place: slice) -> Denoise:
            here, bare = condition.frames(place), null.frames(place)
            branches = self.closed(here), self.closed(bare), self.closed(bare, images_only=True)
            return content_and_time(*branches, float(scale), condition.temporal_scale)

        size = int(self.network.temporal.max_frames)
        return windowed(guided, settings.num_frames, size, size // 2)

    def null(self, condition: Any, negative_prompt: str = "") -> Any:
        """No content; the structure stays, it is never dropped."""
        return replace(condition, text=only_token(torch.zeros_like(condition.text.tokens)))


def depth_video(depth: Any) -> Tensor:
    """An estimator's depth, [F, H, W] in [0, 1] -> [1, 1, F, H, W] in [-1, 1]."""
    return torch.as_tensor(depth)[None, None].float() * 2 - 1
