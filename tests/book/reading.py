"""Blocks of code of the README and of the book, and what a shell makes of a block of commands.

A block that the tests do not run says why in the line before it, which readers of the page do not see:

    <!-- not run: it needs hours -->
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
#: The README, the book, and the cards, which the book includes.
PAGES = [
    ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "muybridge" / "zoo").glob("*/README.md")),
]  # fmt: skip
RUN, READ, SHOWN = ("bash", "python"), ("yaml",), ("text", "bibtex")
BLOCK = re.compile(
    r"^(?:<!--[ ]not[ ]run:(?P<why>[^\n]*)-->\n+)?(?P<fence>```+)(?P<language>[^\n]*)\n(?P<code>.*?)^(?P=fence)$",
    re.M | re.S,
)


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    code: str
    #: None where the block is run; else why it is not
    why: str | None

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT) if self.page.is_relative_to(ROOT) else self.page.name}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """Of a page, in order; directives of the book ({toctree} and the like) are no code."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in BLOCK.finditer(text):
        if not match["language"].startswith("{"):
            line = text.count("\n", 0, match.start("fence")) + 1
            why = None if match["why"] is None else match["why"].strip()
            found.append(Block(page, line, match["language"].strip(), match["code"], why))
    return found


def unmarked_code(page: Path) -> list[str]:
    """Indented lines that Markdown would show as code without saying in which language."""
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    return re.findall(r"(?:\A|\n)\n(    \S.*)", text)


def commands_of(code: str, folder: Path) -> list[list[str]]:
    """Every program that a shell would start, as a list of words; loops, variables and braces are bash's own."""
    script = 'command_not_found_handle() { printf "%s\\x1f" "$@"; printf "\\n"; }\nPATH=/nowhere\nset -eu\n' + code
    done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, f"bash does not read this block: {done.stderr}\n{code}"
    return [line.split("\x1f")[:-1] for line in done.stdout.splitlines()]
