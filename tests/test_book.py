"""The book is built without a network and without a warning, and what it tells readers to type exists."""

import ast
import os
import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from muybridge import __version__
from muybridge.cli.parsing import check_arguments

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
#: Written by hand where a reader puts their own: no command line yet.
OPEN = re.compile(r"\.\.\.|\b[A-Z]{3,}\b|<[a-z]+>")


def commands():
    """(page, command line) of every command that stands on a line of its own."""
    for page in PAGES:
        for line in page.read_text(encoding="utf-8").splitlines():
            if line.startswith("    muybridge "):
                for part in re.split(r"\s{2,}#", line)[0].split("&&"):
                    yield page, part.strip().removeprefix("muybridge ")


def blocks(language):
    for page in PAGES:
        for code in re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S):
            yield page, code


def test_every_command_is_one():
    read = 0
    for _, line in commands():
        if OPEN.search(line) or line.startswith("--"):
            continue
        arguments = shlex.split(line)
        if arguments[0] == "jobs" and arguments[1:2] == ["add"]:
            arguments = arguments[2:]
        check_arguments(arguments)
        read += 1
    assert read > 40


def test_every_block_of_code_is_code():
    found = {language: list(blocks(language)) for language in ("python", "yaml")}
    for page, code in found["python"]:
        try:
            ast.parse(code)
        except SyntaxError as error:
            raise AssertionError(f"{page}: {error}") from error
    for page, code in found["yaml"]:
        assert isinstance(yaml.safe_load(code), dict), page
    assert len(found["python"]) > 3 and len(found["yaml"]) > 2


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
    """What a browser fetches for a page, and its links."""

    def __init__(self, page):
        super().__init__()
        self.fetched, self.links, self.formulas = [], [], 0
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.formulas += tag == "math"
        if tag in ("script", "img", "video", "source", "iframe") and values.get("src"):
            self.fetched.append(values["src"])
        if tag == "link" and values.get("href"):
            self.fetched.append(values["href"])
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_needs_no_network(tmp_path):
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
        for link in loaded.links:
            if not re.match(r"[a-z]+:", link):
                assert (page.parent / link.partition("#")[0]).exists(), f"{page.name}: {link}"
    first, equations = tmp_path / "site" / "index.html", tmp_path / "site" / "equations.html"
    assert "equations.html" in pages[first].links  # one click; the other is an equation's heading
    headings = [link for link in pages[equations].links if re.match(r"#\w", link)]
    assert len(set(headings)) >= 18 and pages[equations].formulas >= 18
    assert "$$" not in equations.read_text(encoding="utf-8")
