"""`one_video`: a single captioned clip, for tuning on one video. Training and held-out split are the same clip."""

from __future__ import annotations

from pathlib import Path

from muybridge.data.clips import Clip
from muybridge.data.sources.one_video import OneVideoConfig
from muybridge.data.video_io import read_video
from muybridge.errors import UserError
from muybridge.files import sha256_of
from muybridge.nn.frames import fit_frames


class OneVideoSource:
    """The clip, as a source of one."""

    def __init__(self, config: OneVideoConfig):
        path = Path(config.path).expanduser()
        if config.sha256 and path.is_file() and sha256_of(path) != config.sha256:
            raise UserError(
                f"{path}: is no longer the video that the recipe names; put the old one back, or start anew"
            )
        video = read_video(path)
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
