"""Parts of videos and pictures, said by masks; and a part of a picture set in motion: cinemagraph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from muybridge.configuration import setting
from muybridge.errors import UserError
from muybridge.making.base import Made, Making, Run, read_source
from muybridge.making.boxes import Box, parse_box
from muybridge.making.from_video import fitted_to
from muybridge.making.used import FILE, whole_path

#: Pixels of a mask at least so bright are its white.
WHITE = 128
READS = (
    "num_inference_steps", "guidance_scale", "guidance_start", "guidance_end", "guidance_rescale", "sampler", "eta",
    "fps",
)  # fmt: skip
MASK = "a picture or a video whose white is it, or a box LEFT,TOP,RIGHT,BOTTOM in pixels or in shares of its sides"


def mask_frames(run: Run, text: str, read: tuple[int, int], size: tuple[int, int, int], step: int = 1) -> Any:
    """Where a mask is white, bool of `size`; a picture's and a box's hold throughout.

    Args:
        read: (H, W) of the source as it was read: a box is in its pixels, and is resized and cropped as it is.
        size: (F, H, W) of the frames that are worked on.
        step: which frames of a video of masks are taken, as of the video itself.

    Raises:
        UserError: neither a file nor a box, or a video of fewer frames.
    """
    import numpy as np

    from muybridge.nn.frames import fit_frames

    (frames, height, width), box = size, parse_box(text)
    if isinstance(box, Box):
        drawn = np.zeros((1, *read, 3), np.uint8)
        left, top, right, bottom = box.within(*read)
        drawn[:, top:bottom, left:right] = 255
        fitted = fit_frames(drawn, height, width)
    else:
        if not Path(text).expanduser().is_file():
            raise UserError(f"{text!r}: no file is there, and it is no box; expected {MASK}")
        assert run.read is not None
        masks = run.read(text, frames * step).frames[::step]
        if 1 < len(masks) < frames:
            raise UserError(f"{text}: {len(masks)} frames, but the video has {frames}; give as many, or a picture")
        fitted = fitted_to(replace(run, source=text), masks[:frames], height, width)
    return np.broadcast_to(fitted.mean(-1) >= WHITE, size)


def as_mask(given: Any) -> Any:
    """bool [F, H, W], True where a pixel is given -> float [1, 1, F, H, W]."""
    import numpy as np
    import torch

    return torch.from_numpy(np.ascontiguousarray(given))[None, None].float()


def check_fills(run: Run) -> None:
    """Refuse a model that is not told parts of a video.

    Raises:
        UserError: it is another kind.
    """
    if not run.pipeline.fills_regions:
        raise UserError(
            f"{run.model} is not told parts of a video; give a Lumiere model that was trained with diffusion.tasks"
        )


@dataclass(frozen=True, kw_only=True)
class Cinemagraph(Making):
    """Set a part of a picture in motion; the rest stays still (Lumiere). It is resized to cover the model's size and
    cropped in the middle."""

    command: ClassVar[str] = "cinemagraph"
    default_model: ClassVar[str] = ""
    source_kind: ClassVar[str] = "picture"
    reads: ClassVar[Sequence[str]] = READS

    prompt: str = setting("", "what the picture shows")
    negative_prompt: str = setting("", "what the video shall not show", flag="negative")
    region: str = setting(..., f"what moves: {MASK}")
    keep: bool = setting(
        True, "the rest stands still, of a base model to the last bit as it is; without it the network draws it too"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_box(self.region)

    def placed(self) -> Self:
        return replace(self, region=whole_path(self.region))

    def uses(self, model: str) -> dict[str, str]:
        return super().uses(model) | files_of(self.region)

    def make(self, run: Run) -> Made:
        import numpy as np
        import torch

        from muybridge.nn.frames import from_uint8
        from muybridge.pipelines.regions import check_holes
        from muybridge.systems.lumiere.masks import cinemagraph_mask

        check_fills(run)
        own = run.pipeline.working_settings()
        read = read_source(run, 1).frames[:1]
        picture = run.checked(fitted_to(run, read, own.height, own.width))
        region = mask_frames(run, self.region, read.shape[1:3], (own.num_frames, own.height, own.width))
        check_holes(region)
        video = from_uint8(picture)[None].expand(-1, -1, own.num_frames, -1, -1)
        mask = cinemagraph_mask(torch.from_numpy(region.copy()))[None]
        frames = run.pipeline.fill(
            video, mask, self.prompt, run.seed, keep=self.keep, on_step=run.on_step,
            negative_prompt=self.negative_prompt, **run.settings,
        ).frames[0]  # fmt: skip
        if self.keep:  # a super-resolver draws every frame anew: the rest stays as it drew it in the first
            factor = frames.shape[1] // own.height
            frames = np.where(region.repeat(factor, 1).repeat(factor, 2)[..., None], frames, frames[:1])
        fps = run.settings.get("fps") or own.fps
        return self.made(run, frames, settings_of_made(run, frames, fps), fps, picture)


def files_of(text: str) -> dict[str, str]:
    """What a mask is read from, as `Making.uses` has it."""
    return {} if isinstance(parse_box(text), Box) else {whole_path(text): FILE}


def settings_of_made(run: Run, frames: Any, fps: float) -> Any:
    """The settings of what was made."""
    count, height, width = frames.shape[:3]
    return replace(run.pipeline.settings(), num_frames=count, height=height, width=width, fps=min(240.0, fps))
