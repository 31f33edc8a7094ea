"""WebDataset shards: a tar whose members KEY.ENDING of one KEY are a clip and its caption.

KEY is a member's path up to the first dot of its name, as WebDataset has it, or up to its last dot. The caption is, in
this order: one of those that KEY.json lists with shares (as `muybridge curate` writes), KEY.txt, any KEY.*.txt or
KEY.caption, the caption in KEY.json, or KEY.cls.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muybridge.data.captions import Report, caption_of
from muybridge.errors import UserError
from muybridge.texts import text_of

SHARDS = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2")
TEXTS = (".txt", ".caption", ".json", ".cls")
#: Bytes; a caption's member that is larger is none.
MOST_TEXT = 2**20
#: A compressed shard that unpacks to more times its size was made to fill a disk: film does not compress.
MOST_RATIO = 100


@dataclass(frozen=True)
class Member:
    """A clip of a shard: its member's name, its caption, and a file with its bytes that lives until the next one."""

    name: str
    caption: str
    file: Path


def is_shard(path: Path) -> bool:
    return path.name.lower().endswith(SHARDS)


def clips_of_shard(path: Path, name: str, endings: set[str] | frozenset[str], report: Report) -> Iterator[Member]:
    """The clips of a shard that have a caption; everything else in it has a line in the report.

    Args:
        name: the shard's, for the report.
        endings: of members that are clips, with their dots.
    """
    try:
        texts, strays = _texts_and_strays(path, endings)
        for stray, reason in strays:
            report.append({"file": f"{name}/{stray}", "action": "dropped", "reason": reason})
        with tarfile.open(path) as tar, tempfile.TemporaryDirectory() as scratch:
            for member in tar:
                if not member.isfile() or _ending(member.name) not in endings:
                    continue
                where = f"{name}/{member.name}"
                try:
                    words = _caption(member.name, texts)
                except (UserError, ValueError, RecursionError) as error:
                    report.append({"file": where, "action": "dropped", "reason": f"its caption: {error}"})
                    continue
                if not words:
                    reason = f"no caption: neither {_stem(member.name)}.txt nor a caption in its .json"
                    report.append({"file": where, "action": "dropped", "reason": reason})
                    continue
                file = Path(scratch) / f"clip{_ending(member.name)}"  # never a name from inside the tar
                data = tar.extractfile(member)
                assert data is not None
                with open(file, "wb") as out:
                    shutil.copyfileobj(data, out)
                yield Member(member.name, words, file)
    except (tarfile.TarError, EOFError, OSError) as error:
        report.append({"file": name, "action": "dropped", "reason": f"not a readable tar to its end: {error}"})


def _texts_and_strays(path: Path, endings: set[str] | frozenset[str]) -> tuple[dict[str, bytes], list[tuple[str, str]]]:
    """First pass: what the members that are texts hold, and what is neither text nor clip."""
    texts: dict[str, bytes] = {}
    clips: list[str] = []
    strays: list[tuple[str, str]] = []
    most = MOST_RATIO * path.stat().st_size if path.suffix != ".tar" else None
    unpacked = 0
    with tarfile.open(path) as tar:
        for member in tar:
            unpacked += member.size
            if most is not None and unpacked > most:
                raise tarfile.TarError(f"unpacks to more than {MOST_RATIO} times its size")
            if member.isdir():
                continue
            if not member.isfile():
                strays.append((member.name, "a link or device, which is not followed"))
            elif _ending(member.name) in TEXTS:
                if member.size > MOST_TEXT:
                    strays.append((member.name, f"a text of {member.size} bytes; at most {MOST_TEXT} are read"))
                    continue
                data = tar.extractfile(member)
                assert data is not None
                texts[member.name] = data.read()
            elif _ending(member.name) not in endings:
                strays.append((member.name, "neither clip nor caption"))
            else:
                clips.append(member.name)
    described = {_stem(c) for c in clips} | {_key(c) for c in clips if not _numbered(c, _key(c))}
    for name in texts:
        if _stem(name) not in described and (_numbered(name, _key(name)) or _key(name) not in described):
            strays.append((name, "a text beside no clip of the shard"))
    return texts, strays


def _ending(name: str) -> str:
    return Path(name).suffix.lower()


def _stem(name: str) -> str:
    return name.rpartition(".")[0]


def _key(name: str) -> str:
    """WebDataset's key: the path up to the first dot of the file's name."""
    folder, slash, file = name.rpartition("/")
    return f"{folder}{slash}{file.partition('.')[0]}"


def _numbered(name: str, key: str) -> bool:
    """Whether what follows a key's dot is part of a number, a date or a version rather than an ending."""
    return name[len(key) + 1 : len(key) + 2].isdigit()


def _caption(member: str, texts: Mapping[str, bytes]) -> str:
    stem, key = _stem(member), _key(member)
    mine = [n for n in texts if _stem(n) == stem]
    if not _numbered(member, key):  # 0.5.mp4 and 0.7.txt are two clips' own
        mine += [n for n in texts if _stem(n) != stem and _key(n) == key and not _numbered(n, key)]
    by_ending: dict[str, list[str]] = {}
    for name in mine:
        by_ending.setdefault(_ending(name), []).append(name)

    def read(name: str) -> str:
        return text_of(texts[name], name.rpartition("/")[2])

    def parsed(name: str) -> Any:
        return json.loads(read(name))

    ways: list[tuple[str, Callable[[str], str]]] = [
        (".json", lambda n: _drawn(parsed(n), stem)),
        (".txt", read),
        (".caption", read),
        (".json", lambda n: caption_of(parsed(n))),
        (".cls", read),
    ]
    for ending, way in ways:
        for name in by_ending.get(ending, []):
            words = way(name).strip()
            if words:
                return words
    return ""


def _drawn(row: Any, key: str) -> str:
    """Of the captions that a JSON lists with their shares, one drawn by the key, so that the set holds them in these
    shares; "" where it lists none."""
    try:
        listed = [(str(c["text"]), float(c["share"])) for c in row["captions"]]
    except (KeyError, TypeError, ValueError):
        return ""
    drawn = int(hashlib.sha256(key.encode()).hexdigest()[:12], 16) / 16**12 * sum(share for _, share in listed)
    for text, share in listed:
        drawn -= share
        if drawn < 0:
            return text
    return listed[-1][0] if listed else ""
