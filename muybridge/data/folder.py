"""A user's own clips: a folder of videos, or of folders of frames, with captions in `.txt` files or one JSONL.

The rules: every file is either used or has a line in the report. A clip is `NAME.mp4` (or any ending of
`reading/formats.py`), a folder of pictures, or a picture (a clip of one frame). Its caption is `NAME.txt` beside it, or
the line of captions.jsonl with {"file": "NAME.mp4", "caption": "..."}. A WebDataset shard (.tar) holds both; of a
folder that `muybridge curate` wrote, the shards are read and nothing else. Clips are resampled to the wanted frame
rate, cut into pieces of the wanted length, and resized to cover the wanted size, then cropped in the middle, a frame at
a time: memory does not grow with a file. With `buckets`, each piece goes to the bucket nearest to its shape, and every
batch comes out of one bucket.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from muybridge.data.packs import PackedClip, PackedSource, build_pack, settings_of
from muybridge.data.reading.formats import VIDEOS, FootageError
from muybridge.data.reading.frame_folders import gaps_of, is_picture, pictures_of, rate_of
from muybridge.data.reading.opening import FolderReader, open_reader
from muybridge.data.reading.reader import About, Reader
from muybridge.data.sources.folder import FolderConfig
from muybridge.errors import UserError
from muybridge.files import RECORD, cache_folder
from muybridge.nn.frames import fit_frames

SHARD = ".tar"
CAPTIONS = "captions.jsonl"
#: Writes a line of the report: what was done, and why.
Tell = Callable[[str, str], None]


class FolderSource(PackedSource):
    """The clips of a folder; decoded once into a store and again only when a file or a setting changes."""

    def __init__(self, config: FolderConfig):
        store = build_folder(config)
        super().__init__(store, config.split, 0 if config.buckets else config.num_frames, loops=False)


def build_folder(config: FolderConfig) -> Path:
    """Decode a folder into a store unless it is there already; returns the store.

    Raises:
        UserError: no such folder, no clip in it, or a store of something else.
    """
    root = Path(config.path).expanduser()
    if not root.is_dir():
        raise UserError(f"no folder at {root}")
    settings = {k: v for k, v in asdict(config).items() if k not in ("split", "store")}
    listing = [
        (str(p.relative_to(root)), p.stat().st_size, p.stat().st_mtime_ns)
        for p in sorted(root.rglob("*"))
        if p.is_file()
    ]
    key = hashlib.sha256(json.dumps([settings, listing]).encode()).hexdigest()[:20]
    store = Path(config.store).expanduser() if config.store else cache_folder() / "packs" / key
    if (settings_of(store) or {}).get("key") == key:
        return store
    report: list[dict[str, str]] = []
    build_pack(store, _pieces(root, config, report), report, {}, {**settings, "key": key}, str(root.resolve()))
    return store


def _pieces(root: Path, config: FolderConfig, report: list[dict[str, str]]) -> Iterator[tuple[PackedClip, np.ndarray]]:
    captions = _read_captions(root, report)
    if (root / "manifest.parquet").is_file() and (root / "shards").is_dir():
        root = root / "shards"
    for path in _clip_paths(root, report):
        name = path.relative_to(root).as_posix()
        if path.suffix.lower() == SHARD:
            yield from _shard(path, name, config, report)
            continue
        caption = captions.pop(name, None) or _caption_beside(path)
        if not caption:
            report.append(
                {
                    "file": name,
                    "action": "dropped",
                    "reason": f"no caption: neither {path.stem}.txt nor a line in {CAPTIONS}",
                }
            )
            continue
        yield from _cut(path, name, caption, config, report)
    for name in captions:
        report.append({"file": name, "action": "dropped", "reason": f"named in {CAPTIONS}, but no such clip"})


def _shard(
    path: Path, name: str, config: FolderConfig, report: list[dict[str, str]]
) -> Iterator[tuple[PackedClip, np.ndarray]]:
    """The clips of a WebDataset shard: members KEY.mp4 and KEY.txt."""
    try:
        with tarfile.open(path) as tar, tempfile.TemporaryDirectory() as scratch:
            members = {m.name: m for m in tar.getmembers() if m.isfile()}
            for member in members:
                key, _, ending = member.rpartition(".")
                if f".{ending.lower()}" not in VIDEOS:
                    continue
                caption = _shard_caption(tar, members, key)
                if not caption:
                    report.append({"file": f"{name}/{member}", "action": "dropped", "reason": f"no caption: {key}.txt"})
                    continue
                data = tar.extractfile(members[member])
                assert data is not None
                file = Path(scratch) / f"clip.{ending}"  # never a name from inside the tar
                with open(file, "wb") as copy:
                    shutil.copyfileobj(data, copy)
                yield from _cut(file, f"{name}/{member}", caption, config, report)
    except tarfile.TarError as error:
        report.append({"file": name, "action": "dropped", "reason": f"not a readable tar: {error}"})


def _shard_caption(tar: tarfile.TarFile, members: dict[str, tarfile.TarInfo], key: str) -> str:
    """Of the captions that KEY.json lists with their shares, one drawn by the key, so that the set holds them in these
    shares; else KEY.txt's."""

    def read(ending: str) -> str:
        found = tar.extractfile(members[f"{key}.{ending}"]) if f"{key}.{ending}" in members else None
        return found.read().decode("utf-8").strip() if found else ""

    try:
        listed = [(str(c["text"]), float(c["share"])) for c in json.loads(read("json") or "{}").get("captions", [])]
    except (json.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
        listed = []
    if not listed:
        return read("txt")
    drawn = int(hashlib.sha256(key.encode()).hexdigest()[:12], 16) / 16**12 * sum(share for _, share in listed)
    for text, share in listed:
        drawn -= share
        if drawn < 0:
            return text
    return listed[-1][0]


def _cut(
    path: Path, name: str, caption: str, config: FolderConfig, report: list[dict[str, str]]
) -> Iterator[tuple[PackedClip, np.ndarray]]:
    """The pieces of one clip, decoded as they are taken; what cannot be used has its line."""

    def tell(action: str, reason: str) -> None:
        report.append({"file": name, "action": action, "reason": reason})

    try:
        with _opened(path, config, tell) as reader:
            for line in reader.told(config.fps):
                tell("converted", line)
            yield from _pieces_of(reader, name, caption, config, tell)
    except FootageError as error:
        tell("dropped", f"not a readable video ({error.kind}): {error.message}")
    except MemoryError:
        tell("dropped", "not enough memory to decode it: make it smaller first, or free some")


def _opened(path: Path, config: FolderConfig, tell: Tell) -> Reader:
    """A reader of a video, a picture or a folder of pictures.

    Raises:
        FootageError: it cannot be opened.
    """
    if not path.is_dir():
        if not path.is_file():
            raise FootageError("missing", "no file is there: a link that leads nowhere, or no ordinary file")
        return open_reader(path)
    pictures = pictures_of(path)
    missing = gaps_of([p.name for p in pictures])
    if missing:
        tell("gap", f"no picture is numbered {missing}; those around follow each other")
    return FolderReader(pictures, rate_of(path, config.picture_fps))


def _pieces_of(
    reader: Reader, name: str, caption: str, config: FolderConfig, tell: Tell
) -> Iterator[tuple[PackedClip, np.ndarray]]:
    about = reader.about
    expected, fps = about.rhythm.frames_at(config.fps), config.fps or about.rhythm.fps
    if config.buckets:
        config = _bucket(about, expected, config)
    shape = (config.num_frames, config.height, config.width, 3)
    held: list[np.ndarray] = []
    before, fitted, pieces, broken = None, np.zeros(0, np.uint8), 0, ""
    pictures = reader.pictures(config.fps)
    while not (config.max_pieces and pieces == config.max_pieces):
        try:
            picture = next(pictures, None)
        except FootageError as error:
            broken, picture = error.message, None
        if picture is None:
            break
        if picture is not before:
            before, fitted = picture, fit_frames(picture[None], config.height, config.width)[0]
        held.append(fitted)
        if len(held) == config.num_frames:
            yield PackedClip(caption, caption.lower().strip(), shape, fps, name), np.stack(held)
            held, pieces = [], pieces + 1
    if broken:
        tell("trimmed" if held or pieces else "dropped", broken)
    if pieces and pieces == config.max_pieces:
        if expected // config.num_frames > pieces:
            tell("trimmed", f"{expected // config.num_frames} pieces, max_pieces is {pieces}")
    elif held and pieces:
        tell("trimmed", f"the last {len(held)} frames do not fill a piece of {config.num_frames}")
    elif held:
        frames = _lengthened(held, fps, config, tell)
        if frames is not None:
            yield PackedClip(caption, caption.lower().strip(), shape, fps, name), frames


def _lengthened(held: list[np.ndarray], fps: float, config: FolderConfig, tell: Tell) -> np.ndarray | None:
    """A clip of fewer frames than a piece made as long, as `short` says; None for dropping it."""
    said = f"{len(held)} frames at {fps:g} fps, fewer than {config.num_frames}"
    if config.short == "drop":
        tell("dropped", f"{said}; data.short: hold or loop would keep it")
        return None
    tell("lengthened", f"{said}: {config.short}")
    mode: Any = "edge" if config.short == "hold" else "wrap"
    return np.pad(np.stack(held), ((0, config.num_frames - len(held)), (0, 0), (0, 0), (0, 0)), mode=mode)


def _bucket(about: About, count: int, config: FolderConfig) -> FolderConfig:
    """The settings with the size and length of a clip's bucket."""
    aspect = math.log(about.width / about.height)
    nearest = min(abs(math.log(w / h) - aspect) for _, h, w in config.buckets)
    fitting = [b for b in config.buckets if abs(math.log(b[2] / b[1]) - aspect) < nearest + 1e-9]
    filled = [b for b in fitting if b[0] <= count]
    frames, height, width = max(filled) if filled else min(fitting)
    return replace(config, num_frames=frames, height=height, width=width)


def _clip_paths(root: Path, report: list[dict[str, str]]) -> Iterator[Path]:
    frame_folders: set[Path] = set()
    for path in sorted(root.rglob("*")):
        if path.is_dir() or path.name in (CAPTIONS, RECORD):
            continue
        if is_picture(path):
            folder = path.parent
            if folder == root or ((folder.parent / f"{folder.name}.txt").is_file() is False and _caption_beside(path)):
                yield path
            elif folder not in frame_folders:
                frame_folders.add(folder)
                yield folder
        elif path.suffix.lower() in (*VIDEOS, SHARD):
            yield path
        elif path.suffix.lower() != ".txt":
            report.append(
                {
                    "file": path.relative_to(root).as_posix(),
                    "action": "dropped",
                    "reason": "neither video, picture nor caption",
                }
            )


def _caption_beside(path: Path) -> str:
    beside = path.parent / f"{path.name if path.is_dir() else path.stem}.txt"
    return beside.read_text(encoding="utf-8").strip() if beside.is_file() else ""


def _read_captions(root: Path, report: list[dict[str, str]]) -> dict[str, str]:
    path = root / CAPTIONS
    if not path.is_file():
        return {}
    found = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            found[str(entry["file"])] = str(entry["caption"])
        except (json.JSONDecodeError, KeyError, TypeError):
            report.append(
                {"file": f"{CAPTIONS}:{number}", "action": "dropped", "reason": 'not {"file": ..., "caption": ...}'}
            )
    return found
