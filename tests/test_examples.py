"""The examples and the notebooks run, in a few steps."""

import json
import re
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow
SCRIPTS = {"words_to_video.py": "2", "longer.py": "2", "own_denoiser.py": "", "train_tiny.py": "3"}
NOTEBOOKS = ("from-scratch.ipynb", "a-picture-model-gets-time.ipynb", "edit-a-video.ipynb")


def test_every_one_is_here():
    assert {p.name for p in (ROOT / "examples").glob("*.py")} == set(SCRIPTS)
    assert {p.name for p in (ROOT / "docs" / "notebooks").iterdir()} == set(NOTEBOOKS)
    listed = (ROOT / "examples" / "README.md").read_text()
    assert all(f"`{name}`" in listed for name in SCRIPTS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_example_runs(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [name, *SCRIPTS[name].split()])
    exec(compile((ROOT / "examples" / name).read_text(encoding="utf-8"), name, "exec"), {"__name__": "__main__"})
    said = capsys.readouterr().out
    assert {
        "words_to_video.py": "circle.mp4", "longer.py": "(18, 32, 32, 3)", "own_denoiser.py": "means",
        "train_tiny.py": "(1, 4, 16, 16, 3)",
    }[name] in said  # fmt: skip


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_from_top_to_bottom(name, tmp_path, monkeypatch, capsys):
    """Its cells in order, in one namespace, as a kernel runs them; the number of steps is cut."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    book = json.loads((ROOT / "docs" / "notebooks" / name).read_text(encoding="utf-8"))
    space, cut = {"__name__": "__main__"}, 0
    for cell in book["cells"]:
        if cell["cell_type"] == "code":
            code, found = re.subn(r"^STEPS\b([^=\n]*)= \d+", r"STEPS\1= 2", "".join(cell["source"]), flags=re.M)
            cut += found
            exec(compile(code, name, "exec"), space)
            assert not cell["outputs"]  # a reader's own run fills them
    assert cut == 1
    if name == "from-scratch.ipynb":
        assert space["videos"].shape == (2, 1, 6, 12, 12) and space["losses"]
    if name == "a-picture-model-gets-time.ipynb":
        assert space["change"](space["without"]) > space["change"](space["with_time"])
    if name == "edit-a-video.ipynb":
        assert space["made"].frames.shape[0] == 8 and space["made"].record["command"] == "control"
        # an inversion in two steps does not lead back; that one does is tested in tests/diffusion
        assert space["back"].shape == space["other"].shape == space["seen"].shape
