"""Sampling Make-A-Video's decoder: words to a picture's embedding by the prior, and that to frames at a rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from muybridge.diffusion.noise import derive_seed
from muybridge.errors import UserError
from muybridge.library.catalogue import find_part
from muybridge.library.index import settings_of
from muybridge.library.inflated import open_unet
from muybridge.models.inflated_unet import InflatedUNet
from muybridge.models.text.scorers import ImageTextScorer, open_scorer
from muybridge.models.unclip import UnCLIPPrior
from muybridge.pipelines.base import split_options
from muybridge.pipelines.inflated import VideoCondition
from muybridge.pipelines.latents import LatentSpacePipeline
from muybridge.pipelines.picture_token import only_token
from muybridge.pipelines.running import VideoOutput, seeds_of, without_gradients
from muybridge.pipelines.settings import SamplingConfig
from muybridge.systems.make_a_video.rates import HIGHEST, LOWEST
from muybridge.systems.make_a_video.telling import (
    PictureModel,
    TokenTelling,
    all_kept,
    none_kept,
    predict_told,
)

#: Draws of the prior, of which the one nearest to the words is taken (2204.06125 section 2.2).
DRAWS = 2


class MakeAVideoDecoderPipeline(LatentSpacePipeline):
    """Words to a short video. The network is told a picture's embedding and a rate, never words: they end at the prior.

    Args:
        network: an InflatedUNet with Make-A-Video's layers, or the decoder of pictures alone (UNet2DConditionModel).
        vae: its autoencoder; None for a network of pixels.
        scheduler, sampling: as in LatentPipeline.
        scorer, prior: give the embedding; not part of the saved folder.
        model: the picture model that the decoder came from, whose way of being told an embedding it keeps; by default
            as a token.
        rates: lowest and highest frame rate that the network was trained on.
        skip: of the frame interpolation network.
    """

    joins_branches = True
    names: ClassVar[tuple[str, ...]] = ("scheduler", "sampling", "rates", "skip")

    def __init__(
        self,
        network: nn.Module,
        vae: AutoencoderKL | None,
        scheduler: dict[str, Any],
        scorer: Any = None,
        prior: Any = None,
        model: PictureModel | None = None,
        sampling: dict[str, Any] | None = None,
        rates: Sequence[float] = (LOWEST, HIGHEST),
        skip: int = 5,
    ):
        super().__init__(vae, scheduler)
        self.register_modules(network=network, vae=vae)
        kept = {"sampling": dict(sampling or {}), "rates": [float(r) for r in rates], "skip": int(skip)}
        self.register_to_config(scheduler=dict(scheduler), scorer=None, prior=None, model=None, **kept)
        self.scorer: ImageTextScorer | None = scorer
        self.prior, self.model = prior, model
        self.telling = TokenTelling(network) if model is None else model.telling(network)

    @classmethod
    def from_folder(cls, folder: Path, dtype: torch.dtype = torch.float32) -> Self:
        """Open what `muybridge train` wrote: the network, and by name the autoencoder, the scorer and the prior."""
        settings = settings_of(folder)
        network = open_unet(folder, dtype)
        model = PictureModel(settings["image"], settings.get("projection", ""))
        vae = getattr(model.space(), "vae", None)
        told = {"scorer": open_scorer(find_part(settings["scorer"])), "prior": model.prior(settings.get("prior", ""))}
        kept = {name: settings[name] for name in cls.names if name in settings}
        return cls(network, vae, model=model, **told, **kept)

    @without_gradients
    def __call__(  # type: ignore[override]
        self,
        prompt: str | Sequence[str] | None = None,
        seed: int | Sequence[int] = 0,
        *,
        negative_prompt: str = "",
        embedding: Tensor | None = None,
        **options: Any,
    ) -> VideoOutput:
        """Sample one video a prompt.

        Args:
            embedding: of a picture [B, E], in place of words.
            options: as of VideoPipeline; `fps` is what the network is told: the lower, the more a frame differs from
                the one before.

        Raises:
            UserError: settings that cannot be sampled, a rate beyond those of training, or words without a prior.
        """
        if negative_prompt:
            raise UserError("negative_prompt: words end at the prior of this model; leave it out")
        overrides, options = split_options(options)
        settings = self.settings(**overrides)
        prompts = [prompt] if isinstance(prompt, str) or prompt is None else list(prompt)
        seeds = seeds_of(seed, len(prompts) if embedding is None else len(embedding))
        told = self.embedded(prompts, seeds) if embedding is None else embedding
        condition = self.told(told, settings.fps)
        return self.draw(condition, self.null(condition), seeds, settings, **options)

    def embedded(self, prompts: Sequence[str | None], seeds: Sequence[int]) -> Tensor:
        """Embeddings of pictures that fit the words, unit rows [B, E]; of no words, zero, which is no embedding.

        Raises:
            UserError: words without a prior, or one for another scorer.
        """
        assert self.scorer is not None
        if self.prior is None:
            raise UserError("this model has no prior that turns words into a picture's embedding")
        # a prior's draws have seeds that follow each other: those of neighbouring videos shall not be the same
        seeds = [derive_seed(seed, "prior") for seed in seeds]
        if isinstance(self.prior, UnCLIPPrior):
            nothing = torch.zeros(1, self.prior.network.config.embedding_dim)
            made = [
                self.prior.embedding_of(prompt, seed, DRAWS) if prompt else nothing
                for prompt, seed in zip(prompts, seeds, strict=True)
            ]
            return torch.cat(made)
        width, rows = int(self.prior.config.width), []
        for prompt, seed in zip(prompts, seeds, strict=True):
            if not prompt:
                rows.append(torch.zeros(1, width))
                continue
            words = self.scorer.embed_texts([prompt])
            if words.shape[1] != width:
                raise UserError(
                    f"this model's prior is for embeddings of {width} values, its scorer's have {words.shape[1]}: "
                    "train a prior for this scorer"
                )
            rows.append(self.prior.picture_embedding(words, seed, draws=DRAWS, **self._tokens(prompt)))
        return torch.cat(rows)

    def _tokens(self, prompt: str) -> dict[str, Tensor]:
        """What a prior that reads words one by one is told beside their embedding."""
        if not self.prior.reads_tokens:
            return {}
        encoder: Any = getattr(self.scorer, "encoder", None)
        if encoder is None:
            raise UserError("this model's prior reads words one by one, which its scorer does not give")
        text = encoder([prompt])
        return {"tokens": text.tokens, "mask": text.mask}

    def nearest_rate(self, fps: float) -> float:
        """Of the rates that it was trained on, the nearest."""
        low, high = self.config.rates
        return float(min(max(fps, low), high))

    def told(self, embedding: Tensor, fps: float) -> VideoCondition:
        """What the network is told: embeddings [B, E] (zero rows for none) and a rate.

        Raises:
            UserError: a rate that it was not trained on.
        """
        low, high = self.config.rates
        if self.nearest_rate(fps) != fps and isinstance(self.network, InflatedUNet):
            raise UserError(
                f"fps {fps:g}: this model was trained on {low:g} to {high:g} frames a second; take one of those"
            )
        tensors = {"fps": torch.full((len(embedding),), float(fps)), "embedding": embedding}
        return self._as_told(VideoCondition(only_token(embedding[:, None]), tensors), all_kept(embedding))

    def _as_told(self, condition: VideoCondition, kept: Tensor) -> VideoCondition:
        """The condition with its embeddings as the network reads them; `kept` bool [B] says which are told."""
        tokens, labels = self.telling(condition.tensors["embedding"], kept)
        more = {} if labels is None else {"labels": labels}
        return replace(condition, text=only_token(tokens), tensors={**condition.tensors, **more})

    def predict(self, z: Tensor, lam: Tensor, condition: Any) -> Tensor:
        tensors = dict(condition.tensors)
        told = condition.text.tokens, tensors.pop("labels", None), tensors
        return predict_told(self.network, z, self.index_of(lam, z), *told)

    def null(self, condition: Any, negative_prompt: str = "") -> Any:
        """No picture's embedding; the rate and given frames stay."""
        return self._as_told(condition, none_kept(condition.tensors["embedding"]))

    def condition_on_video(self, prompt: str | None, video: Tensor, settings: SamplingConfig) -> Any:
        return self.told(self.embedded([prompt], [0]), settings.fps)
