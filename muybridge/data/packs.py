"""A compact local store of decoded clips: one file of compressed frames, one index, licences beside them.

STORE/clips.bin      zlib-compressed uint8 frames, one clip after another
STORE/index.json     per clip: caption, group, split, place in clips.bin, shape, fps, origin
STORE/report.jsonl   one line for every input that was dropped or trimmed, with the reason
STORE/licences/      the licence of each origin
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from muybridge.data.clips import Clip
from muybridge.errors import UserError
from muybridge.files import read_mapping, whole_folder

VERSION = 1
VALIDATION_SHARE = 0.05
#: Bytes of clips that are kept, and never more than 64 clips: 128 loops of 16 frames of 64 x 64 would fit.
KEPT_BYTES = 2**25
#: What a store is, in messages and in its record.
STORE = "a store of clips"


@dataclass(frozen=True)
class PackedClip:
    """What the index knows of a clip.

    Attributes:
        caption: its text.
        group: clips of one group (variants of one caption) are always in the same split.
        shape: [F, H, W, C], C = 3 or 4 (with alpha).
        fps: frames a second.
        origin: the package or file it came from.
        style: a word for its look, "" if none.
        tags: other words for what it shows; empty in stores that were built without them.
        category: Unicode's "group/subgroup" of an emoji, as emojibase numbers them ("3/34" are mammals); "" if unknown.
    """

    caption: str
    group: str
    shape: tuple[int, int, int, int]
    fps: float
    origin: str
    style: str = ""
    offset: int = 0
    size: int = 0
    tags: tuple[str, ...] = ()
    category: str = ""


def split_of(group: str) -> str:
    """ "train" or "validation", by the hash of the group: it never changes as a store grows."""
    value = int.from_bytes(hashlib.sha256(group.encode()).digest()[:8], "big") / 2**64
    return "validation" if value < VALIDATION_SHARE else "train"


def build_pack(
    store: Path,
    clips: Iterable[tuple[PackedClip, np.ndarray]],
    report: list[dict[str, str]],
    licences: dict[str, str],
    settings: dict[str, Any],
    origin: str = "",
) -> None:
    """Write a store whole; an unfinished one never has the final name, and only a store of the same origin is
    replaced.

    Args:
        clips: each with its frames, uint8 of the entry's shape.
        report: lines for dropped and trimmed inputs; may still grow while `clips` is read.
        licences: file name -> text.
        settings: recorded in the index; a store is rebuilt when they change.
        origin: what the clips are made from, in words.

    Raises:
        UserError: `store` is a folder with anything else in it, or clips of another origin; it is left as it is.
    """
    settings = json.loads(json.dumps(settings))  # as it comes back from the index
    with whole_folder(store, STORE, origin, same=lambda s: settings_of(s) == settings) as unfinished:
        entries, offset = [], 0
        with open(unfinished / "clips.bin", "wb") as file:
            for entry, frames in clips:
                data = zlib.compress(np.ascontiguousarray(frames).tobytes(), 6)
                file.write(data)
                entries.append({**asdict(entry), "shape": list(frames.shape), "offset": offset, "size": len(data)})
                offset += len(data)
        if not entries:
            reasons = "; ".join(f"{line['file']}: {line['reason']}" for line in report[:3])
            raise UserError(f"{store}: no clip is left, so nothing was written there ({reasons or 'none was found'})")
        (unfinished / "licences").mkdir()
        for name, text in licences.items():
            (unfinished / "licences" / name).write_text(text, encoding="utf-8")
        lines = "".join(json.dumps(line, sort_keys=True) + "\n" for line in report)
        (unfinished / "report.jsonl").write_text(lines, encoding="utf-8")
        index = {"version": VERSION, "settings": settings, "clips": entries}
        (unfinished / "index.json").write_text(json.dumps(index), encoding="utf-8")


def settings_of(store: Path) -> dict[str, Any] | None:
    """What a store was built with; None where there is no readable store of clips."""
    try:
        index = json.loads((store / "index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    known = isinstance(index, dict) and isinstance(index.get("clips"), list) and "version" in index
    return dict(index.get("settings") or {}) if known else None


class PackedSource:
    """Clips of a store, one split of it, at a fixed number of frames.

    Args:
        store: a folder `build_pack` wrote.
        split: "train", "validation" or "all".
        num_frames: frames of every clip, evenly spaced over it (`loops`) or its first ones; stills are repeated; 0
            takes every clip as it is stored.
        background: RGB behind clips with alpha.
        loops: clips are seamless loops: sample them without repeating the first frame at the end.
        with_style: append ", STYLE style" to captions of clips that have a style.
        origins: keep only clips from origins that start so; empty keeps all.
        styles: keep only these styles; empty keeps all.
        each_frame: every stored frame is a clip of its own (num_frames must be 1).
    """

    def __init__(
        self,
        store: Path,
        split: str = "train",
        num_frames: int = 16,
        background: tuple[int, ...] = (255, 255, 255),
        loops: bool = True,
        with_style: bool = False,
        origins: tuple[str, ...] = (),
        styles: tuple[str, ...] = (),
        each_frame: bool = False,
    ):
        if each_frame and num_frames != 1:
            raise UserError(f"data: each_frame makes clips of one frame, but num_frames is {num_frames}; set it to 1")
        if not (store / "index.json").is_file():
            raise UserError(f"no data at {store}: build it first with `muybridge data build`")
        index = read_mapping(store / "index.json")
        if index.get("version") != VERSION:
            raise UserError(f"{store}: written by another version; build it again with `muybridge data build`")
        entries = [
            PackedClip(**{**e, "shape": tuple(e["shape"]), "tags": tuple(e.get("tags", ()))}) for e in index["clips"]
        ]
        self.entries = [
            e
            for e in entries
            if (split == "all" or split_of(e.group) == split)
            and (not origins or e.origin.startswith(tuple(origins)))
            and (not styles or e.style in styles)
        ]
        if not self.entries:
            raise UserError(f"{store}: no clip in the {split} split (of {len(entries)} in all)")
        #: (entry, frame) of each clip; frame is None for whole clips
        self.clips: list[tuple[int, int | None]] = [
            (i, frame) for i, e in enumerate(self.entries) for frame in (range(e.shape[0]) if each_frame else (None,))
        ]
        self.store, self.num_frames, self.loops, self.with_style = store, num_frames, loops, with_style
        self.background = np.asarray(background, dtype=np.float32)
        #: (frames, height, width) of each clip, where they may differ
        self.shapes = [] if num_frames else [self.entries[i].shape[:3] for i, _ in self.clips]
        largest = max(prod(e.shape) for e in self.entries)
        self._frames = lru_cache(maxsize=min(64, max(4, KEPT_BYTES // largest)))(self._read)

    def __len__(self) -> int:
        return len(self.clips)

    def raw(self, index: int) -> np.ndarray:
        """The stored frames of an entry, uint8 [F, H, W, 3 or 4], alpha kept."""
        entry = self.entries[index]
        with open(self.store / "clips.bin", "rb") as file:
            file.seek(entry.offset)
            data = file.read(entry.size)
        try:
            frames = zlib.decompressobj().decompress(data, prod(entry.shape) + 1)  # no more than it says
            return np.frombuffer(frames, np.uint8).reshape(entry.shape)
        except (zlib.error, ValueError) as error:
            raise UserError(
                f"{self.store}: {entry.origin} is damaged in it ({error}); build the store again"
            ) from error

    def _read(self, index: int) -> np.ndarray:
        frames = self.raw(index)
        if frames.shape[-1] == 3:
            return frames
        alpha = frames[..., 3:].astype(np.float32) / 255
        return (frames[..., :3] * alpha + self.background * (1 - alpha) + 0.5).astype(np.uint8)

    def _places(self, available: int) -> np.ndarray:
        if not self.num_frames:
            return np.arange(available)
        if self.loops:
            return np.linspace(0, available, self.num_frames, endpoint=False).astype(int)
        return np.linspace(0, available - 1, self.num_frames).round().astype(int)

    def caption_of(self, index: int) -> str:
        entry = self.entries[self.clips[index][0]]
        return f"{entry.caption}, {entry.style} style" if self.with_style and entry.style else entry.caption

    def clip(self, index: int) -> Clip:
        entry, frame = self.clips[index]
        frames = self._frames(entry)
        places = self._places(len(frames)) if frame is None else np.array([frame])
        fps = self.entries[entry].fps * (self.num_frames or len(frames)) / len(frames)
        return Clip(frames[places], self.caption_of(index), fps)

    def still(self, index: int, frame: int) -> Clip:
        clip = self.clip(index)
        return Clip(clip.frames[frame : frame + 1], clip.caption, clip.fps)

    def captions(self) -> list[str]:
        return [self.caption_of(i) for i in range(len(self))]


def report_lines(store: Path) -> Iterator[dict[str, str]]:
    """What a store's build dropped or trimmed."""
    for line in (store / "report.jsonl").read_text(encoding="utf-8").splitlines():
        yield json.loads(line)
