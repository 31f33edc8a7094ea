"""Raw video files: what they are, their upright frames with their own times, and clips cut out of them.

Times are seconds from the container's own clock, never frame number over rate: footage may have a variable frame rate.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from muybridge.data.video_io import SAME_BYTES

ENDINGS = (
    ".mp4",
    ".mov",
    ".mkv",
    ".webm",
    ".avi",
    ".m4v",
    ".mpg",
    ".mpeg",
    ".ts",
    ".flv",
    ".wmv",
    ".ogv",
    ".gif",
    ".y4m",
)
THREADS_VARIABLE = "MUYBRIDGE_DECODING_THREADS"
#: A third slower than the quickest, at a third of the size for one quality.
PRESET = "superfast"
#: Seconds after the time that was sought within which the first frame must come, or seeking has failed.
LATE = 1.0


class FootageError(Exception):
    """A file that cannot be used; `kind` is a short word for the report."""

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind, self.message = kind, message

    def __reduce__(self) -> tuple[Any, ...]:
        return FootageError, (self.kind, self.message)


@dataclass(frozen=True)
class Probe:
    """What a file says of itself.

    Attributes:
        width, height: of upright frames, pixels.
        rotation: degrees that the file asks its frames to be turned by.
        fps: average frames a second.
        duration: seconds, as the container says (0 if it does not).
        codec, pixel_format: names.
        audio: there is sound.
    """

    width: int
    height: int
    rotation: int
    fps: float
    duration: float
    codec: str
    pixel_format: str
    audio: bool


def find_footage(folder: Path) -> list[Path]:
    """Every file under a folder that may be footage, sorted; hidden files and folders are passed over.

    Files with other endings are listed too: they get their line in the report as not being video.
    """
    return sorted(
        p for p in folder.rglob("*") if p.is_file() and not any(s.startswith(".") for s in p.relative_to(folder).parts)
    )


def content_hash(path: Path) -> str:
    """SHA-256 of the file's bytes: a clip's identity does not change when files move."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def decoding_threads() -> int:
    """Threads of a decoder here, 0 for as many as there are cores: a worker of a cluster keeps to the one it was given
    (cage.py)."""
    return int(os.environ.get(THREADS_VARIABLE, "0"))


def open_footage(path: Path) -> Any:
    """An open PyAV container with a video stream.

    Raises:
        FootageError: empty, not media, or without video.
    """
    import av

    if path.stat().st_size == 0:
        raise FootageError("empty", "the file is empty")
    if path.suffix.lower() not in ENDINGS:
        raise FootageError("not video", f"{path.suffix or 'no ending'} is not a video file's ending")
    av.logging.set_level(None)  # any other level calls back into Python from ffmpeg's threads, which deadlocks
    try:
        container = av.open(str(path))
    except Exception as error:
        raise FootageError("unreadable", f"cannot be opened: {type(error).__name__}: {error}") from error
    if not container.streams.video:
        container.close()
        raise FootageError("no video stream", "holds no video stream")
    container.streams.video[0].thread_type = "AUTO"
    container.streams.video[0].codec_context.thread_count = decoding_threads()
    return container


def describe(container: Any) -> Probe:
    """What an open file says of itself; the first frame is decoded to learn its rotation."""
    stream = container.streams.video[0]
    try:
        frame = next(container.decode(stream))
    except Exception as error:
        raise FootageError("no frame", f"no frame could be decoded: {type(error).__name__}: {error}") from error
    turns = int(frame.rotation) // 90 % 4
    width, height = (frame.height, frame.width) if turns % 2 else (frame.width, frame.height)
    duration = float(stream.duration * stream.time_base) if stream.duration else (container.duration or 0) / 1e6
    rate = float(stream.average_rate or stream.guessed_rate or 0)
    return Probe(
        width,
        height,
        turns * 90,
        rate,
        float(duration),
        str(stream.codec_context.name),
        str(stream.codec_context.pix_fmt),
        bool(container.streams.audio),
    )


@dataclass(frozen=True)
class Frame:
    """One decoded frame, turned upright when it is looked at.

    Attributes:
        time: seconds.
        key: a key frame.
        raw: PyAV's frame.
    """

    time: float
    key: bool
    raw: Any

    def rgb(self, short_side: int | None = None) -> np.ndarray:
        """uint8 [h, w, 3], shrunk so that the shorter side is `short_side`."""
        raw = self.raw
        turns = int(raw.rotation) // 90 % 4
        if short_side and min(raw.width, raw.height) > short_side:
            scale = short_side / min(raw.width, raw.height)
            # even sides: some converters want them
            width, height = (max(2, round(side * scale / 2) * 2) for side in (raw.width, raw.height))
            picture = raw.to_ndarray(format="rgb24", width=width, height=height, interpolation="AREA")
        else:
            picture = raw.to_ndarray(format="rgb24")
        return np.ascontiguousarray(np.rot90(picture, turns)) if turns else picture


def frames_of(container: Any, start: float = 0.0, end: float = float("inf")) -> Iterator[Frame]:
    """Decode the frames with times in [start, end) of a container that was just opened: one without a key frame at its
    start cannot be rewound.

    Raises:
        FootageError: the stream breaks off; what came before was good.
    """
    stream = container.streams.video[0]
    base = float(stream.start_time or 0) * float(stream.time_base)
    last = -1.0
    try:
        if start > 0:
            container.seek(int((start + base) / stream.time_base), stream=stream, backward=True)
        for raw in container.decode(stream):
            time = float(raw.time) - base if raw.time is not None else last + 1 / float(stream.average_rate or 25)
            if time < start - 1e-6 or time <= last:
                continue
            if time >= end - 1e-6:
                return
            last = time
            yield Frame(time, bool(raw.key_frame), raw)
    except Exception as error:
        raise FootageError(
            "breaks off", f"breaks off after {max(last, 0):.2f} s: {type(error).__name__}: {error}"
        ) from error


def frames_between(path: Path, start: float, end: float) -> Iterator[Frame]:
    """Frames with times in [start, end); of a file that cannot be sought by reading it from its beginning.

    Raises:
        FootageError: the file cannot be opened, or breaks off.
    """
    if start > 0:
        with open_footage(path) as container:
            frames = frames_of(container, start, end)
            try:
                first = next(frames, None)
            except FootageError:
                first = None
            if first is not None and first.time <= start + LATE:
                yield first
                yield from frames
                return
    with open_footage(path) as container:
        yield from (f for f in frames_of(container, 0.0, end) if f.time >= start - 1e-6)


def copy_clip(source: Path, target: Path, start: float, end: float) -> None:
    """Packets of [start, end) without decoding; start must be a key frame. Sound is left out.

    The rotation that the file asks for is carried over.
    """
    import av

    with open_footage(source) as reader, av.open(str(target), "w", format="mp4") as writer:
        stream = reader.streams.video[0]
        out = writer.add_stream_from_template(stream, opaque=True)
        base = stream.start_time or 0
        reader.seek(int(start / stream.time_base) + base, stream=stream, backward=True)
        first = round(start / stream.time_base) + base
        last = round(end / stream.time_base) + base
        for packet in reader.demux(stream):
            if packet.dts is None or packet.pts is None:
                continue
            if packet.pts < first:
                continue
            if packet.pts >= last:
                if packet.is_keyframe:
                    break
                continue
            packet.pts -= first
            packet.dts -= first
            packet.stream = out
            writer.mux(packet)


def _to_encode(frame: Frame) -> Any:
    """A frame upright, of even sides, in the encoder's own format: converted only where it has to be."""
    import av

    raw = frame.raw
    if not int(raw.rotation) // 90 % 4 and raw.width % 2 == raw.height % 2 == 0:
        return raw.reformat(format="yuv420p")
    rgb = frame.rgb()
    height, width = rgb.shape[0] // 2 * 2, rgb.shape[1] // 2 * 2
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb[:height, :width]), format="rgb24")


def encode_clip(source: Path, target: Path, start: float, end: float, crf: int = 16) -> None:
    """Exactly the frames of [start, end), decoded, turned upright and encoded again with their own times."""
    import av

    with open_footage(source) as reader, av.open(str(target), "w", format="mp4") as writer:
        rate = reader.streams.video[0].average_rate or Fraction(25)
        out: Any = writer.add_stream("libx264", rate=rate)
        out.pix_fmt = "yuv420p"
        out.options = {"crf": str(crf), "preset": PRESET, **SAME_BYTES}
        out.time_base = out.codec_context.time_base = Fraction(1, 90000)
        for frame in frames_of(reader, start, end):
            picture = _to_encode(frame)
            if out.codec_context.is_open is False:
                out.width, out.height = picture.width, picture.height
            picture.pts, picture.time_base = round((frame.time - start) * 90000), Fraction(1, 90000)
            for packet in out.encode(picture):
                writer.mux(packet)
        for packet in out.encode():
            writer.mux(packet)
