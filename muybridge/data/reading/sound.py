"""The sound of a video, cut to a span and encoded again beside new frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from muybridge.data.reading.formats import FootageError, told
from muybridge.data.reading.streams import decodable, open_file

#: Sampling rates that AAC has; others are resampled to the last.
RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
#: Samples of an AAC frame; bits a second of a channel.
BLOCK, BITS = 1024, 96_000


@dataclass(frozen=True)
class Sound:
    """A span of a file's sound.

    Attributes:
        path: of the file.
        start, seconds: of the span, from its video's first frame.
    """

    path: Path
    start: float
    seconds: float


def has_sound(path: Path) -> bool:
    """Whether a file holds sound that can be opened."""
    import av

    try:
        with open_file(path) as container:
            return bool(decodable(container, "audio") and decodable(container, "video"))
    except (av.FFmpegError, FootageError, OSError):
        return False


class SoundTrack:
    """AAC of a span, added to a file that is being written. Made before the file's first packet.

    Args:
        writer: an open PyAV container.
        sound: what is heard; its file has sound.
    """

    def __init__(self, writer: Any, sound: Sound):

        self.writer, self.sound, self.problem = writer, sound, ""
        with open_file(sound.path) as container:
            context = decodable(container, "audio")[0].codec_context
            self.rate = context.sample_rate if context.sample_rate in RATES else RATES[-1]
            self.layout = "mono" if context.layout.nb_channels == 1 else "stereo"
        self.stream: Any = writer.add_stream("aac", rate=self.rate, layout=self.layout)
        self.stream.codec_context.thread_count = 1
        self.stream.bit_rate = BITS * (1 if self.layout == "mono" else 2)
        self._packets = self._encoded()
        self._next: Any = None

    def until(self, seconds: float) -> None:
        """Write what is heard before a moment of the new video; with infinity, all of it."""
        while True:
            if self._next is None:
                self._next = next(self._packets, None)
                if self._next is None:
                    return
            packet: Any = self._next
            if packet.pts is not None and packet.pts > seconds * self.rate:  # its clock counts samples
                return
            self.writer.mux(packet)
            self._next = None

    def _encoded(self) -> Iterator[Any]:
        import av

        done = 0
        for block in self._blocks():
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=self.layout)
            frame.sample_rate, frame.pts, frame.time_base = self.rate, done, Fraction(1, self.rate)
            done += block.shape[1]
            yield from self.stream.encode(frame)
        yield from self.stream.encode(None)

    def _blocks(self) -> Iterator[np.ndarray]:
        """float32 [channels, BLOCK], the last one shorter; silence where the file has none."""
        channels = 1 if self.layout == "mono" else 2
        wanted = round(self.sound.seconds * self.rate)
        held, place = np.zeros((channels, 0), np.float32), 0
        for at, samples in self._decoded():
            first = round((at - self.sound.start) * self.rate)
            end = place + held.shape[1]
            if first + samples.shape[1] <= end:
                continue
            gap = np.zeros((channels, min(max(0, first - end), wanted - end)), np.float32)
            held = np.concatenate([held, gap, samples[:, max(0, end - first) :]], axis=1)[:, : wanted - place]
            while held.shape[1] >= BLOCK:
                yield np.ascontiguousarray(held[:, :BLOCK])
                held, place = held[:, BLOCK:], place + BLOCK
            if place + held.shape[1] >= wanted:
                break
        held = np.pad(held, ((0, 0), (0, wanted - place - held.shape[1])))
        for first in range(0, held.shape[1], BLOCK):
            yield np.ascontiguousarray(held[:, first : first + BLOCK])

    def _decoded(self) -> Iterator[tuple[float, np.ndarray]]:
        """(seconds from the video's first frame, float32 [channels, n]) from shortly before the span on."""
        import av

        resampler = av.AudioResampler(format="fltp", layout=self.layout, rate=self.rate)
        with open_file(self.sound.path) as container:
            video, audio = (decodable(container, kind)[0] for kind in ("video", "audio"))
            audio.codec_context.thread_count = 1
            base = float(video.start_time or 0) * float(video.time_base)
            if self.sound.start > 1:
                container.seek(int((self.sound.start + base - 1) * 1e6), backward=True)
            try:
                for frame in container.decode(audio):
                    for made in resampler.resample(frame):
                        at: Any = made.time
                        if at is not None:
                            yield float(at) - base, made.to_ndarray()
            except av.FFmpegError as error:
                self.problem = f"its sound breaks off and is silent from there on: {told(error)}"
