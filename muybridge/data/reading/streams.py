"""The streams of an open file that can be decoded: one of an unknown codec has no decoder."""

from __future__ import annotations

from typing import Any


def decodable(container: Any, kind: str) -> list[Any]:
    """A PyAV container's streams of a kind ("video", "audio") that can be decoded, in their order."""
    return [stream for stream in getattr(container.streams, kind) if stream.codec_context is not None]
