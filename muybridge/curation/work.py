"""One file after another looked at and scored, each result committed: what a worker does."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muybridge.curation.cage import Cages
from muybridge.curation.footage import FootageError, Probe
from muybridge.curation.records import Source, plain
from muybridge.curation.stages import Captioner, Scoring, Sidecar
from muybridge.curation.store import Store
from muybridge.curation.survey import Watched, probe_file, stretches_of, survey, watch
from muybridge.waiting import wait_passively

if TYPE_CHECKING:
    from muybridge.curation.settings import CurationSettings

#: A file may take this long, seconds, and more for every megabyte.
PATIENCE, PER_MEGABYTE = 120.0, 5.0


@dataclass(frozen=True)
class Job:
    """One file to be looked at: picklable, small.

    Attributes:
        path, name: of the file, and under the footage's folder.
        source_id: hash of its bytes.
        words: hash of the text beside it, "" for none: scores hold captions, and are taken again when it changes.
        twins: names of other files with the same bytes.
        problem: (kind, message) of what is no footage at all; nothing is looked at or committed for it.
    """

    path: str
    name: str
    source_id: str
    words: str = ""
    twins: tuple[str, ...] = ()
    problem: tuple[str, str] | None = None

    @property
    def scored(self) -> str:
        """Under which name its scores are committed."""
        return f"{self.source_id}-{self.words}" if self.words else self.source_id


class SourceWork:
    """Survey and scoring of one source after another; made once a worker.

    Args:
        root, output: folders.
        settings: of the run.
        captioners: further captioners.
        threads: clips scored at once; 1 also keeps decoding to one core, as a worker of a cluster must.
    """

    def __init__(
        self, root: str, output: str, settings: CurationSettings, captioners: Sequence[Captioner] = (), threads: int = 1
    ):
        import cv2

        cv2.setNumThreads(1)
        os.environ["OMP_NUM_THREADS"] = "1"
        wait_passively()
        self.settings, self.store = settings, Store(Path(output))
        # of a long file every process has a stretch
        self.alone, self.beside = Cages(1, threads=threads), Cages(threads, threads=1)
        self.scoring = Scoring(settings.score, captioners, threads)
        for captioner in self.scoring.captioners:
            if isinstance(captioner, Sidecar):
                captioner.root = Path(root)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """A row is a Job's fields; what comes back is only which it was: results are on disk."""
        job = Job(**{**row, "twins": tuple(row["twins"])})
        version = self.settings.survey.version()
        scored = self.settings.scored()
        if not self.store.has("survey", version, job.source_id):
            self._survey(job, version)
        if not self.store.has("score", scored, job.scored):
            record, pictures = self.store.read("survey", version, job.source_id)
            if record["probe"]:
                record = self.scoring(record, pictures)
            self.store.write("score", scored, job.scored, record)
        return {"name": job.name}

    def _survey(self, job: Job, version: str) -> None:
        path, settings = Path(job.path), self.settings.survey
        seconds = PATIENCE + PER_MEGABYTE * path.stat().st_size / 1e6
        try:
            probe: Probe = self.alone.call(probe_file, path, seconds=seconds)
            spans = stretches_of(probe, settings.stretch_seconds)
            cages = self.beside if len(spans) > 1 else self.alone

            def see(span: tuple[float, float]) -> Watched:
                try:
                    watched: Watched = cages.call(watch, path, *span, settings, seconds=seconds)
                except FootageError as error:
                    return Watched(problem={"kind": error.kind, "message": error.message})
                return watched

            record, pictures = survey(job.name, job.source_id, probe, list(cages.map(see, spans)), settings)
        except FootageError as error:
            lost = Source(job.source_id, job.name, problem={"kind": error.kind, "message": error.message})
            record, pictures = plain(lost), []
            record["stages"] = {"survey": version}
        self.store.write("survey", version, job.source_id, record, pictures)
