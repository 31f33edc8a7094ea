"""What a video's frames depend on beside its model and its source - pictures, ControlNets, other networks: named so
that the name holds from any working folder, hashed, and looked at again by a replay."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muybridge.errors import UserError
from muybridge.files import ZOO, sha256_of
from muybridge.library.catalogue import model_hash

if TYPE_CHECKING:
    from muybridge.making.base import Read

#: What is used -> how it is hashed: a folder of weights (`model_hash`), a file's bytes, a picture's pixels.
FOLDER, FILE, PICTURE = KINDS = ("folder", "file", "picture")


def whole_path(path: str) -> str:
    """The path from the root of a file or folder that is there; anything else as it is."""
    found = Path(path).expanduser()
    return os.path.abspath(found) if path and found.exists() else path


def whole_name(name: str) -> str:
    """`whole_path` of what may be bundled, whose name stays."""
    return name if is_bundled(name) else whole_path(name)


def is_bundled(name: str) -> bool:
    """Whether a model or a part of this name lies in the package."""
    return bool(name) and not Path(name).is_absolute() and (ZOO / name).exists()


def place_of(name: str) -> Path:
    """Where something used lies."""
    return ZOO / name if is_bundled(name) else Path(name)


def hashes(used: Mapping[str, str], read: Read | None) -> dict[str, dict[str, str]]:
    """What is recorded of what is used: {name: {"kind", "hash"}}."""
    return {name: {"kind": kind, "hash": _hash(name, kind, read)} for name, kind in used.items()}


def check_unchanged(files: Mapping[str, Any], read: Read) -> None:
    """Refuse to make a video again from other files than it was made from.

    Raises:
        UserError: one is gone, or has changed.
    """
    for name, about in files.items():
        if not place_of(name).exists():
            raise UserError(f"{name}: is not there any more, and this video was made with it; put it back to replay")
        if _hash(name, about["kind"], read) != about["hash"]:
            raise UserError(f"{name} has changed since this video was made with it; put the former one back to replay")


def _hash(name: str, kind: str, read: Read | None) -> str:
    place = place_of(name)
    if kind == FOLDER:
        return model_hash(place)
    if kind == FILE:
        return sha256_of(place)
    from muybridge.making.record import frames_hash

    assert read is not None
    return frames_hash(read(name, 1).frames[:1])
