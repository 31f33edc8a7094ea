"""A part of a video drawn anew, or more of it than its frames show: inpaint, outpaint."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from muybridge.configuration import check_request, setting
from muybridge.errors import Notice, UserError
from muybridge.making.base import Made, Run, heard_of
from muybridge.making.boxes import parse_box
from muybridge.making.continued import check_weight, weight_unread, with_sampler
from muybridge.making.from_video import FromVideo, filled
from muybridge.making.from_words import EVERY
from muybridge.making.regions import MASK, as_mask, check_fills, files_of, mask_frames, settings_of_made
from muybridge.making.used import whole_path
from muybridge.pipelines.methods import AUTO, EVERY_METHOD, TOLD, TRAINED, method_of
from muybridge.pipelines.settings import SamplingConfig


@dataclass(frozen=True, kw_only=True)
class Painting(FromVideo):
    """What inpainting and outpainting share: known pixels stay, the others are drawn, by a model that is told which
    (Lumiere) or by any model of words."""

    default_model: ClassVar[str] = "world-vdm"
    reads: ClassVar[Sequence[str]] = tuple(
        n for n in EVERY if n not in ("num_frames", "height", "width", "context_scale")
    )

    prompt: str | None = setting(None, "what the video shows")
    negative_prompt: str = setting("", "what the video shall not show", flag="negative")
    method: str = setting(
        AUTO,
        "how known pixels are kept: trained, by a model that is told them; reconstruction, guidance towards them; "
        "replacement; auto takes the first where it can, else the second, and says which",
        choices=EVERY_METHOD,
    )
    weight: float = setting(4.0, "w_r of reconstruction guidance", low=0, high=1000)
    keep: bool = setting(True, "known pixels come back as they were, to the last bit; without it as they are drawn")

    def check(self, model: str, settings: dict[str, Any]) -> SamplingConfig:
        way = method_of(self.method, _is_told_regions(model))
        check_weight(self, way, model)
        return super().check(model, with_sampler(settings, way))

    def unread(self, given: Collection[str]) -> dict[str, str]:
        return weight_unread(self.method)

    def canvas(self, run: Run, read: Any, fitted: Any) -> tuple[Any, Any]:
        """(frames of the size that is written, bool [F, H, W] True where they are drawn), of frames as they were read
        and at the size to work at."""
        raise NotImplementedError

    def make(self, run: Run) -> Made:
        from muybridge.pipelines.regions import check_holes

        read, fitted, fps = self.taken(run)
        frames, unknown = self.canvas(run, read, fitted)
        check_holes(unknown)
        way = method_of(self.method, run.pipeline.fills_regions)
        if self.method == AUTO:
            told = "known pixels are told to the network" if way == TRAINED else TOLD[way].replace("frames", "pixels")
            warnings.warn(f"{run.model}: {told}", Notice, stacklevel=3)
        if way == TRAINED:
            return self._told(run, read, frames, unknown, fps)
        if not run.pipeline.draws_from_words:
            raise UserError(f"{run.model} does not draw from words alone, so it cannot fill in parts of frames")
        return self._held(run, read, frames, unknown, fps, way)

    def _told(self, run: Run, read: Any, frames: Any, unknown: Any, fps: float) -> Made:
        """By a network that is told which pixels are given."""
        from muybridge.nn.frames import from_uint8

        check_fills(run)
        given, holes = self._whole(run, frames, unknown)
        chosen = {**run.settings, "fps": run.settings.get("fps") or min(fps, 240.0)}
        drawn = run.pipeline.fill(
            from_uint8(given)[None], as_mask(~holes), self.prompt or "", run.seed, keep=self.keep, on_step=run.on_step,
            negative_prompt=self.negative_prompt, **chosen,
        )  # fmt: skip
        factor = drawn.frames.shape[2] // given.shape[1]
        if self.keep and factor > 1:
            warnings.warn(
                f"{run.model}: its super-resolution draws what is known anew too; its base model leaves it as it was",
                Notice, stacklevel=3,
            )  # fmt: skip
        height, width = (side * factor for side in frames.shape[1:3])
        out = drawn.frames[0][: len(frames), :height, :width]
        return self.made(run, out, settings_of_made(run, out, fps), fps, read, heard_of(run, len(read), fps))

    def _held(self, run: Run, read: Any, frames: Any, unknown: Any, fps: float, way: str) -> Made:
        """By any model, held to what is known."""
        from muybridge.pipelines.regions import repaint

        if not self.keep:
            raise UserError(
                f"--no-keep: {run.model} is not told what is known, which comes back as it was; leave it out"
            )
        given, holes = self._whole(run, frames, unknown)
        chosen = with_sampler(run.settings, way) | {"fps": run.settings.get("fps") or min(fps, 240.0)}
        size = {"num_frames": len(given), "height": given.shape[1], "width": given.shape[2]}
        settings = run.pipeline.settings(**chosen, **size)
        words: dict[str, Any] = {"prompt": self.prompt, "negative_prompt": self.negative_prompt}
        drawn = repaint(
            run.pipeline, given, holes, seed=run.seed, method=way, weight=self.weight, on_step=run.on_step, **words,
            **chosen,
        )  # fmt: skip
        return self.finished(run, drawn, settings, fps, read, frames)

    @staticmethod
    def _whole(run: Run, frames: Any, unknown: Any) -> tuple[Any, Any]:
        """Both, filled up to sides and lengths that the model takes."""
        import numpy as np

        whole = run.pipeline.multiple, run.pipeline.length_for(len(frames))
        return filled(frames, *whole), filled(np.repeat(unknown[..., None], 3, 3), *whole)[..., 0]


def _is_told_regions(model: str) -> bool:
    """Whether the models of a folder's class may be told parts of a video, before it is opened."""
    from muybridge.library.catalogue import find_model
    from muybridge.library.index import index_of
    from muybridge.opening.offers import offered

    name = str(index_of(find_model(model)).get("_class_name"))
    return getattr(offered("OPENS", name, model), "fills_regions", False) is not False


@dataclass(frozen=True, kw_only=True)
class Inpaint(Painting):
    """Draw a part of a video anew: take something out, put something in, or go on beyond its borders; the rest
    stays."""

    command: ClassVar[str] = "inpaint"

    mask: str = setting(..., f"what is drawn anew: {MASK}")
    outside: bool = setting(False, "draw what lies outside of the mask instead")

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_box(self.mask)

    def placed(self) -> Self:
        return replace(self, mask=whole_path(self.mask))

    def uses(self, model: str) -> dict[str, str]:
        return super().uses(model) | files_of(self.mask)

    def canvas(self, run: Run, read: Any, fitted: Any) -> tuple[Any, Any]:
        white = mask_frames(run, self.mask, read.shape[1:3], fitted.shape[:3], self.frame_step)
        return fitted, (~white if self.outside else white).copy()


@dataclass(frozen=True, kw_only=True)
class Outpaint(Painting):
    """Show more than a video's frames do: draw what lies around them."""

    command: ClassVar[str] = "outpaint"

    left: int = setting(0, "pixels drawn at the left of the frames as the model works on them", low=0, high=8192)
    right: int = setting(0, "pixels at the right", low=0, high=8192)
    top: int = setting(0, "pixels above", low=0, high=8192)
    bottom: int = setting(0, "pixels below", low=0, high=8192)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not any((self.left, self.right, self.top, self.bottom)):
            raise UserError("outpaint: give at least one of --left, --right, --top and --bottom")

    def canvas(self, run: Run, read: Any, fitted: Any) -> tuple[Any, Any]:
        import numpy as np

        sides = ((0, 0), (self.top, self.bottom), (self.left, self.right))
        frames = np.pad(fitted, (*sides, (0, 0)), mode="edge")
        check_request(frames.shape[2], frames.shape[1], "outpaint")
        return frames, ~np.pad(np.ones(fitted.shape[:3], bool), sides)
