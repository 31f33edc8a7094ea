"""A container opened by PyAV, and those of its streams that can be decoded: one of an unknown codec has no decoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from muybridge.data.reading.formats import FootageError

#: FFmpeg's readers of files that hold their pictures themselves. Playlists and scripts (HLS, DASH, concat, patterns of
#: names) name other files and addresses, which whoever sent the file may have no right to see.
READERS = (
    "mov matroska webm avi asf flv live_flv mpeg mpegvideo mpegts mxf gxf ogg yuv4mpegpipe dv ivf nut rm wtv h264 hevc "
    "vvc m4v obu vc1 mjpeg h263 dirac swf gif apng png_pipe jpeg_pipe bmp_pipe tiff_pipe webp_pipe"
)
ALONE = {"format_whitelist": READERS.replace(" ", ","), "protocol_whitelist": "file"}


def open_file(path: Path, **options: Any) -> Any:
    """PyAV's container of a file that stands alone.

    Raises:
        FootageError: it is another kind of file, such as a playlist.
    """
    import av

    try:
        return av.open(str(path), options=ALONE, **options)
    except av.ArgumentError as error:
        raise FootageError("unreadable", "names other files or is of a kind that is not read; give a video") from error


def decodable(container: Any, kind: str) -> list[Any]:
    """A PyAV container's streams of a kind ("video", "audio") that can be decoded, in their order."""
    return [stream for stream in getattr(container.streams, kind) if stream.codec_context is not None]


def open_container(path: Path, bound: Any) -> Any:
    """PyAV's container; no frame is allocated beyond the bound to learn what is in it, where the format tells its
    streams beforehand (others: FFmpeg's own bound, twice as large)."""
    import av

    try:
        return open_file(path, stream_options=[bound] * 16)
    except av.FFmpegError:
        raise
    except ValueError:  # PyAV's own: streams that are not known yet take no options
        return open_file(path)
