"""The command line: what it makes, what it refuses (exit code 2, nothing written), and how fast its help is."""

import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from muybridge.cli.main import app
from muybridge.data.video_io import read_recipe, read_video, write_video
from muybridge.models import build_network
from muybridge.pipelines.pixels import TextToVideoPipeline
from tests.conftest import TINY_MODEL, randomise, with_training, write_recipe

SAMPLING = {"num_frames": 4, "height": 16, "width": 16, "num_inference_steps": 3, "guidance_scale": 2.0}
PROMPT = "a red circle moving left"


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model") / "tiny"
    network = randomise(build_network(TINY_MODEL), 0.02)
    TextToVideoPipeline(network, text_encoder="all-MiniLM-L6-v2", text_max_length=8, sampling=SAMPLING).save_pretrained(
        folder
    )
    return folder


@pytest.mark.parametrize("kind,precision", [("mp4", "fp32"), ("gif", "fp32"), ("webp", "bf16"), ("npy", "fp32")])
def test_generate_and_replay(model, tmp_path, kind, precision):
    out = tmp_path / f"out.{kind}"
    how = ("--steps", 2, "--fps", 5, "--upscale", 2, "--precision", precision, "--guidance-end", 0.5)
    done = run("generate", PROMPT, "-o", out, "--model", model, "--seed", 4, *how)
    assert done.exit_code == 0, done.output
    recipe = read_recipe(out)
    assert (
        recipe["options"]["prompt"] == PROMPT and recipe["seed"] == 4 and recipe["sampling"]["num_inference_steps"] == 2
    )
    assert recipe["model_hash"] and recipe["muybridge"]
    clip = read_video(out)
    assert clip.frames.shape == (4, 32, 32, 3) and abs(clip.fps - 5) < 0.01
    again = run("replay", out)
    assert again.exit_code == 0 and "the same" in again.output, again.output


def test_replay_tells_another_video(model, tmp_path):
    out = tmp_path / "out.npy"
    assert run("generate", PROMPT, "-o", out, "--model", model).exit_code == 0
    recipe = read_recipe(out)
    write_video(255 - read_video(out).frames, out, 8, {**recipe, "frames_sha256": "0" * 64})
    assert run("replay", out).exit_code == 1
    write_video(read_video(out).frames, tmp_path / "plain.gif", 8)
    refused = run("replay", tmp_path / "plain.gif")
    assert refused.exit_code == 2 and "no record" in refused.output


def test_a_file_of_prompts_and_going_on(model, tmp_path):
    (tmp_path / "p.txt").write_text("a red circle moving left\n\na blue star moving up\na green ring standing still\n")
    arguments = (
        "generate",
        "--prompts",
        tmp_path / "p.txt",
        "--output-dir",
        tmp_path / "out",
        "--format",
        "npy",
        "--model",
        model,
        "--batch-size",
        2,
    )
    assert run(*arguments).exit_code == 0
    names = sorted(p.name for p in (tmp_path / "out").glob("*.npy"))
    assert names == ["0000.npy", "0001.npy", "0002.npy"]
    frames = np.load(tmp_path / "out" / "0001.npy")
    assert frames.dtype == np.uint8 and frames.shape == (4, 16, 16, 3)
    single = tmp_path / "single.npy"
    assert run("generate", "a blue star moving up", "-o", single, "--model", model, "--seed", 1).exit_code == 0
    assert np.abs(np.load(single).astype(int) - frames).max() <= 1
    (tmp_path / "out" / "0001.npy").unlink()
    done = run(*arguments)
    assert "1 videos written" in done.output and "2 were already there" in done.output
    np.save(tmp_path / "out" / "0002.npy", np.zeros(3))
    (tmp_path / "out" / "0002.npy.json").unlink()
    done = run(*arguments)
    assert done.exit_code == 2 and "0002.npy: is there already" in done.output, done.output
    assert np.array_equal(np.load(tmp_path / "out" / "0002.npy"), np.zeros(3))


def test_a_link_is_followed_and_a_file_that_nobody_named_is_new(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("out.mp4", "real.npy"):
        (tmp_path / name).write_text("mine")
    (tmp_path / "link.npy").symlink_to(tmp_path / "real.npy")
    assert run("generate", PROMPT, "--model", model, "--steps", 2).exit_code == 0
    assert (tmp_path / "out.mp4").read_text() == "mine" and len(read_video(tmp_path / "out-2.mp4").frames) == 4
    assert run("generate", PROMPT, "--model", model, "--steps", 2, "-o", tmp_path / "link.npy").exit_code == 0
    assert (tmp_path / "link.npy").is_symlink() and np.load(tmp_path / "real.npy").shape == (4, 16, 16, 3)


def test_words_that_the_model_does_not_read_are_told(model, tmp_path):
    words = f"{PROMPT} over a green field towards the river"
    done = run("generate", words, "--model", model, "--steps", 2, "-o", tmp_path / "o.npy")
    assert done.exit_code == 0 and "first 8 tokens of the prompt; left out: 'a green field" in done.stderr, done.stderr
    assert "left out" not in run("generate", PROMPT, "--model", model, "--steps", 2, "-o", tmp_path / "p.npy").stderr


def test_each_of_many_places_is_tried_before_sampling(model, tmp_path):
    (tmp_path / "p.txt").write_text("a red circle\na blue star\n")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "0001.npy").mkdir()
    many = ("--prompts", tmp_path / "p.txt", "--output-dir", tmp_path / "out", "--format", "npy")
    done = run("generate", *many, "--model", model)
    assert done.exit_code == 2 and "0001.npy: is a folder" in done.output, done.output
    assert not (tmp_path / "out" / "0000.npy").exists()


@pytest.mark.slow
def test_extend_interpolate_and_replay_them(model, tmp_path):
    first = tmp_path / "a.npy"
    assert run("generate", PROMPT, "-o", first, "--model", model, "--upscale", 3).exit_code == 0
    for verb, more, frames in (("extend", ("--add-frames", 3), 7), ("interpolate", ("--factor", 2), 7)):
        out = tmp_path / f"{verb}.npy"
        done = run(verb, first, "-o", out, "--model", model, "--prompt", PROMPT, "--steps", 3, *more)
        assert done.exit_code == 0, done.output
        assert len(np.load(out)) == frames
        own = run(
            verb, first, "-o", tmp_path / "own.npy", "--prompt", PROMPT, "--steps", 3, *more
        )  # no --model: its maker
        assert own.exit_code == 0 and np.array_equal(np.load(tmp_path / "own.npy"), np.load(out)), own.output
        again = run("replay", out)
        assert again.exit_code == 0 and "the same" in again.output, again.output


def test_super_resolve_and_replay_it(model, tmp_path):
    np.save(tmp_path / "small.npy", np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8))
    out = tmp_path / "large.npy"
    given = ("super-resolve", tmp_path / "small.npy", "-o", out, "--model", model, "--prompt", PROMPT, "--steps", 2)
    done = run(*given, "--space", 2, "--time", 2)
    assert done.exit_code == 0, done.output
    assert np.load(out).shape == (8, 16, 16, 3)
    again = run("replay", out)
    assert again.exit_code == 0 and "the same" in again.output, again.output
    assert run(*given).exit_code == 2 and "--space" in run(*given).output
    wrong = run(*given, "--space", 3)
    assert wrong.exit_code == 2 and "give a video of" in wrong.output, wrong.output


def test_train_plan_export_and_data_commands(tiny_recipe, tmp_path):
    path = write_recipe(with_training(tiny_recipe, steps=2), tmp_path / "r.yaml")
    done = run("train", path, "-o", tmp_path / "run")
    assert done.exit_code == 0, done.output
    assert run("export", tmp_path / "run", tmp_path / "m").exit_code == 0
    assert run("generate", PROMPT, "-o", tmp_path / "x.gif", "--model", tmp_path / "m").exit_code == 0
    planned = run("plan", path)
    assert planned.exit_code == 0 and "peak memory" in planned.output, planned.output
    shown = run("data", "show", path, "-o", tmp_path / "d.png", "--count", 3)
    assert shown.exit_code == 0 and (tmp_path / "d.png").is_file() and "24 clips" in shown.output


def test_models_and_version():
    assert run("models").exit_code == 0
    assert run("--version").output.strip()


BAD = {
    "unknown model": (("generate", PROMPT, "-o", "{out}", "--model", "world-vmd"), "did you mean 'world-vdm'"),
    "no prompt": (("generate", "-o", "{out}"), "give either a PROMPT"),
    "empty prompt": (("generate", "  ", "-o", "{out}", "--model", "{model}"), "prompt is empty"),
    "huge prompt": (("generate", "word " * 10_000, "-o", "{out}", "--model", "{model}"), "10000 words"),
    "zero steps": (("generate", PROMPT, "-o", "{out}", "--model", "{model}", "--steps", "0"), "steps must be"),
    "absurd steps": (("generate", PROMPT, "-o", "{out}", "--model", "{model}", "--steps", "100000"), "steps must be"),
    "zero frames": (
        ("generate", PROMPT, "-o", "{out}", "--model", "{model}", "--num-frames", "0"),
        "num_frames must be at least 1",
    ),
    "absurd size": (
        ("generate", PROMPT, "-o", "{out}", "--model", "{model}", "--height", "99999", "--width", "99999"),
        "134 million",
    ),
    "absurd memory": (
        ("generate", PROMPT, "-o", "{out}", "--model", "{model}", "--height", "9984", "--width", "9984"),
        "are free",
    ),
    "odd size": (("generate", PROMPT, "-o", "{out}", "--model", "{model}", "--height", "17"), "divisible by"),
    "bad sampler": (
        ("generate", PROMPT, "-o", "{out}", "--model", "{model}", "--sampler", "dimm"),
        "did you mean 'ddim'",
    ),
    "bad ending": (("generate", PROMPT, "-o", "{dir}/x.avi", "--model", "{model}"), "cannot write .avi"),
    "unwritable": (("generate", PROMPT, "-o", "/proc/none/x.mp4", "--model", "{model}"), "cannot write here"),
    "odd size in a new folder": (
        ("generate", PROMPT, "-o", "{dir}/new/x.mp4", "--model", "{model}", "--height", "17"),
        "divisible by",
    ),
    "bad upscale": (("generate", PROMPT, "-o", "{out}", "--model", "{model}", "--upscale", "0"), "upscale"),
    "no video": (("extend", "{text}", "-o", "{out}", "--model", "{model}"), "not a readable video"),
    "missing video": (("interpolate", "{dir}/none.mp4", "-o", "{out}", "--model", "{model}"), "no video at"),
    "missing recipe": (("train", "{dir}/none.yaml"), "no recipe at"),
    "misspelt recipe": (("plan", "{recipe}"), "did you mean 'steps'"),
    "no prompts file": (
        ("generate", "--prompts", "{dir}/none.txt", "--output-dir", "{dir}/o", "--model", "{model}"),
        "cannot be read",
    ),
    "unknown data": (("data", "build", "emojis"), "neither 'emoji' nor a folder"),
    "no run": (("export", "{dir}/none", "{dir}/m"), "no run there"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_exits_with_2_and_writes_nothing(what, model, tmp_path, monkeypatch):
    arguments, message = BAD[what]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "bad.yaml").write_text("name: a\nsystem: vdm\nmodel: {}\ndata: {}\ntraining: {stepz: 3}")
    places = {
        "out": tmp_path / "out.mp4",
        "dir": tmp_path,
        "model": model,
        "text": tmp_path / "text.mp4",
        "recipe": tmp_path / "bad.yaml",
    }
    done = run(*(a.format(**places) if len(a) < 200 else a for a in arguments))
    assert done.exit_code == 2, done.output
    assert message in " ".join(done.output.split()), done.output
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.yaml", "text.mp4"]


@pytest.mark.slow
def test_help_comes_in_about_a_second():
    """On a busy machine: within six times what a typer command of one line takes beside it."""
    bare = "import typer\napp = typer.Typer()\n@app.command()\ndef one(x: int = 1): ...\napp()"
    ours = ["-m", "muybridge.cli.main"]

    def seconds(*arguments):
        began = time.perf_counter()
        subprocess.run([sys.executable, *arguments, "--help"], check=True, capture_output=True)
        return time.perf_counter() - began

    for command in [[], ["generate"], ["train"], ["plan"], ["extend"], ["data", "build"], ["replay"]]:
        pairs: list[tuple[float, float]] = []
        while not pairs or not min(p[0] for p in pairs) < max(1.5, 6 * min(p[1] for p in pairs)):
            assert len(pairs) < 3, (command, pairs)
            pairs.append((seconds(*ours, *command), seconds("-c", bare)))
