"""Items made by threads ahead of whoever takes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

K = TypeVar("K")
T = TypeVar("T")


def in_order(make: Callable[[K], T], keys: Iterable[K], workers: int) -> Iterator[T]:
    """make(key) for every key, in order, by threads.

    Args:
        workers: threads, each up to one item ahead; 0 makes each item when it is asked for.

    Raises:
        What `make` raises, when its item's turn comes.
    """
    if not workers:
        yield from map(make, keys)
        return
    pending = []
    with ThreadPoolExecutor(workers, "data") as pool:
        try:
            for key in keys:
                pending.append(pool.submit(make, key))
                if len(pending) > workers:
                    yield pending.pop(0).result()
            while pending:
                yield pending.pop(0).result()
        finally:
            for future in pending:
                future.cancel()
