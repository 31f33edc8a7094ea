"""How what was made is written: enlarged, with its record, and with the sound that belongs to it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from muybridge.configuration import check_request
from muybridge.errors import Notice
from muybridge.making.base import Heard
from muybridge.making.upscaling import Upscaling, words_of


def write_made(made: Any, path: Path, upscaling: Upscaling, device: str, pipeline: Any) -> tuple[int, int, int]:
    """Write a video with its record, enlarged chunk by chunk.

    Args:
        made: a making.base.Made.
        device: where it is enlarged.
        pipeline: what made it.

    Returns:
        How many frames were written, and their height and width.
    """
    from muybridge.data.video_io import write_video

    frames = upscaling.enlarged(made.frames, words_of(made.record), device, pipeline)
    count, height, width = frames.shape[:3]
    check_request(width, height, f"--upscale {upscaling.factor}")
    write_video(frames, path, made.fps, upscaling.recorded(made.record), _sound_of(made.heard))
    return count, height, width


def told_of(upscaling: Upscaling) -> str:
    """How frames were enlarged, as the end of a line; "" where they were not."""
    told = upscaling.told()
    return f", {told}" if told else ""


def _sound_of(heard: Heard | None) -> Any:
    """What is heard with a video; None, with a line that says why, where its source's sound cannot be kept."""
    from muybridge.data.reading.sound import Sound, has_sound

    if heard is None or not Path(heard.path).is_file() or not has_sound(Path(heard.path)):
        return None
    if heard.silent:
        warnings.warn(f"{heard.path}: its sound is left out: {heard.silent}", Notice, stacklevel=2)
        return None
    return Sound(Path(heard.path), heard.start, heard.seconds)
