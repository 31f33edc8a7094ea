"""Committed results: one file a (stage, source), whole or not there. Its existence is the commit; nothing else is
recorded."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import Any


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
        target.parent.mkdir(parents=True, exist_ok=True)
        rows = [json.dumps(record, sort_keys=True), *[""] * len(blobs or [])]
        table = pa.table({"record": rows, "blob": pa.array([b"", *(blobs or [])], pa.binary())})
        unfinished = target.with_name(f".{uuid.uuid4().hex}.tmp")
        try:
            pq.write_table(table, unfinished, compression="zstd", store_schema=False)
            with open(unfinished, "rb") as file:
                os.fsync(file.fileno())
            os.replace(unfinished, target)
        finally:
            unfinished.unlink(missing_ok=True)

    def read(self, stage: str, version: str, source_id: str) -> tuple[dict[str, Any], list[bytes]]:
        """A committed result and its attachments."""
        import pyarrow.parquet as pq

        table = pq.read_table(self.path(stage, version, source_id))
        record: dict[str, Any] = json.loads(table["record"][0].as_py())
        return record, [b.as_py() for b in table["blob"][1:]]

    def sweep(self) -> None:
        """Remove what killed runs left unfinished. Not beside another run."""
        for stray in self.folder.rglob(".*.tmp"):
            stray.unlink(missing_ok=True)
