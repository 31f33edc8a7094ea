"""Kept clips as WebDataset shards and a Parquet manifest; the same clips give the same bytes."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

from muybridge.curation.cutting import can_copy, copy_clip, encode_clip, note_of
from muybridge.curation.footage import FootageError
from muybridge.curation.records import CLIP_ID_DIGITS, SCHEMA
from muybridge.files import whole_file, whole_folder

#: Of a clip's span, a copy on key frames must keep at least this share; else it is cut exactly and encoded again.
COPIED_SHARE = 0.7
#: What a run writes: clips/ID[:2]/ID.mp4 and shards/shard-00000.tar. Nothing else there is ever removed.
_HEX = "[0-9a-f]"
CLIP_FILES = f"{_HEX * 2}/{_HEX * CLIP_ID_DIGITS}.mp4"


def span_to_copy(clip: dict[str, Any], probe: dict[str, Any], last: bool) -> tuple[float, float] | None:
    """The part of a clip between key frames, never beyond its ends; None if too little is left, or if an mp4 does not
    hold its packets as they are."""
    if not can_copy(probe):
        return None
    keys = [k for k in probe["keys"] if clip["start"] - 1e-6 <= k <= clip["end"] + 1e-6]
    ends = [clip["end"]] if last else keys[1:]
    if not keys or not ends or ends[-1] - keys[0] < COPIED_SHARE * (clip["end"] - clip["start"]):
        return None
    return keys[0], ends[-1]


def write_clip(clip: dict[str, Any], probe: dict[str, Any], root: Path, output: Path, split: str) -> dict[str, Any]:
    """Cut one clip's file, clips/ID.mp4, whole under its name; one that is there is the same one. Returns its
    record."""
    name = f"clips/{clip['clip_id'][:2]}/{clip['clip_id']}.mp4"
    target = output / name
    span = None if split == "exact" else span_to_copy(clip, probe, clip["end"] >= probe["duration"] - 1e-3)
    if split == "copy" and span is None:
        why = "too few key frames inside it" if can_copy(probe) else "an mp4 does not hold it as it is"
        return _not_copied(clip, why)
    if not target.is_file():
        with whole_file(target) as unfinished:
            try:
                if span is not None:
                    copy_clip(root / clip["path"], unfinished, *span)
            except FootageError as error:
                if split == "copy":
                    return _not_copied(clip, error.message)
                span = None
            if span is None:
                encode_clip(root / clip["path"], unfinished, clip["start"], clip["end"])
    # what the file says holds for one that an earlier run left, too
    note = note_of(target)
    clip["file"], clip["copied"] = name, bool(note["copied"])
    if span is not None and clip["copied"]:
        clip["start"], clip["end"] = span
    if note["silent"]:
        clip["problems"].append({"stage": "cut", "kind": "silent", "message": note["silent"]})
    return clip


def _not_copied(clip: dict[str, Any], why: str) -> dict[str, Any]:
    clip["keep"] = False
    clip["reasons"].append(f"no copy without encoding: {why}")
    return clip


def write_shards(clips: list[dict[str, Any]], output: Path, per_shard: int, seed: int) -> list[Path]:
    """Tars of kept clips, shuffled by hash; members ID.mp4, ID.json, ID.txt; then old shards go."""
    kept = [c for c in clips if c["keep"]]
    kept.sort(key=lambda c: hashlib.sha256(f"{seed}/{c['clip_id']}".encode()).digest())
    folder, names = output / "shards", []
    with whole_folder(folder, "shards") as unfinished:
        for first in range(0, len(kept), per_shard):
            path = unfinished / f"shard-{first // per_shard:05d}.tar"
            with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
                for place, clip in enumerate(kept[first : first + per_shard]):
                    clip["shard"], clip["shard_index"] = path.name, place
                    _add(tar, f"{clip['clip_id']}.json", json.dumps(_public(clip), sort_keys=True).encode())
                    _add(tar, f"{clip['clip_id']}.mp4", (output / clip["file"]).read_bytes())
                    text = clip["captions"][0]["text"] if clip["captions"] else ""
                    _add(tar, f"{clip['clip_id']}.txt", text.encode())
            names.append(path.name)
    return [folder / n for n in names]


def _public(clip: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in clip.items() if k not in ("embedding", "reasons", "keep")}


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime, entry.uid, entry.gid, entry.mode = len(data), 0, 0, 0, 0o644
    tar.addfile(entry, io.BytesIO(data))


def write_manifest(sources: list[dict[str, Any]], output: Path) -> Path:
    """manifest.parquet: a row for every clip of every source, for every file without one, and for every copy of a file.
    Same rows, same bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = []
    for source in sorted(sources, key=lambda s: s["path"]):
        told = {"path": source["path"], "source_id": source["source_id"]}
        problem = source["problem"].get("message", "")
        for clip in source["clips"]:
            rows.append(_row(clip) | {"source_problem": problem})
        if not source["clips"]:
            kind = source["problem"].get("kind", "no clip")
            empty = {"clip_id": "", "keep": False, "reasons": [f"{kind}: {problem}" if problem else kind]}
            rows.append(_row({**told, **empty}) | {"source_problem": problem})
        for twin in source["twins"]:
            same = {"clip_id": "", "keep": False, "reasons": [f"the same bytes as {source['path']}"]}
            rows.append(_row({**told, "path": twin, **same}) | {"source_problem": ""})
    target = output / "manifest.parquet"
    table = pa.Table.from_pylist(rows, schema=_schema()).replace_schema_metadata({"schema": str(SCHEMA)})
    with whole_file(target) as unfinished:
        pq.write_table(table, unfinished, compression="zstd")
    return target


_TEXTS = ("clip_id", "source_id", "path", "file", "shard", "motion_kind", "source_problem")
_NUMBERS = ("start", "end", "fps")
_COUNTS = ("frames", "width", "height", "shard_index")


def _schema() -> object:
    import pyarrow as pa

    from muybridge.curation.select import FILTERS

    columns = [(n, pa.string()) for n in _TEXTS] + [(n, pa.float64()) for n in _NUMBERS]
    columns += [(n, pa.int32()) for n in _COUNTS] + [("keep", pa.bool_()), ("copied", pa.bool_())]
    columns += [(n, pa.list_(pa.string())) for n in ("reasons", "fingerprint")]
    columns += [(n, pa.string()) for n in ("captions", "problems", "stages")]
    columns += [(f"score_{n}", pa.float64()) for n in dict.fromkeys([*FILTERS, "pixels", "camera", "things"])]
    return pa.schema(columns)


def _row(clip: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {
        n: clip.get(n) for n in (*_TEXTS, *_NUMBERS, *_COUNTS, "keep", "copied", "reasons", "fingerprint")
    }
    row |= {
        n: json.dumps(clip.get(n) or ([] if n != "stages" else {}), sort_keys=True)
        for n in ("captions", "problems", "stages")
    }
    row |= {f"score_{n}": v for n, v in clip.get("scores", {}).items()}
    return row
