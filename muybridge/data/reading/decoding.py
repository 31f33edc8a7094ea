"""Video files through PyAV: decoded by one thread, so that damaged ones give the same whatever the machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from muybridge.configuration import MOST_PIXELS
from muybridge.data.reading import colour
from muybridge.data.reading.formats import FootageError, check_pixels, told
from muybridge.data.reading.interlaced import progressive
from muybridge.data.reading.orientation import DEGREES, LYING, UPRIGHT, of_frame, upright
from muybridge.data.reading.reader import About, Reader
from muybridge.data.reading.rhythm import Rhythm, rhythm_of
from muybridge.data.reading.streams import decodable, open_container, open_file

#: Frames at the beginning that are decoded to learn what a file is.
HEAD = 24
#: Decoders of streams whose alpha the usual ones pass over.
WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
#: Frames a second where neither times nor header say.
GUESSED_RATE = 25.0


@dataclass(frozen=True)
class FilmFrame:
    """One decoded frame.

    Attributes:
        time: seconds from the file's first frame.
        key: a key frame.
        raw: PyAV's frame.
        pixel_shape: width of a stored pixel over its height.
        deinterlaced: two fields were made one picture.
        way: how it is turned, as EXIF counts.
    """

    time: float
    key: bool
    raw: Any
    pixel_shape: float = 1.0
    deinterlaced: bool = False
    way: int = UPRIGHT

    @property
    def stored(self) -> tuple[int, int]:
        """(width, height) before turning, of square pixels."""
        return max(1, round(self.raw.width * self.pixel_shape)), self.raw.height

    def rgb(self, short_side: int | None = None) -> np.ndarray:
        """uint8 [h, w, 3], upright, of square pixels; shrunk so that the shorter side is `short_side`."""
        width, height = self.stored
        if short_side and min(width, height) > short_side:
            scale = short_side / min(width, height)
            # even sides: some converters want them
            size = (max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2))
            return upright(colour.to_rgb(self.raw, size, "AREA"), self.way)
        check_pixels(width, height)
        size_as_it_is = (width, height) == (self.raw.width, self.raw.height)
        return upright(colour.to_rgb(self.raw, None if size_as_it_is else (width, height)), self.way)


#: Seconds by which a clock jumps back where two recordings were joined; less are frames out of order.
JUMP = 1.0
#: Frames of such times that a damaged place may bring.
MOST_STRAYS = 5
#: Seconds before a moment that are sought one after another: of a container without an index (MPEG-TS) a search may
#: end behind the key frame that is needed.
EARLIER = (0.0, 2.0, 8.0, 32.0)


class FilmReader(Reader):
    """A video file.

    Raises:
        FootageError: empty, not media, without video, or too large.
    """

    def __init__(self, path: Path):
        import av

        self.path = path
        av.logging.set_level(None)  # any other level calls back into Python from ffmpeg's threads, which deadlocks
        bound: Any = {"max_pixels": str(MOST_PIXELS)}
        try:
            self.container: Any = open_container(path, bound)
        except FootageError:
            raise
        except Exception as error:  # PyAV raises many kinds for damaged files
            raise FootageError("unreadable", f"cannot be opened: {told(error)}") from error
        try:
            if not self.container.streams.video:
                raise FootageError("no video stream", "has no video stream")
            streams = decodable(self.container, "video")
            if not streams:
                raise FootageError("unknown codec", "its video is of a codec that is not known; encode it anew")
            self.stream: Any = streams[0]
            check_pixels(self.stream.codec_context.width, self.stream.codec_context.height)
        except FootageError:
            self.container.close()
            raise
        self.stream.codec_context.thread_count = 1
        self.stream.codec_context.options = bound
        self._used = False

    def close(self) -> None:
        self.container.close()

    @property
    def base(self) -> float:
        """Seconds on the file's clock at which its video begins."""
        return float(self.stream.start_time or 0) * float(self.stream.time_base)

    @property
    def header_rate(self) -> float:
        return float(self.stream.average_rate or self.stream.guessed_rate or 0)

    @property
    def said_to_last(self) -> float:
        """Seconds, as the file says; 0 if it does not."""
        if self.stream.duration:
            return float(self.stream.duration * self.stream.time_base)
        return float(self.container.duration or 0) / 1e6

    @property
    def pixel_shape(self) -> float:
        """Width of a stored pixel over its height; 1 where nothing sensible is said."""
        shape = self.stream.sample_aspect_ratio or self.stream.codec_context.sample_aspect_ratio
        return float(shape) if shape and 1 / 16 <= shape <= 16 else 1.0

    def frames(self, start: float = 0.0, end: float = float("inf")) -> Iterator[FilmFrame]:
        if self._used:  # a stream without a key frame at its start cannot be rewound
            with FilmReader(self.path) as fresh:
                yield from fresh.frames(start, end)
            return
        self._used = True
        base, last, back = self.base, float("-inf"), 0
        gap = 1 / (self.header_rate or GUESSED_RATE)
        degrees, way = None, UPRIGHT
        try:
            for time, raw, made in self._from(start, base, gap):
                if (start > 0 and time < start - 1e-6) or time <= last:
                    back += time < last - JUMP
                    continue
                if time >= end - 1e-6:
                    return
                last = time
                if raw.rotation != degrees:  # looking at the matrix itself costs a reference circle of frames
                    degrees, way = raw.rotation, of_frame(raw)
                yield FilmFrame(time, bool(raw.key_frame), raw, self.pixel_shape, made, way)
            if back >= MOST_STRAYS:
                raise FootageError(
                    "breaks off",
                    f"its clock jumps back after {last:.2f} s, as of recordings that were joined: the {back} frames "
                    "from there are left out; write it anew with one clock",
                )
        except (FootageError, MemoryError):
            raise
        except Exception as error:  # PyAV raises many kinds for damaged files
            told_after = max(last, 0) if last > float("-inf") else 0
            raise FootageError("breaks off", f"breaks off after {told_after:.2f} s: {told(error)}") from error

    def _from(self, start: float, base: float, gap: float) -> Iterator[tuple[float, Any, bool]]:
        """`_timed` frames from the key frame before a moment on, or from an earlier one."""
        for before in EARLIER if start > 0 else ():
            if before >= start:
                break
            place = int((start - before + base) / self.stream.time_base)
            self.container.seek(place, stream=self.stream, backward=True)
            frames = _timed(progressive(self._decoded()), base, gap)
            first = next(frames, None)
            if first is not None and first[0] <= start + 1e-6:
                yield first
                yield from frames
                return
        if start <= 0:
            yield from _timed(progressive(self._decoded()), base, gap)
            return
        with FilmReader(self.path) as fresh:
            yield from _timed(progressive(fresh._decoded()), base, gap)

    def _decoded(self) -> Iterator[Any]:
        """PyAV's frames, in order."""
        import av

        name = WITH_ALPHA.get(self.stream.codec_context.name)
        if name is None or self.stream.metadata.get("alpha_mode") != "1":
            yield from self.container.decode(self.stream)
            return
        decoder: Any = av.CodecContext.create(name, "r")
        decoder.thread_count = 1
        for packet in self.container.demux(self.stream):
            yield from decoder.decode(packet)

    @cached_property
    def about(self) -> About:  # type: ignore[override]
        with FilmReader(self.path) as head:
            return head._look()

    def _look(self) -> About:
        """Decode the first frames, and read the times of all."""
        first, times, changes = None, [], dict[str, None]()
        try:
            for frame in self.frames():
                first = first or frame
                times.append(frame.time)
                changes.update(dict.fromkeys(self._changes(frame)))
                if len(times) == HEAD:
                    break
        except FootageError as error:
            if first is None:
                raise FootageError("no frame", f"no frame could be decoded: {error.message}") from error
        if first is None:
            raise FootageError("no frame", "no frame could be decoded")
        width, height = first.stored
        check_pixels(width, height)
        if first.way in LYING:
            width, height = height, width
        return About(
            width, height, DEGREES[first.way], self._rhythm(times), str(self.stream.codec_context.codec.canonical_name),
            str(first.raw.format.name), bool(decodable(self.container, "audio")), tuple(changes),
            not changes and first.way == UPRIGHT,
        )  # fmt: skip

    def _changes(self, frame: FilmFrame) -> list[str]:
        said = ["deinterlaced"] if frame.deinterlaced else []
        said += colour.changes(frame.raw)
        if frame.stored != (frame.raw.width, frame.raw.height):
            width, height = frame.stored
            said.append(f"pixels made square: {frame.raw.width}x{frame.raw.height} scaled to {width}x{height}")
        if colour.has_alpha(frame.raw):
            said.append("transparency laid on white")
        return said

    def _rhythm(self, head: list[float]) -> Rhythm:
        """From the times that packets have, unless they are not those of the frames that were decoded."""
        times = self._packet_times()
        tick = float(self.stream.time_base)
        decoded = np.array(head)
        known = np.sort(np.asarray(times))[: len(head)]
        agree = len(known) == len(head) and np.abs(known - decoded).max(initial=0) <= max(2 * tick, 1e-4)
        if not agree:
            times = head if len(head) < HEAD else self._decoded_times(head)
        return rhythm_of(times, self.header_rate, tick)

    def _packet_times(self) -> list[float]:
        """Seconds from the first frame of every packet that will be shown; nothing is decoded."""
        import av

        unit, base, times = float(self.stream.time_base), self.base, []
        with open_file(self.path) as container:
            try:
                for packet in container.demux(container.streams[self.stream.index]):
                    if packet.size and packet.pts is not None and not packet.is_discard:
                        times.append(packet.pts * unit - base)
            except av.FFmpegError:  # the file breaks off here: what came before is what there is
                return times
        return times

    def _decoded_times(self, known: list[float]) -> list[float]:
        times: list[float] = []
        try:
            for frame in self.frames():
                times.append(frame.time)
        except FootageError:  # whoever reads the frames is told
            return times or known
        return times


def _timed(frames: Iterator[tuple[Any, bool]], base: float, gap: float) -> Iterator[tuple[float, Any, bool]]:
    """With their seconds from `base`; those that have no time (Matroska's below 0, raw streams) stand `gap` seconds
    from those beside them."""
    last: float | None = None
    waiting: list[tuple[Any, bool]] = []
    for raw, made in frames:
        if raw.time is None and last is None and len(waiting) < HEAD:
            waiting.append((raw, made))
            continue
        first = float(raw.time) - base if raw.time is not None else (last + gap if last is not None else None)
        if waiting:
            first = len(waiting) * gap if first is None else first
            for i, (early, done) in enumerate(waiting):
                yield first - (len(waiting) - i) * gap, early, done
            waiting = []
        last = first if first is not None else 0.0
        yield last, raw, made
    for i, (early, done) in enumerate(waiting):
        yield i * gap, early, done
