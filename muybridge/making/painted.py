"""A part of a video drawn anew, or more of it than its frames show: inpaint, outpaint."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from muybridge.configuration import check_request, setting
from muybridge.errors import UserError
from muybridge.making.base import Made, Run
from muybridge.making.continued import with_sampler
from muybridge.making.from_video import FromVideo, filled
from muybridge.making.from_words import EVERY
from muybridge.making.used import FILE, whole_path
from muybridge.pipelines.methods import METHODS
from muybridge.pipelines.settings import SamplingConfig


@dataclass(frozen=True, kw_only=True)
class Painting(FromVideo):
    """What inpainting and outpainting share: known pixels stay, the others are drawn with any model of words."""

    default_model: ClassVar[str] = "world-vdm"
    reads: ClassVar[Sequence[str]] = tuple(
        n for n in EVERY if n not in ("fps", "num_frames", "height", "width", "context_scale")
    )

    prompt: str | None = setting(None, "what the video shows")
    method: str = setting("reconstruction", "guidance towards the known pixels, or plain replacement", choices=METHODS)
    weight: float = setting(4.0, "w_r of reconstruction guidance", low=0, high=1000)

    def check(self, model: str, settings: dict[str, Any]) -> SamplingConfig:
        return super().check(model, with_sampler(settings, self.method))

    def unread(self, given: Collection[str]) -> dict[str, str]:
        if self.method == "reconstruction":
            return {}
        return {"weight": f"--method {self.method} has no guidance to weigh"}

    def canvas(self, run: Run, fitted: Any) -> tuple[Any, Any]:
        """(frames of the size that is written, bool [F, H, W] True where they are drawn)."""
        raise NotImplementedError

    def make(self, run: Run) -> Made:
        import numpy as np

        from muybridge.pipelines.regions import repaint

        if not run.pipeline.draws_from_words:
            raise UserError(f"{run.model} does not draw from words alone, so it cannot fill in parts of frames")
        read, fitted, fps = self.taken(run)
        frames, unknown = self.canvas(run, fitted)
        multiple, step = run.pipeline.multiple, run.pipeline.frames_per_latent
        given = filled(frames, multiple, step)
        holes = filled(np.repeat(unknown[..., None], 3, 3), multiple, step)[..., 0]
        chosen = with_sampler(run.settings, self.method) | {"fps": min(fps, 240.0)}
        size = {"num_frames": len(given), "height": given.shape[1], "width": given.shape[2]}
        settings = run.pipeline.settings(**chosen, **size)
        drawn = repaint(
            run.pipeline, given, holes, self.prompt, run.seed, self.method, self.weight, run.on_step, **chosen
        )
        return self.finished(run, drawn, settings, fps, read, frames)


@dataclass(frozen=True, kw_only=True)
class Inpaint(Painting):
    """Draw a part of a video anew, what a mask shows in white; the rest stays as it is."""

    command: ClassVar[str] = "inpaint"

    mask: str = setting(..., "a picture, for all frames, or a video: white is drawn anew, black stays")

    def placed(self) -> Self:
        return replace(self, mask=whole_path(self.mask))

    def uses(self, model: str) -> dict[str, str]:
        return super().uses(model) | {whole_path(self.mask): FILE}

    def canvas(self, run: Run, fitted: Any) -> tuple[Any, Any]:
        import numpy as np

        from muybridge.nn.frames import fit_frames

        assert run.read is not None
        shown = run.read(self.mask, None).frames[:: self.frame_step]
        if len(shown) not in (1, *range(len(fitted), len(shown) + 1)):
            raise UserError(
                f"{self.mask}: {len(shown)} frames for a video of {len(fitted)}; give a picture, or as many"
            )
        sized = fit_frames(shown[: len(fitted)], *fitted.shape[1:3])
        return fitted, np.broadcast_to(sized.mean(3) > 127.5, fitted.shape[:3]).copy()


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

    def canvas(self, run: Run, fitted: Any) -> tuple[Any, Any]:
        import numpy as np

        sides = ((0, 0), (self.top, self.bottom), (self.left, self.right))
        frames = np.pad(fitted, (*sides, (0, 0)), mode="edge")
        check_request(frames.shape[2], frames.shape[1], "outpaint")
        return frames, ~np.pad(np.ones(fitted.shape[:3], bool), sides)
