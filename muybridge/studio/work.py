"""Long work of a visitor: jobs of the queue that go on when the page is closed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from muybridge.errors import UserError
from muybridge.jobs.queue import QUEUED, RUNNING, Job, Queue
from muybridge.jobs.runner import ensure_runner
from muybridge.studio import shown
from muybridge.studio.forms import shown_command
from muybridge.studio.visits import Visitor


def start(visitor: Visitor, arguments: Sequence[str]) -> Job:
    """Add a command to the queue, once; it runs where the page does, so that paths mean what was checked.

    Raises:
        UserError: the same waits or runs already.
    """
    from muybridge.cli.parsing import check_arguments

    check_arguments(arguments)
    queue = Queue()
    for job in queue.jobs(visitor.name):
        if job.arguments == tuple(arguments) and job.state in (QUEUED, RUNNING):
            raise UserError(f"this is {job.state} already (job {job.name})")
    job = queue.add(arguments, Path.cwd(), visitor.name)
    ensure_runner(queue)
    return job


def newest(visitor: Visitor, arguments: Sequence[str]) -> Job | None:
    """The last job of a visitor whose command begins so."""
    begun = tuple(arguments)
    found = [job for job in Queue().jobs(visitor.name) if job.arguments[: len(begun)] == begun]
    return found[-1] if found else None


def stop(job: Job | None) -> str:
    """Ask a job to stop; what to tell of it."""
    if job is None:
        raise UserError("nothing of this name was started")
    job.stop()
    ensure_runner(Queue())
    return f"{job.name}: {'stopping; training saves a checkpoint first' if job.state == RUNNING else job.state}"


def bar_of(job: Job) -> str:
    """How far a job is, where it has said so."""
    told = job.progress
    return shown.bar(str(told.get("what", "")), told["done"], told["total"]) if told.get("total") else ""


def board(job: Job | None) -> str:
    """How a job is: state, bar, command, the end of its log."""
    if job is None:
        return ""
    code = "" if job.code is None else f", exit code {job.code}"
    lines = [f"job {job.name}: {job.state}{code}"]
    from html import escape

    log = f'<pre class="log">{escape(job.log(4000))}</pre>'
    return shown.said(lines) + bar_of(job) + f'<pre class="command">{escape(shown_command(job.arguments))}</pre>' + log


def run_board(run: Path) -> str:
    """The loss, the held-out error and the newest strip of a training run."""
    records = _records(run / "log.jsonl")
    parts = [
        shown.curve([(r["step"], r[name]) for r in records if isinstance(r.get(name), int | float)], label)
        for name, label in (("loss", "loss"), ("validation_error", "held-out error"))
    ]
    strips = sorted((run / "samples").glob("step-*.png"))
    if strips:
        newest = strips[-1]
        parts.append(f'<div class="said">samples at {newest.stem}</div>')
        parts.append(shown.picture(newest.read_bytes(), "png", f"samples at {newest.stem}"))
    return "".join(parts)


def _records(path: Path) -> list[dict[str, Any]]:
    """What a run wrote down; the line that it is writing this moment is left for the next look."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found
