"""Clips cut out of footage: packets copied, or frames encoded again, with the sound of the span.

Copied is only what mp4 and its readers hold as it is: other codecs, and frames that have to be turned, scaled,
deinterlaced or tone-mapped, are encoded.
"""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from muybridge.curation.footage import open_footage
from muybridge.data.reading import colour
from muybridge.data.reading.decoding import FilmFrame, FilmReader
from muybridge.data.reading.formats import FootageError, told
from muybridge.data.reading.reader import Frame, Reader
from muybridge.data.reading.sound import Sound, SoundTrack
from muybridge.data.reading.streams import decodable
from muybridge.data.video_io import SAME_BYTES, TAGS, as_yuv, read_recipe, tag

#: What is copied: these codecs, with pixels of these formats.
CODECS = frozenset(["h264", "hevc", "vp9", "av1", "mpeg4"])
PIXELS = frozenset(f"yuv{kind}p{bits}" for kind in ("420", "422", "444") for bits in ("", "10le")) | {"yuvj420p"}
#: Containers that keep no times of showing, only an order of decoding: a copy would show frames at others.
CLOCKLESS = frozenset(["avi", "h264", "hevc", "m4v", "mpegvideo", "obu"])
#: A third slower than the quickest, at a third of the size for one quality.
PRESET = "superfast"
#: Ticks a second of encoded clips.
CLOCK = 90000
#: Under which name a clip's file says how it was cut.
NOTE = "curated"


def can_copy(probe: dict[str, Any]) -> bool:
    """Whether a file's packets may stand in an mp4 as they are."""
    plain = probe["plain"] and not probe["rotation"] and not probe["variable_rate"]
    return bool(plain and probe["codec"] in CODECS and probe["pixel_format"] in PIXELS)


def note_of(clip: Path) -> dict[str, Any]:
    """What a clip's file says of how it was cut: {"copied": bool, "silent": why its sound is left out, or ""}."""
    found = read_recipe(clip).get(NOTE)
    return found if isinstance(found, dict) else {"copied": False, "silent": ""}


def copy_clip(source: Path, target: Path, start: float, end: float) -> str:
    """Packets of [start, end) without decoding; start must be a key frame. Returns why its sound is left out, or "".

    Raises:
        FootageError: mp4 does not hold them.
    """
    try:
        return _with_sound(source, start, end, lambda sound: _copy(source, target, start, end, sound))
    except FootageError:
        raise
    except Exception as error:  # PyAV raises many kinds
        raise FootageError("no copy", f"its packets cannot be copied: {told(error)}") from error


def encode_clip(source: Path, target: Path, start: float, end: float, crf: int = 16) -> str:
    """Exactly the frames of [start, end), decoded, upright, of square pixels, and encoded again with their own times.
    Returns why its sound is left out, or "".

    Raises:
        FootageError: they cannot be decoded.
    """
    return _with_sound(source, start, end, lambda sound: _encode(source, target, start, end, crf, sound))


def _with_sound(source: Path, start: float, end: float, write: Any) -> str:
    """Write a clip with its sound; where the sound cannot be had, without it."""
    with open_footage(source) as reader:
        audio = isinstance(reader, FilmReader) and bool(decodable(reader.container, "audio"))
    if not audio:
        write(None)
        return ""
    try:
        write(Sound(source, start, end - start))
    except SoundLost as error:
        problem = f"its sound cannot be kept: {error}"
        write(problem)
        return problem
    return ""


class SoundLost(Exception):
    """The sound of a file cannot be decoded, or encoded."""


def _track(writer: Any, sound: Sound | str | None) -> SoundTrack | None:
    if not isinstance(sound, Sound):
        return None
    try:
        return SoundTrack(writer, sound)
    except Exception as error:  # PyAV raises many kinds for sound without a decoder
        raise SoundLost(told(error)) from error


def _note(writer: Any, copied: bool, sound: Sound | str | None) -> None:
    silent = sound if isinstance(sound, str) else ""
    writer.metadata["comment"] = json.dumps({NOTE: {"copied": copied, "silent": silent}}, sort_keys=True)


def _until(track: SoundTrack | None, seconds: float) -> None:
    if track is None:
        return
    try:
        track.until(seconds)
    except Exception as error:  # PyAV raises many kinds for damaged sound
        raise SoundLost(told(error)) from error
    if track.problem:
        raise SoundLost(track.problem)


def _mp4(target: Path) -> Any:
    import av

    return av.open(str(target), "w", format="mp4", options={"movflags": "+use_metadata_tags"})


def _copy(source: Path, target: Path, start: float, end: float, sound: Sound | str | None) -> None:
    # a container without an index may be sought past the key frame: then it is read from its beginning
    for sought in (True, False) if start > 0 else (False,):
        with FilmReader(source) as reader, _mp4(target) as writer:
            if _copied(reader, writer, (start, end), sound, sought):
                return
    raise FootageError("no copy", "the key frame that it begins with is not found again")


def _copied(
    reader: FilmReader, writer: Any, span: tuple[float, float], sound: Sound | str | None, sought: bool
) -> bool:
    """Whether packets were written: False, with nothing written, where the first one is not the span's key frame."""
    stream = reader.stream
    if reader.container.format.name in CLOCKLESS:
        raise FootageError("no copy", f"{reader.container.format.name} keeps no times of its packets")
    _note(writer, True, sound)
    out = writer.add_stream_from_template(stream, opaque=True)
    track = _track(writer, sound)
    base = stream.start_time or 0
    first, last = (round(t / stream.time_base) + base for t in span)
    if sought:
        reader.container.seek(int(span[0] / stream.time_base) + base, stream=stream, backward=True)
    written = 0
    for packet in reader.container.demux(stream):
        if not packet.size:
            continue
        if packet.dts is None or packet.pts is None:
            raise FootageError("no copy", "its packets have no times")
        if packet.pts < first:
            continue
        if not written and not (packet.is_keyframe and packet.pts - first <= 1):
            return False
        if packet.pts >= last:
            if packet.is_keyframe:
                break
            continue
        packet.pts -= first
        packet.dts -= first
        packet.stream = out
        seconds = float(packet.pts * stream.time_base)
        writer.mux(packet)
        written += 1
        _until(track, seconds)
    if not written:
        return False
    _until(track, float("inf"))
    return True


def _encode(source: Path, target: Path, start: float, end: float, crf: int, sound: Sound | str | None) -> None:
    with open_footage(source) as reader, _mp4(target) as writer:
        _note(writer, False, sound)
        out: Any = writer.add_stream("libx264", rate=_rate(reader))
        out.pix_fmt = "yuv420p"
        out.options = {"crf": str(crf), "preset": PRESET, **SAME_BYTES}
        out.time_base = out.codec_context.time_base = Fraction(1, CLOCK)
        track = _track(writer, sound)
        frames = None
        for frame in reader.frames(start, end):
            if frames is None:
                frames = _Frames(frame)
                out.width, out.height = frames.size
                tag(out.codec_context, TAGS[frames.matrix])
            picture = frames(frame)
            picture.pts, picture.time_base = round((frame.time - start) * CLOCK), Fraction(1, CLOCK)
            for packet in out.encode(picture):
                writer.mux(packet)
            _until(track, frame.time - start)
        if frames is None:
            raise FootageError("no frame", f"no frame between {start:.2f} and {end:.2f} s could be decoded")
        for packet in out.encode():
            writer.mux(packet)
        _until(track, float("inf"))


def _rate(reader: Reader) -> Fraction:
    """A rate for the encoder's rate control; frames keep their own times."""
    rate = reader.header_rate if isinstance(reader, FilmReader) else reader.about.rhythm.fps
    return Fraction(rate if 1 <= rate <= 240 else 25).limit_denominator(1001)


class _Frames:
    """Frames as the encoder takes them, all of the first one's size and matrix; converted only where they have to be.

    Attributes:
        size: (width, height), even.
        matrix: swscale's number.
    """

    def __init__(self, first: Frame):
        self._direct = isinstance(first, FilmFrame) and _is_direct(first)
        if isinstance(first, FilmFrame) and self._direct:
            self.matrix, self.size = colour.matrix_of(first.raw), (first.raw.width, first.raw.height)
            return
        height, width = first.rgb().shape[:2]
        self.matrix, self.size = colour.BT709, (max(2, width // 2 * 2), max(2, height // 2 * 2))

    def __call__(self, frame: Frame) -> Any:
        """PyAV's frame of a decoded one."""
        if isinstance(frame, FilmFrame) and self._direct and _is_direct(frame):
            raw = frame.raw
            if colour.matrix_of(raw) == self.matrix and (raw.width, raw.height) == self.size:
                spread = colour.tags_of(raw)["src_color_range"]
                made = raw.reformat(format="yuv420p", src_color_range=spread, dst_color_range=colour.LIMITED)
                tag(made, TAGS[self.matrix])
                return made
        return as_yuv(self._sized(frame.rgb()), self.matrix)

    def _sized(self, picture: np.ndarray) -> np.ndarray:
        width, height = self.size
        if picture.shape[0] - height in (0, 1) and picture.shape[1] - width in (0, 1):
            return picture[:height, :width]
        from PIL import Image

        return np.asarray(Image.fromarray(picture).resize(self.size, Image.Resampling.BICUBIC))


def _is_direct(frame: FilmFrame) -> bool:
    """Whether a frame's samples can be encoded as they are."""
    raw = frame.raw
    square = frame.stored == (raw.width, raw.height)
    simple = raw.format.name.startswith("yuv") and not colour.has_alpha(raw) and not colour.changes(raw)
    known = int(raw.colorspace) in (1, 2, 5, 6) and colour.matrix_of(raw) in TAGS
    return bool(frame.way == 1 and square and simple and known and raw.width % 2 == raw.height % 2 == 0)
