"""Items made by a thread of its own, ahead of whoever takes them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any, TypeVar

T = TypeVar("T")


def ahead(items: Iterator[T], depth: int) -> Iterator[T]:
    """The same items, made by a thread of its own up to `depth` ahead: decoding and scaling run outside Python's
    lock."""
    made: queue.Queue[tuple[str, Any]] = queue.Queue(depth)
    done = threading.Event()

    def put(entry: tuple[str, Any]) -> bool:
        while not done.is_set():
            try:
                made.put(entry, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def make() -> None:
        try:
            for item in items:
                if not put(("item", item)):
                    return
            put(("end", None))
        except BaseException as error:
            put(("error", error))

    worker = threading.Thread(target=make, daemon=True)
    worker.start()
    try:
        while True:
            kind, value = made.get()
            if kind == "item":
                yield value
            elif kind == "error":
                raise value
            else:
                return
    finally:
        done.set()
        worker.join()
