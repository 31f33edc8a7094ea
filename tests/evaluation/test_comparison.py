"""Several models on one page: what is drawn is what the commands draw, what is counted is what was called."""

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from muybridge.cli.main import app
from muybridge.data.video_io import read_video
from muybridge.errors import UserError
from muybridge.evaluation.comparison.figures import share_first
from muybridge.evaluation.comparison.run import names_of, training_hours
from muybridge.models import build_network
from muybridge.opening.sampling import load_pipeline
from muybridge.pipelines.pixels import TextToVideoPipeline
from tests.conftest import TINY_MODEL, randomise

SAMPLING = {"num_frames": 4, "height": 16, "width": 16, "num_inference_steps": 3, "guidance_scale": 2.0}


def run(*words):
    return CliRunner().invoke(app, ["compare", *map(str, words)])


@pytest.fixture
def tiny(tmp_path):
    torch.manual_seed(0)
    network = randomise(build_network(TINY_MODEL), 0.02)
    made = TextToVideoPipeline(network, text_encoder="all-MiniLM-L6-v2", text_max_length=8, sampling=SAMPLING)
    made.save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.mark.slow
def test_models_are_compared_on_one_page_and_the_same_command_goes_on(tiny, picture_model, tmp_path):
    words = [
        tiny,
        picture_model,
        "--prompt",
        "a <b>star</b>",
        "--prompt",
        "a ring",
        "--steps",
        2,
        "-o",
        tmp_path / "out",
    ]
    done = run(*words)
    assert done.exit_code == 0, done.output
    figures = json.loads((tmp_path / "out" / "figures.json").read_text())
    assert figures["tiny"]["evaluations"] == 4 and figures["tiny"]["way"] == "generate"  # 2 steps, 2 branches
    assert figures[picture_model.name]["way"] == "zero" and figures[picture_model.name]["of its own"] == 0
    assert figures["tiny"]["parameters"] == sum(p.numel() for p in build_network(TINY_MODEL).parameters())
    page = (tmp_path / "out" / "index.html").read_text()
    assert "a &lt;b&gt;star&lt;/b&gt;" in page and f"{picture_model.name}/0001.mp4" in page
    # video i is what `generate` draws with seed + i
    told = ["generate", "a ring", "--seed", "1", "--model", str(tiny), "--steps", "2", "-o", str(tmp_path / "own.mp4")]
    assert CliRunner().invoke(app, told).exit_code == 0
    videos = [read_video(p).frames for p in (tmp_path / "own.mp4", tmp_path / "out" / "tiny" / "0001.mp4")]
    assert np.array_equal(*videos)
    # what is there stays; what was lost is drawn again, the same
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.mp4")}
    lost = tmp_path / "out" / picture_model.name / "0000.mp4"
    before = read_video(lost).frames
    lost.unlink()
    assert run(*words).exit_code == 0
    assert np.array_equal(read_video(lost).frames, before)
    assert all(p.stat().st_mtime_ns == stamp for p, stamp in stamps.items() if p != lost)
    other = run(tiny, picture_model, "--prompt", "a cube", "-o", tmp_path / "out")
    assert other.exit_code == 2 and "holds a comparison with other prompts, steps" in other.output.replace("\n", " ")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["emoji-video", "--prompt", "a"], "give two models or more"),
        (["emoji-video", "emoji-video", "--prompt", "a"], "emoji-video is given twice"),
        (["emoji-video", "world-vdm"], "give either captions"),
        (["emoji-video", "no-such", "--prompt", "a"], "no-such"),
        (["emoji-video", "world-vdm", "--prompt", "a", "--scorer", "no-such"], "no-such"),
        (["emoji-video", "world-vdm", "--prompt", "a", "--reference", "no-such"], "--reference: expected a folder"),
        (["emoji-video", "world-vdm", "--prompt", " "], "--prompt: no caption in it"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_written(words, told, tmp_path):
    done = run(*words, "-o", tmp_path / "out")
    assert done.exit_code == 2 and told in done.output.replace("\n", " ")
    assert not (tmp_path / "out").exists()


def test_a_folder_of_other_things_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    done = run("emoji-video", "world-vdm", "--prompt", "a", "-o", tmp_path)
    assert done.exit_code == 2 and "holds 'mine.txt'" in done.output
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_a_trained_models_name_is_that_of_its_run(tmp_path, monkeypatch):
    (tmp_path / "one" / "model").mkdir(parents=True)
    assert names_of((str(tmp_path / "one" / "model"), "emoji-video")) == ["one", "emoji-video"]
    monkeypatch.chdir(tmp_path / "one" / "model")
    assert names_of((".", "emoji-video")) == ["one", "emoji-video"]  # no place above the output, nor itself
    with pytest.raises(UserError, match="two folders have this name"):
        names_of(("..", str(tmp_path / "one")))
    with pytest.raises(UserError, match="two folders have this name"):
        names_of((str(tmp_path / "one" / "model"), str(tmp_path / "one")))


def test_a_video_counts_where_it_is_nearest_to_its_own_caption():
    words = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    videos = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
    assert share_first(videos, words) == pytest.approx(2 / 3)


def test_training_hours_are_steps_times_what_each_took(tmp_path):
    assert training_hours(tmp_path) is None
    rows = [
        {"step": 10, "seconds_per_step": 36.0},
        {"step": 10, "validation_error": 1.0},
        {"step": 30, "seconds_per_step": 18.0},
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (tmp_path / "log-more.jsonl").write_text(json.dumps({"step": 100, "seconds_per_step": 36.0}) + "\n")
    assert training_hours(tmp_path) == pytest.approx((10 * 36 + 20 * 18 + 100 * 36) / 3600)


def test_an_evaluation_is_a_videos_whatever_shares_the_call(tiny):
    pipeline = load_pipeline(str(tiny), "cpu")
    with torch.no_grad():
        pipeline.closed(None)(torch.zeros(2, 3, 4, 16, 16), torch.zeros(2))
    assert pipeline.evaluations == 2
