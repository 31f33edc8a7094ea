"""Files and folders that appear whole under their name or not at all, and never at the cost of what a user has
there."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain, count
from pathlib import Path
from typing import Any

from muybridge.errors import UserError

#: The bundled models and parts, inside the package.
ZOO = Path(__file__).parent / "zoo"
#: How the names of files begin that are not whole yet.
UNFINISHED = ".unfinished-"
#: In each folder that was written whole: which files, and their sizes and hashes.
RECORD = ".written-by-muybridge.json"
#: How refusals of a folder end.
KEPT = "nothing was changed. Give a new or an empty folder"


def cache_folder() -> Path:
    """Where what can be made again is kept: MUYBRIDGE_CACHE, or ~/.cache/muybridge."""
    return Path(os.environ.get("MUYBRIDGE_CACHE", "~/.cache/muybridge")).expanduser()


def check_replaceable(folder: Path, what: str, origin: str = "", keep: bool = False) -> None:
    """Refuse to write over anything that muybridge did not put there itself, as its record in the folder says.

    Args:
        what: what will be written, in words ("a store of clips").
        origin: what it is made from; a folder made from anything else is left alone.
        keep: other files in a folder of ours stay (`whole_folder`), so they are no reason to refuse.

    Raises:
        UserError: a file, a folder without a record of `what`, or one that holds other or changed files; nothing was
            changed.
    """

    def stranger() -> str | None:
        record = _record_of(folder)
        if record.get("what") != what:
            return next((p.name for p in sorted(folder.iterdir())), None)
        if origin != record.get("origin", ""):
            raise UserError(f"{folder}: holds {what} from {record.get('origin')}, not from {origin}; {KEPT}")
        return None if keep else next(_strangers(folder, record["files"]), None)

    check_own_folder(folder, what, stranger)


def check_own_folder(folder: Path, what: str, stranger: Callable[[], str | None]) -> None:
    """Refuse a folder that is not muybridge's own; one that is not there is nobody's.

    Args:
        what: what will be written there, in words.
        stranger: looks for a file in the folder that is not of `what`; None if there is none.

    Raises:
        UserError: a file, or a folder with a stranger; nothing was changed.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"{folder}: is a file; {what} needs a folder of its own")
    found = stranger()
    if found is not None:
        raise UserError(f"{folder}: holds {found!r}, which is not of {what} that muybridge wrote; {KEPT}")


@contextmanager
def whole_folder(
    folder: Path, what: str, origin: str = "", keep: bool = False, same: Callable[[Path], bool] = lambda folder: False
) -> Iterator[Path]:
    """A folder of one's own beside `folder` that takes its place when the block ends well and vanishes when it does
    not.

    Two writers of one folder never meet: each has its own. What was written is recorded in the folder (`RECORD`), so
    that the next writer knows it from a user's files.

    Args:
        folder, what, origin: as for `check_replaceable`.
        keep: files of the former folder that muybridge did not write, or that were changed since, stay.
        same: whether the folder that is there by the end is as good as the new one (another process was first): it
            stays.

    Raises:
        UserError: a folder that holds anything else, before the block and again when it is replaced.
    """
    folder = _followed(folder)
    check_replaceable(folder, what, origin, keep)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}.unfinished-", dir=folder.parent))
    except OSError as error:
        raise UserError(
            f"{folder}: cannot write here ({error.strerror}); name another place (MUYBRIDGE_CACHE moves the caches)"
        ) from error
    try:
        yield unfinished
        if folder.exists() and same(folder):
            return
        files = {p.relative_to(unfinished).as_posix(): _print_of(p) for p in files_in(unfinished)}
        if keep and folder.exists():
            check_replaceable(folder, what, origin, keep)
            _carry_over(folder, unfinished, files)
        write_json(unfinished / RECORD, {"what": what, "origin": origin, "files": files})
        unfinished.chmod(0o777 & ~_umask())
        _take_place(unfinished, folder, lambda former: check_replaceable(former, what, origin, keep))
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def record_written(folder: Path, names: Collection[str]) -> None:
    """Add to the record of a folder of ours what was written there after it was whole."""
    record = _record_of(folder)
    record["files"] |= {name: _print_of(folder / name) for name in names}
    write_json(folder / RECORD, record)


def _record_of(folder: Path) -> dict[str, Any]:
    """What muybridge wrote into a folder; empty where it wrote nothing."""
    try:
        record = read_mapping(folder / RECORD)
    except UserError:
        return {}
    return record if isinstance(record.get("files"), dict) else {}


def files_in(folder: Path) -> Iterator[Path]:
    """Files at any depth, and links: a linked folder is one, never entered."""
    for parent, folders, files in os.walk(folder):
        links = [f for f in folders if (Path(parent) / f).is_symlink()]
        yield from (Path(parent) / name for name in sorted([*files, *links]))


def _strangers(folder: Path, ours: Mapping[str, str]) -> Iterator[str]:
    """Relative paths of files that are not recorded or were changed since; a large foreign folder costs nothing."""
    for path in files_in(folder):
        name = path.relative_to(folder).as_posix()
        if name != RECORD and ours.get(name) != _print_of(path):
            yield name


def _print_of(path: Path) -> str:
    """A file's size and hash: tells an edited file from ours."""
    if path.is_symlink() or not path.is_file():
        return "link"
    return f"{path.stat().st_size}-{sha256_of(path)[:32]}"


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _carry_over(folder: Path, unfinished: Path, new: Mapping[str, str]) -> None:
    """Copy what a user added to a folder of ours, or changed there, into its successor."""
    for name in _strangers(folder, _record_of(folder).get("files", {})):
        if name in new:
            raise UserError(f"{folder / name}: was changed since muybridge wrote it and would be lost; {KEPT}")
        (unfinished / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(folder / name, unfinished / name, follow_symlinks=False)
    for parent, folders, files in os.walk(folder):
        if not folders and not files:  # an empty folder of theirs
            (unfinished / Path(parent).relative_to(folder)).mkdir(parents=True, exist_ok=True)


def _take_place(unfinished: Path, folder: Path, check: Callable[[Path], None]) -> None:
    """Rename to a new name, or change places with a folder of ours; checked once it is out of others' reach, and put
    back if a user's file came into it meanwhile."""
    for _ in range(100):
        try:
            unfinished.rename(folder)
            return
        except OSError:
            if not folder.is_dir():
                raise
        if _exchange(unfinished, folder):
            try:
                check(unfinished)
            except UserError as error:
                _exchange(unfinished, folder)
                raise UserError(str(error).replace(str(unfinished), str(folder))) from error
        else:
            check(folder)
            former = unfinished.with_name(f"{unfinished.name}.former")
            with suppress(FileNotFoundError):  # another writer has just moved it away
                folder.rename(former)
            shutil.rmtree(former, ignore_errors=True)
            continue
        return
    raise UserError(f"{folder}: others keep writing this folder; give one of its own")


def _exchange(one: Path, other: Path) -> bool:
    """Let two folders change names in one step (Linux); False where the system cannot."""
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE of linux/fs.h
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    return bool(rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its name, on disk, when the block ends well and vanishes when it does
    not; what a kill leaves behind is named `UNFINISHED`.

    Raises:
        UserError: a place that cannot be written.
    """
    path = _followed(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=UNFINISHED, suffix=path.suffix, dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise UserError(f"{path}: cannot write here ({error.strerror}); choose another output") from error
    unfinished = Path(name)
    try:
        yield unfinished
        unfinished.chmod(0o666 & ~_umask())
        with open(unfinished, "rb") as file:
            os.fsync(file.fileno())
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
    path = _followed(path)
    missing = [folder for folder in path.parents if not folder.exists()]
    probe = path.with_name(f".probe-{os.getpid()}-{path.name}")
    with whole_file(probe) as unfinished:
        unfinished.write_bytes(b"")
    probe.unlink()
    for folder in missing:
        folder.rmdir()


def _followed(path: Path) -> Path:
    """The file that a link names, which is written in its place: the link stays."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def next_free(path: Path) -> Path:
    """The path, or NAME-2, NAME-3, ...: the first that nothing has yet, for an output that nobody named."""
    names = (path.with_stem(f"{path.stem}-{i}") for i in count(2))
    return next(p for p in chain([path], names) if not (p.exists() or p.is_symlink()))


def read_mapping(path: Path) -> dict[str, Any]:
    """A JSON file that holds keys and values.

    Raises:
        UserError: it is missing, not UTF-8, no JSON, nested too deeply, or no mapping.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        missing = isinstance(error, FileNotFoundError)
        why = "is missing" if missing else f"cannot be read as JSON ({str(error)[:200]})"
        raise UserError(f"{path}: {why}; copy it again") from error
    if not isinstance(found, dict):
        raise UserError(f"{path}: expected keys and values in braces, got {type(found).__name__}")
    return found


def write_text(path: Path, text: str) -> None:
    """Write a text file whole (`whole_file`)."""
    with whole_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def write_json(path: Path, values: Any) -> None:
    """Write a JSON file whole (`whole_file`)."""
    write_text(path, json.dumps(values, indent=1, sort_keys=True) + "\n")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
