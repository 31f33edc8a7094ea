"""Files and folders that appear whole under their name or not at all, and never at the cost of what a user has
there."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from muybridge.errors import UserError

#: The bundled models and parts, inside the package.
ZOO = Path(__file__).parent / "zoo"


def cache_folder() -> Path:
    """Where what can be made again is kept: MUYBRIDGE_CACHE, or ~/.cache/muybridge."""
    return Path(os.environ.get("MUYBRIDGE_CACHE", "~/.cache/muybridge")).expanduser()


def strange_files(folder: Path, known: Collection[str]) -> list[str]:
    """What lies in a folder, at any depth, beside files whose relative path fits one of the patterns; broken links too.

    A path fits if it or one of its parents does ("network" stands for all that is in it). The walk ends at the first
    strange file, so that a large foreign folder costs nothing.
    """

    def fits(relative: Path) -> bool:
        names = (relative, *relative.parents[:-1])
        return any(fnmatch(name.as_posix(), pattern) for name in names for pattern in known)

    for parent, folders, files in os.walk(folder):
        inside = Path(parent).relative_to(folder)
        links = [f for f in folders if (Path(parent) / f).is_symlink()]  # a linked folder is a user's own
        for name in sorted([*files, *links]):
            if not fits(inside / name):
                return [(inside / name).as_posix()]
        folders[:] = [f for f in folders if not any(fnmatch((inside / f).as_posix(), p) for p in known)]
    return []


def check_replaceable(
    folder: Path, known: Collection[str], what: str, made_here: Callable[[Path], bool] = lambda folder: True
) -> None:
    """Refuse to write into a folder that holds what muybridge did not put there.

    Args:
        known: patterns of the relative paths that `what` consists of.
        what: in words, for the message.
        made_here: whether a folder of such files was written by muybridge (its index is one of ours).

    Raises:
        UserError: it is a file, or holds anything else; nothing was changed.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"{folder}: is a file; {what} needs a folder of its own")
    if not any(folder.iterdir()):
        return
    strange = strange_files(folder, known)
    if strange or not made_here(folder):
        found = strange[0] if strange else next(p.name for p in sorted(folder.iterdir()))
        raise UserError(
            f"{folder}: holds {found!r}, which is not of {what} that muybridge wrote; nothing was changed. "
            "Give a new or an empty folder"
        )


@contextmanager
def whole_folder(
    folder: Path,
    known: Collection[str],
    what: str,
    made_here: Callable[[Path], bool] = lambda folder: True,
    same: Callable[[Path], bool] = lambda folder: False,
) -> Iterator[Path]:
    """A folder of one's own beside `folder` that takes its place when the block ends well and vanishes when it does
    not.

    Two writers of one folder never meet: each has its own.

    Args:
        folder, known, what, made_here: as for `check_replaceable`.
        same: whether the folder that is there by the end is as good as the new one (another process was first): it
            stays.

    Raises:
        UserError: a folder that holds anything else, before the block and again before it is replaced.
    """
    check_replaceable(folder, known, what, made_here)
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}.unfinished-", dir=folder.parent))
    try:
        yield unfinished
        unfinished.chmod(0o777 & ~_umask())
        if folder.exists() and same(folder):
            return
        check_replaceable(folder, known, what, made_here)
        _take_place(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _take_place(unfinished: Path, folder: Path) -> None:
    """Rename over a folder whose files are all known, however often another writer is there first."""
    for _ in range(100):
        try:
            unfinished.rename(folder)
            return
        except OSError:
            if not folder.is_dir():
                raise
        former = Path(tempfile.mkdtemp(prefix=f".{folder.name}.former-", dir=folder.parent))
        try:
            folder.rename(former / folder.name)
        except FileNotFoundError:  # another writer has just moved it away
            pass
        finally:
            shutil.rmtree(former, ignore_errors=True)
    raise UserError(f"{folder}: others keep writing this folder; give one of its own")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its name when the block ends well and vanishes when it does not.

    Raises:
        UserError: a place that cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".unfinished-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise UserError(f"{path}: cannot write here ({error.strerror}); choose another output") from error
    unfinished = Path(name)
    try:
        yield unfinished
        unfinished.chmod(0o666 & ~_umask())
        unfinished.replace(path)
    except OSError as error:
        raise UserError(f"{path}: writing failed ({error.strerror or error}); nothing was written") from error
    finally:
        unfinished.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Fail now rather than after minutes of sampling; leaves nothing behind, no new folder either.

    Raises:
        UserError: a place that cannot be written.
    """
    missing = [folder for folder in path.parents if not folder.exists()]
    probe = path.with_name(f".probe-{os.getpid()}-{path.name}")
    with whole_file(probe) as unfinished:
        unfinished.write_bytes(b"")
    probe.unlink()
    for folder in missing:
        folder.rmdir()


def read_mapping(path: Path) -> dict[str, Any]:
    """A JSON file that holds keys and values.

    Raises:
        UserError: it is missing, not UTF-8, no JSON, nested too deeply, or no mapping.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({str(error)[:200]}); copy it again") from error
    if not isinstance(found, dict):
        raise UserError(f"{path}: expected keys and values in braces, got {type(found).__name__}")
    return found


def write_json(path: Path, values: Any) -> None:
    """Write a JSON file whole: under a temporary name, flushed to disk, then renamed."""
    with whole_file(path) as unfinished, open(unfinished, "w", encoding="utf-8") as file:
        json.dump(values, file, indent=1, sort_keys=True)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
