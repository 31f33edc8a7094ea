"""Jobs as folders: what was asked for, how far it is, how it ended."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muybridge.errors import UserError
from muybridge.files import read_mapping, write_json
from muybridge.locks import is_locked

#: What a job can be. KILLED: it ended without a word - a kill, or the machine went down.
STATES = QUEUED, RUNNING, FINISHED, FAILED, CANCELLED, KILLED = (
    "queued", "running", "finished", "failed", "cancelled", "killed",
)  # fmt: skip
#: How a job is named, and so its folder: no name from outside reaches the file system.
NAME = re.compile(r"\d{8}-\d{6}-[0-9a-f]{6}")
#: Files of a job's folder: its command; that it was begun; its process; that it shall stop; its end; how far it got.
COMMAND, BEGUN, PROCESS, STOP, END, PROGRESS, LOG = (
    "job.json", "begun.json", "process.json", "stop.json", "end.json", "progress.json", "log.txt",
)  # fmt: skip


def jobs_folder() -> Path:
    """Where jobs are kept: MUYBRIDGE_JOBS, or ~/.local/share/muybridge/jobs."""
    return Path(os.environ.get("MUYBRIDGE_JOBS", "~/.local/share/muybridge/jobs")).expanduser()


@dataclass(frozen=True)
class Job:
    """A command of muybridge that is worked off.

    Attributes:
        folder: its own.
        arguments: what follows `muybridge` on the command line.
        directory: where it runs.
        added: seconds since 1970.
        owner: who added it, "" from the command line; the studio shows each browser its own.
    """

    folder: Path
    arguments: tuple[str, ...]
    directory: str
    added: float
    owner: str = ""

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def state(self) -> str:
        """One of STATES, as it is now."""
        # in this order: the lock is held from before BEGUN until after END
        begun, held = (self.folder / BEGUN).exists(), is_locked(self.folder)
        end = self._about(END)
        if end.get("code") == 0:
            return FINISHED
        if held and not end:
            return RUNNING
        if self.is_stopping:
            return CANCELLED
        return FAILED if end else KILLED if begun else QUEUED

    @property
    def is_stopping(self) -> bool:
        """Whether somebody asked it to stop."""
        return (self.folder / STOP).exists()

    @property
    def code(self) -> int | None:
        """The command's exit code; None where it has none."""
        return self._about(END).get("code")

    @property
    def process(self) -> int | None:
        """The number of its process, once it has one."""
        return self._about(PROCESS).get("process")

    @property
    def progress(self) -> dict[str, Any]:
        """{"what", "done", "total"} of the newest bar; empty before there is one."""
        return self._about(PROGRESS)

    def log(self, most: int = 20_000) -> str:
        """The end of what it has printed, `most` bytes."""
        path = self.folder / LOG
        if not path.is_file():
            return ""
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - most))
            return file.read().decode("utf-8", errors="replace")

    def stop(self) -> None:
        """Ask it to stop: one that waits never starts; one that runs is interrupted as by Ctrl-C by the runner."""
        if self.state in (QUEUED, RUNNING):
            write_json(self.folder / STOP, {"at": time.time()})

    def remove(self) -> None:
        """Forget it, with its log; what its command wrote stays.

        Raises:
            UserError: it is not over.
        """
        if self.state in (QUEUED, RUNNING):
            raise UserError(f"{self.name} is {self.state}; cancel it first: muybridge jobs cancel {self.name}")
        shutil.rmtree(self.folder)

    def _about(self, name: str) -> dict[str, Any]:
        try:
            return read_mapping(self.folder / name)
        except UserError:  # not there, or the machine went down while it was written: nothing is known
            return {}


class Queue:
    """The jobs of a folder, oldest first.

    Args:
        folder: `jobs_folder` by default; made at the first job.

    Raises:
        UserError: a system without locks, where nothing true could be said of a job.
    """

    def __init__(self, folder: Path | None = None):
        self.folder = folder or jobs_folder()
        if os.name != "posix":
            raise UserError("jobs need a system with file locks (Linux, macOS); run the command itself")

    def add(self, arguments: Sequence[str], directory: Path, owner: str = "") -> Job:
        """Put a command at the end of the queue.

        Args:
            arguments: what follows `muybridge`; whoever adds it has checked it.
        """
        now = time.time()
        stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(now))
        folder = self.folder / f"{stamp}-{secrets.token_hex(3)}"
        folder.mkdir(parents=True)
        told = {"arguments": list(arguments), "directory": str(directory), "added": now, "owner": owner}
        write_json(folder / COMMAND, told)
        return self.job(folder.name)

    def jobs(self, owner: str | None = None) -> list[Job]:
        """All jobs, or those of one owner."""
        if not self.folder.is_dir():
            return []
        # a folder without COMMAND is one that is being added this moment
        names = [p.name for p in self.folder.iterdir() if NAME.fullmatch(p.name) and (p / COMMAND).is_file()]
        known = []
        for name in names:
            with suppress(UserError):  # one that is damaged, or removed this moment, holds up no other
                known.append(self.job(name))
        found = sorted(known, key=lambda job: (job.added, job.name))
        return [job for job in found if owner is None or job.owner == owner]

    def job(self, name: str, owner: str | None = None) -> Job:
        """The job of a name.

        Args:
            owner: only if it is theirs.

        Raises:
            UserError: there is none.
        """
        folder = self.folder / name
        if not NAME.fullmatch(name) or not (folder / COMMAND).is_file():
            raise UserError(f"no job {name!r}; `muybridge jobs` lists them")
        told = read_mapping(folder / COMMAND)
        missing = [key for key in ("arguments", "directory", "added", "owner") if key not in told]
        if missing:
            raise UserError(f"{folder / COMMAND}: misses {', '.join(missing)}; remove its folder and add the job again")
        if owner is not None and told["owner"] != owner:
            raise UserError(f"no job {name!r}; `muybridge jobs` lists them")
        return Job(folder, tuple(told["arguments"]), told["directory"], told["added"], told["owner"])

    def next(self) -> Job | None:
        """What a runner sees to: what runs already, else what has waited longest."""
        jobs = [(job.state, job) for job in self.jobs()]
        return next((j for wanted in (RUNNING, QUEUED) for state, j in jobs if state == wanted), None)
