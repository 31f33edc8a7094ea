"""What the README says is true: its commands run from top to bottom, its Python too, and its files exist."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

import muybridge
from muybridge.cli.main import app
from muybridge.data.video_io import read_video

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
#: Not run here: they need hours, footage or a browser; their tests are elsewhere (training, curation, studio, jobs).
LONG = ("train", "plan", "curate", "studio", "jobs")
#: The same commands in a few steps.
SHORT = {
    "tune": ["--train-steps", "1", "--steps", "2", "--num-frames", "4", "--iterations", "1"],
    "edit": [],
    "replay": [],
}
#: (frames, height, width) that a command's file has; the model's own, enlarged where the line says so.
SHAPES = {
    "dog.mp4": (16, 256, 256), "dog.png": (1, 64, 64), "triangle.mp4": (12, 32, 32), "longer.mp4": (18, 32, 32),
    "smooth.mp4": (23, 32, 32), "alive.mp4": (16, 64, 64), "zero.mp4": (8, 64, 64), "tiger.mp4": (16, 64, 64),
    "cat.mp4": (4, 64, 64), "robot.mp4": (16, 64, 64),
}  # fmt: skip


def commands():
    block = README.split("## On the command line")[1].split("##")[0]
    lines = [line.split("  #")[0].strip() for line in block.splitlines() if line.startswith("    muybridge ")]
    return [shlex.split(line)[1:] for line in lines]


@pytest.mark.slow
def test_the_commands_run_from_top_to_bottom(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MUYBRIDGE_CACHE", str(tmp_path / "cache"))
    run, made = [], {}
    for arguments in commands():
        if arguments[0] in LONG:
            continue
        done = CliRunner().invoke(app, [*arguments, *SHORT.get(arguments[0], ["--steps", "2"])])
        assert done.exit_code == 0, (arguments, done.output, done.exception)
        run.append(arguments[0])
        if "-o" in arguments:
            out = arguments[arguments.index("-o") + 1]
            assert out not in made, f"{out} is written twice"
            made[out] = read_video(out).frames.shape[:3]
    assert made == SHAPES
    assert {a[0] for a in commands()} - set(run) == set(LONG) & {a[0] for a in commands()}
    for name in ("train", "plan"):
        recipe = next(a[1] for a in commands() if a[0] == name)
        assert (ROOT / recipe).is_file()


@pytest.mark.slow
def test_the_python_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = re.search(r"```python\n(.+?)```", README, re.S).group(1).replace("seed=1)", "seed=1, num_inference_steps=2)")
    exec(compile(code, "README.md", "exec"), {})
    assert read_video("first.mp4").frames.shape == (16, 64, 64, 3)
    example = muybridge.__doc__.split("\n\n", 1)[1].replace("seed=1)", "seed=1, num_inference_steps=2)")
    exec(compile(example, "muybridge", "exec"), {})
    assert read_video("circle.mp4").frames.shape == (12, 32, 32, 3)


def test_its_links_lead_somewhere():
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"
