"""A given video edited: by an instruction, with another look, or by a model tuned on it: instruct, restyle, edit."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from muybridge.configuration import setting
from muybridge.errors import UserError
from muybridge.files import read_mapping
from muybridge.library.catalogue import INVERSION, find_model, sampling_of
from muybridge.library.index import settings_of
from muybridge.making.base import Heard, Made, Making, Run
from muybridge.making.from_video import BY_FOLDER, FromVideo, estimators_of, filled, structure
from muybridge.making.from_words import WITH_DDIM
from muybridge.making.used import PICTURE, whole_path
from muybridge.models.vision.names import STRUCTURES
from muybridge.pipelines.settings import READ_BY, SamplingConfig
from muybridge.systems.text2video_zero.settings import ZeroConfig

#: Endings of files that are pictures or videos: such a content is no words.
PICTURED = (
    "png jpg jpeg jpe jfif bmp dib tif tiff tga ppm pgm pbm pnm qoi jp2 j2k sgi pcx gif webp apng avif heic svg "
    "mp4 m4v mov mkv webm avi mpg mpeg npy"
)
OF_PICTURES = tuple(f".{ending}" for ending in PICTURED.split())
#: What a redrawing (SDEdit) does not read, and what a model that keeps structure (Gen-1) does not.
OF_STRUCTURE = ("structure_level", "temporal_scale", "structure", "structure_model")
OF_REDRAWING = ("negative_prompt", "guidance_start", "guidance_end", "guidance_rescale")


@dataclass(frozen=True, kw_only=True)
class Instruct(FromVideo):
    """Edit a video by an instruction with a user's InstructPix2Pix model (Text2Video-Zero)."""

    command: ClassVar[str] = "instruct"
    default_model: ClassVar[str] = ""
    zero_shot: ClassVar[bool] = True
    reads: ClassVar[Sequence[str]] = ("num_inference_steps", "guidance_scale", "eta", "reuse")

    instruction: str = setting(..., "what to change, as in 'make it snow'")
    negative_prompt: str = setting("", "what the frames shall not show", flag="negative")
    image_scale: float = setting(1.0, "guidance towards the given frames", low=0, high=100)

    def total_steps(self, run: Run) -> int:
        from muybridge.systems.text2video_zero.sampling import network_steps

        return network_steps(ZeroConfig(), len(self.taken(run)[0]), super().total_steps(run), True)

    def make(self, run: Run) -> Made:
        from muybridge.nn.frames import from_uint8
        from muybridge.systems.text2video_zero.instruct import instruct_video

        read, fitted, fps = self.taken(run)
        given = filled(fitted, run.pipeline.multiple)
        size = {"num_frames": len(given), "height": given.shape[1], "width": given.shape[2]}
        settings = run.pipeline.settings(**{**run.settings, **size, "fps": min(fps, 240.0), "sampler": "ddim"})
        drawn = instruct_video(
            run.pipeline, from_uint8(given)[None], self.instruction, run.seed, self.image_scale, on_step=run.on_step,
            negative_prompt=self.negative_prompt, **run.settings,
        )  # fmt: skip
        return self.finished(run, drawn, settings, fps, read, fitted)


@dataclass(frozen=True, kw_only=True)
class Restyle(FromVideo):
    """Give a video another look: its structure kept and its content replaced (Gen-1), or drawn anew under words
    (SDEdit)."""

    command: ClassVar[str] = "restyle"
    default_model: ClassVar[str] = "emoji-restyle"
    reads: ClassVar[Sequence[str]] = (
        "num_inference_steps", "guidance_scale", "guidance_start", "guidance_end", "guidance_rescale", "sampler",
        "reuse",
        *(name for names in READ_BY.values() for name in names),
    )  # fmt: skip

    content: str = setting(..., "what it shall look like: words, or a picture's file")
    negative_prompt: str = setting("", "with a strength: what the video shall not show", flag="negative")
    strength: float | None = setting(
        None, "redraw with any model instead (SDEdit): 0 gives it back, 1 forgets it", low=0, high=1
    )
    structure_level: int = setting(2, "0 keeps all of the structure, 7 hardly any", low=0, high=7)
    temporal_scale: float = setting(1.0, "above 1 smoother over time, below 1 livelier", low=0, high=100)
    structure: str = setting("", "what structure is; the model's own by default", choices=("", *STRUCTURES))
    structure_model: str = setting(
        "", "a depth model's folder (MiDaS or DPT, of transformers) in place of the bundled one"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.content.strip():
            raise UserError(
                '--content: say what the video shall look like: words, as in --content "robot", or a picture'
            )

    def picture(self) -> Path | None:
        """The file of a content that is a picture; None for words."""
        found = file_named(self.content)
        return found if self.strength is None else None

    def check(self, model: str, settings: dict[str, Any]) -> SamplingConfig:
        self.check_words(os.sep in self.content)
        return super().check(model, settings)

    def check_words(self, no_words: bool = False) -> None:
        """Refuse a path that would be read as words.

        Args:
            no_words: it is a path for another reason than its ending.

        Raises:
            UserError: no picture is there, or redrawing, which takes words.
        """
        if self.picture() is not None or not (no_words or self.content.lower().endswith(OF_PICTURES)):
            return
        if file_named(self.content) is not None:
            raise UserError(
                f"--content {self.content}: is a file, but --strength redraws under words; leave --strength out, "
                "or say in words what the video shall look like"
            )
        raise UserError(
            f"--content {self.content}: no picture is there; correct the path, or describe the look in words without "
            f"{os.sep!r} and without a file's ending"
        )

    def unread(self, given: Collection[str]) -> dict[str, str]:
        if self.strength is not None:
            return dict.fromkeys(OF_STRUCTURE, "with --strength the video is drawn anew, without looking at structure")
        out = dict.fromkeys(OF_REDRAWING, "only with --strength is it read")
        if self.structure not in ("", *BY_FOLDER):
            out["structure_model"] = f"it is for {', '.join(BY_FOLDER)}, not for {self.structure}"
        return out

    def placed(self) -> Self:
        content = whole_path(self.content) if self.picture() else self.content
        return replace(self, content=content, structure_model=whole_path(self.structure_model))

    def uses(self, model: str) -> dict[str, str]:
        if self.strength is not None:
            return super().uses(model)
        picture = {whole_path(self.content): PICTURE} if self.picture() else {}
        name = self.structure or str(settings_of(find_model(model)).get("structure", "depth"))
        return super().uses(model) | picture | estimators_of(name, self.structure_model)

    def total_steps(self, run: Run) -> int:
        from muybridge.pipelines.redraw import steps_of

        steps = super().total_steps(run)
        return steps if self.strength is None else max(1, steps_of(self.strength, steps))

    def make(self, run: Run) -> Made:
        from muybridge.nn.frames import from_uint8
        from muybridge.pipelines.redraw import redraw

        read, fitted, fps = self.taken(run)
        given = filled(fitted, run.pipeline.multiple, run.pipeline.length_for(len(fitted)))
        size = {"num_frames": len(given), "height": given.shape[1], "width": given.shape[2]}
        chosen = {**run.settings, "fps": min(fps, 240.0)}
        settings = run.pipeline.settings(**chosen, **size)
        if self.strength is not None:
            words: dict[str, Any] = {"negative_prompt": self.negative_prompt, "on_step": run.on_step}
            video = from_uint8(given)[None]
            drawn = redraw(run.pipeline, video, self.content, self.strength, run.seed, **words, **chosen)
        else:
            drawn = self.by_structure(run, given, chosen)
        return self.finished(run, drawn, settings, fps, read, fitted)

    def by_structure(self, run: Run, given: Any, chosen: dict[str, Any]) -> Any:
        from muybridge.nn.frames import from_uint8
        from muybridge.systems.gen1.pipeline import Gen1Pipeline, depth_video

        if not isinstance(run.pipeline, Gen1Pipeline):
            raise UserError(
                f"{run.model}: not a model that tells structure from content; give --strength to redraw with it"
            )
        name = self.structure or run.pipeline.config.structure
        self.check_words()
        content: Any = self.content
        picture = self.picture()
        if picture is not None:
            assert run.read is not None
            content = from_uint8(run.read(str(picture), 1).frames[:1])[None, :, 0]
        return run.pipeline(
            depth_video(structure(run, name, given, self.structure_model)), content, run.seed,
            level=self.structure_level,
            temporal_scale=self.temporal_scale, on_step=run.on_step, **chosen,
        )  # fmt: skip


def file_named(text: str) -> Path | None:
    """The file that a text names; None where it is words."""
    with suppress(OSError, ValueError, RuntimeError):  # too long for a name, a zero byte, ~ of nobody
        path = Path(text).expanduser()
        return path if path.is_file() else None
    return None


@dataclass(frozen=True, kw_only=True)
class Edit(Making):
    """Show something else in a video that a model was tuned on (Tune-A-Video)."""

    command: ClassVar[str] = "edit"
    reads: ClassVar[Sequence[str]] = WITH_DDIM

    prompt: str = setting(..., "what the video shall show now")
    negative_prompt: str = setting("", "what the video shall not show", flag="negative")
    inverted: bool = setting(True, "start from the video's own noise; without it the motion is lost")

    def check(self, model: str, settings: dict[str, Any]) -> SamplingConfig:
        if not (find_model(model) / INVERSION).is_file():
            raise UserError(
                f"{model}: not tuned on a video; make such a model with `muybridge tune VIDEO --caption ...`"
            )
        return super().check(model, settings)

    def notices(self, settings: SamplingConfig, seed: int) -> list[str]:
        told = super().notices(settings, seed)
        if seed and self.inverted and settings.eta == 0:
            told.append("--seed changes nothing here: an edit starts from the video's own noise; see --eta")
        return told

    def files(self, model: str) -> list[Path]:
        tuned_on = self._tuned_on(model).get("path")
        return [*super().files(model), *([Path(str(tuned_on)).expanduser()] if tuned_on else [])]

    def make(self, run: Run) -> Made:
        from muybridge.pipelines.inversion import sample_from
        from muybridge.systems.tune_a_video.inversion import read_inversion

        self.check(run.model, {})
        settings = run.pipeline.settings(**run.settings)
        options = {"negative_prompt": self.negative_prompt, "on_step": run.on_step, **run.settings}
        if self.inverted:
            noise, steps = read_inversion(find_model(run.model))
            if steps not in (None, settings.num_inference_steps):
                raise UserError(
                    f"--steps {settings.num_inference_steps}: the video's noise was found in {steps} steps and "
                    "lies at their first level; leave --steps out, or tune again with "
                    f"--steps {settings.num_inference_steps}"
                )
            drawn = sample_from(run.pipeline, noise, self.prompt, run.seed, **options)
        else:
            drawn = run.pipeline(self.prompt, run.seed, **options)
        return self.made(run, drawn.frames[0], settings, heard=self._heard(run, settings))

    @staticmethod
    def _tuned_on(model: str) -> dict[str, Any]:
        """The video that a model was tuned on, as its training's recipe has it; empty where none is kept."""
        beside = find_model(model).parent / "recipe.json"
        data = read_mapping(beside).get("data") if beside.is_file() else None
        return data if isinstance(data, dict) and data.get("source") == "one_video" else {}

    @classmethod
    def _heard(cls, run: Run, settings: SamplingConfig) -> Heard | None:
        """The sound of the video that a model was tuned on."""
        data = cls._tuned_on(run.model)
        if not data:
            return None
        path, tuned = str(data.get("path")), sampling_of(find_model(run.model))
        if (settings.num_frames, settings.fps) != (tuned.get("num_frames"), tuned.get("fps")):
            return Heard(path, silent="the video is of another length or rate now")
        first, stride = int(data.get("first", 0)), int(data.get("stride", 1))
        return Heard(path, first / (settings.fps * stride), settings.num_frames / settings.fps)
