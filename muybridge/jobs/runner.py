"""The process that works off the queue, one job after another. It may be killed at any moment: the job that runs goes
on, and the next runner sees to it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import muybridge
from muybridge import progress
from muybridge.errors import UserError
from muybridge.files import write_json
from muybridge.jobs.queue import BEGUN, END, LOG, PROGRESS, RUNNING, Job, Queue
from muybridge.locks import lock_to_hand_on, locked

#: Seconds: between two looks at a job, and after which one that was asked to stop is killed. A training step and its
#: checkpoint have to fit into the latter.
LOOK, PATIENCE = 0.2, 60.0
#: The module that a job's process runs.
WORK = "muybridge.cli.job"


def environment() -> dict[str, str]:
    """Of a process of ours: it finds the package that runs here, from whatever folder, installed or not."""
    here = str(Path(muybridge.__file__).parents[1])
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")]))}


def ensure_runner(queue: Queue) -> None:
    """Start a runner that outlives this process; where one runs already the new one ends at once."""
    queue.folder.mkdir(parents=True, exist_ok=True)
    with open(queue.folder / "runner.log", "ab") as log:
        subprocess.Popen(
            [sys.executable, "-m", "muybridge.jobs.runner", str(queue.folder)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=environment(),
        )  # fmt: skip


def work_off(queue: Queue) -> None:
    """Run jobs until none waits; returns at once where another runner does."""
    while queue.next() is not None:
        try:
            with locked(queue.folder, "running jobs"):
                while (job := queue.next()) is not None:
                    see_to(job)
        except UserError:
            return
        # a job that was added while the lock was still held found no runner that it could start: look again


def see_to(job: Job, patience: float = PATIENCE) -> None:
    """Start a job unless it runs, and come back when it is over."""
    handle = lock_to_hand_on(job.folder)
    child = None
    if handle is not None:
        try:
            if not job.is_stopping:
                child = _started(job, handle)
        finally:
            os.close(handle)  # the child has its own
    asked = 0.0
    while child.poll() is None if child is not None else job.state == RUNNING:
        if job.is_stopping:
            asked = asked or _signalled(job, signal.SIGINT)
            if asked and time.monotonic() - asked > patience:
                _signalled(job, signal.SIGKILL)
        time.sleep(LOOK)


def _started(job: Job, handle: int) -> subprocess.Popen[bytes] | None:
    """The process of a job, which holds its lock until it is gone; None where it could not be started."""
    write_json(job.folder / BEGUN, {"at": time.time()})
    with open(job.folder / LOG, "ab") as log:
        try:
            return subprocess.Popen(
                [sys.executable, "-m", WORK, str(job.folder)], cwd=job.directory, pass_fds=[handle],
                env=environment() | {progress.FILE: str(job.folder / PROGRESS), "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            log.write(f"error: {error.filename or job.directory}: {error.strerror}\n".encode())
    write_json(job.folder / END, {"code": 2, "at": time.time()})
    return None


def _signalled(job: Job, which: signal.Signals) -> float:
    """Tell a job's processes; when that was, 0 where it has no process yet."""
    if job.process is None:
        return 0.0
    with contextlib.suppress(ProcessLookupError):
        os.killpg(job.process, which)
    return time.monotonic()


if __name__ == "__main__":
    work_off(Queue(Path(sys.argv[1])))
