"""`folder`: a user's own clips, decoded once into a store."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from muybridge.configuration import Settings, setting
from muybridge.data.sources import LARGEST_SIDE, MOST_FRAMES, check_clip, frames, side, split_field
from muybridge.errors import UserError


@dataclass(frozen=True)
class FolderConfig(Settings):
    """Where the clips lie and what is made of them."""

    where: ClassVar[str] = "data"

    path: str = setting(..., "the folder, searched recursively")
    height: int = side(64)
    width: int = side(64)
    num_frames: int = frames(16)
    fps: float = setting(8.0, "the rate clips are resampled to; 0 keeps each clip's own", low=0, high=240)
    picture_fps: float = setting(
        8.0, "the rate of folders of pictures that hold no fps.txt, which says it", above=0, high=1000
    )
    short: str = setting(
        "drop",
        "what happens to shorter clips: dropped, their last frame held, or looped",
        choices=("drop", "hold", "loop"),
    )
    buckets: tuple[tuple[int, ...], ...] = setting(
        (),
        "[frames, height, width] each, in place of the one size: a clip goes to the bucket of the nearest "
        "aspect ratio, among these to one of at most 1.25 times its pixels where there is one, and to the longest that "
        "it fills",
        low=1,
        high=max(LARGEST_SIDE, MOST_FRAMES),
    )
    max_pieces: int = setting(0, "pieces of num_frames taken from one clip; 0 takes all", low=0, high=10**6)
    store: str = setting("", "where the decoded clips are kept; a cache folder by default")
    split: str = split_field()

    def __post_init__(self) -> None:
        for bucket in self.buckets:
            if len(bucket) != 3:
                raise UserError(f"data.buckets: [frames, height, width] each, got {list(bucket)}")
        super().__post_init__()
        for count, height, width in (*self.buckets, (self.num_frames, self.height, self.width)):
            check_clip(count, height, width)


Config = FolderConfig


def open_source(config: FolderConfig, split: str) -> Any:
    from muybridge.data.folder import FolderSource

    return FolderSource(replace(config, split=split))
