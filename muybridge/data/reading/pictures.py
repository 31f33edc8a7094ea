"""Pictures and animations through Pillow, and OpenCV where Pillow would lose bits: upright, 8-bit RGB, on white."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from muybridge.configuration import MOST_PIXELS
from muybridge.data.reading.formats import FootageError, check_pixels, told
from muybridge.data.reading.icc import in_srgb, name_of, profile_of
from muybridge.data.reading.orientation import LYING, upright
from muybridge.data.reading.reader import About, Reader
from muybridge.data.reading.rhythm import DEFAULT_RATE, Rhythm, rhythm_of

#: EXIF's tag of the orientation.
ORIENTATION = 0x0112
#: Seconds that a frame without a duration is shown, as browsers do.
UNTIMED = 0.1
#: Seconds: a GIF's frames of so little are shown as if nothing was said, as browsers and ffmpeg do.
HASTY = 0.01
#: Formats whose frames are shown one after another; other files of several (TIFF, MPO) hold pages.
MOVING = frozenset(["GIF", "WEBP", "PNG", "AVIF"])
#: Seconds that a format counts in.
TICKS = {"GIF": 0.01}
#: Where a PNG may say how it is turned; Pillow decodes all of it to look.
PNG_NOTES = (b"eXIf", b"Raw profile type", b"tiff:Orientation", b"iTXtXML:com.adobe.xmp")
#: TIFF's tag of the bits of each sample.
BITS = 258


@dataclass(frozen=True)
class PictureFrame:
    """One frame that was decoded: time in seconds, uint8 [h, w, 3]."""

    time: float
    picture: np.ndarray
    key: bool = True

    def rgb(self, short_side: int | None = None) -> np.ndarray:
        """The picture, shrunk so that its shorter side is `short_side`."""
        height, width = self.picture.shape[:2]
        if not short_side or min(height, width) <= short_side:
            return self.picture
        scale = short_side / min(height, width)
        size = (max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2))
        return np.asarray(Image.fromarray(self.picture).resize(size, Image.Resampling.BOX))


class PictureReader(Reader):
    """A picture, or an animation.

    Raises:
        FootageError: not a picture, or too large.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                self.image: Any = Image.open(path)
            held = int(getattr(self.image, "n_frames", 1))
        except Image.DecompressionBombError as error:
            raise FootageError(
                "too large", f"more than the {MOST_PIXELS / 1e6:.0f} million pixels that a picture may have"
            ) from error
        except Exception as error:  # Pillow raises many kinds for damaged files
            raise FootageError("unreadable", f"cannot be opened: {told(error)}") from error
        check_pixels(*self.image.size)
        moves = self.image.format in MOVING
        # an animated PNG may hold a picture for programs that do not know animations
        first = 1 if moves and self.image.info.get("default_image") and held > 1 else 0
        self.places = range(first, held) if moves else range(1)
        self._profile = profile_of(self.image)
        self._changes = _changes(self.image, 1 if moves else held, self._profile)
        # Pillow gives a TIFF's size as it will be turned
        turned = self.image.format == "TIFF" and _way_of(self.image) in LYING
        self._stored = self.image.size[::-1] if turned else self.image.size

    def close(self) -> None:
        self.image.close()

    def frames(self, start: float = 0.0, end: float = float("inf")) -> Iterator[PictureFrame]:
        time = 0.0
        for index in self.places:
            picture, seconds = self._frame(index, time)
            if time >= end - 1e-6:
                return
            if time >= start - 1e-6:
                yield PictureFrame(time, picture)
            time += seconds or UNTIMED

    def _frame(self, index: int, time: float) -> tuple[np.ndarray, float]:
        """A frame, and the seconds that it is shown (0: not said)."""
        try:
            self.image.seek(index)
            check_pixels(*self.image.size)
            if _deep(self.image):  # asked first: Pillow forgets it when it decodes, or looks for EXIF
                picture = in_srgb(_scaled_down(self.image, self.path), self._profile)
                picture = upright(picture, self._way)
            else:
                picture = np.asarray(_on_white(in_srgb(self.image, self._profile)))
                # Pillow turns some formats (TIFF) itself, and then takes the note away
                picture = upright(picture, _way_of(self.image))
            seconds = float(self.image.info.get("duration", 0) or 0) / 1000
            hasty = self.image.format == "GIF" and seconds <= HASTY
            return picture, 0.0 if hasty else seconds
        except (FootageError, MemoryError):
            raise
        except Exception as error:  # Pillow raises many kinds for damaged files
            kind = "breaks off" if index > self.places[0] else "no frame"
            raise FootageError(kind, f"breaks off after {time:.2f} s: {told(error)}") from error

    @cached_property
    def _way(self) -> int:
        """How stored pixels are turned; looked for in another image, since looking may decode."""
        if self.image.format == "PNG" and not any(note in self.path.read_bytes() for note in PNG_NOTES):
            return 1
        with Image.open(self.path) as other:
            return _way_of(other)

    @cached_property
    def about(self) -> About:  # type: ignore[override]
        width, height = self._stored
        if self._way in LYING:
            width, height = height, width
        rhythm = Rhythm(DEFAULT_RATE, False, 0.0, 1 / DEFAULT_RATE, 1)
        if len(self.places) > 1:
            times, time, seconds = [], 0.0, 0.0
            try:
                for index in self.places:
                    _, seconds = self._frame(index, time)
                    times.append(time)
                    time += seconds or UNTIMED
            except FootageError:
                if not times:
                    raise
            tick = TICKS.get(self.image.format, 0.001)
            rhythm = rhythm_of(times, 0.0, tick, seconds or UNTIMED)
        return About(
            width, height, 0, rhythm, str(self.image.format).lower(), self.image.mode, False,
            self._changes, False,
        )  # fmt: skip


def _changes(picture: Any, pages: int, profile: Any) -> tuple[str, ...]:
    said = [f"the first of {pages} pages is taken"] if pages > 1 and picture.format == "TIFF" else []
    if _deep(picture):
        said.append("more than 8 bits a sample scaled to 8")
    if picture.mode in ("CMYK", "LAB", "YCbCr", "HSV"):
        said.append(f"{picture.mode} taken to RGB")
    if profile is not None:
        said.append(f"colours of the profile {name_of(profile)!r} taken to sRGB")
    return tuple(said)


def _deep(picture: Any) -> bool:
    """Whether a picture has more than 8 bits a sample, of which Pillow would keep or show only some."""
    if picture.mode in ("I", "F") or picture.mode.startswith("I;"):
        return True
    if any("16" in str(part) for tile in getattr(picture, "tile", ()) for part in _parts(tile[3])):
        return True
    bits = picture.tag_v2.get(BITS, (8,)) if hasattr(picture, "tag_v2") else (8,)
    return max(bits if isinstance(bits, tuple) else (bits,)) > 8


def _parts(arguments: Any) -> tuple[Any, ...]:
    return tuple(arguments) if isinstance(arguments, tuple | list) else (arguments,)


def _way_of(picture: Any) -> int:
    """How a picture asks to be turned."""
    try:
        return int(picture.getexif().get(ORIENTATION, 1))
    except Exception:  # damaged notes beside a good picture: it lies as it is stored
        return 1


def _scaled_down(picture: Any, path: Path) -> np.ndarray:
    """The frame of more than 8 bits that an open picture is at, uint8 [h, w, 3], as it is stored: not turned."""
    if picture.mode in ("I", "F") or picture.mode.startswith("I;"):
        values = np.asarray(picture)
    else:
        values = _by_opencv(path, picture)
    scaled = _scaled(values)
    if scaled.ndim == 2 or scaled.shape[-1] == 1:
        return np.repeat(scaled.reshape(*scaled.shape[:2], 1), 3, axis=2)
    if scaled.shape[-1] == 4:
        from muybridge.data.reading.colour import on_white

        return on_white(scaled[..., :3], scaled[..., 3:])
    return scaled[..., :3]


def _by_opencv(path: Path, picture: Any) -> np.ndarray:
    """A picture of 16 bits a sample, uint16 or float [h, w, C], RGB or RGBA; of one that OpenCV does not read, what
    Pillow makes of it."""
    import cv2

    data = _as_stored(path.read_bytes())
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if found is None:
        return np.asarray(_on_white(picture))
    if found.ndim == 3 and found.shape[-1] >= 3:
        found = np.concatenate([found[..., 2::-1], found[..., 3:]], axis=-1)
    return found


def _as_stored(data: bytes) -> bytes:
    """A TIFF's bytes that ask for no turn: OpenCV turns TIFFs whatever it is told, and some of them wrongly."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None:
        return data
    (place,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, place)
    out = bytearray(data)
    for entry in range(place + 2, place + 2 + 12 * count, 12):
        if struct.unpack_from(f"{order}H", data, entry)[0] == ORIENTATION:
            struct.pack_into(f"{order}H", out, entry + 8, 1)
    return bytes(out)


def _scaled(values: np.ndarray) -> np.ndarray:
    """Samples of any type -> uint8, by the range of the type; 32 bits by the least of the usual ranges (1 for
    fractions, 255, 65535) that holds them."""
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.uint16:
        return ((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    finite = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    most = float(finite.max(initial=0))
    whole = np.issubdtype(values.dtype, np.integer)
    ranges = (65535,) if whole else (1, 255, 65535)
    top = next((r for r in ranges if most <= r), most)
    return np.round(np.clip(finite / top, 0, 1) * 255).astype(np.uint8)


def _on_white(picture: Image.Image) -> Image.Image:
    """RGB; what is transparent lies on white."""
    if "A" not in picture.getbands() and "a" not in picture.mode and "transparency" not in picture.info:
        return picture.convert("RGB")
    ground = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(ground, picture.convert("RGBA")).convert("RGB")
