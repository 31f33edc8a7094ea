"""Interlaced footage made progressive: a frame for each pair of fields, missing lines from space and time (bwdif)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any


def progressive(frames: Iterable[Any]) -> Iterator[tuple[Any, bool]]:
    """PyAV's frames -> as many, in order, with their own times, and whether fields were made a picture.

    Frames are passed on as they are until one is marked interlaced; from then on all go through FFmpeg's bwdif, which
    touches only those that are marked.
    """
    graph: Any = None
    shape: tuple[int, int, str] | None = None
    for raw in frames:
        now = (raw.width, raw.height, raw.format.name)
        if graph is not None and now != shape:
            graph.push(None)
            yield from _pulled(graph)
            graph = None
        if graph is None and not raw.interlaced_frame:
            yield raw, False
            continue
        if graph is None:
            graph, shape = _bwdif(raw), now
        graph.push(raw)
        yield from _pulled(graph)
    if graph is not None:
        graph.push(None)
        yield from _pulled(graph)


def _bwdif(raw: Any) -> Any:
    from av.filter import Graph

    graph = Graph()
    graph.threads = 1
    source = graph.add_buffer(width=raw.width, height=raw.height, format=raw.format.name, time_base=raw.time_base)
    made = graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced")
    sink = graph.add("buffersink")
    source.link_to(made)
    made.link_to(sink)
    graph.configure()
    return graph


def _pulled(graph: Any) -> Iterator[tuple[Any, bool]]:
    while True:
        try:
            yield graph.pull(), True
        except (BlockingIOError, EOFError):
            return
