"""A container opened by PyAV, and those of its streams that can be decoded: one of an unknown codec has no decoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def decodable(container: Any, kind: str) -> list[Any]:
    """A PyAV container's streams of a kind ("video", "audio") that can be decoded, in their order."""
    return [stream for stream in getattr(container.streams, kind) if stream.codec_context is not None]


def open_container(path: Path, bound: Any) -> Any:
    """PyAV's container; no frame is allocated beyond the bound to learn what is in it, where the format tells its
    streams beforehand (others: FFmpeg's own bound, twice as large)."""
    import av

    try:
        return av.open(str(path), stream_options=[bound] * 16)
    except av.FFmpegError:
        raise
    except ValueError:  # PyAV's own: streams that are not known yet take no options
        return av.open(str(path))
