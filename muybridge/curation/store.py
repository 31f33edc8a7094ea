"""Committed results: one file a (stage, source), whole or not there. Its existence is the commit; nothing else is
recorded."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from muybridge.curation.records import CLIP_ID_DIGITS
from muybridge.errors import UserError
from muybridge.files import RECORD, UNFINISHED, check_own_folder, files_in, read_mapping, whole_file, write_json
from muybridge.locks import RUNNING

RUN, MAKER = "run.json", "muybridge curate"
#: What a killed run leaves in its output folder: single files, and those of a folder of shards.
LEFT = re.compile(rf"(.*/)?{re.escape(UNFINISHED)}\w+(\.\w+)?|\.shards\.unfinished-\w+(\.former)?/[^/]+")
#: What an output folder consists of, each name as it is written.
OUTPUT = re.compile(
    r"stages/\w+-[0-9a-f]+/[0-9a-f]{2}/[0-9a-f]+(-[0-9a-f]+)?\.parquet"
    rf"|clips/[0-9a-f]{{2}}/[0-9a-f]{{{CLIP_ID_DIGITS}}}\.mp4"
    rf"|shards/(shard-[0-9]{{5}}\.tar|{re.escape(RECORD)})"
    rf"|manifest\.parquet|{re.escape(RUN)}|{re.escape(RUNNING)}|report\.html|tune\.html"
    rf"|{LEFT.pattern}"
)


class Store:
    """Results of stages under a folder: stages/STAGE-HASH/SOURCE.parquet.

    Each file holds one row a record: its JSON, and binary attachments (pictures) beside it.
    """

    def __init__(self, folder: Path):
        self.folder = folder / "stages"

    def path(self, stage: str, version: str, source_id: str) -> Path:
        return self.folder / f"{stage}-{version}" / source_id[:2] / f"{source_id}.parquet"

    def has(self, stage: str, version: str, source_id: str) -> bool:
        return self.path(stage, version, source_id).is_file()

    def write(
        self, stage: str, version: str, source_id: str, record: dict[str, Any], blobs: list[bytes] | None = None
    ) -> None:
        """Commit a stage's result for a source."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        target = self.path(stage, version, source_id)
        rows = [json.dumps(record, sort_keys=True), *[""] * len(blobs or [])]
        table = pa.table({"record": rows, "blob": pa.array([b"", *(blobs or [])], pa.binary())})
        with whole_file(target) as unfinished:
            pq.write_table(table, unfinished, compression="zstd", store_schema=False)

    def read(self, stage: str, version: str, source_id: str) -> tuple[dict[str, Any], list[bytes]]:
        """A committed result and its attachments."""
        import pyarrow.parquet as pq

        table = pq.read_table(self.path(stage, version, source_id))
        record: dict[str, Any] = json.loads(table["record"][0].as_py())
        return record, [b.as_py() for b in table["blob"][1:]]


def check_output(folder: Path, footage: Path) -> None:
    """Refuse a folder that is neither new, nor empty, nor that of a curation of the same footage alone.

    Raises:
        UserError: it holds anything else; nothing was changed.
    """

    def stranger() -> str | None:
        of = _footage_of(folder)
        if of is not None and of != str(footage):
            raise UserError(
                f"{folder}: holds the curation of {of}, not of {footage}; its clips would be replaced. Give another "
                f"output (if the footage has moved: its path stands in {folder / RUN})"
            )
        names = (path.relative_to(folder).as_posix() for path in files_in(folder))
        return next((name for name in names if of is None or not OUTPUT.fullmatch(name)), None)

    check_own_folder(folder, "a curation", stranger)


def claim_output(folder: Path, footage: Path, settings: Mapping[str, Any]) -> None:
    """Write run.json into the folder of a curation, and remove what killed runs left unfinished there. Not beside
    another run.

    Raises:
        UserError: as `check_output`.
    """
    check_output(folder, footage)
    write_json(folder / RUN, {"made by": MAKER, "footage": str(footage), **settings})
    for path in files_in(folder):
        if LEFT.fullmatch(path.relative_to(folder).as_posix()):
            path.unlink(missing_ok=True)


def read_run(folder: Path) -> dict[str, Any]:
    """The footage of a run and its settings.

    Raises:
        UserError: no folder of a curation.
    """
    told = read_mapping(folder / RUN)
    if told.pop("made by", None) != MAKER or not isinstance(told.get("footage"), str):
        raise UserError(f"{folder}: no folder of a curation; `muybridge curate run` makes one")
    return told


def _footage_of(folder: Path) -> str | None:
    """What a folder is the curation of; None where it is none."""
    try:
        run = read_mapping(folder / RUN)
    except UserError:
        return None
    return str(run.get("footage")) if run.get("made by") == MAKER else None
