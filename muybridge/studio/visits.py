"""Who looks at the page, what is theirs, and which folders may be read."""

from __future__ import annotations

import hashlib
import re
import secrets
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from muybridge.errors import UserError
from muybridge.files import next_free, sha256_of, whole_file
from muybridge.library.catalogue import split_lora
from muybridge.making.used import is_bundled

#: The cookie that tells one browser from another, and how it looks.
COOKIE, TOKEN = "muybridge", re.compile(r"[A-Za-z0-9_-]{32}")
#: A name that a user gives to a run or a file of theirs.
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,40}")
#: Endings of what is made, and how its files are named.
VIDEOS = (".mp4", ".gif", ".webp", ".png")
RESULT = re.compile(r"[a-z0-9][a-z0-9-]*\.(mp4|gif|webp|png)")


def new_token() -> str:
    """A name for a browser that nobody guesses."""
    return secrets.token_urlsafe(24)


@dataclass
class Studio:
    """The page's own folder, and the folders that it may read.

    Attributes:
        folder: holds one folder a visitor, and what they uploaded.
        allowed: folders of clips, footage, models and recipes that visitors may name.
    """

    folder: Path
    allowed: tuple[Path, ...] = ()
    _visitors: dict[str, Visitor] = field(default_factory=dict)

    def visitor(self, token: str) -> Visitor:
        """The one with this cookie; their folder's name does not tell it.

        Raises:
            UserError: no cookie of ours, as with a browser that takes none.
        """
        if not TOKEN.fullmatch(token):
            raise UserError("this browser sends no cookie, which tells its files from others'; allow cookies, reload")
        name = hashlib.sha256(token.encode()).hexdigest()[:24]
        if name not in self._visitors:
            self._visitors[name] = Visitor(self, name, self.folder.absolute() / "visitors" / name)
        return self._visitors[name]


@dataclass
class Visitor:
    """A browser with its own files.

    Attributes:
        running: what its newest command is watched by.
        stopped: when its Stop was pressed last, by its own clock; what was asked for before is not begun any more.
    """

    studio: Studio
    name: str
    folder: Path
    running: Any = None
    stopped: float = 0.0

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    def results(self) -> list[Path]:
        """What was made here, the newest first."""
        found = [p for p in self.folder.iterdir() if p.suffix in VIDEOS and not p.name.startswith(".")]
        return sorted(found, key=lambda p: (p.stat().st_mtime, p.name), reverse=True)

    def own(self, name: str) -> Path:
        """A file of theirs.

        Raises:
            UserError: there is none of this name in their folder.
        """
        path = self.folder / name
        if not RESULT.fullmatch(name) or path.is_symlink() or not path.is_file():
            raise UserError(f"no file {name!r} of yours here")
        return path

    def next_output(self, command: str, ending: str = ".mp4") -> Path:
        """The next free name for what a command makes."""
        return next_free(self.folder / f"{command}{ending}")

    def taken(self, upload: str) -> Path:
        """A file that was uploaded, kept under a name that says what it is: a replay looks for it there."""
        source = Path(upload)
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", source.name).strip(".-") or "upload"
        kept = self.folder / "sources" / f"{sha256_of(source)[:12]}-{stem[-60:]}"
        if not kept.exists():
            with whole_file(kept) as unfinished:
                shutil.copyfile(source, unfinished)
        return kept

    def new_folder(self, kind: str, name: str) -> Path:
        """A folder of theirs by a name of theirs: runs/NAME, clips/NAME.

        Raises:
            UserError: a name that could lead elsewhere.
        """
        if not NAME.fullmatch(name):
            raise UserError(f"{name!r}: a name is small letters, digits and dashes, at most 41; such as my-clips")
        return self.folder / kind / name

    def check_path(self, text: str, what: str) -> Path:
        """A path that a visitor named, if it lies where they may read.

        Raises:
            UserError: it lies elsewhere, through links as well.
        """
        if not text.strip() or "\0" in text:
            raise UserError(f"no {what}: expected a path, got {text!r}")
        path = Path(text).expanduser()
        real = path.resolve()
        roots = [self.folder, *self.studio.allowed]
        if not any(real == root.resolve() or root.resolve() in real.parents for root in roots):
            allowed = ", ".join(str(root) for root in self.studio.allowed) or "none"
            raise UserError(
                f"{what}: {text} lies outside the folders that this page may read ({allowed}); "
                "start it with: muybridge studio --allow FOLDER"
            )
        return path

    def check_named(self, texts: Iterable[str]) -> None:
        """Refuse those of a command's arguments that are files or folders elsewhere. Jobs run where the page does, so
        a relative path means here what it means there.

        Args:
            texts: as the command gets them, an argument each: of a box with several lines, the lines.

        Raises:
            UserError: names it.
        """
        for text in texts:
            for name in _parts(text):
                if name and _exists(name) and not is_bundled(name):
                    self.check_path(name, "not allowed")


def _parts(text: str) -> set[str]:
    """What of an argument may be a path: itself, FILE of FILE:SCALE, VALUE of NAME=VALUE, both of NAME=FILE:SCALE."""
    found = {text, text.partition("=")[2], text.rpartition("=")[2]}
    found |= {part.rpartition(":")[0] for part in found} | {part.partition(":")[2] for part in found}
    with suppress(UserError):  # no LoRA at all: the command says what it takes
        found.add(split_lora(text)[0])
    return found | {part.strip() for part in found}


def _exists(text: str) -> bool:
    try:
        return Path(text).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # too long, a zero byte, nobody's home: no path
        return False
