"""Where a command writes, checked before anything heavy is loaded: never over what it reads, nor over a file that is
not of its kind."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from muybridge.errors import UserError, nearest
from muybridge.files import check_writable, files_in, read_mapping

ENDINGS = ("mp4", "gif", "webp", "png", "npy")
#: In a recipe's `data` section, the settings that are files or folders.
PLACES = ("path", "store")


def check_outputs(paths: Sequence[Path], reads: Iterable[Path] = (), endings: Sequence[str] = ENDINGS) -> None:
    """Refuse outputs that cannot be written or that would cost a user a file.

    Args:
        reads: files and folders that the command reads.

    Raises:
        UserError: a folder, an unknown ending, a file that is read, a record beside a .npy that is not ours, or a place
            that cannot be written.
    """
    reads = list(reads)
    for path in paths:
        if path.is_dir():
            raise UserError(f"{path}: is a folder; give the name of a file")
        ending = path.suffix.lower().removeprefix(".")
        if ending not in endings:
            what = path.suffix or "a file without ending"
            raise UserError(f"{path}: cannot write {what}; {nearest(ending, endings)}")
        for written in _written(path):
            if written.is_dir():
                raise UserError(f"{written}: is a folder, where a record is written beside {path.name}; move it away")
            _check_apart(written, reads)
            if written != path:
                _check_record(written, path)
            check_writable(written)


def check_length(paths: Iterable[Path], length: Callable[[], int]) -> None:
    """Refuse a .png for a video, before it is made.

    Args:
        length: counts the frames; 1, or more.

    Raises:
        UserError: names the endings for a video.
    """
    for path in paths:
        if path.suffix.lower() == ".png" and length() > 1:
            raise UserError(f"{path}: a .png holds one frame, this video has more; choose .mp4, .gif or .webp")


def places_in(data: object) -> list[Path]:
    """The files and folders that a recipe's `data` section names, at any depth."""
    if isinstance(data, dict):
        own = [Path(v).expanduser() for k, v in data.items() if k in PLACES and isinstance(v, str) and v]
        return own + [place for inner in data.values() for place in places_in(inner)]
    return [place for inner in data for place in places_in(inner)] if isinstance(data, list | tuple) else []


def _written(path: Path) -> list[Path]:
    """The files that are written for an output: a .npy has its record beside it."""
    return [path, Path(f"{path}.json")] if path.suffix.lower() == ".npy" else [path]


def _check_apart(path: Path, reads: Sequence[Path]) -> None:
    """Refuse what is read, or lies in a folder that is, through links as well."""
    real = Path(os.path.realpath(path))
    for read in reads:
        if not read.exists():
            continue
        if path.exists() and path.samefile(read):
            raise UserError(f"{path}: is {read} itself, which is read and would be lost; give another --output")
        if read.is_dir() and (Path(os.path.realpath(read)) in real.parents or _holds(read, path)):
            raise UserError(f"{path}: lies in {read}, which is read and would be changed; give another --output")


def _holds(folder: Path, path: Path) -> bool:
    """Whether a file is one of a folder's by another name."""
    return path.exists() and any(file.exists() and path.samefile(file) for file in files_in(folder))


def _check_record(beside: Path, path: Path) -> None:
    """Refuse to write a record over what is none."""
    if not beside.exists():
        return
    try:
        ours = "frames_sha256" in read_mapping(beside)
    except UserError:
        ours = False
    if not ours:
        raise UserError(
            f"{beside}: is no record of muybridge, and that of {path.name} would take its place; give another --output"
        )
