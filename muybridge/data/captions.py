"""Captions as data sets bring them: a text beside each clip, or a table of all of them.

Beside NAME.mp4: NAME.txt, NAME.caption, or NAME.json with one of `CAPTION_KEYS`; of videos/NAME.mp4 also in labels/.
Tables, in any folder, with file names relative to it: `captions.jsonl`, `metadata.jsonl` and any other .jsonl; .csv and
.tsv; .parquet; a .json that is a list of rows or maps names to captions; `prompts.txt` and `videos.txt`, line by line.
What cannot be read costs that file alone.
"""

from __future__ import annotations

import csv
import glob
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from muybridge.errors import UserError
from muybridge.texts import lines_of, read_text

#: Names that data sets in use give to these columns; the first that a row has is taken.
FILE_KEYS = ("file", "file_name", "filename", "file_path", "path", "video", "video_path", "video_file", "media_path",
             "image", "image_path", "clip", "clip_path", "videoid", "video_id")  # fmt: skip
CAPTION_KEYS = ("caption", "text", "prompt", "captions", "title", "description", "name")
TABLES = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".json")
#: finetrainers' pairs of files, line by line.
PROMPTS, VIDEOS = ("prompts.txt", "prompt.txt", "captions.txt"), ("videos.txt", "video.txt")
BESIDE = (".txt", ".caption")
#: CogVideoX's layout: videos/1.mp4 and labels/1.txt, in folders side by side.
CLIP_FOLDERS, TEXT_FOLDERS = ("videos", "video", "clips", "images"), ("labels", "captions", "texts")

Report = list[dict[str, str]]


@dataclass
class Captions:
    """What the tables under a folder say.

    Attributes:
        by_name: path of a clip relative to the folder, "/" between its parts -> caption, as long as no clip took it.
        files: the tables' own files: neither clips nor strays.
        origin: name -> the table it stands in.
    """

    by_name: dict[str, str] = field(default_factory=dict)
    files: set[Path] = field(default_factory=set)
    origin: dict[str, str] = field(default_factory=dict)

    def take(self, name: str) -> str:
        """A clip's caption by its path or, where nothing else has it, by its path without ending; "" if none."""
        for key in (name, name.rpartition(".")[0]):
            if key in self.by_name:
                return self.by_name.pop(key)
        return ""


def captions_under(root: Path, report: Report) -> Captions:
    """Read every table of captions under a folder; lines that cannot be used are reported."""
    out = Captions()
    for folder in sorted({root, *(p for p in root.rglob("*") if p.is_dir())}):
        for file in sorted(p for p in folder.iterdir() if p.is_file()):
            if file.suffix.lower() in TABLES and not _is_sidecar(file):
                _add(out, root, file, _rows_of(file), report)
        listed = next((folder / name for name in VIDEOS if (folder / name).is_file()), None)
        words = next((folder / name for name in PROMPTS if (folder / name).is_file()), None)
        if listed is not None and words is not None:
            _add(out, root, words, _pairs(listed, words), report)
            out.files |= {listed, words}
    return out


def caption_beside(path: Path, report: Report, name: str) -> str:
    """The text beside a clip, or beside a folder of frames; "" where there is none or it cannot be read.

    Args:
        name: the clip's, for the report.
    """
    for beside in texts_beside(path):
        if not beside.is_file():
            continue
        try:
            words = read_text(beside, beside.name)
            found = caption_of(json.loads(words)) if beside.suffix.lower() == ".json" else words
        except (UserError, ValueError, RecursionError) as error:
            report.append({"file": name, "action": "dropped", "reason": f"its caption: {error}"})
            return ""
        if found.strip():
            return found.strip()
    return ""


def texts_beside(path: Path) -> list[Path]:
    """Where the caption of a clip, or of a folder of frames, may lie, in the order in which it is looked for."""
    stems = [path.name] if path.is_dir() else [path.stem, path.name]
    endings = [e for ending in (*BESIDE, ".json") for e in (ending, ending.upper())]
    folders = [path.parent]
    if path.parent.name.lower() in CLIP_FOLDERS:
        folders += [path.parent.parent / name for name in TEXT_FOLDERS]
    return [folder / f"{stem}{ending}" for folder in folders for stem in stems for ending in endings]


def caption_of(row: Any) -> str:
    """The caption that a row of a table, or a JSON beside a clip, holds; of a list its first; "" if none."""
    if not isinstance(row, Mapping):
        return ""
    found = next((row[key] for key in CAPTION_KEYS if row.get(key)), "")
    while isinstance(found, list) and found:
        found = found[0]
    return caption_of(found) if isinstance(found, Mapping) else str(found).strip() if found else ""


def _is_sidecar(file: Path) -> bool:
    """Whether a .json belongs to one clip, which lies beside it."""
    return file.suffix.lower() == ".json" and any(
        p.stem == file.stem and p.suffix.lower() not in TABLES for p in file.parent.glob(f"{glob.escape(file.stem)}.*")
    )


def _add(out: Captions, root: Path, file: Path, rows: Iterable[tuple[int, Any]], report: Report) -> None:
    """Take the rows of one table; a file that is no table at all is left to be reported as a stray."""
    where = file.relative_to(root).as_posix()
    found, wrong = 0, []
    try:
        for number, row in rows:
            if not isinstance(row, Mapping):
                wrong.append(number)
                continue
            row = {str(key).strip().lower(): value for key, value in row.items()}
            name = next((str(row[key]) for key in FILE_KEYS if row.get(key)), "")
            page = str(row.get("page_dir") or "")  # WebVid's: the folder that its downloaders lay a clip in
            if page and (file.parent / page).is_dir():
                name = f"{page}/{name}"
            words = caption_of(row)
            if not name or not words:
                wrong.append(number)
                continue
            found += 1
            key = _relative(root, file.parent, name)
            if out.by_name.get(key, words) != words:
                report.append({"file": f"{where}:{number}", "action": "dropped",
                               "reason": f"another caption of {key} stands in {out.origin[key]}"})  # fmt: skip
                continue
            out.by_name[key], out.origin[key] = words, where
    except (UserError, ValueError, RecursionError, csv.Error) as error:
        report.append({"file": where, "action": "dropped", "reason": f"cannot be read to its end: {error}"})
        out.files.add(file)
    if found or file.name == "captions.jsonl":
        out.files.add(file)
        wanted = "a file (file, file_name, video, ...) and a caption (caption, text, prompt, ...)"
        for number in wrong:
            report.append({"file": f"{where}:{number}", "action": "dropped", "reason": f"does not hold {wanted}"})


def _relative(root: Path, folder: Path, name: str) -> str:
    """A name in a table as a path under the data folder; one that leads out of it names nothing there."""
    parts = Path(name.replace("\\", "/"))
    inside = parts if not parts.is_absolute() else Path(*parts.parts[1:])
    for base in (root, root.resolve()):
        if parts.is_absolute() and parts.is_relative_to(base):
            return parts.relative_to(base).as_posix()
    return (folder.relative_to(root) / inside).as_posix()


def _rows_of(file: Path) -> Iterator[tuple[int, Any]]:
    """(line or row, what it holds) of a table."""
    kind = file.suffix.lower()
    if kind == ".parquet":
        yield from enumerate(_parquet(file), 1)
    elif kind in (".csv", ".tsv"):
        text = read_text(file, file.name)
        head = text.partition("\n")[0]
        mark = "\t" if kind == ".tsv" else max(",;\t", key=head.count)
        yield from enumerate(csv.DictReader(io.StringIO(text, newline=""), delimiter=mark), 2)
    elif kind == ".json":
        found = json.loads(read_text(file, file.name))
        if isinstance(found, dict) and all(isinstance(v, str) for v in found.values()):
            found = [{"file": name, "caption": words} for name, words in found.items()]
        elif isinstance(found, dict) and all(isinstance(v, dict) for v in found.values()):  # kohya's meta_cap.json
            found = [{**row, "file": name} for name, row in found.items()]
        yield from enumerate(found if isinstance(found, list) else [], 1)
    else:
        for number, line in enumerate(lines_of(read_text(file, file.name)), 1):
            if line.strip():
                yield number, _parsed(line)


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _parquet(file: Path) -> Iterator[Any]:
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise UserError("reading .parquet needs pyarrow: pip install 'muybridge[curation]'") from None
    try:
        table = parquet.ParquetFile(file)
        wanted = [n for n in table.schema_arrow.names if n.lower() in (*FILE_KEYS, *CAPTION_KEYS)]
        for batch in table.iter_batches(columns=wanted):
            yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{file.name}: not a readable Parquet file ({str(error)[:200]})") from error


def _pairs(listed: Path, words: Path) -> Iterator[tuple[int, Any]]:
    """Line i of one file names the clip that line i of the other describes."""
    names, texts = (lines_of(read_text(p, p.name)) for p in (listed, words))
    if len(names) != len(texts):
        raise UserError(f"{listed.name} has {len(names)} lines, {words.name} has {len(texts)}; give as many")
    for number, (name, text) in enumerate(zip(names, texts, strict=True), 1):
        if name.strip() or text.strip():
            yield number, {"file": name.strip(), "caption": text.strip()}
