"""Stable Video Diffusion (2311.15127): the whole network trains, noise is continuous, a picture is brought to life.

In the words of this project: F of the paper's preconditioning is the v-prediction, its weighted loss the plain v-error,
its noise level sigma the log-SNR -2 ln sigma; Euler steps on sigma are DDIM steps. So the samplers and losses are the
common ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from muybridge.configuration import Settings, setting
from muybridge.diffusion.losses import mse_per_sample
from muybridge.diffusion.prediction import target_of
from muybridge.diffusion.process import diffuse
from muybridge.errors import UserError
from muybridge.files import read_mapping
from muybridge.learning.contract import Losses, TrainingBatch
from muybridge.learning.draws import Draws
from muybridge.learning.picture_models import ToldByPicture, ToldByPictureSection
from muybridge.library.catalogue import find_part
from muybridge.library.index import CONFIG, INFLATED_UNET, write_index, write_settings
from muybridge.library.parts import load_picture_unet, saved_weights
from muybridge.models.inflated_unet import InflatedUNet
from muybridge.models.latent.space import LatentSpace
from muybridge.models.weights.stable_video import load_stable_video_unet
from muybridge.models.weights.widened import with_more_inputs
from muybridge.pipelines.picture_token import context_of
from muybridge.systems.stable_video.between import StableVideoBetweenPipeline
from muybridge.systems.stable_video.pipeline import ImageToVideoPipeline
from muybridge.systems.stable_video.published import (
    StableVideoDiffusionFolder,
    published_folder,
    raw_token,
    save_published,
)
from muybridge.systems.stable_video.telling import OF_CLIPS, TASKS, Told
from muybridge.systems.stable_video.words import StableVideoWordsPipeline

LAYERS: dict[str, Any] = {"type": "video_ldm", "train_image": True, "scalars_everywhere": True}


@dataclass(frozen=True)
class StableVideoConfig(Settings):
    """Diffusion and conditioning settings.

    Stages of the paper have ln sigma ~ N(-1.2, 1) to N(0, 1) in pretraining, N(0.7, 1.6^2) and N(1.0, 1.6^2) for image
    to video: more noise for larger videos and stronger conditions.
    """

    where: ClassVar[str] = "diffusion"

    task: str = setting(
        "picture",
        "picture: a first frame is brought to life; words: text to video (stages I to III); interpolation: frames "
        "between a first and a last one",
        choices=tuple(TASKS),
    )
    images: bool = setting(False, "stage I: every frame is a picture of its own, and the layers over time wait")
    trains: str = setting(
        "all", "time_embedding: the start of stage I, where a picture model only learns what noise is called now",
        choices=("all", "time_embedding"),
    )  # fmt: skip
    p_mean: float = setting(0.7, "mean of ln sigma", low=-10, high=10)
    p_std: float = setting(1.6, "deviation of ln sigma", above=0, high=10)
    augmentation_mean: float = setting(-3.0, "mean of ln sigma of the noise on the given picture", low=-10, high=10)
    augmentation_std: float = setting(0.5, "its deviation", low=0, high=10)
    drop: float = setting(
        0.1, "how often a picture's embedding, its latents, or both are dropped, each (the paper does not say); of "
        "words how often they are (the paper's 0.15)",
        low=0, below=1 / 3,
    )  # fmt: skip


@dataclass(frozen=True)
class StableVideoSection(ToldByPictureSection):
    """A recipe's `model` section."""

    image: str = setting(
        ..., "the picture model it starts from: a bundled one, a Stable Diffusion folder; for pictures a Stable Video "
        "Diffusion folder too"
    )  # fmt: skip
    scorer: str = setting("", "whose picture embedding the network is told; of words, or of such a folder, none")
    start: str = setting(
        "", "the folder of an earlier stage, of this system: its weights, where this one is told more with zeros for it"
    )


class StableVideo(ToldByPicture):
    """The system: video from words (stages I to III), from a picture, or between two."""

    name = "stable_video"
    model_class: type[Any] = StableVideoSection
    config_class = StableVideoConfig

    def check_text(self) -> None:
        if self.config.task != "words":
            super().check_text()
        elif self.text is None:
            raise UserError("text: diffusion.task words trains on captions; add `text: {encoder: all-MiniLM-L6-v2}`")

    def prepare(self) -> None:
        task = TASKS[self.config.task]
        self.wants_first_frame, self.wants_pixels = task.pixels == "first", task.pixels == "all"
        self.published = published_folder(self.image)
        if self.published and self.config.task != "picture":
            raise UserError(
                f"model.image {self.image}: a Stable Video folder is told a picture: diffusion.task picture"
            )
        if not (self.published or self.scorer_name or self.config.task == "words"):
            raise UserError("model.scorer: say whose picture embedding the network is told, such as emoji-clip")
        self.temporal = {**LAYERS, "scalars": list(task.scalars), **self.told.temporal}
        if self.config.task == "interpolation":
            self.temporal["given_channels"] = self.space.channels

    def build(self) -> InflatedUNet:
        if self.published:
            return load_stable_video_unet(self.published / "unet").train()
        more = {"words": 0, "picture": self.space.channels, "interpolation": self.space.channels + 1}
        picture = with_more_inputs(load_picture_unet(self.image), more[self.config.task])
        made = InflatedUNet.from_image_model(picture, self.temporal)
        if self.told.start:
            put_earlier(made, saved_weights(self.told.start), self.told.start)
        return made

    def trainable(self, model: Any) -> Sequence[tuple[str, nn.Parameter]]:
        own = [(n, p) for n, p in model.named_parameters() if not (self.config.images and n.startswith("temporal."))]
        if self.config.trains == "all":
            return own
        return [(n, p) for n, p in own if n.startswith("image.time_embedding.")]

    def losses(self, model: nn.Module, batch: TrainingBatch) -> Losses:
        """E | v - F |^2 with ln sigma normal: the paper's lambda(sigma) | D - x |^2."""
        x = batch.video
        lam, noise, told = self._draw(batch)
        z = diffuse(x, noise, lam)
        inputs = torch.cat([z, told["picture"].expand(-1, -1, x.shape[2], -1, -1)], 1) if "picture" in told else z
        conditions = {name: batch.scalars[name] for name in OF_CLIPS if name in batch.scalars}
        conditions |= {k: told[k] for k in ("known", "known_mask") if k in told}
        if "level" in told:
            conditions["noise_augmentation"] = told["level"]
        if self.published:
            conditions["fps"] = (conditions["fps"] - 1).clamp(min=0)  # as it was trained
        how = {"conditions": conditions, "images_only": self.config.images}
        out = model(inputs, (-lam / 8).to(x), told["context"], **how).sample
        error = mse_per_sample(out, target_of(x, noise, lam, "v_prediction"))
        return Losses(error, error.detach(), lam.to(x.device, torch.float32))

    def _draw(self, batch: TrainingBatch) -> tuple[Tensor, Tensor, Told]:
        """Noise levels, noise, and what the network is told; each sample's own."""
        config, x = self.config, batch.video
        draws = Draws(batch)
        normal = draws.normal((2,), torch.float64)  # [B, 2]: of the noise level, of what is given
        lam = -2 * (config.p_mean + config.p_std * normal[:, 0])
        level = (config.augmentation_mean + config.augmentation_std * normal[:, 1]).exp().to(x)
        noise = draws.normal(x.shape[1:]).to(x)
        return lam, noise, TASKS[config.task].tell(self, batch, draws, level)

    def seen(self, frame: Tensor) -> Tensor:
        """Pictures [B, 3, 1, H, W] as tokens [B, 1, D]."""
        scorer: Any = self.scorer.to(frame.device)
        if self.published:
            return raw_token(scorer, frame, self.model_width())
        return context_of(scorer, frame, self.model_width())

    @cached_property
    def space(self) -> LatentSpace:
        return self.whole.space if self.published else super().space

    @cached_property
    def scorer(self) -> Any:
        """Of a task of words, none."""
        if self.published:
            return self.whole.scorer
        return super().scorer if self.scorer_name else None

    @cached_property
    def whole(self) -> StableVideoDiffusionFolder:
        """The folder that training starts from: its autoencoder and its encoder of pictures."""
        assert self.published is not None
        return StableVideoDiffusionFolder.from_folder(self.published)

    def model_width(self) -> int:
        """Width of the network's cross-attention."""
        return int(read_mapping(find_part(f"{self.image}/unet") / CONFIG)["cross_attention_dim"])

    def pipeline(self, model: nn.Module, sampling: Mapping[str, Any]) -> Any:
        """What samples from the network."""
        if self.published:
            return self.whole.around(model, {**self.whole.config["sampling"], **sampling})
        if self.config.task == "words":
            assert self.text is not None
            words = {"text_encoder": self.text.encoder, "text_max_length": self.text.max_length}
            return StableVideoWordsPipeline(model, self.space.vae, {}, sampling=dict(sampling), **words)  # type: ignore[arg-type]
        kind = StableVideoBetweenPipeline if self.config.task == "interpolation" else ImageToVideoPipeline
        return kind(model, self.space.vae, self.scorer, sampling=dict(sampling))

    @torch.no_grad()
    def preview(self, model: nn.Module, prompts: list[str], sampling: Mapping[str, Any], clips: Tensor) -> np.ndarray:
        """The prompts; or the first frames of held-out clips, brought to life; or the frames between their ends."""
        made = self.pipeline(model, sampling)
        if self.config.task == "words":
            frames = made(prompts or "", seed=0).frames
        elif self.config.task == "interpolation":
            frames = made.raise_video(self.space.decode(clips[:, :, [0, -1]]), seed=0).frames
        else:
            frames = made(self.space.decode(clips[:, :, :1])[:, :, 0], seed=0).frames
        out: np.ndarray = frames
        return out

    def save(self, model: Any, folder: Path, sampling: Mapping[str, Any]) -> None:
        if self.published:
            save_published(model, self.published, folder, sampling)
            return
        model.save_pretrained(str(folder / "network"))
        settings: dict[str, Any] = {"image": self.image, "sampling": dict(sampling)}
        if self.text is not None:
            settings |= {"text_encoder": self.text.encoder, "text_max_length": self.text.max_length}
        else:
            settings["scorer"] = self.scorer_name
        write_settings(folder, settings)
        write_index(folder, TASKS[self.config.task].pipeline, network=INFLATED_UNET)


def put_earlier(network: nn.Module, weights: Mapping[str, Tensor], name: str) -> None:
    """Copy an earlier stage's weights into a network; where it takes more inputs (channels, scalars) theirs are zero,
    so that it starts as the earlier stage was.

    Raises:
        UserError: they are of another network.
    """
    own, put = network.state_dict(), {}
    for key, value in own.items():
        given = weights.get(key)
        if given is None and key == "temporal.hidden":
            continue
        narrower = given is not None and given.ndim > 1 and given.shape[1] <= value.shape[1]
        if given is None or not (given.shape == value.shape or (narrower and _but_inputs(given) == _but_inputs(value))):
            raise UserError(
                f"model.start {name}: its {key} is {'missing' if given is None else tuple(given.shape)}, this stage's "
                f"{tuple(value.shape)}: it is no earlier stage of this network"
            )
        put[key] = torch.zeros_like(value)
        target = put[key][:, : given.shape[1]] if given.ndim > 1 else put[key]
        target.copy_(given)
    left = set(weights) - set(own)
    if left:
        raise UserError(f"model.start {name}: {sorted(left)[0]} has no place in this stage")
    network.load_state_dict(put, strict=False)


def _but_inputs(value: Tensor) -> tuple[int, ...]:
    """A weight's shape but for its inputs."""
    return (value.shape[0], *value.shape[2:])
