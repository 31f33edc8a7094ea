"""A command of the command line, run in a thread of this process and told to the page event by event."""

from __future__ import annotations

import contextvars
import io
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from muybridge.cli.console import WATCHER
from muybridge.cli.parsing import check_arguments, whole_command
from muybridge.errors import UserError

#: Between two previews as many times as the last one took, so that looking costs a sixth of the time at most.
REST = 5.0
#: A preview's longest side, pixels; its frames a second.
SIDE, RATE = 256, 8


@dataclass(frozen=True)
class Event:
    """What happened.

    Attributes:
        kind: "line" (a notice or an error), "step", "preview", "end".
        text: of a line; of a step what it is a step of.
        done, total: of a step.
        picture: of a preview, an animated WebP.
        code: of the end, the command's exit code.
    """

    kind: str
    text: str = ""
    done: int = 0
    total: int = 0
    picture: bytes = b""
    code: int = 0


class Models:
    """The pipeline that was opened last: opening takes longer than the first preview shall."""

    def __init__(self) -> None:
        self.what: tuple[Any, ...] | None = None
        self.pipeline: Any = None

    def opened(self, what: tuple[Any, ...], open_it: Callable[[], Any]) -> Any:
        """Open it, unless it is the same model with the same files and nothing was merged into it."""
        from muybridge.library.catalogue import find_model

        files = tuple((str(p), p.stat().st_mtime_ns) for p in sorted(find_model(what[1]).rglob("*")) if p.is_file())
        kept = self.pipeline
        changed = kept is not None and bool(kept.loras or kept.styled or getattr(kept, "inversions", ()))
        if self.what != (what, files) or changed:
            self.what, self.pipeline = None, None  # the former one's memory is free before the next is opened
            self.pipeline = open_it()
            self.what = (what, files)
        return self.pipeline


@dataclass
class Watched:
    """Watches one command (cli.console.Watcher)."""

    models: Models
    events: queue.SimpleQueue[Event] = field(default_factory=queue.SimpleQueue)
    stopped: threading.Event = field(default_factory=threading.Event)
    pipeline: Any = None
    _next: float = 0.0

    def say(self, text: str) -> None:
        self.events.put(Event("line", text))

    def step(self, label: str, done: int, total: int, state: Any) -> None:
        if self.stopped.is_set():
            raise KeyboardInterrupt
        self.events.put(Event("step", label, done, total))
        began = time.monotonic()
        if self.pipeline is not None and hasattr(state, "x") and began >= self._next:
            self.events.put(Event("preview", picture=preview(self.pipeline, state.x)))
            now = time.monotonic()
            self._next = now + REST * (now - began)

    def opened(self, what: tuple[Any, ...], open_it: Callable[[], Any]) -> Any:
        self.pipeline = self.models.opened(what, open_it)
        return self.pipeline


def preview(pipeline: Any, estimate: Any) -> bytes:
    """What a sampler believes the video to be, as an animated WebP.

    Args:
        estimate: x̂ [B, C, F, H, W], pixels or latents; the first of the batch is shown.
    """
    from PIL import Image

    from muybridge.models.latent.space import LatentSpace
    from muybridge.nn.frames import enlarge, to_uint8

    seen, space = estimate[:1].detach(), getattr(pipeline, "space", None)
    if type(space) is LatentSpace and space.decoder is None:  # frames are decoded one by one: a third of them will do
        seen = seen[:, :, ::3]
    frames = to_uint8(seen if seen.shape[1] == 3 else pipeline.to_pixels(seen))[0]
    factor = max(1, SIDE // max(frames.shape[1:3]))
    pictures = [Image.fromarray(f) for f in enlarge(frames, factor)]
    buffer = io.BytesIO()
    pictures[0].save(
        buffer, "WEBP", save_all=True, append_images=pictures[1:], duration=1000 // RATE, loop=0, method=0, quality=70
    )
    return buffer.getvalue()


def watch(arguments: Sequence[str], watched: Watched) -> Iterator[Event]:
    """Run a command; its events as they come, the last is its end. Closing the iterator stops the command.

    Raises:
        UserError: arguments that the command line does not take.
    """
    check_arguments(arguments)

    def work() -> None:
        WATCHER.set(watched)
        code = 1
        try:
            code = whole_command()(list(arguments), standalone_mode=False) or 0
        except BaseException as error:  # a fault of ours: the page says so and goes on
            watched.say(f"error: {type(error).__name__}: {error}")
            raise
        finally:
            watched.events.put(Event("end", code=code))

    thread = threading.Thread(target=contextvars.copy_context().run, args=(work,), daemon=True)
    thread.start()
    try:
        while (event := watched.events.get()).kind != "end":
            yield event
        yield event
    finally:
        watched.stopped.set()
        thread.join()


def run_whole(arguments: Sequence[str]) -> str:
    """Run a short command in a process of its own and return what it printed.

    Raises:
        UserError: what it refused.
    """
    import subprocess
    import sys

    from muybridge.jobs.runner import environment

    check_arguments(arguments)
    done = subprocess.run(
        [sys.executable, "-m", "muybridge.cli.main", *arguments], capture_output=True, text=True,
        stdin=subprocess.DEVNULL, check=False, env=environment(),
    )  # fmt: skip
    if done.returncode:
        raise UserError((done.stderr.strip() or done.stdout.strip()).removeprefix("error: "))
    return done.stdout
