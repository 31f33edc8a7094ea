"""Videos that go on, or get frames between their frames: extend, interpolate, upsample-fps."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from muybridge.configuration import setting
from muybridge.errors import Notice, UserError
from muybridge.library.catalogue import find_model
from muybridge.library.index import settings_of
from muybridge.making.base import Heard, Made, Making, Run, at_model_size, heard_of, read_source
from muybridge.making.from_video import FromVideo, filled
from muybridge.making.from_words import EVERY
from muybridge.pipelines.methods import AUTO, CONTINUATION_SAMPLER, EVERY_METHOD, TOLD, TRAINED, method_of
from muybridge.pipelines.settings import SamplingConfig

#: An extension is refused above so many frames: hours of sampling are not begun by a slip of the finger.
MOST_FRAMES = 100_000


@dataclass(frozen=True, kw_only=True)
class Continuation(Making):
    """What extension and interpolation share: any model fills a block of which some frames are known."""

    source_kind: ClassVar[str] = "video"
    default_model: ClassVar[str] = "world-vdm"
    reads: ClassVar[Sequence[str]] = tuple(n for n in EVERY if n not in ("fps", "height", "width", "context_scale"))

    prompt: str | None = setting(None, "what the video shows")
    negative_prompt: str = setting("", "what the video shall not show", flag="negative")
    method: str = setting(
        AUTO,
        "how known frames are kept: trained, by a model that was trained with given frames; reconstruction, guidance "
        "towards them; replacement; auto takes the first where it can, else the second, and says which",
        choices=EVERY_METHOD,
    )
    weight: float = setting(4.0, "w_r of reconstruction guidance", low=0, high=1000)

    def check(self, model: str, settings: dict[str, Any]) -> Any:
        way = method_of(self.method, trained_with_given_frames(model))
        check_weight(self, way, model)
        return super().check(model, with_sampler(settings, way))

    def unread(self, given: Collection[str]) -> dict[str, str]:
        return weight_unread(self.method)

    def length(self, settings: SamplingConfig, source: Callable[[int], int]) -> int:
        return source(2)

    def blocks(self, pipeline: Any, frames: int, block: int) -> int:
        """How many blocks of so many frames are sampled for a video of `frames`."""
        raise NotImplementedError

    def filled(self, run: Run, frames: Any, options: dict[str, Any]) -> Any:
        """The new video, uint8 [F, H, W, 3]."""
        raise NotImplementedError

    def factor_of_rate(self) -> int:
        """How many times the source's rate the result has."""
        return 1

    def total_steps(self, run: Run) -> int:
        settings = run.pipeline.settings(**self._settings(run))
        return settings.num_inference_steps * self.blocks(
            run.pipeline, len(read_source(run).frames), settings.num_frames
        )

    def make(self, run: Run) -> Made:
        if not run.pipeline.draws_from_words:
            raise UserError(f"{run.model} does not draw from words alone, so it cannot fill in frames")
        clip = read_source(run)
        frames = run.checked(at_model_size(run, clip.frames))
        tell_method(run, self.method)
        settings = run.pipeline.settings(**self._settings(run))
        shared = {"method": self.method, "weight": self.weight, "on_step": run.on_step, "seed": run.seed}
        shared["negative_prompt"] = self.negative_prompt
        out = self.filled(run, frames, {**shared, **self._settings(run)})
        fps = clip.fps * self.factor_of_rate()
        return self.made(run, out, settings, fps, frames, self.heard(run, len(frames), clip.fps))

    def heard(self, run: Run, frames: int, fps: float) -> Heard:
        """The source's sound, if it fits what was made."""
        return heard_of(run, frames, fps)

    def _settings(self, run: Run) -> dict[str, Any]:
        return with_sampler(run.settings, method_of(self.method, run.pipeline.trained_with_given_frames))


def weight_unread(method: str) -> dict[str, str]:
    """`Making.unread` of a method that was asked for."""
    if method in ("reconstruction", AUTO):
        return {}
    return {"weight": f"--method {method} has no guidance to weigh"}


def check_weight(making: Any, way: str, model: str) -> None:
    """Refuse a weight of guidance where a model is told what is given.

    Raises:
        UserError: says what to do.
    """
    default = next(f.default for f in fields(making) if f.name == "weight")
    if way == TRAINED and making.weight != default:
        raise UserError(
            f"--weight {making.weight:g}: {model} was trained with what is given, and nothing guides it; leave it out, "
            "or add --method reconstruction"
        )


def with_sampler(settings: dict[str, Any], way: str) -> dict[str, Any]:
    """Settings that were given, and the sampler of a method: the model's own where it was trained with given frames."""
    return {**({} if way == TRAINED else {"sampler": CONTINUATION_SAMPLER}), **_given(settings)}


def trained_with_given_frames(model: str) -> bool:
    """What a model's folder says of it, before it is opened."""
    return bool(settings_of(find_model(model)).get("process", {}).get("masks"))


def tell_method(run: Run, method: str) -> None:
    """Say how given frames are kept, where the model decides."""
    if method == AUTO:
        way = method_of(method, run.pipeline.trained_with_given_frames)
        warnings.warn(f"{run.model}: {TOLD[way]}", Notice, stacklevel=3)


def _given(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Extend(Continuation):
    """Make a video longer with any model, block by block, each knowing the frames before it; or begin it earlier, each
    block knowing the frames after it."""

    command: ClassVar[str] = "extend"

    add_frames: int = setting(8, "frames to append", low=1, high=MOST_FRAMES)
    context_frames: int | None = setting(None, "last frames that each block knows; half a block by default", low=1)
    backward: bool = setting(False, "put the new frames before the first one")
    anchor_frames: int = setting(
        0, "first frames of the video that each block knows too, so that a long one does not drift", low=0
    )

    def length(self, settings: SamplingConfig, source: Callable[[int], int]) -> int:
        return 1 + self.add_frames

    def blocks(self, pipeline: Any, frames: int, block: int) -> int:
        from muybridge.pipelines.continuation import plan_extension

        how = (self.add_frames, self.context_frames, self.backward, self.anchor_frames)
        return plan_extension(pipeline, block, frames, *how)[1]

    def heard(self, run: Run, frames: int, fps: float) -> Heard:
        return Heard(run.source.partition("#")[0], silent="the video is longer than its sound now")

    def filled(self, run: Run, frames: Any, options: dict[str, Any]) -> Any:
        from muybridge.pipelines.continuation import extend_video

        return extend_video(
            run.pipeline, frames, self.prompt, self.add_frames, context_frames=self.context_frames,
            backward=self.backward, anchor_frames=self.anchor_frames, **options,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Interpolate(Continuation):
    """Put frames between the frames of a video with any model."""

    command: ClassVar[str] = "interpolate"

    factor: int = setting(2, "how many times the frame rate", choices=(2, 4, 8, 16, 32))

    def blocks(self, pipeline: Any, frames: int, block: int) -> int:
        total, keys = 0, (block + 1) // 2
        for doubling in range(self.factor.bit_length() - 1):
            known = (frames - 1) * 2**doubling + 1
            total += max(1, -(-(known - 1) // max(1, keys - 1)))
        return total

    def factor_of_rate(self) -> int:
        return self.factor

    def filled(self, run: Run, frames: Any, options: dict[str, Any]) -> Any:
        from muybridge.pipelines.continuation import interpolate_video

        return interpolate_video(run.pipeline, frames, self.prompt, self.factor, **options)


@dataclass(frozen=True, kw_only=True)
class UpsampleFps(FromVideo):
    """Put three learned frames between each two: T frames become 4T - 3, at four times the rate. (A model of
    Make-A-Video puts as many between as it was trained to.)

    The given frames come back as they were. For any model without training for this, see `interpolate`.
    """

    command: ClassVar[str] = "upsample-fps"
    default_model: ClassVar[str] = "emoji-between"
    reads: ClassVar[Sequence[str]] = ("num_inference_steps", "context_scale", "guidance_scale", "sampler")

    prompt: str = setting("", "what the video shows")
    rounds: int = setting(1, "1: T frames become 4T - 3; 2: once more", choices=(1, 2))

    def total_steps(self, run: Run) -> int:
        if run.pipeline.raises_rate > 1:
            return super().total_steps(run) * self.rounds
        count = len(self.taken(run)[0])
        windows = sum(-(-(count - 1) * 4**turn // 4) for turn in range(self.rounds))
        return super().total_steps(run) * windows

    def make(self, run: Run) -> Made:
        read, fitted, fps = self.taken(run)
        given = filled(fitted, run.pipeline.multiple)
        sized = {**run.settings, "height": given.shape[1], "width": given.shape[2]}
        factor = run.pipeline.raises_rate
        if factor > 1:
            made = self.raised(run, given, fps)
        else:
            factor, made = 4, self.in_windows(run, given, sized)
        made[:: factor**self.rounds] = given
        made = made[:, : fitted.shape[1], : fitted.shape[2]]
        rate, heard = fps * factor**self.rounds, heard_of(run, len(read), fps)
        return self.made(run, made, run.pipeline.settings(**sized), rate, read, heard)

    def raised(self, run: Run, given: Any, fps: float) -> Any:
        """By a network that makes all frames between the given ones at once, and is told the rate of the result."""
        from muybridge.nn.frames import from_uint8, to_uint8

        video = from_uint8(given)[None]
        for turn in range(self.rounds):
            fps *= run.pipeline.raises_rate
            told = run.pipeline.nearest_rate(fps)
            if told != fps:
                warnings.warn(
                    f"{run.model}: is told {told:g} frames a second, the nearest to {fps:g} that it was trained on",
                    Notice, stacklevel=4,
                )  # fmt: skip
            video = run.pipeline.raise_video(
                video, [self.prompt or None], run.seed + turn, fps=told, on_step=run.on_step, **run.settings
            ).samples
        return to_uint8(video)[0]

    def in_windows(self, run: Run, given: Any, sized: dict[str, Any]) -> Any:
        """By a network that makes three frames between each two."""
        from muybridge.nn.frames import from_uint8, to_uint8
        from muybridge.pipelines.inflated import InflatedPipeline
        from muybridge.systems.video_ldm.long_video import interpolate_latents

        if not isinstance(run.pipeline, InflatedPipeline) or "regime" not in run.pipeline.network.temporal.needs:
            raise UserError(
                f"{run.model} was not trained to put frames between others; `interpolate` works with any model"
            )
        latents = run.pipeline.to_samples(from_uint8(given)[None])
        for regime in range(self.rounds):
            latents = interpolate_latents(
                run.pipeline, latents, self.prompt, run.seed, regime, on_step=run.on_step, **sized
            )
        return to_uint8(run.pipeline.to_pixels(latents))[0]
