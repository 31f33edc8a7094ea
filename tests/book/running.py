"""A page run from top to bottom as its reader would: commands in this process, Python in one namespace."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from muybridge.cli.main import app
from tests.book.reading import RUN, Block, blocks_of, commands_of

#: Options that make long commands short and change nothing that a page shows; sampling is short by the models' presets.
SHORT = {
    "tune": ["--train-steps", "1", "--num-frames", "4", "--iterations", "1", "--steps", "2"],
    "distill": ["--first-steps", "16", "--guidance-training", "1", "--halving-training", "1", "--batch-size", "1"],
}


def run_page(page: Path, folder: Path) -> list[list[str]]:
    """Every block that is not marked otherwise; returns the commands, in order."""
    run: list[list[str]] = []
    space: dict[str, object] = {"__name__": "__main__"}
    for block in blocks_of(page):
        if block.why is None and block.language == "python":
            exec(compile(block.code, block.place, "exec"), space)
        elif block.why is None and block.language in RUN:
            for words in commands_of(block.code, folder):
                run_command(words, block, folder)
                run.append(words)
    return run


def run_command(words: list[str], block: Block, folder: Path) -> None:
    assert words[0] == "muybridge", f"{block.place}: {words[0]} is not run by the tests; say why above the block"
    done = CliRunner().invoke(app, [*words[1:], *SHORT.get(words[1], [])])
    assert done.exit_code == 0, (block.place, words, done.output[-2000:], done.exception)
    if "-o" in words:
        assert (folder / words[words.index("-o") + 1]).exists(), (block.place, words)
