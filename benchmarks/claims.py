"""docs/claims.md, from the pages and cards themselves: what was wanted, and what came out.

python -m benchmarks.claims          writes it
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "claims.md"
HEAD = """# Claims: what was wanted, and what came out

Written by `python -m benchmarks.claims`, which collects every sentence and table row that sets a bar, from the cards,
the systems' pages, the benchmarks and the lab notes; a test runs it again and compares. A bar that was missed stays
here until it is reached. The figures' conditions are on the page that each group links to.
"""
BAR = re.compile(r"\bwanted\b|\bmissed\b|\breached\b", re.I)
#: A bar that was set and not reached.
MISSED = re.compile(r"\*\*[^*]*missed\*\*")


def sources() -> list[Path]:
    docs = ROOT / "docs"
    cards = sorted((ROOT / "muybridge" / "zoo").glob("*/README.md"))
    pages = [docs / "benchmarks.md", docs / "curation.md", *sorted((docs / "systems").glob("*.md"))]
    return [*cards, *pages, *sorted((docs / "lab-notes").glob("*.md"))]


def bars(text: str) -> Iterator[str]:
    """Sentences and rows with a bar, in order; a cell of a row has its column's heading before it."""
    for part in re.split(r"\n\s*\n", re.sub(r"```.*?```", "", text, flags=re.S)):
        if part.lstrip().startswith("|"):
            head, _, *rows = (cells_of(line) for line in part.strip().splitlines())
            barred = BAR.search(" ".join(head)) is not None
            for row in rows:
                if barred or BAR.search(" ".join(row)):
                    named = (f"{title} {cell}".strip() for title, cell in zip(head[1:], row[1:], strict=True) if cell)
                    yield f"{row[0]}: {', '.join(named)}"
        elif not part.startswith("#"):
            for sentence in re.split(r"(?<=[.;]) (?=[A-Z(`])", " ".join(part.split())):
                if BAR.search(sentence):
                    yield sentence.removeprefix("- ")


def cells_of(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip()[1:-1].split("|")]


def title_of(text: str) -> str:
    return re.search(r"^# (.+)$", text, re.M)[1]  # type: ignore[index]


def link_to(source: Path) -> str:
    """A page's place in the book; a card's heading on the page of cards."""
    if source.name == "README.md":
        return f"cards.md#{source.parent.name}"
    return source.relative_to(ROOT / "docs").as_posix()


def page() -> str:
    lines, missed, every = [], 0, 0
    for source in sources():
        text = source.read_text(encoding="utf-8")
        found = [re.sub(r"\]\([^)]*\)", "]", sentence).replace("[", "").replace("]", "") for sentence in bars(text)]
        if found:
            lines += [f"\n## [{title_of(text)}]({link_to(source)})\n", *(f"- {sentence}" for sentence in found)]
            missed += sum(MISSED.search(sentence) is not None for sentence in found)
            every += len(found)
    return f"{HEAD}\nLines: {every}; with a bar that was missed: {missed}.\n" + "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
