"""The book is built without a network or a warning, its links lead somewhere, and its pages have their order."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
import yaml

from benchmarks import claims, diagrams
from muybridge import __version__
from tests.book.reading import ROOT, blocks_of

DOCS = ROOT / "docs"
SYSTEMS = sorted(page for page in (DOCS / "systems").glob("*.md") if page.name != "index.md")
#: The order of every system's page.
SECTIONS = [
    "The idea", "The picture", "Equations", "Ten lines of Python", "The command", "What it is good for", "Figures",
    "What differs from the paper", "Where it is in the code", "What the tests show",
]  # fmt: skip


def test_every_system_has_a_page_of_the_same_order():
    assert len(SYSTEMS) == 11
    for page in SYSTEMS:
        text = page.read_text(encoding="utf-8")
        assert re.findall(r"^## (.+)$", text, re.M) == SECTIONS, page.name
        assert re.search(r"^\*\*State\.\*\* ", text, re.M), f"{page.name} does not say how far the system is"
        parts = dict(re.findall(r"^## (.+)\n((?:(?!## ).*\n)*)", text, re.M))
        assert f"pictures/systems/{page.stem}.svg" in parts["The picture"], page.name
        assert "$$" in parts["Equations"] and "../equations.md#" in parts["Equations"], page.name
        assert f"(systems/{page.stem}.md#equations)" in (DOCS / "equations.md").read_text(encoding="utf-8"), page.name
        first = next(block for block in blocks_of(page) if block.language == "python")
        lines = [line for line in first.code.splitlines() if line.strip() and not line.startswith(("import", "from"))]
        assert first.why is None and len(lines) <= 10, first.place
        assert any(b.language == "bash" and b.why is None for b in blocks_of(page)), page.name


def test_pages_and_pictures_that_scripts_write_are_up_to_date():
    assert claims.PAGE.read_text(encoding="utf-8") == claims.page(), "run `python -m benchmarks.claims`"
    assert claims.page().count("**missed**") >= 5
    assert {path.stem for path in diagrams.FOLDER.glob("*.svg")} == set(diagrams.ROWS) == {p.stem for p in SYSTEMS}
    for name in diagrams.ROWS:
        drawn = (diagrams.FOLDER / f"{name}.svg").read_text(encoding="utf-8")
        assert drawn == diagrams.drawn(name), "run `python -m benchmarks.diagrams`"


def test_every_bundled_model_has_its_card_in_the_book():
    cards = re.findall(r"^```\{include\} \.\./muybridge/zoo/(.+)/README\.md$", (DOCS / "cards.md").read_text(), re.M)
    assert sorted(cards) == sorted(path.parent.name for path in (ROOT / "muybridge" / "zoo").glob("*/README.md"))


def test_the_equations_name_functions_that_exist():
    text = (DOCS / "equations.md").read_text(encoding="utf-8")
    for line in re.findall(r"^`.+?·", text, re.M):
        module = None
        for name in re.findall(r"`([\w.]+)`", line):
            module = name.rpartition(".")[0] if "." in name else module
            assert _exists(f"muybridge.{name}" if "." in name else f"muybridge.{module}.{name}"), name


def _exists(name):
    import importlib

    try:
        importlib.import_module(name)
        return True
    except ModuleNotFoundError:
        module, _, inner = name.rpartition(".")
        return hasattr(importlib.import_module(module), inner)


def test_lessons_that_the_equations_name_exist():
    from muybridge.studio.learn.learn_tab import LESSONS

    text = " ".join((DOCS / "equations.md").read_text(encoding="utf-8").split())
    named = {
        name
        for part in re.findall(r"lessons? ((?:\*[^*]+\*(?:, )?)+)", text)
        for name in re.findall(r"\*([^*]+)\*", part)
    }
    titles = {lesson.title for lesson in LESSONS}
    assert named <= titles | {"The circle"} and len(named) >= len(titles) - 1


def test_the_version_is_the_same_everywhere():
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == __version__
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


class Loaded(HTMLParser):
    """What a browser fetches for a page, its links, and what they can lead to."""

    def __init__(self, page):
        super().__init__()
        self.fetched, self.links, self.places, self.formulas = [], [], set(), 0
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.formulas += tag == "math"
        self.places |= {values["id"]} if values.get("id") else set()
        if tag in ("script", "img", "video", "source", "iframe") and values.get("src"):
            self.fetched.append(values["src"])
        if tag == "link" and values.get("href"):
            self.fetched.append(values["href"])
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_needs_no_network(tmp_path):
    tmp_path = tmp_path.resolve()
    before = os.times()
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", DOCS, tmp_path / "site"],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0 and not done.stderr.strip(), done.stderr[-2000:]
    after = os.times()  # seconds of the processor: whatever else the machine does
    assert after.children_user + after.children_system - before.children_user - before.children_system < 90
    pages = {p: Loaded(p) for p in (tmp_path / "site").rglob("*.html")}
    assert len(pages) > 35
    for page, loaded in pages.items():
        assert not [f for f in loaded.fetched if "//" in f], page
        for link in (link for link in loaded.links if not re.match(r"[a-z]+:", link)):
            path, _, place = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), f"{page.name}: {link}"
            assert not place or target not in pages or place in pages[target].places, f"{page.name}: {link}"
    first, equations = tmp_path / "site" / "index.html", tmp_path / "site" / "equations.html"
    assert "equations.html" in pages[first].links  # one click; the other is an equation's heading
    table = re.findall(r'<td>.*?href="(#[^"]+)">.*?(\d+)\. ', equations.read_text(encoding="utf-8"))
    assert [int(number) for _, number in table] == list(range(1, 19)), table
    assert pages[equations].formulas >= 18
    assert sum(link.startswith("api.html#") for link in pages[equations].links) >= 25  # the code behind them
    assert "$$" not in equations.read_text(encoding="utf-8")
