"""A page run from top to bottom as its reader would: commands in this process, Python in one namespace."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from typer.testing import CliRunner

from muybridge.cli.main import app
from tests.book.reading import RUN, Block, blocks_of, commands_of

#: Options that make long commands short and change nothing that a page shows; sampling is short by the models' presets.
SHORT = {
    "tune": ["--train-steps", "1", "--num-frames", "4", "--iterations", "1", "--steps", "2"],
    "distill": ["--first-steps", "16", "--guidance-training", "1", "--halving-training", "1", "--batch-size", "1"],
}


def run_page(page: Path, folder: Path, before: Path) -> list[list[str]]:
    """Every block that is not marked otherwise; returns the commands, in order.

    Args:
        folder: the reader's.
        before: keeps what commands wrote: the same words on the same files, on another page, are not run again.
    """
    run: list[list[str]] = []
    space: dict[str, object] = {"__name__": "__main__"}
    for block in blocks_of(page):
        if block.why is None and block.language == "python":
            exec(compile(block.code, block.place, "exec"), space)
        elif block.why is None and block.language in RUN:
            for words in commands_of(block.code, folder):
                kept = before / key_of(words, folder)
                if kept.exists():
                    shutil.copytree(kept, folder, dirs_exist_ok=True)
                else:
                    seen = dict(stamps(folder))
                    run_command(words, block, folder)
                    keep(folder, [path for path, stamp in stamps(folder) if seen.get(path) != stamp], kept)
                run.append(words)
    return run


def run_command(words: Sequence[str], block: Block, folder: Path) -> None:
    assert words[0] == "muybridge", f"{block.place}: {words[0]} is not run by the tests; say why above the block"
    done = CliRunner().invoke(app, [*words[1:], *SHORT.get(words[1], [])])
    assert done.exit_code == 0, (block.place, words, done.output[-2000:], done.exception)
    if "-o" in words:
        assert (folder / words[words.index("-o") + 1]).exists(), (block.place, words)


def stamps(folder: Path) -> Iterator[tuple[Path, tuple[int, int]]]:
    for path in folder.rglob("*"):
        if path.is_file():
            yield path, (path.stat().st_mtime_ns, path.stat().st_size)


def key_of(words: Sequence[str], folder: Path) -> str:
    """Of a command: its words, the bytes of every file that they name, and which runs there are to go on with."""
    told = hashlib.sha256("\n".join(words).encode())
    for word in words:
        named = folder / word.partition(":")[0]
        for path in sorted(p for p in (named, *named.rglob("*")) if p.is_file()):
            told.update(path.read_bytes())
    told.update(" ".join(sorted(path.name for path in folder.glob("runs/*"))).encode())
    return told.hexdigest()


def keep(folder: Path, paths: Sequence[Path], kept: Path) -> None:
    kept.mkdir(parents=True)
    for path in paths:
        place = kept / path.relative_to(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, place)
