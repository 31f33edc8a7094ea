"""A cascade on the command line: put together, drawn, replayed, and used on a user's video."""

import numpy as np
import pytest
from typer.testing import CliRunner

from muybridge.cli.main import app
from muybridge.data.video_io import read_recipe, read_video, write_video
from tests.data.making_files import encode, heard, steps
from tests.systems.test_imagen_video import BASE, FASTER, LARGER, saved


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def cascade(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cascade")
    stages = [saved(folder, o, n) for o, n in ((BASE, "b"), (FASTER, "t"), (LARGER, "s"))]
    done = run("models", "cascade", *stages, "-o", folder / "whole")
    assert done.exit_code == 0, done.output
    return folder / "whole"


def test_generate_and_replay(cascade, tmp_path):
    out = tmp_path / "out.mp4"
    done = run("generate", "anything", "-o", out, "--model", cascade, "--seed", 4)
    assert done.exit_code == 0, done.output
    clip = read_video(out)
    assert clip.frames.shape == (4, 16, 16, 3) and clip.fps == pytest.approx(4)
    again = run("replay", out)
    assert again.exit_code == 0 and "the same" in again.output, again.output
    refused = run("generate", "anything", "-o", tmp_path / "no.mp4", "--model", cascade, "--steps", 3)
    assert refused.exit_code == 2 and "has its own" in refused.output


@pytest.mark.parametrize(("how", "shape", "rate"), [
    (("--space", 2, "--time", 2), (10, 24, 36), 20), (("--space", 2), (5, 24, 36), 10),
    (("--time", 2), (10, 12, 18), 20),
])  # fmt: skip
def test_upscale_a_users_video_and_replay_it(cascade, tmp_path, how, shape, rate):
    source = encode(tmp_path / "x.mp4", steps(5, 12, 18), tone=440)
    out = tmp_path / "out.mp4"
    done = run("upscale", source, "--model", cascade, *how, "-o", out)
    assert done.exit_code == 0, done.output
    clip = read_video(out)
    assert clip.frames.shape == (*shape, 3) and clip.fps == pytest.approx(rate)
    assert read_recipe(out)["command"] == "upscale" and heard(out) is not None
    again = run("replay", out)
    assert again.exit_code == 0 and "the same" in again.output, again.output


def test_each_stages_peak_is_said_and_planned(cascade, tmp_path):
    """The plan calls no network: every stage is counted on a video of the size that the one before would make."""
    source, out = encode(tmp_path / "x.mp4", steps(5, 12, 18)), tmp_path / "out.npy"
    told = {"generate": ("anything",), "upscale": (source, "--space", 2, "--time", 2)}
    stages = {"generate": ("base", "2-temporal", "3-spatial"), "upscale": ("2-temporal", "3-spatial")}
    for command, given in told.items():
        done = run("plan", command, *given, "--model", cascade, "-o", out)
        assert done.exit_code == 0, (done.output, done.exception)
        planned = {n: line for n in stages[command] for line in done.output.splitlines() if f"stage {n}: " in line}
        assert set(planned) == set(stages[command]) and "peak memory (predicted)" in done.output
        assert not out.exists()
    done = run("generate", "anything", "--model", cascade, "-o", out)
    assert done.exit_code == 0 and "memory balanced" in done.output, done.output
    said = [line.partition(":")[0] for line in done.output.splitlines() if "predicted peak" in line]
    assert said == [f"stage {n}" for n in stages["generate"]]
    assert "measured peak" in done.output.split("stage 3-spatial")[1]


def test_one_stage_alone(cascade, tmp_path):
    write_video(np.stack(steps(3, 16, 16)), tmp_path / "x.npy", 8)
    done = run(
        "upscale", tmp_path / "x.npy", "--model", cascade / "3-spatial", "--space", 2, "-o", tmp_path / "out.npy"
    )
    assert done.exit_code == 0, done.output
    assert read_video(tmp_path / "out.npy").frames.shape == (3, 32, 32, 3)


@pytest.mark.parametrize(
    ("how", "said"),
    [((), "--space or --time"), (("--space", 3), "factors are 2 in space and 2 in time"),
     (("--space", 4), "factors are"),
     (("--space", 2, "--tile", 64), "looks at the whole picture"), (("--space", 2, "--steps", 4), "steps")],
)  # fmt: skip
def test_what_a_cascade_cannot_do_is_refused(cascade, tmp_path, how, said):
    write_video(np.stack(steps(3, 16, 16)), tmp_path / "x.npy", 8)
    done = run("upscale", tmp_path / "x.npy", "--model", cascade, *how, "-o", tmp_path / "out.npy")
    assert done.exit_code == 2 and said in " ".join(done.output.split()), done.output
    assert not (tmp_path / "out.npy").exists()


def test_other_models_have_no_stages(tmp_path):
    write_video(np.stack(steps(3, 16, 16)), tmp_path / "x.npy", 8)
    done = run("upscale", tmp_path / "x.npy", "--model", "world-vdm", "--space", 2, "-o", tmp_path / "out.npy")
    assert done.exit_code == 2 and "no super-resolution stages" in " ".join(done.output.split())
    done = run("upscale", tmp_path / "x.npy", "--space", 2, "-o", tmp_path / "out.npy")
    assert done.exit_code == 2 and "models cascade" in " ".join(done.output.split())
