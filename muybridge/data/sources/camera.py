"""`camera`: any source's clips, seen by a moving camera."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from muybridge.configuration import Settings, setting
from muybridge.data.sources import rgb
from muybridge.errors import UserError

#: Which way the camera goes; the picture goes the other way.
MOVES = ("none", "left", "right", "up", "down", "in", "out")


@dataclass(frozen=True)
class CameraConfig(Settings):
    """A camera."""

    where: ClassVar[str] = "data"

    of: dict[str, Any] = setting({}, "the source whose clips it sees, with its settings")
    move: str = setting("none", "what the camera does", choices=MOVES)
    amount: float = setting(
        0.4, "how far over the whole clip: a share of the picture's side; for in and out the share by which the window "
        "narrows or widens", above=0, below=1,
    )  # fmt: skip
    background: tuple[int, ...] = rgb((255, 255, 255), "RGB of what lies beyond the picture")


Config = CameraConfig


def open_source(config: CameraConfig, split: str) -> Any:
    """The source it sees is opened for the same split.

    Raises:
        UserError: no source is named.
    """
    from muybridge.data.camera import CameraSource
    from muybridge.data.registry import make_source

    if not config.of:
        raise UserError("data.of: name the source whose clips the camera sees, with its settings")
    return CameraSource(config, make_source(config.of, split))
