"""A child process for work on footage: what crashes or hangs there costs one file, not the run."""

from __future__ import annotations

import os
import pickle
import queue
import selectors
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from muybridge.curation.footage import THREADS_VARIABLE
from muybridge.data.reading.formats import FootageError, told

#: Seconds: a thread that comes back from decoding must not wait long for Python's lock while another works on small
#: arrays.
SWITCH = 2e-4
T = TypeVar("T")
CODE = "from muybridge.curation.cage import serve; serve()"


def serve() -> None:
    """The child: read calls from stdin, write answers to what was stdout, until the parent is gone."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not mix with answers
    calls = sys.stdin.buffer
    import cv2

    cv2.setNumThreads(1)
    sys.setswitchinterval(SWITCH)
    while True:
        try:
            function, arguments = pickle.load(calls)
        except EOFError:
            return
        try:
            answer = ("done", function(*arguments))
        except FootageError as error:
            answer = ("problem", (error.kind, error.message))
        except Exception as error:
            answer = ("problem", ("failed", told(error)))
        pickle.dump(answer, answers)
        answers.flush()


class Cage:
    """Calls functions in a child process, which is started again when it dies.

    The child is an interpreter of its own: it does not run the caller's script again, as multiprocessing's would.

    Args:
        seconds: how long a call may take.
        threads: that a call in the child may use; 0 for as many as there are cores.
    """

    def __init__(self, seconds: float = 3600.0, threads: int = 0):
        self.seconds, self.threads = seconds, threads
        self._process: subprocess.Popen[bytes] | None = None

    def call(self, function: Callable[..., Any], *arguments: Any, seconds: float | None = None) -> Any:
        """function(*arguments), both picklable; `seconds` is how long this one call may take.

        Raises:
            FootageError: what the function raised, a crash ("crashed") or no answer in time ("timeout").
        """
        process, seconds = self._running(), self.seconds if seconds is None else seconds
        assert process.stdin is not None and process.stdout is not None
        try:
            pickle.dump((function, arguments), process.stdin)
            process.stdin.flush()
            with selectors.DefaultSelector() as waiting:
                waiting.register(process.stdout, selectors.EVENT_READ)
                if not waiting.select(seconds):
                    raise FootageError("timeout", f"no end after {seconds:.0f} s")
            kind, value = pickle.load(process.stdout)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError) as error:
            self.close()
            raise FootageError("crashed", "the decoder crashed on it") from error
        except FootageError:
            self.close()
            raise
        if kind == "problem":
            raise FootageError(*value)
        return value

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            environment = {
                **os.environ,
                "OMP_NUM_THREADS": "1",
                THREADS_VARIABLE: str(self.threads),
                "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
            }
            self._process = subprocess.Popen(
                [sys.executable, "-c", CODE],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
        return self._process

    def close(self) -> None:
        """Stop the child."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    stream.close()
        self._process = None

    def __del__(self) -> None:
        self.close()


class Cages:
    """Several cages: calls from several threads at once.

    Args:
        count: how many.
        seconds, threads: of each.
    """

    def __init__(self, count: int, seconds: float = 3600.0, threads: int = 0):
        self.count = count
        self._free = queue.SimpleQueue[Cage]()
        for _ in range(count):
            self._free.put(Cage(seconds, threads))

    def call(self, function: Callable[..., Any], *arguments: Any, seconds: float | None = None) -> Any:
        """As Cage.call, in one that is free."""
        cage = self._free.get()
        try:
            return cage.call(function, *arguments, seconds=seconds)
        finally:
            self._free.put(cage)

    def map(self, make: Callable[[T], Any], items: Sequence[T]) -> Iterator[Any]:
        """make(item) of each, in order, as many at once as there are cages."""
        with ThreadPoolExecutor(self.count) as pool:
            yield from pool.map(make, items)
