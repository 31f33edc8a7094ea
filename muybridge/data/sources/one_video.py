"""`one_video`: a single captioned clip, for tuning on one video. Training and held-out split are the same clip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from muybridge.configuration import Settings, setting
from muybridge.data.sources import MOST_FRAMES, check_clip, frames, side, split_field
from muybridge.errors import UserError


@dataclass(frozen=True)
class OneVideoConfig(Settings):
    """Which video, and which of its frames: first + stride, first + 2 stride, ... are taken."""

    where: ClassVar[str] = "data"

    path: str = setting(..., "the file")
    caption: str = setting(..., "what it shows")
    height: int = side(64, "pixels; the picture is resized to cover the size and cropped in the middle")
    width: int = side(64)
    num_frames: int = frames(24, "frames at most; fewer if the video is shorter")
    first: int = setting(0, "the first frame taken", low=0, high=10**9)
    stride: int = setting(1, "every which frame is taken", low=1, high=MOST_FRAMES)
    split: str = split_field()
    sha256: str = setting("", "of the file: another one is refused; empty takes any")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.caption.strip():
            raise UserError("data.caption: say what the video shows")
        check_clip(self.num_frames, self.height, self.width)


Config = OneVideoConfig


def open_source(config: OneVideoConfig, split: str) -> Any:
    from muybridge.data.one_video import OneVideoSource

    return OneVideoSource(config)
