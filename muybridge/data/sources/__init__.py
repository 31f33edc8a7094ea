"""The sources a recipe's `data` section can name. A module here is a source of that name; nothing else lists them.

Each holds

    Config                        its settings, a `Settings`
    open_source(config, split)    the clips of "train" or "validation"

and is light: what reads and draws clips is imported when a source is opened.
"""

from __future__ import annotations

from typing import Any

from muybridge.configuration import setting
from muybridge.errors import UserError

#: Longest and widest a clip may be; and no clip takes more than this many bytes of memory.
MOST_FRAMES, LARGEST_SIDE, LARGEST_CLIP = 100_000, 8192, 4 * 2**30
#: More clips than any generated set has.
MOST_CLIPS = 10**8


def side(default: Any, help: str = "pixels", low: int = 1) -> Any:
    """A field for the height or width of clips."""
    return setting(default, help, low=low, high=LARGEST_SIDE)


def frames(default: Any, help: str = "frames of every clip", low: int = 1) -> Any:
    """A field for the length of clips."""
    return setting(default, help, low=low, high=MOST_FRAMES)


def rgb(default: tuple[int, int, int], help: str) -> Any:
    """A field for a colour."""
    return setting(default, help, low=0, high=255, count=3)


def split_field() -> Any:
    """A field for the half of a set; a run asks for both, whatever a recipe says."""
    return setting("train", "train or validation; a run takes both", choices=("train", "validation", "all"))


def check_clip(count: int, height: int, width: int) -> None:
    """Refuse clips that no memory holds.

    Raises:
        UserError: says how large one would be.
    """
    size = 3 * count * height * width
    if size > LARGEST_CLIP:
        raise UserError(
            f"data: {count} frames of {height}x{width} are {size / 2**30:.1f} GiB a clip; "
            f"at most {LARGEST_CLIP / 2**30:g} GiB: lower num_frames or the size"
        )
