"""A user's own clips: a folder of videos, or of folders of frames, with captions in `.txt` files or one JSONL.

The rules: every file is either used or has a line in the report. A clip is `NAME.mp4` (or .gif, .webp, .mkv, ...), a
folder of pictures, or a picture (a clip of one frame). Its caption is `NAME.txt` beside it, or stands in a table
(`captions.py`). A WebDataset shard (`webdataset.py`) holds both; of a folder that
`muybridge curate` wrote, the shards are read and nothing else. Clips are resampled to the wanted frame rate, cut into
pieces of the wanted length, and resized to cover the wanted size, then cropped in the middle. With `buckets`, each
piece goes to the bucket nearest to its shape, and every batch comes out of one bucket.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from muybridge.data.captions import BESIDE, caption_beside, captions_under, texts_beside
from muybridge.data.clips import Clip
from muybridge.data.packs import PackedClip, PackedSource, build_pack, settings_of
from muybridge.data.sources.folder import FolderConfig
from muybridge.data.video_io import read_video
from muybridge.data.webdataset import clips_of_shard, is_shard
from muybridge.errors import UserError
from muybridge.files import RECORD, cache_folder
from muybridge.nn.frames import fit_frames

VIDEOS = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".gif", ".webp"}
PICTURES = {".png", ".jpg", ".jpeg"}


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
            for member in clips_of_shard(path, name, VIDEOS, report):
                yield from _read(member.file, f"{name}/{member.name}", member.caption, config, report)
            continue
        told = len(report)
        caption = captions.take(name) or caption_beside(path, report, name)
        if not caption and len(report) == told:
            reason = f"no caption: neither {path.stem}.txt nor a line in a table of captions"
            report.append({"file": name, "action": "dropped", "reason": reason})
        if caption:
            yield from _read(path, name, caption, config, report)
    for name in captions.by_name:
        reason = f"named in {captions.origin[name]}, but no such clip"
        report.append({"file": name, "action": "dropped", "reason": reason})


def _read(
    path: Path, name: str, caption: str, config: FolderConfig, report: list[dict[str, str]]
) -> Iterator[tuple[PackedClip, np.ndarray]]:
    """The pieces of one clip, or a line that says why there are none."""
    try:
        clip = _read_folder(path) if path.is_dir() else read_video(path)
    except UserError as error:
        report.append({"file": name, "action": "dropped", "reason": str(error).replace(str(path), name)})
        return
    yield from _cut(clip, name, caption, config, report)


def _cut(
    clip: Clip, name: str, caption: str, config: FolderConfig, report: list[dict[str, str]]
) -> Iterator[tuple[PackedClip, np.ndarray]]:
    frames = clip.frames
    fps = config.fps or clip.fps
    if config.fps and len(frames) > 1 and abs(clip.fps - config.fps) > 1e-3:
        wanted = max(1, round(len(frames) / clip.fps * config.fps))
        frames = frames[np.minimum((np.arange(wanted) * clip.fps / config.fps).astype(int), len(frames) - 1)]
    if config.buckets:
        config = _bucket(frames, config)
    if (len(frames) < config.num_frames and len(frames) > 1) or (config.num_frames > 1 and len(frames) == 1):
        told = f"{len(frames)} frames at {fps:g} fps, fewer than {config.num_frames}"
        if config.short == "drop":
            report.append(
                {"file": name, "action": "dropped", "reason": f"{told}; data.short: hold or loop would keep it"}
            )
            return
        mode: Any = "edge" if config.short == "hold" else "wrap"
        frames = np.pad(frames, ((0, config.num_frames - len(frames)), (0, 0), (0, 0), (0, 0)), mode=mode)
        report.append({"file": name, "action": "lengthened", "reason": f"{told}: {config.short}"})
    pieces = len(frames) // config.num_frames
    if config.max_pieces and pieces > config.max_pieces:
        report.append(
            {"file": name, "action": "trimmed", "reason": f"{pieces} pieces, max_pieces is {config.max_pieces}"}
        )
        pieces = config.max_pieces
    elif len(frames) % config.num_frames:
        rest = len(frames) - pieces * config.num_frames
        report.append(
            {
                "file": name,
                "action": "trimmed",
                "reason": f"the last {rest} frames do not fill a piece of {config.num_frames}",
            }
        )
    for piece in range(pieces):
        part = frames[piece * config.num_frames : (piece + 1) * config.num_frames]
        fitted = fit_frames(part, config.height, config.width)
        shape = (config.num_frames, config.height, config.width, 3)
        yield PackedClip(caption, caption.lower().strip(), shape, fps, name), fitted


def _bucket(frames: np.ndarray, config: FolderConfig) -> FolderConfig:
    """The settings with the size and length of a clip's bucket."""
    aspect = math.log(frames.shape[2] / frames.shape[1])
    nearest = min(abs(math.log(w / h) - aspect) for _, h, w in config.buckets)
    fitting = [b for b in config.buckets if abs(math.log(b[2] / b[1]) - aspect) < nearest + 1e-9]
    filled = [b for b in fitting if b[0] <= len(frames)]
    count, height, width = max(filled) if filled else min(fitting)
    return replace(config, num_frames=count, height=height, width=width)


def _clip_paths(root: Path, tables: set[Path], report: list[dict[str, str]]) -> Iterator[Path]:
    frame_folders: set[Path] = set()
    stems: set[Path] = set()
    texts: list[Path] = []
    for path in sorted(root.rglob("*")):
        if path.is_dir() or path in tables or path.name == RECORD:
            continue
        if path.suffix.lower() in VIDEOS or is_shard(path):
            stems.add(path.with_suffix(""))
            yield path
        elif path.suffix.lower() in PICTURES:
            folder = path.parent
            stems |= {path.with_suffix(""), folder}
            if folder == root or (not _captioned(folder) and _captioned(path)):
                yield path
            elif folder not in frame_folders:
                frame_folders.add(folder)
                yield folder
        elif path.suffix.lower() in (*BESIDE, ".json"):
            texts.append(path)
        else:
            reason = "neither video, picture nor caption"
            report.append({"file": path.relative_to(root).as_posix(), "action": "dropped", "reason": reason})
    for path in texts:
        if path.with_suffix("") not in stems:
            reason = f"a text beside no clip: there is no video, picture or folder {path.stem}"
            report.append({"file": path.relative_to(root).as_posix(), "action": "dropped", "reason": reason})


def _captioned(path: Path) -> bool:
    """Whether a caption lies beside a picture or a folder."""
    return any(text.is_file() for text in texts_beside(path))


def _read_folder(folder: Path) -> Clip:
    pictures = sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURES)
    frames = [read_video(p).frames[0] for p in pictures]
    shapes = {f.shape for f in frames}
    if len(shapes) > 1:
        raise UserError(f"{folder}: its frames differ in size: {sorted(shapes)}")
    return Clip(np.stack(frames), "")
