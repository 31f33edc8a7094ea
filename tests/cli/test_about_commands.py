"""doctor and cite."""

import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from muybridge.cli import about_commands
from muybridge.cli.main import app
from muybridge.data.video_io import write_video
from muybridge.files import write_json
from muybridge.opening.offers import offers


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_doctor_says_what_is_there_and_what_is_missing(monkeypatch):
    monkeypatch.setitem(about_commands.WANTED, "no_such_module", ("flying", "grow wings"))
    monkeypatch.setitem(about_commands.CODECS, "no_such_codec", "r")
    done = run("doctor")
    said = " ".join(done.output.replace("│", " ").split())
    assert done.exit_code == 0
    for words in (
        "torch",
        "cores",
        "libx264",
        "free in",
        "missing: no_such_codec",
        "no_such_module: flying; grow wings",
    ):
        assert words in said, words
    assert "nothing is missing" not in said


def test_doctor_and_help_answer_within_a_second_and_load_nothing_heavy():
    code = (
        "import sys\nfrom muybridge.cli.main import app\n"
        "app(sys.argv[1:], standalone_mode=False)\n"
        "print([m for m in ('torch', 'numpy', 'diffusers', 'transformers') if m in sys.modules])"
    )
    for arguments in (["doctor"], ["--help"]):
        taken = []
        for _ in range(3):
            before = os.times()
            done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
            after = os.times()  # seconds of the processor: whatever else the machine does
            taken.append(after.children_user + after.children_system - before.children_user - before.children_system)
        assert min(taken) < 1.0, f"{arguments}: {min(taken):.2f} s"
        assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(("model", "numbers"), [
    ("world-vdm", ["2204.03458"]), ("emoji-video", ["2304.08818", "2112.10752"]), ("emoji-image", ["2112.10752"]),
    ("emoji-animate", ["2311.15127"]), ("emoji-restyle", ["2302.03011"]),
])  # fmt: skip
def test_of_models(model, numbers):
    done = run("cite", model)
    assert done.exit_code == 0 and "@software{muybridge" in done.output
    assert all(number in done.output for number in numbers)


def test_of_runs_and_videos(tmp_path):
    import numpy as np

    for system, words in (("sora", "world simulators"), ("camera_lora", "2311.15127"), ("image_ldm", "2112.10752")):
        write_json(tmp_path / "run" / "recipe.json", {"system": system})
        assert words in run("cite", tmp_path / "run").output
    record = {"command": "control", "model": "emoji-image"}
    write_video(np.zeros((2, 16, 16, 3), np.uint8), tmp_path / "x.mp4", 4, record)
    said = run("cite", tmp_path / "x.mp4").output
    assert "2305.13077" in said and said.count("@misc{rombach2022high") == 1


def test_what_cannot_be_cited_is_refused(tmp_path):
    (tmp_path / "x.txt").write_text("x")
    for what, said in ((tmp_path, "neither a run"), (tmp_path / "x.txt", "no record"), ("emoji-vido", "did you mean")):
        done = run("cite", what)
        assert done.exit_code == 2 and said in " ".join(done.output.split())


def test_every_system_has_its_papers():
    from muybridge.library.papers import OF_COMMANDS, OF_SYSTEMS

    every = [*offers("TRAINS").values(), *offers("OPENS").values()]
    of_systems = {where.split(".")[2] for where in every if ".systems." in where}
    assert of_systems <= set(OF_SYSTEMS) and set(OF_COMMANDS.values()) <= set(OF_SYSTEMS)
    papers = [paper for some in OF_SYSTEMS.values() for paper in some]
    assert len({p.key for p in papers}) == len({p.where for p in papers}) == len(set(papers)) >= 12
