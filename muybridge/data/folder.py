"""A user's own clips: a folder of videos, or of folders of frames, with captions in `.txt` files or one JSONL.

The rules: every file is either used or has a line in the report. A clip is `NAME.mp4` (or any ending of
`reading/formats.py`), a folder of pictures, or a picture (a clip of one frame). Its caption is `NAME.txt` beside it, or
stands in a table (`captions.py`). A WebDataset shard (`webdataset.py`) holds both; of a folder that `muybridge curate`
wrote, the shards are read and nothing else. Clips are resampled to the wanted frame rate, cut into pieces of the wanted
length, and resized to cover the wanted size, then cropped in the middle, a frame at a time: memory does not grow with a
file. With `buckets`, each piece goes to the bucket nearest to its shape, and every batch comes out of one bucket.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from muybridge.data.captions import BESIDE, caption_beside, captions_under, texts_beside
from muybridge.data.packs import PackedClip, PackedSource, build_pack, settings_of
from muybridge.data.reading.formats import PICTURES, VIDEOS, FootageError
from muybridge.data.reading.frame_folders import RATE_FILE, is_picture, pictures_of, rate_of
from muybridge.data.reading.opening import FolderReader, open_reader
from muybridge.data.reading.reader import About, Reader
from muybridge.data.sources.folder import FolderConfig
from muybridge.data.webdataset import clips_of_shard, is_shard
from muybridge.errors import UserError
from muybridge.files import RECORD, cache_folder
from muybridge.nn.frames import fit_frames

#: A clip has at least this share of the pixels of its bucket, where there is such a one (as Open-Sora's; 2412.20404).
LEAST_PIXELS = 0.8
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
    if (root / "manifest.parquet").is_file() and (root / "shards").is_dir():
        root = root / "shards"
    captions = captions_under(root, report)
    for path in _clip_paths(root, captions.files, report):
        name = path.relative_to(root).as_posix()
        if is_shard(path):
            for member in clips_of_shard(path, name, VIDEOS | PICTURES, report):
                yield from _cut(member.file, f"{name}/{member.name}", member.caption, config, report)
            continue
        told = len(report)
        caption = captions.take(name) or caption_beside(path, report, name)
        if not caption and len(report) == told:
            reason = f"no caption: neither {path.stem}.txt nor a line in a table of captions"
            report.append({"file": name, "action": "dropped", "reason": reason})
        if caption:
            yield from _cut(path, name, caption, config, report)
    for name in captions.by_name:
        reason = f"named in {captions.origin[name]}, but no such clip"
        report.append({"file": name, "action": "dropped", "reason": reason})


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
    pictures, odd = pictures_of(path)
    for action, reason in odd:
        tell(action, reason)
    return FolderReader(pictures, rate_of(path, config.picture_fps), lambda line: tell("gap", line))


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
    # of several sizes those to which the clip need not be enlarged by much, else the smallest
    pixels = about.height * about.width
    sharp = [b for b in fitting if b[1] * b[2] * LEAST_PIXELS <= pixels]
    if not sharp:
        least = min(b[1] * b[2] for b in fitting)
        sharp = [b for b in fitting if b[1] * b[2] == least]
    filled = [b for b in sharp if b[0] <= count]
    frames, height, width = max(filled) if filled else min(sharp)
    return replace(config, num_frames=frames, height=height, width=width)


def _clip_paths(root: Path, tables: set[Path], report: list[dict[str, str]]) -> Iterator[Path]:
    frame_folders: set[Path] = set()
    claimed: set[Path] = set()
    texts: list[Path] = []
    for path in sorted(root.rglob("*")):
        if path.is_dir() or path in tables or path.name == RECORD:
            continue
        if is_picture(path):
            folder = path.parent
            claimed.update(texts_beside(path), () if folder in frame_folders else texts_beside(folder))
            if folder == root or (not _captioned(folder) and _captioned(path)):
                yield path
            elif folder not in frame_folders:
                frame_folders.add(folder)
                yield folder
        elif path.suffix.lower() in VIDEOS or is_shard(path):
            claimed.update(texts_beside(path))
            yield path
        elif path.name == RATE_FILE:
            continue
        elif path.suffix.lower() in (*BESIDE, ".json"):
            texts.append(path)
        else:
            reason = "neither video, picture nor caption"
            report.append({"file": path.relative_to(root).as_posix(), "action": "dropped", "reason": reason})
    for path in texts:
        if path not in claimed:
            reason = f"a text beside no clip: there is no video, picture or folder {path.stem}"
            report.append({"file": path.relative_to(root).as_posix(), "action": "dropped", "reason": reason})


def _captioned(path: Path) -> bool:
    """Whether a caption lies beside a picture or a folder."""
    return any(text.is_file() for text in texts_beside(path))
