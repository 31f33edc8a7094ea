"""One trial: files, a command line, and what must hold of its end whatever they are."""

from __future__ import annotations

import base64
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

#: Seconds after which a command that was to refuse, or to make something tiny, does not end.
PATIENCE = 100
#: Bytes that no refusal needs: torch and diffusers take a quarter of it.
MOST_MEMORY = 2 * 10**9
#: Ways to end: all well; other frames than recorded (replay alone); refused.
WELL, OTHER, REFUSED = 0, 1, 2


@dataclass(frozen=True)
class Case:
    """A command line and the files that it finds in an empty folder; {model}, {picture}, ... stand for tiny models."""

    arguments: tuple[str, ...]
    files: dict[str, bytes] = field(default_factory=dict)

    def saved(self) -> str:
        packed = {name: base64.b64encode(data).decode() for name, data in self.files.items()}
        return json.dumps({"arguments": self.arguments, "files": packed}, indent=1, sort_keys=True) + "\n"

    @staticmethod
    def loaded(text: str) -> Case:
        found = json.loads(text)
        files = {name: base64.b64decode(data) for name, data in found["files"].items()}
        return Case(tuple(found["arguments"]), files)


@dataclass(frozen=True)
class Outcome:
    """How a case ended: exit code (negative: the signal that ended it), what was printed, peak bytes, seconds, and the
    files that are new."""

    code: int
    output: str
    memory: int
    seconds: float
    made: frozenset[str]


def run(case: Case, models: dict[str, str]) -> Outcome:
    """Run a case in a process of its own, which has torch imported and has computed nothing yet.

    It begins as a copy of a server's. A copy of this process would not do: after one backward pass torch's autograd
    refuses to work in a copy, and which tests ran here before is chance.
    """
    server = _server(os.getpid())
    print(json.dumps({"case": case.saved(), "models": models}), file=server.stdin, flush=True)
    told = json.loads(server.stdout.readline())
    return Outcome(**{**told, "made": frozenset(told["made"])})


@cache
def _server(pid: int) -> subprocess.Popen:
    """This process's server: it reads a case a line and answers with its outcome; it ends with its input."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.fuzz.case"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def serve() -> None:
    import muybridge.pipelines.pixels  # noqa: F401  # torch and diffusers, once for all cases

    for line in sys.stdin:
        asked = json.loads(line)
        outcome = asdict(_run(Case.loaded(asked["case"]), asked["models"]))
        print(json.dumps({**outcome, "made": sorted(outcome["made"])}), flush=True)


def _run(case: Case, models: dict[str, str]) -> Outcome:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "here"
        folder.mkdir()
        for file, data in case.files.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(data)
        before = _files(folder)
        arguments = [_filled(a, models) for a in case.arguments]
        began, told = time.monotonic(), Path(name) / "output"
        child = os.fork()
        if child == 0:
            _child(arguments, folder, told, Path(name) / "cache")
        while not (waited := os.wait4(child, os.WNOHANG))[0]:
            if time.monotonic() - began > PATIENCE:
                os.kill(child, signal.SIGKILL)
            time.sleep(0.005)
        code = os.waitstatus_to_exitcode(waited[1])
        output = told.read_text(encoding="utf-8", errors="replace") if told.exists() else ""
        seconds = time.monotonic() - began
        return Outcome(code, output, waited[2].ru_maxrss * 1024, seconds, frozenset(_files(folder) - before))


def findings(case: Case, outcome: Outcome) -> list[str]:
    """What is wrong with how a case ended; empty if nothing."""
    wrong = []
    if outcome.seconds > PATIENCE:
        wrong.append(f"did not end in {PATIENCE} s")
    elif outcome.code not in (WELL, REFUSED) and not (outcome.code == OTHER and case.arguments[0] == "replay"):
        wrong.append(f"ended with {outcome.code}")
    if "Traceback" in outcome.output:
        wrong.append("a traceback")
    if outcome.code == REFUSED:
        if outcome.output.lower().count("error") == 0 and "Usage" not in outcome.output:
            wrong.append("no message")
        if outcome.memory > MOST_MEMORY:
            wrong.append(f"took {outcome.memory >> 20} MiB to refuse")
        kept = [n for n in outcome.made if not n.startswith("runs/") and "/cache/" not in n]
        if kept and case.arguments[0] not in ("train", "tune", "curate"):  # these keep what they came to
            wrong.append(f"left {sorted(kept)[:3]}")
    left = [n for n in outcome.made if ".unfinished-" in n or n.endswith(".tmp")]
    if left:
        wrong.append(f"left {left[:3]} unfinished")
    return wrong


def _filled(text: str, models: dict[str, str]) -> str:
    for name, folder in models.items():
        text = text.replace(f"{{{name}}}", folder)
    return text


def _files(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir() or p.is_symlink()}


def _child(arguments: list[str], folder: Path, told: Path, cache: Path) -> None:
    """Never returns."""
    code = 99
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        handle = os.open(told, os.O_WRONLY | os.O_CREAT)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        sys.stdout = open(1, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
        os.chdir(folder)
        os.environ.update(MUYBRIDGE_CACHE=str(cache), HOME=str(folder.parent), COLUMNS="300", NO_COLOR="1")
        most = 24 * 10**9
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        from muybridge.cli.main import app

        app(arguments, standalone_mode=True)
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 98
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
