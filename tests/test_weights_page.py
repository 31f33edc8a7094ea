"""docs/weights.md is what its cells do: two of its rows, run anew."""

import re

import pytest

from benchmarks import weights

#: Rows that are run again here; the others take as long, and `python -m benchmarks.weights` runs all.
ROWS = ("Stable Diffusion XL folder", "1.5 with motion modules and a MotionLoRA")


def row_of(page, name):
    """A row of the page, with messages in place of their numbers."""
    line = next(line for line in page.splitlines() if line.startswith(f"| {name} |"))
    told = dict(re.findall(r"^(\d+)\. (.+)$", page, re.M))
    return [re.sub(r"^no \((\d+)\)$", lambda m: f"no: {told[m[1]]}", cell.strip()) for cell in line.split("|")[1:-1]]


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_what_runs(name, monkeypatch, tmp_path):
    from muybridge.models.text.clip_vocabulary import VARIABLE

    monkeypatch.setenv("MUYBRIDGE_CACHE", str(tmp_path))  # the run sets both; put back afterwards
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    (found,) = weights.rows([kind for kind in weights.KINDS if kind.name == name])
    assert found == row_of(weights.PAGE.read_text(encoding="utf-8"), name), "run `python -m benchmarks.weights`"


def test_every_kind_has_its_row():
    page = weights.PAGE.read_text(encoding="utf-8")
    assert all(len(row_of(page, kind.name)) == 1 + len(weights.COMMANDS) + len(weights.TUNED) for kind in weights.KINDS)
