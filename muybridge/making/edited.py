"""Videos made from the structure or the look of another: control, instruct, restyle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from muybridge.configuration import setting
from muybridge.errors import UserError, nearest
from muybridge.library.catalogue import find_part, sampling_of
from muybridge.making.base import Made, Making, Run, read_source
from muybridge.making.from_words import WITH_DDIM
from muybridge.models.vision.names import STRUCTURES
from muybridge.pipelines.settings import READ_BY, SamplingConfig
from muybridge.systems.control_video.settings import ControlVideoConfig
from muybridge.systems.text2video_zero.settings import ZeroConfig

#: ControlNets that are bundled, by the structure they follow.
BUNDLED_NETS = {"edges": "emoji-edges", "depth": "emoji-depth"}
#: Of these structures a given estimator's folder may take the place of the bundled network.
BY_FOLDER = ("depth",)


@dataclass(frozen=True, kw_only=True)
class FromVideo(Making):
    """What commands on a given video share: which of its frames are taken, and at which size the model works."""

    source_kind: ClassVar[str] = "video"

    max_frames: int = setting(0, "take at most this many frames of the video; 0 takes all", low=0)
    frame_step: int = setting(1, "take every which frame", low=1)
    height: int | None = setting(None, "pixels to work at; the model's own by default, in the video's shape", low=8)
    width: int | None = setting(None, "pixels to work at", low=8)
    own_size: bool = setting(False, "work at the video's own size, whatever size the model knows")

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.height is None) != (self.width is None):
            raise UserError("give --height and --width together, or neither")
        if self.own_size and self.height is not None:
            raise UserError("--own-size works at the video's size: leave --height and --width out")

    def taken(self, run: Run) -> tuple[Any, Any, float]:
        """(frames as they were read, frames at the size to work at, rate)."""
        most = self.max_frames * self.frame_step if self.max_frames else None
        clip = read_source(run, most)
        read = clip.frames[:: self.frame_step]
        read = run.checked(read[: self.max_frames] if self.max_frames else read)
        return read, self.fitted(run, read), clip.fps / self.frame_step

    def fitted(self, run: Run, frames: Any) -> Any:
        """Frames at the size to work at: asked for, the video's own, or the shorter side as long as the model's."""
        from muybridge.nn.frames import fit_frames
        from muybridge.pipelines.continuation import at_model_size

        if self.own_size:
            return frames
        if self.height is not None and self.width is not None:
            return fit_frames(frames, self.height, self.width)
        frames = at_model_size(run.pipeline, frames)
        own = run.pipeline.settings()
        shorter, known = min(frames.shape[1:3]), min(own.height, own.width)
        if shorter == known:
            return frames
        sides = (max(1, round(side * known / shorter)) for side in frames.shape[1:3])
        return fit_frames(frames, *sides)

    def finished(self, run: Run, drawn: Any, settings: SamplingConfig, fps: float, read: Any, fitted: Any) -> Made:
        """Cropped to what was given: the model's sides are multiples."""
        frames = drawn.frames[0][:, : fitted.shape[1], : fitted.shape[2]]
        return self.made(run, frames, settings, fps, read)


@dataclass(frozen=True, kw_only=True)
class Control(ControlVideoConfig, FromVideo):
    """Give a video's structure another content, without training (ControlVideo), at its length and rate."""

    command: ClassVar[str] = "control"
    default_model: ClassVar[str] = "emoji-image"
    zero_shot: ClassVar[bool] = True
    reads: ClassVar[Sequence[str]] = tuple(name for name in WITH_DDIM if name not in ("fps",))

    prompt: str = setting(..., "what the new video shows")
    negative_prompt: str = setting("", "what the video shall not show", flag="negative")
    control: tuple[str, ...] = setting(("edges",), "NAME or NAME:SCALE of a structure; may be repeated")
    control_net: tuple[str, ...] = setting(
        (), "a ControlNet's folder for each control; bundled ones for edges and depth"
    )
    structure_model: str = setting(
        "", "a depth model's folder (MiDaS or DPT, of transformers) in place of the bundled one"
    )
    method: str = setting(
        "control-video", "frames see all frames, or the first (zero)", choices=("control-video", "zero")
    )

    def __post_init__(self) -> None:
        FromVideo.__post_init__(self)
        self.controls()
        changed = [n for n in ("attention", "interpolator", "hierarchical", "group_norm") if self._changed(n)]
        if self.method == "zero" and changed:
            raise UserError(f"--{changed[0].replace('_', '-')} is ControlVideo's; --method zero has no such setting")

    def _changed(self, name: str) -> bool:
        return bool(getattr(self, name) != getattr(ControlVideoConfig, name))

    def controls(self) -> list[tuple[str, str, float]]:
        """(structure, ControlNet, scale) each.

        Raises:
            UserError: an unknown structure, or no ControlNet for it.
        """
        if len(self.control_net) not in (0, len(self.control)):
            raise UserError(
                f"{len(self.control)} --control but {len(self.control_net)} --control-net: give one for each, or none"
            )
        out = []
        for i, text in enumerate(self.control):
            name, _, scale = text.partition(":")
            if name not in STRUCTURES:
                raise UserError(f"--control: unknown {name!r}; {nearest(name, STRUCTURES)}")
            value = _number(scale or "1", f"--control {text}")
            net = self.control_net[i] if self.control_net else BUNDLED_NETS.get(name, "")
            if not net:
                raise UserError(
                    f"--control {name}: no ControlNet for it is bundled; give one with --control-net FOLDER"
                )
            find_part(net)
            out.append((name, net, value))
        return out

    def check(self, model: str, settings: dict[str, Any]) -> SamplingConfig:
        return super().check(model, self.with_advised_guidance(settings))

    def with_advised_guidance(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Much guidance outvotes the structure: ControlNets of ours say which they were made for."""
        if settings.get("guidance_scale") is not None:
            return settings
        advised = [sampling_of(find_part(net)).get("guidance_scale") for _, net, _ in self.controls()]
        lowest = min((scale for scale in advised if scale is not None), default=None)
        return {**settings, "guidance_scale": lowest}

    def total_steps(self, run: Run) -> int:
        from muybridge.systems.text2video_zero.sampling import network_steps

        steps = super().total_steps(run)
        if self.method != "zero":
            return steps
        return network_steps(ZeroConfig(), len(self.taken(run)[0]), steps, True)

    def make(self, run: Run) -> Made:
        from muybridge.systems.control_video.sampling import control_video
        from muybridge.systems.text2video_zero.sampling import text_to_video_zero

        read, fitted, fps = self.taken(run)
        given = filled(fitted, run.pipeline.multiple)
        controls = self.shown(run, given)
        size = {"num_frames": len(given), "height": given.shape[1], "width": given.shape[2]}
        chosen = {**self.with_advised_guidance(run.settings), **size, "fps": min(fps, 240.0)}
        options = {**chosen, "negative_prompt": self.negative_prompt, "on_step": run.on_step}
        settings = run.pipeline.settings(**{**chosen, "sampler": "ddim"})
        if self.method == "zero":
            drawn = text_to_video_zero(run.pipeline, self.prompt, run.seed, controls=controls, **options)
        else:
            drawn = control_video(run.pipeline, self.prompt, controls, run.seed, self, **options)
        return self.finished(run, drawn, settings, fps, read, fitted)

    def shown(self, run: Run, frames: Any) -> list[Any]:
        """ControlNets, and what each is shown of the frames."""
        from muybridge.models.vision.control import Control as Net
        from muybridge.models.vision.control import open_control_net
        from muybridge.models.vision.structure import control_pictures

        out, dtype = [], next(run.pipeline.network.parameters()).dtype
        for name, net, scale in self.controls():
            pictures = control_pictures(structure(run, name, frames, self.structure_model))
            network = open_control_net(find_part(net), dtype)
            out.append(Net(network.to(run.pipeline.device), pictures, scale))
        return out


@dataclass(frozen=True, kw_only=True)
class Instruct(FromVideo):
    """Edit a video by an instruction with a user's InstructPix2Pix model (Text2Video-Zero)."""

    command: ClassVar[str] = "instruct"
    default_model: ClassVar[str] = ""
    zero_shot: ClassVar[bool] = True
    reads: ClassVar[Sequence[str]] = ("num_inference_steps", "guidance_scale", "eta")

    instruction: str = setting(..., "what to change, as in 'make it snow'")
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
            **run.settings,
        )  # fmt: skip
        return self.finished(run, drawn, settings, fps, read, fitted)


@dataclass(frozen=True, kw_only=True)
class Restyle(FromVideo):
    """Give a video another look: its structure kept and its content replaced (Gen-1), or drawn anew under words (SDEdit)."""

    command: ClassVar[str] = "restyle"
    default_model: ClassVar[str] = "emoji-restyle"
    reads: ClassVar[Sequence[str]] = (
        "num_inference_steps", "guidance_scale", "guidance_start", "guidance_end", "guidance_rescale", "sampler",
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

    def total_steps(self, run: Run) -> int:
        from muybridge.pipelines.redraw import steps_of

        steps = super().total_steps(run)
        return steps if self.strength is None else max(1, steps_of(self.strength, steps))

    def make(self, run: Run) -> Made:
        from muybridge.nn.frames import from_uint8
        from muybridge.pipelines.redraw import redraw

        read, fitted, fps = self.taken(run)
        given = filled(fitted, run.pipeline.multiple)
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
        content: Any = self.content
        if Path(content).is_file():
            assert run.read is not None
            content = from_uint8(run.read(content, 1).frames[:1])[None, :, 0]
        return run.pipeline(
            depth_video(structure(run, name, given, self.structure_model)), content, run.seed, level=self.structure_level,
            temporal_scale=self.temporal_scale, on_step=run.on_step, **chosen,
        )  # fmt: skip


def structure(run: Run, name: str, frames: Any, folder: str = "") -> Any:
    """What an estimator, or a user's own in a folder, sees in frames; taken from the cache where it was found before."""
    from muybridge.models.vision.structure import Depth, estimator_named, structure_of

    if folder and name not in BY_FOLDER:
        raise UserError(f"--structure-model is for {', '.join(BY_FOLDER)}, not for {name}")
    estimator = Depth(Path(folder).expanduser()) if folder else estimator_named(name)
    return structure_of(estimator, frames, run.cache)


def filled(frames: Any, multiple: int) -> Any:
    """Repeat the last row and column until both sides are multiples, uint8 [F, H, W, 3]."""
    import numpy as np

    height, width = frames.shape[1:3]
    return np.pad(frames, ((0, 0), (0, -height % multiple), (0, -width % multiple), (0, 0)), mode="edge")


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise UserError(f"{where}: expected NAME or NAME:SCALE with a number") from None
    if not abs(value) <= 100:
        raise UserError(f"{where}: a scale is a number from -100 to 100, got {text}")
    return value
