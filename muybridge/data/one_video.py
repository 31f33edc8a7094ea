"""`one_video`: a single captioned clip, for tuning on one video. Training and held-out split are the same clip."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from muybridge.data.clips import Clip
from muybridge.data.video_io import read_video
from muybridge.errors import UserError
from muybridge.nn.frames import fit_frames


@dataclass(frozen=True)
class OneVideoConfig:
    """Which video, and which of its frames.

    Attributes:
        path: the file.
        caption: what it shows.
        height, width: pixels of the frames; the picture is resized to cover them and cropped in the middle.
        num_frames: at most; fewer if the video is shorter.
        first, stride: first + stride, first + 2 stride, ... are taken.
    """

    path: str
    caption: str
    height: int = 64
    width: int = 64
    num_frames: int = 24
    first: int = 0
    stride: int = 1
    split: str = "train"

    def __post_init__(self) -> None:
        if not self.caption.strip():
            raise UserError("data.caption: say what the video shows")
        if self.stride < 1 or self.first < 0 or self.num_frames < 1:
            raise UserError(
                f"data: num_frames and stride must be at least 1 and first at least 0, got {self.num_frames}, {self.stride}, {self.first}"
            )


class OneVideoSource:
    """The clip, as a source of one."""

    def __init__(self, config: OneVideoConfig):
        video = read_video(Path(config.path).expanduser())
        frames = video.frames[config.first :: config.stride][: config.num_frames]
        if not len(frames):
            raise UserError(f"{config.path}: has {len(video.frames)} frames, none after data.first {config.first}")
        self._clip = Clip(fit_frames(frames, config.height, config.width), config.caption, video.fps / config.stride)

    def __len__(self) -> int:
        return 1

    def clip(self, index: int) -> Clip:
        return self._clip

    def still(self, index: int, frame: int) -> Clip:
        return Clip(self._clip.frames[frame : frame + 1], self._clip.caption, self._clip.fps)

    def captions(self) -> list[str]:
        return [self._clip.caption]
