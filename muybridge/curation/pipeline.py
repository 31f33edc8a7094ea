"""The whole way from a folder of footage to shards, on one machine or on Ray, resumed by the same command.

Survey and scores of a source are committed files (store.py); decisions, clips and shards are functions of them alone.
So a run that is killed anywhere and started again ends in the same bytes. Footage is only ever read.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from muybridge.configuration import from_mapping
from muybridge.curation.cage import Cages
from muybridge.curation.footage import find_footage, find_strange, printable
from muybridge.curation.records import Source, plain
from muybridge.curation.select import read_decisions, select
from muybridge.curation.settings import CurationSettings
from muybridge.curation.shards import CLIP_FILES, write_clip, write_manifest, write_shards
from muybridge.curation.stages import Captioner
from muybridge.curation.store import RUN, Store, check_output, claim_output, read_run
from muybridge.curation.work import Job, SourceWork
from muybridge.data.captions import texts_beside
from muybridge.data.reading.formats import VIDEOS, FootageError, told
from muybridge.errors import UserError
from muybridge.files import sha256_of
from muybridge.locks import locked

Tell = Callable[[str, int, int], None]


@dataclass
class Outcome:
    """What a run came to.

    Attributes:
        sources: every file's record, kept clips and dropped ones inside.
        thresholds: score -> threshold.
        unmet: decisions made by hand for clips that are not there, or that had no pictures to be kept.
    """

    sources: list[dict[str, Any]]
    thresholds: dict[str, float]
    unmet: tuple[str, ...] = ()

    @property
    def clips(self) -> list[dict[str, Any]]:
        return [clip for source in self.sources for clip in source["clips"]]


class Curation:
    """A run over a folder of footage.

    Args:
        footage: read, never written.
        output: gets stages/, clips/, shards/, manifest.parquet, run.json and report.html.

    Raises:
        UserError: no footage there, an output inside the footage, or a folder of other things.
    """

    def __init__(
        self,
        footage: Path,
        output: Path,
        settings: CurationSettings = CurationSettings(),
        captioners: Sequence[Captioner] = (),
    ):
        self.footage, self.output, self.settings = footage.resolve(), output.resolve(), settings
        self.captioners = captioners
        if not self.footage.is_dir():
            raise UserError(f"{footage}: no folder of footage there")
        if self.output == self.footage or self.footage in self.output.parents:
            raise UserError(f"{output}: lies inside the footage; choose a folder beside it")
        if self.output in self.footage.parents:
            raise UserError(f"{footage}: lies inside the output, whose clips are replaced; choose another output")
        check_output(self.output, self.footage)
        self.store = Store(self.output)
        # the report asks for many clips of one source in a row
        self._survey_of = lru_cache(maxsize=2)(partial(self.store.read, "survey", settings.survey.version()))

    @classmethod
    def reopened(cls, output: Path) -> Curation:
        """The run that wrote a folder, as its run.json tells it; its captioners are not opened.

        Raises:
            UserError: no run of ours, or its footage is gone.
        """
        told = read_run(output)
        return cls(Path(told.pop("footage")), output, from_mapping(CurationSettings, told, str(output / RUN)))

    def jobs(self, tell: Tell | None = None) -> list[Job]:
        """Every file, one job for files with the same bytes.

        Raises:
            UserError: there is none.
        """
        paths, strange = find_footage(self.footage), find_strange(self.footage)
        if not paths and not strange:
            raise UserError(f"{self.footage}: no file in it")
        jobs, found = [self._no_footage(path, kind, why) for path, kind, why in strange], dict[str, list[Path]]()
        for i, path in enumerate(paths):
            try:
                found.setdefault(sha256_of(path), []).append(path)  # a clip's identity does not change when files move
            except OSError as error:
                jobs.append(self._no_footage(path, "unreadable", f"cannot be read: {told(error)}"))
            if tell:
                tell("reading", i + 1, len(paths))
        jobs += [self._job(source_id, same) for source_id, same in found.items()]
        return sorted(jobs, key=lambda job: job.name)

    def _job(self, source_id: str, paths: list[Path]) -> Job:
        """Of files with the same bytes; the first with a video's ending stands for them."""
        films = [p for p in paths if p.suffix.lower() in VIDEOS]
        lead = films[0] if films else paths[0]
        name, *twins = (p.relative_to(self.footage).as_posix() for p in (lead, *(p for p in paths if p != lead)))
        if films:
            return Job(str(lead), name, source_id, self._words(name), tuple(twins))
        why = f"{lead.suffix or 'no ending'} is not a video file's ending"
        return Job(str(lead), name, source_id, "", tuple(twins), ("not video", why))

    def _no_footage(self, path: Path, kind: str, why: str) -> Job:
        name = printable(path.relative_to(self.footage).as_posix())
        return Job(printable(str(path)), name, hashlib.sha256(name.encode()).hexdigest(), problem=(kind, why))

    def _words(self, name: str) -> str:
        if self.settings.score.captions != "sidecar":
            return ""
        files = [f for f in texts_beside(self.footage / name) if f.is_file()]
        return hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()[:16] if files else ""

    def look(self, workers: int = 1, ray_address: str | None = None, tell: Tell | None = None) -> list[Job]:
        """Survey and score everything that is not committed yet."""
        jobs = self.jobs(tell)
        with self._claimed():
            self._look(jobs, workers, ray_address, tell)
        return jobs

    @contextmanager
    def _claimed(self) -> Iterator[None]:
        """Nobody else writes to the output within this block."""
        with locked(self.output, "curating") as sign:
            claim_output(self.output, self.footage, asdict(self.settings))
            sign()
            yield

    def _look(self, jobs: list[Job], workers: int, ray_address: str | None, tell: Tell | None) -> None:
        scored = self.settings.scored()
        open_jobs = [j for j in jobs if not j.problem and not self.store.has("score", scored, j.scored)]
        rows = [asdict(j) | {"twins": list(j.twins)} for j in open_jobs]
        arguments = (str(self.footage), str(self.output), self.settings, self.captioners)
        done = (
            self._on_ray(rows, arguments, workers, ray_address)
            if ray_address or workers > 1
            else map(SourceWork(*arguments, threads=os.cpu_count() or 1), rows)
        )
        for i, _ in enumerate(done):
            if tell:
                tell("looking", len(jobs) - len(open_jobs) + i + 1, len(jobs))

    def _on_ray(
        self, rows: list[dict[str, Any]], arguments: tuple[Any, ...], workers: int, address: str | None
    ) -> Iterator[Any]:
        if not rows:
            return iter(())
        try:
            import ray
        except ImportError:
            raise UserError("several workers need Ray: pip install 'muybridge[curation]'") from None
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
        if not ray.is_initialized():
            ray.init(
                address=address,
                num_cpus=None if address else workers,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        # longest files first, so that the last worker does not stand alone
        rows = sorted(rows, key=lambda r: -Path(r["path"]).stat().st_size)
        work: Any = SourceWork
        data = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            work,
            fn_constructor_args=arguments,
            concurrency=workers,
            num_cpus=1,
            max_restarts=-1,
            max_task_retries=5,
        )
        return iter(data.iter_rows())

    def gather(self, jobs: Sequence[Job]) -> list[dict[str, Any]]:
        """Committed records, in order of path; names as they are now."""
        scored = self.settings.scored()
        out = []
        for job in jobs:
            if job.problem:
                kind, message = job.problem
                nothing = Source(job.source_id, job.name, list(job.twins), problem={"kind": kind, "message": message})
                out.append(plain(nothing))
                continue
            record, _ = self.store.read("score", scored, job.scored)
            record["path"], record["twins"] = job.name, list(job.twins)
            for clip in record["clips"]:
                clip["path"] = job.name
            out.append(record)
        return out

    def decide(self, jobs: Sequence[Job]) -> Outcome:
        """Thresholds and decisions, nothing written."""
        sources, decisions = self.gather(jobs), read_decisions(self.settings.select.decisions)
        clips = [c for s in sources for c in s["clips"]]
        thresholds = select(clips, self.settings.select, decisions)
        are = {c["clip_id"]: "keep" if c["keep"] else "drop" for c in clips}
        return Outcome(sources, thresholds, tuple(i for i, word in decisions.items() if are.get(i) != word))

    def run(self, workers: int = 1, ray_address: str | None = None, tell: Tell | None = None) -> Outcome:
        """Everything: look, decide, cut, pack, report."""
        jobs = self.jobs(tell)
        with self._claimed():
            self._look(jobs, workers, ray_address, tell)
            return self._write(self.decide(jobs), workers, tell)

    def _write(self, outcome: Outcome, workers: int, tell: Tell | None) -> Outcome:
        self._cut(outcome, workers, tell)
        write_shards(outcome.clips, self.output, self.settings.per_shard, self.settings.seed)
        write_manifest(outcome.sources, self.output)
        from muybridge.curation.report import write_report

        write_report(self, outcome, self.output / "report.html")
        return outcome

    def _cut(self, outcome: Outcome, workers: int, tell: Tell | None) -> None:
        work = [(clip, source["probe"]) for source in outcome.sources for clip in source["clips"] if clip["keep"]]

        cages = Cages(max(workers, os.cpu_count() or 1))

        def cut(item: tuple[dict[str, Any], dict[str, Any]]) -> None:
            clip, probe = item
            try:
                clip.update(cages.call(write_clip, clip, probe, self.footage, self.output, self.settings.split))
            except FootageError as error:
                clip["keep"] = False
                clip["reasons"].append(f"could not be cut: {error.message}")

        for i, _ in enumerate(cages.map(cut, work)):
            if tell:
                tell("cutting", i + 1, len(work))
        wanted = {c["file"] for c in outcome.clips if c["keep"]}
        for path in (self.output / "clips").glob(CLIP_FILES):
            if path.relative_to(self.output).as_posix() not in wanted:
                path.unlink()

    def picture_of(self, clip: dict[str, Any]) -> bytes | None:
        """The small picture nearest to a clip's middle, JPEG."""
        record, pictures = self._survey_of(clip["source_id"])
        looked = record["probe"].get("looked", [])
        if not looked:
            return None
        middle = (clip["start"] + clip["end"]) / 2
        return pictures[min(range(len(looked)), key=lambda i: abs(looked[i] - middle))]
