"""Make-A-Video (2209.14792): a decoder of pictures from their embeddings, then time from videos without words.

The networks train apart, in this order: `image` (the decoder on pictures alone, each from its own embedding), `video`
(temporal layers behind it, on clips at drawn frame rates), `between` (that decoder with input channels for given
frames, on clips of which some frames are given), and `make_a_video_sr` on pictures and on clips. Only the prior
(`system: content_prior` or `causal_prior`) ever sees words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from muybridge.configuration import Settings, from_mapping, from_names, setting
from muybridge.diffusion.tables import DiscreteSchedule
from muybridge.errors import UserError
from muybridge.learning.contract import Losses, TrainingBatch
from muybridge.learning.draws import Draws
from muybridge.learning.latent_diffusion import NoiseTable, table_behind
from muybridge.learning.on_table import Noised
from muybridge.learning.picture_models import ToldByPicture
from muybridge.learning.super_resolution import SuperResolution
from muybridge.library.catalogue import find_model
from muybridge.library.index import settings_of, write_settings
from muybridge.library.inflated import open_unet, save_inflated, save_unet
from muybridge.models.inflated_unet import InflatedUNet
from muybridge.models.latent.pixels import PixelSpace
from muybridge.nn.frames import to_uint8
from muybridge.systems.make_a_video.between import MakeAVideoBetweenPipeline
from muybridge.systems.make_a_video.masks import TASKS, drawn_masks, interpolation_mask
from muybridge.systems.make_a_video.pipeline import MakeAVideoDecoderPipeline
from muybridge.systems.make_a_video.rates import HIGHEST, LOWEST, Rates, at_drawn_rates
from muybridge.systems.make_a_video.telling import PictureModel, predict_told, reads

STAGES = IMAGE, VIDEO, BETWEEN = ("image", "video", "between")
#: What the stage image trains of the picture model.
ALL, READING = "all", "reading"
#: The pipeline of what each stage trains, and its network.
PIPELINES: dict[str, type[MakeAVideoDecoderPipeline]] = {
    IMAGE: MakeAVideoDecoderPipeline, VIDEO: MakeAVideoDecoderPipeline, BETWEEN: MakeAVideoBetweenPipeline,
}  # fmt: skip


@dataclass(frozen=True)
class MakeAVideoConfig(Settings):
    """Training settings."""

    where: ClassVar[str] = "diffusion"

    scheduler: dict[str, Any] = setting({}, "the picture model's noise table; what is said here must agree with it")
    stage: str = setting(VIDEO, "what trains: image, then video behind it, then between from that", choices=STAGES)
    num_frames: int = setting(
        0,
        "frames that the network trains on, at a drawn rate; 0 takes the clips whole at their own",
        low=0,
        high=100_000,
    )
    fps_low: float = setting(LOWEST, "least frame rate that is drawn", above=0, high=240)
    fps_high: float = setting(HIGHEST, "greatest", above=0, high=240)
    rate_start: float = setting(
        4.0, "a of Beta(a, 1) of the rates at the first step; more than 1 favours high", above=0
    )
    rate_end: float = setting(1.0, "a at the end of the curriculum", above=0)
    curriculum_steps: int = setting(10_000, "steps from rate_start to rate_end", low=0)
    drop: float = setting(0.1, "how often the picture's embedding is dropped, for guidance", low=0, below=1)
    tasks: dict[str, float] = setting(
        {"interpolation": 0.6, "extrapolation": 0.2, "animation": 0.2},
        "of the stage between: how often frames between given ones are made, ahead or before them, or from the first "
        "alone", low=0, choices=TASKS,
    )  # fmt: skip
    skips: tuple[int, ...] = setting(
        (5,), "of the stage between: every which frame is given in interpolation; the first is the model's own",
        low=2, high=1000, fewest=1,
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        from_names(NoiseTable, self.scheduler, "diffusion.scheduler")
        if not self.fps_low < self.fps_high:
            raise UserError(f"diffusion: fps_low {self.fps_low:g} must be below fps_high {self.fps_high:g}")
        if not sum(self.tasks.values()) > 0:
            raise UserError("diffusion.tasks: at least one of them must be drawn, all shares are 0")

    def rates(self) -> Rates:
        return Rates(self.fps_low, self.fps_high, self.rate_start, self.rate_end, self.curriculum_steps)


@dataclass(frozen=True)
class MakeAVideoSection(Settings):
    """A recipe's `model` section; the temporal layers are models.plugins.make_a_video."""

    where: ClassVar[str] = "model"

    image: str = setting(
        "", "of the stage image: the picture model it starts from, whose autoencoder and table it keeps"
    )
    scorer: str = setting("", "of the stage image: whose picture embedding the decoder is told")
    decoder: str = setting("", "of the later stages: the folder that the stage before wrote")
    prior: str = setting(
        "", "from words to that embedding: a bundled prior, or its folder; the decoder's own by default"
    )
    adapted: str = setting(
        "", "of the stage image: what trains of the picture model: all of it (by default), or what reads the embedding "
        "and how much of it is heard (cross-attention, norms, biases), the rest being named in the folder, not copied",
        choices=("", ALL, READING),
    )  # fmt: skip
    projection: str = setting(
        "", "of the stage image: from the embedding to tokens that the picture model reads, a bundled image projection "
        "or its folder; without one the embedding itself is the token",
    )  # fmt: skip
    train_spatial: bool = setting(False, "the picture's layers train too; the paper's wording allows both")
    temporal: dict[str, Any] = setting({}, "further settings of the temporal layers, in the stage video")


class MakeAVideo(ToldByPicture):
    """The system: the decoder on pictures, on videos, or as frame interpolation."""

    name = "make_a_video"
    model_class = MakeAVideoSection
    config_class = MakeAVideoConfig
    wants_pixels = True

    def read(self, model: Mapping[str, Any]) -> Any:
        """The `model` section, completed by what the decoder of a later stage says of itself."""
        told: MakeAVideoSection = from_mapping(MakeAVideoSection, model, "model")
        if not told.decoder:
            if not told.image or not told.scorer:
                raise UserError("model: name image and scorer (the stage image), or the decoder of the stage before")
            return replace(told, adapted=told.adapted or ALL)
        own = {"adapted": ALL, "projection": "", **settings_of(find_model(told.decoder))}
        if own.get("stage") not in STAGES:
            raise UserError(f"model.decoder: {told.decoder} is no decoder of Make-A-Video that `muybridge train` wrote")
        named = ("image", "scorer", "adapted", "projection")
        for name in named:
            if getattr(told, name) not in ("", own[name]):
                raise UserError(
                    f"model.{name}: the decoder has {own[name]!r}, got {getattr(told, name)!r}; leave it out"
                )
        kept = {name: own[name] for name in named}
        return replace(told, **kept, prior=told.prior or own.get("prior", ""))

    def prepare(self) -> None:
        self.stage = self.config.stage
        before = settings_of(find_model(self.told.decoder))["stage"] if self.told.decoder else ""
        self.picture = PictureModel(self.image, self.told.projection)
        wanted = {IMAGE: "", VIDEO: IMAGE, BETWEEN: VIDEO}[self.stage]
        if self.picture.unclip and self.stage == IMAGE:
            raise UserError(
                "diffusion.stage image: an unCLIP folder's decoder is one already; begin with the stage video"
            )
        if self.picture.unclip and (self.told.projection or self.told.adapted == READING):
            raise UserError(
                f"model: projection and adapted {READING} are of the stage image, which an unCLIP folder had"
            )
        if before != wanted and not (self.picture.unclip and self.stage == VIDEO and not before):
            said = f"a decoder of the stage {before!r}" if before else "no decoder"
            needs = f"model.decoder of the stage {wanted!r}" if wanted else "model.image alone"
            raise UserError(f"diffusion.stage {self.stage}: needs {needs}, got {said}")
        if self.stage != VIDEO and self.told.temporal:
            raise UserError("model.temporal: the temporal layers are made in the stage video; leave it out")
        self.temporal = {"type": "make_a_video", **self.told.temporal, "train_spatial": self.told.train_spatial}
        self.scheduler = table_behind(self.image, self.config.scheduler, self.picture.table())
        self.table, self._telling = DiscreteSchedule.from_config(self.scheduler), cast(nn.Module | None, None)

    def build(self) -> nn.Module:
        if self.stage == IMAGE:
            return self.picture.unet()
        before: Any = open_unet(find_model(self.told.decoder)) if self.told.decoder else self.picture.unet()
        if self.stage == VIDEO:
            return InflatedUNet.from_image_model(before, self.temporal, copied=False)
        settings = {**before.config.temporal_config, "train_spatial": self.told.train_spatial}
        settings |= {"known_channels": self.own_space.channels}
        made = InflatedUNet.from_image_model(before.to_image_model(), settings, copied=False)
        made.temporal.load_state_dict(before.temporal.state_dict())
        return made

    def trainable(self, model: Any) -> Sequence[tuple[str, nn.Parameter]]:
        if self.stage != IMAGE:
            return model.trainable_parameters()  # type: ignore[no-any-return]
        return [(n, p) for n, p in model.named_parameters() if self.told.adapted == ALL or reads(n)]

    def losses(self, model: nn.Module, batch: TrainingBatch) -> Losses:
        """E | target - prediction |^2, told the embedding of one of the clip's own frames and its rate."""
        pixels = batch.video if self.space is None else batch.pixels
        if pixels is None:
            raise UserError("this system needs the clips' pixels beside the latents")
        x, fps, places = at_drawn_rates(batch, self.config.num_frames, self.config.rates())
        draws = Draws(batch, "told")
        kept = (draws.shares() >= self.config.drop).to(x.device)
        frame = places[torch.arange(len(x)), torch.tensor(draws.integers(places.shape[1]))]
        if self.stage == IMAGE:  # pictures of clips too: one frame, told itself
            x = torch.stack([row[:, at : at + 1] for row, at in zip(batch.video, frame.tolist(), strict=True)])
        picture = torch.stack([row[:, at] for row, at in zip(pixels, frame.tolist(), strict=True)])
        told = self.telling(model)(self.picture.seen(self.scorer.to(x.device), picture), kept)
        noised = Noised.draw(self.table, x, Draws(batch))
        out = self.predict(model, noised, told, fps, batch)
        return noised.losses(out, str(self.scheduler["prediction_type"]))

    def telling(self, model: nn.Module) -> nn.Module:
        """How the network is told embeddings."""
        if self._telling is None:
            self._telling = self.picture.telling(getattr(model, "module", model))
        return self._telling

    @cached_property
    def own_space(self) -> Any:
        """The latent space, or pixels."""
        return self.picture.space()

    @property
    def space(self) -> Any:
        """What clips are encoded into; None for pixels."""
        return None if isinstance(self.own_space, PixelSpace) else self.own_space

    def predict(
        self,
        model: nn.Module,
        noised: Noised,
        told: tuple[Tensor, Tensor | None],
        fps: Tensor,
        batch: TrainingBatch,
    ) -> Tensor:
        """The network's output, told a picture and a rate."""
        conditions = {"fps": fps}
        if self.stage == BETWEEN:
            frames = noised.x.shape[2]
            mask = drawn_masks(Draws(batch, "mask"), frames, self.config.tasks, self.skips(frames)).to(noised.x)
            conditions |= {"known": noised.x * mask, "known_mask": mask}
        return predict_told(model, noised.z, noised.index, *told, conditions)

    def skips(self, frames: int) -> tuple[int, ...]:
        """The skips of the recipe, each of which ends at the last frame."""
        if self.config.tasks.get("interpolation", 0) > 0:
            for skip in self.config.skips:
                interpolation_mask(frames, skip)
        return self.config.skips

    def own_settings(self, sampling: Mapping[str, Any]) -> dict[str, Any]:
        """What a model folder says."""
        return {
            "scheduler": self.scheduler, "sampling": dict(sampling), "skip": self.config.skips[0],
            "rates": [self.config.fps_low, self.config.fps_high],
        }  # fmt: skip

    def pipeline(self, model: nn.Module, sampling: Mapping[str, Any]) -> Any:
        vae = getattr(self.own_space, "vae", None)
        told: dict[str, Any] = {"scorer": self.scorer, "model": self.picture}
        return PIPELINES[self.stage](model, vae, **told, **self.own_settings(sampling))

    @torch.no_grad()
    def preview(self, model: nn.Module, prompts: list[str], sampling: Mapping[str, Any], clips: Tensor) -> np.ndarray:
        """Held-out clips, each beside what is made of the embedding of its first frame, or of its key frames."""
        pixels, pipeline = self.own_space.decode(clips), self.pipeline(model, sampling)
        told = self.picture.seen(self.scorer.to(pixels.device), pixels[:, :, 0])
        frames, rows = pipeline.settings().num_frames, []
        for i in range(len(pixels)):
            mine = told[i : i + 1]
            if self.stage == BETWEEN:
                keys = pixels[i : i + 1, :, :frames][:, :, :: self.config.skips[0]]
                made = pipeline.raise_video(keys, embedding=mine).samples
            else:
                made = pipeline(embedding=mine, seed=0).samples
            count = min(made.shape[2], pixels.shape[2])
            rows += [pixels[i : i + 1, :, :count].cpu(), made[:, :, :count].cpu()]
        return to_uint8(torch.cat(rows))

    def save(self, model: Any, folder: Path, sampling: Mapping[str, Any]) -> None:
        behind = self.told.adapted == READING and not self.told.train_spatial
        settings = {
            "image": self.image, "scorer": self.scorer_name, "prior": self.told.prior, "stage": self.stage,
            "projection": self.told.projection, "adapted": READING if behind else ALL, **self.own_settings(sampling),
        }  # fmt: skip
        kind = PIPELINES[self.stage].__name__
        if behind:  # the frame interpolation's first convolution trains too
            told = ("conv_in.",) if self.stage == BETWEEN else ()
            save_inflated(model, folder, settings, kind, lambda name: reads(name) or name.startswith(told))
        else:
            save_unet(model, folder, kind)
            write_settings(folder, settings)


class MakeAVideoSR(SuperResolution):
    """The super-resolvers: of pictures (SR_h, and what SR_l^t starts from), and with time behind one (SR_l^t).

    Frames of a network of pictures start from the same noise, lest its details flicker (2209.14792 section 3.2); those
    of one with time from their own.
    """

    name = "make_a_video_sr"
    layers: ClassVar[Mapping[str, Any]] = {"type": "make_a_video", "fps": False}

    def own_sampling(self, sampling: Mapping[str, Any]) -> dict[str, Any]:
        return {"noise_correlation": 0.0 if self.image else 1.0, **super().own_sampling(sampling)}
