"""Videos from words, or from a picture: generate, animate, zero."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

from muybridge.configuration import setting, setting_of
from muybridge.errors import Notice, UserError
from muybridge.library.catalogue import split_lora
from muybridge.making.base import Made, Making, Run, read_source
from muybridge.making.used import FILE, FOLDER, whole_name, whole_path
from muybridge.models.text.names import RULES
from muybridge.pipelines.methods import AUTO, EVERY_METHOD, TOLD, TRAINED, method_of
from muybridge.pipelines.settings import SamplingConfig
from muybridge.systems.text2video_zero.settings import ZeroConfig

EVERY = tuple(known.name for known in fields(SamplingConfig))
#: What systems that always walk by DDIM read.
WITH_DDIM = (
    "num_inference_steps", "guidance_scale", "guidance_start", "guidance_end", "guidance_rescale", "eta", "fps",
    "reuse",
)  # fmt: skip
SIZE = ("num_frames", "height", "width")


@dataclass(frozen=True, kw_only=True)
class Generate(Making):
    """Make a video from words."""

    command: ClassVar[str] = "generate"
    reads: ClassVar[Sequence[str]] = tuple(name for name in EVERY if name != "context_scale")

    prompt: str = setting(..., "what the video shows")
    negative_prompt: str = setting("", "what the video shall not show", flag="negative")
    style: str = setting(
        "",
        "of models whose picture network may be styled (Lumiere): a picture model's folder or a LoRA, with :WEIGHT, "
        "0.5 to 1 as a rule",
    )
    expand: str = setting(
        "",
        "write the prompt out before it is read: `rules` (the plain wording of captions), or the folder of a language "
        "model of transformers",
    )
    motion: float | None = setting(
        None, "of Stable Video's models of words: 0, as still as the stillest training clips, to 255; by default 127",
        low=0, high=255,
    )  # fmt: skip

    def placed(self) -> Self:
        made = replace(self, expand=self.expand if self.expand == RULES else whole_path(self.expand))
        if not self.style:
            return made
        name, weight = split_lora(self.style)
        return replace(made, style=f"{whole_name(name)}:{weight!r}")

    def uses(self, model: str) -> dict[str, str]:
        used = super().uses(model)
        if self.expand not in ("", RULES):
            used[whole_path(self.expand)] = FOLDER
        if not self.style:
            return used
        from muybridge.pipelines.style import parse_style

        where, is_lora, _ = parse_style(self.style)
        name = whole_name(split_lora(self.style)[0])
        return used | {str(where) if is_lora else name: FILE if is_lora else FOLDER}

    def read_prompt(self) -> str:
        """What the model reads."""
        from muybridge.models.text.expansion import expanded

        return expanded(self.prompt, self.expand)

    def make(self, run: Run) -> Made:
        return self.make_batch([self], run, [run.seed])[0]

    @staticmethod
    def make_batch(batch: Sequence[Generate], run: Run, seeds: Sequence[int]) -> list[Made]:
        """Several prompts in one call; `run.seed` is not read."""
        if not run.pipeline.draws_from_words:
            raise UserError(f"{run.model} does not draw from words alone; give it to the command that it was made for")
        settings = run.pipeline.settings(**run.settings)
        use_style(run, batch[0].style)
        told = told_motion(run, batch[0].motion)
        prompts = [making.read_prompt() for making in batch]
        for making, prompt in zip(batch, prompts, strict=True):
            if prompt != making.prompt:
                warnings.warn(f"{making.prompt!r} is written out as {prompt!r}", Notice, stacklevel=2)
        drawn = run.pipeline(
            prompts, list(seeds), negative_prompt=batch[0].negative_prompt,
            batch_size=len(batch), on_step=run.on_step, **told, **run.settings,
        ).frames  # fmt: skip
        rows = zip(batch, drawn, seeds, strict=True)
        return [making.made(_seeded(run, seed), frames, settings) for making, frames, seed in rows]


def told_motion(run: Run, motion: float | None) -> dict[str, float]:
    """How much shall move, for a model that is told.

    Raises:
        UserError: one that is not.
    """
    if motion is None:
        return {}
    if "motion_bucket" not in run.pipeline.told_by:
        raise UserError(f"--motion: {run.model} is not told how much moves; leave it out")
    return {"motion_bucket": motion}


def use_style(run: Run, style: str) -> None:
    """Style the opened model once, whatever the number of videos.

    Raises:
        UserError: a model that takes none, or such a style.
    """
    if run.pipeline.styled == style:
        return
    if not run.pipeline.takes_styles:
        raise UserError(f"--style: {run.model} takes none; put its temporal layers behind another --picture-model")
    run.pipeline.use_style(style)


def _seeded(run: Run, seed: int) -> Run:
    return Run(run.pipeline, run.model, seed, run.settings)


#: What Stable Video is told of the motion.
OF_STABLE_VIDEO = ("motion", "noise", "first_guidance")


@dataclass(frozen=True, kw_only=True)
class Animate(Making):
    """Bring a picture to life, by a model that was made for it, or as the first frame of any model of words. It is
    resized to cover the model's size and cropped in the middle; transparency lies on white."""

    command: ClassVar[str] = "animate"
    default_model: ClassVar[str] = "emoji-animate"
    source_kind: ClassVar[str] = "picture"
    reads: ClassVar[Sequence[str]] = tuple(name for name in EVERY if name not in ("context_scale", "threshold"))

    motion: float = setting(
        127.0, "0: as still as the stillest training clips; 255: as lively as the liveliest", low=0, high=255
    )
    noise: float = setting(
        0.02, "noise put on the picture that the network sees; more lets it change more", low=0, high=10
    )
    first_guidance: float = setting(
        1.0, "guidance of the first frame; it grows linearly to the guidance scale at the last", low=0, high=100
    )

    prompt: str | None = setting(None, "what the video shows, for models of words")
    negative_prompt: str = setting("", "what the video shall not show, for models of words", flag="negative")
    method: str = setting(AUTO, "how models of words keep the picture: as of extend", choices=EVERY_METHOD)
    weight: float = setting(4.0, "w_r of reconstruction guidance", low=0, high=1000)

    def unread(self, given: Collection[str]) -> dict[str, str]:
        from muybridge.making.continued import weight_unread

        return weight_unread(self.method)

    def make(self, run: Run) -> Made:
        from muybridge.making.from_video import fitted_to
        from muybridge.nn.frames import from_uint8

        if run.pipeline.fills_regions and self.method in (AUTO, TRAINED):
            return self._as_told(run)
        if not run.pipeline.animates_pictures:
            return self._by_words(run)
        self._refuse(run, ("prompt", "negative_prompt", "method", "weight"), "it is told a picture, not words")
        settings, told = run.pipeline.settings(**run.settings), self.told(run)
        read = read_source(run, 1).frames[:1]
        picture = run.checked(fitted_to(run, read, settings.height, settings.width))
        pictures = from_uint8(picture)[None, :, 0]
        frames = run.pipeline.animated(pictures, run.seed, on_step=run.on_step, **told, **run.settings).frames[0]
        return self.made(run, frames, settings, source=picture)

    def told(self, run: Run) -> dict[str, float]:
        """What the model is told beside the picture; refuses what it is not told."""
        from muybridge.systems.stable_video.pipeline import ImageToVideoPipeline

        if isinstance(run.pipeline, ImageToVideoPipeline):
            return {
                "motion_bucket": self.motion, "noise_augmentation": self.noise, "first_guidance": self.first_guidance,
            }  # fmt: skip
        self._refuse(run, OF_STABLE_VIDEO, "it is told the picture alone")
        return {}

    def _as_told(self, run: Run) -> Made:
        """The picture as the first frame, told to a network that was trained with parts of videos (Lumiere)."""
        from muybridge.making.from_video import fitted_to
        from muybridge.making.regions import settings_of_made
        from muybridge.nn.frames import from_uint8
        from muybridge.systems.lumiere.masks import image_mask

        self._refuse(run, (*OF_STABLE_VIDEO, "weight"), "it is told the picture and words alone")
        warnings.warn(f"{run.model}: {TOLD[TRAINED]}", Notice, stacklevel=3)
        own = run.pipeline.working_settings(**run.settings)
        picture = run.checked(fitted_to(run, read_source(run, 1).frames[:1], own.height, own.width))
        video = from_uint8(picture)[None].expand(-1, -1, own.num_frames, -1, -1)
        frames = run.pipeline.fill(
            video, image_mask(own.num_frames, own.height, own.width)[None], self.prompt or "", run.seed,
            negative_prompt=self.negative_prompt, on_step=run.on_step, **run.settings,
        ).frames[0]  # fmt: skip
        settings = settings_of_made(run, frames, run.settings.get("fps") or own.fps)
        return self.made(run, frames, settings, source=picture)

    def _by_words(self, run: Run) -> Made:
        """The picture as the first frame of a model of words."""
        from muybridge.making.continued import check_weight, tell_method, with_sampler
        from muybridge.making.from_video import fitted_to
        from muybridge.pipelines.continuation import bring_to_life

        if not run.pipeline.draws_from_words or run.pipeline.settings(**run.settings).num_frames < 2:
            if run.pipeline.draws_from_words and run.settings.get("num_frames") == 1:
                raise UserError(f"num_frames 1: {run.model} would give the picture back; ask for more frames")
            raise UserError(
                f"{run.model} is not a model that brings a picture to life; emoji-animate is one, and so are models of "
                "videos from words and a Stable Video Diffusion folder"
            )
        self._refuse(run, OF_STABLE_VIDEO, "it is a model of words, whose first frame is given")
        tell_method(run, self.method)
        way = method_of(self.method, run.pipeline.trained_with_given_frames)
        check_weight(self, way, run.model)
        chosen = with_sampler(run.settings, way)
        settings = run.pipeline.settings(**chosen)
        picture = run.checked(fitted_to(run, read_source(run, 1).frames[:1], settings.height, settings.width))
        frames = bring_to_life(
            run.pipeline, picture, self.prompt, run.seed, self.method, self.weight, run.on_step, self.negative_prompt,
            **chosen,
        )  # fmt: skip
        return self.made(run, frames, settings, source=picture)

    def _refuse(self, run: Run, names: Sequence[str], why: str) -> None:
        """Refuse options that this kind of model does not read."""
        changed = [f for f in fields(self) if f.name in names and getattr(self, f.name) != f.default]
        if changed:
            flag = setting_of(changed[0]).flag or changed[0].name.replace("_", "-")
            raise UserError(f"--{flag}: {run.model} does not read it: {why}; leave it out")


@dataclass(frozen=True, kw_only=True)
class Zero(ZeroConfig, Making):
    """Make a video from words with an image model, without training (Text2Video-Zero)."""

    command: ClassVar[str] = "zero"
    default_model: ClassVar[str] = "emoji-image"
    zero_shot: ClassVar[bool] = True
    reads: ClassVar[Sequence[str]] = (*SIZE, *WITH_DDIM)
    defaults: ClassVar[Mapping[str, Any]] = {"num_frames": 8, "fps": 4.0}

    prompt: str = setting(..., "what the video shows")
    negative_prompt: str = setting("", "what the video shall not show", flag="negative")

    def unread(self, given: Collection[str]) -> dict[str, str]:
        if self.motion_field:
            return {}
        why = "without a motion field each frame starts from its own noise"
        return dict.fromkeys(("moved_at", "joined_at", *(() if self.background else ("motion",))), why)

    def total_steps(self, run: Run) -> int:
        from muybridge.systems.text2video_zero.sampling import network_steps

        settings = run.pipeline.settings(**{**run.settings, "sampler": "ddim"})
        return network_steps(self, settings.num_frames, settings.num_inference_steps)

    def make(self, run: Run) -> Made:
        from muybridge.models.vision.structure import estimator_named
        from muybridge.systems.text2video_zero.sampling import text_to_video_zero

        settings = run.pipeline.settings(**{**run.settings, "sampler": "ddim"})
        masks = estimator_named("foreground") if self.background else None
        frames = text_to_video_zero(
            run.pipeline, self.prompt, run.seed, self, masks=masks, negative_prompt=self.negative_prompt,
            on_step=run.on_step, **run.settings,
        ).frames[0]  # fmt: skip
        return self.made(run, frames, settings)
