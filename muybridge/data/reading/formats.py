"""Which files are read, by their endings: one list for all commands; and how large a picture may be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from muybridge.configuration import MOST_PIXELS


def _endings(*names: str) -> frozenset[str]:
    return frozenset(f".{name}" for line in names for name in line.split())


#: Containers of video that PyAV reads.
FILMS = _endings(
    "mp4 m4v mov qt 3gp 3g2 mkv webm avi divx wmv asf flv f4v mpg mpeg mpe mpv m1v m2v vob ts mts m2ts m2t mxf gxf",
    "ogv ogm y4m dv ivf nut rm rmvb amv wtv h264 264 h265 265 hevc",
)
#: What may hold one picture or many.
ANIMATIONS = _endings("gif webp apng avif")
#: What moves.
VIDEOS = FILMS | ANIMATIONS
#: Single pictures.
PICTURES = _endings("png jpg jpeg jpe jfif bmp dib tif tiff tga ppm pgm pbm pnm qoi jp2 j2k sgi pcx")


class FootageError(Exception):
    """A file that cannot be used; `kind` is a short word for reports."""

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind, self.message = kind, message

    def __reduce__(self) -> tuple[Any, ...]:
        return FootageError, (self.kind, self.message)


def told(error: BaseException) -> str:
    """An error of a library in words, without the names of its functions."""
    words = getattr(error, "strerror", None) or str(error)
    return f"{type(error).__name__}: {words}"


def check_pixels(width: int, height: int) -> None:
    """Refuse pictures that no memory should hold.

    Raises:
        FootageError: "too large".
    """
    if width * height > MOST_PIXELS:
        raise FootageError(
            "too large",
            f"{width}x{height} pixels are more than the {MOST_PIXELS / 1e6:.0f} million that a picture may have; "
            "make it smaller",
        )


def is_animation(path: Path) -> bool:
    """Whether a file of ANIMATIONS holds more than one picture; False where it cannot be opened."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            return int(getattr(picture, "n_frames", 1)) > 1
    except Exception:  # Pillow raises many kinds for damaged files; whoever reads it will say which
        return False
