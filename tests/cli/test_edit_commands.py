"""zero, control, tune, edit, restyle: as a user runs them, on a tiny picture model; and what they say of bad input."""

import json

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel
from typer.testing import CliRunner

from muybridge.cli.main import app
from muybridge.data.video_io import read_recipe, read_video, write_video
from muybridge.errors import Notice
from muybridge.library.parts import load_picture_unet
from tests.conftest import randomise

run = CliRunner().invoke


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MUYBRIDGE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def clip(tmp_path):
    """A video of an odd size at an unusual rate."""
    frames = np.random.default_rng(0).integers(0, 255, (5, 19, 30, 3), dtype=np.uint8)
    return write_video(frames, tmp_path / "clip.npy", 8.0, {}), frames


@pytest.fixture
def control_folder(tmp_path, picture_model):
    torch.manual_seed(4)
    network = ControlNetModel.from_unet(
        load_picture_unet(str(picture_model)), conditioning_embedding_out_channels=(8, 16)
    )
    randomise(network, 0.05).save_pretrained(tmp_path / "net")
    return tmp_path / "net"


def ok(*arguments):
    done = run(app, [str(a) for a in arguments])
    assert done.exit_code == 0, done.output
    return done.output


def refused(words, *arguments):
    done = run(app, [str(a) for a in arguments])
    assert done.exit_code == 2 and words in done.output, done.output


def test_zero_makes_a_video_that_replays(tmp_path, picture_model):
    out = tmp_path / "zero.npy"
    ok(
        "zero",
        "a red circle",
        "-o",
        out,
        "--model",
        picture_model,
        "--num-frames",
        3,
        "--steps",
        10,
        "--height",
        16,
        "--width",
        16,
    )
    assert read_video(out).frames.shape == (3, 16, 16, 3)
    assert read_recipe(out)["options"]["motion"] == [-12.0, -12.0]
    assert "the same" in ok("replay", out)
    refused("unknown 'second'", "zero", "a", "-o", out, "--model", picture_model, "--attention", "second")
    refused("not an image model", "zero", "a", "-o", out, "--model", "world-vdm")


@pytest.mark.parametrize("method", ["control-video", "zero"])
def test_control_keeps_size_length_and_replays(tmp_path, picture_model, clip, control_folder, method):
    out = tmp_path / "controlled.npy"
    ok(
        "control", clip[0], "a red circle", "-o", out, "--model", picture_model, "--control", "edges:0.5",
        "--control-net",
        control_folder, "--method", method, "--steps", 4, "--precision", "bf16", "--own-size",
        *(("--smooth", "linear") if method == "control-video" else ()),
    )  # fmt: skip
    assert read_video(out).frames.shape == clip[1].shape
    assert read_recipe(out)["options"]["control"] == ["edges:0.5"]
    assert "the same" in ok("replay", out)


@pytest.mark.parametrize(
    ("given", "shape"),
    [
        ((), (5, 16, 25, 3)),  # the shorter side as long as the model's
        (("--height", 24, "--width", 32), (5, 24, 32, 3)),
        (("--frame-step", 2), (3, 16, 25, 3)),
        (("--frame-step", 2, "--max-frames", 2), (2, 16, 25, 3)),
    ],
)
def test_control_works_at_the_models_size_unless_told_otherwise(
    tmp_path, picture_model, clip, control_folder, given, shape
):
    out = tmp_path / "controlled.npy"
    told = ("--model", picture_model, "--control-net", control_folder, "--smooth", "none", "--steps", 2)
    ok("control", clip[0], "a red circle", "-o", out, *told, *given)
    made = read_video(out)
    assert made.frames.shape == shape
    assert made.fps == pytest.approx(read_video(clip[0]).fps / (2 if "--frame-step" in given else 1))
    assert "the same" in ok("replay", out)


def test_control_undoes_an_enlargement_by_repeated_pixels(tmp_path, picture_model, control_folder):
    small = np.random.default_rng(0).integers(0, 255, (3, 16, 16, 3), dtype=np.uint8)
    told = ("--model", picture_model, "--control-net", control_folder, "--smooth", "none", "--steps", 2)
    made = []
    for name, frames in (("small", small), ("large", small.repeat(4, 1).repeat(4, 2))):
        write_video(frames, tmp_path / f"{name}.npy", 8.0, {})
        ok("control", tmp_path / f"{name}.npy", "a red circle", "-o", tmp_path / "o.npy", *told)
        made.append(read_video(tmp_path / "o.npy").frames)
    assert np.array_equal(*made)


@pytest.mark.parametrize(("given", "scale"), [((), 1.25), (("--guidance-scale", "2.5"), 2.5)])
def test_control_takes_the_guidance_that_its_net_was_made_for(
    tmp_path,
    picture_model,
    clip,
    control_folder,
    given,
    scale,
):
    (control_folder / "muybridge.json").write_text('{"sampling": {"guidance_scale": 1.25}}')
    out = tmp_path / "controlled.npy"
    ok(
        "control", clip[0], "a red circle", "-o", out, "--model", picture_model, "--control-net", control_folder,
        "--smooth", "none",
        "--steps", 2, "--max-frames", 2, *given,
    )  # fmt: skip
    assert read_recipe(out)["sampling"]["guidance_scale"] == scale


def test_control_refuses_what_it_cannot_do(tmp_path, picture_model, clip, control_folder):
    base = ("control", clip[0], "a", "-o", tmp_path / "o.npy", "--model", picture_model)
    refused("unknown 'edge'", *base, "--control", "edge")
    refused("NAME:SCALE", *base, "--control", "edges:much")
    refused("no ControlNet for it is bundled", *base, "--control", "pose")
    refused("give one for each", *base, "--control", "edges", "--control", "depth", "--control-net", control_folder)
    refused("no part of a model", *base, "--control-net", tmp_path / "nowhere")
    refused("method: unknown", *base, "--control-net", control_folder, "--method", "magic")
    (tmp_path / "sound.mp4").write_bytes(b"no video")
    refused("sound.mp4", "control", tmp_path / "sound.mp4", "a", "-o", tmp_path / "o.npy", "--model", picture_model)
    assert not (tmp_path / "o.npy").exists()


def test_a_single_frame_and_another_script_pass(tmp_path, picture_model, control_folder):
    one = write_video(np.zeros((1, 16, 16, 3), np.uint8), tmp_path / "one.npy", 8.0, {})
    out = tmp_path / "o.npy"
    ok(
        "control",
        one,
        "красная лиса",
        "-o",
        out,
        "--model",
        picture_model,
        "--control-net",
        control_folder,
        "--steps",
        3,
    )
    assert len(read_video(out).frames) == 1


def test_footage_of_every_kind_passes_or_is_refused(tmp_path, picture_model, control_folder):
    from PIL import Image

    from tests.curation.test_pipeline import encode, sound

    def controlled(source, out):
        ok("control", source, "a red circle", "-o", out, "--model", picture_model, "--control-net", control_folder,
           "--steps", 2, "--own-size")  # fmt: skip
        return read_video(out)

    uneven = encode(tmp_path / "uneven.mp4", [0, 0.04, 0.08, 0.4, 0.44, 0.48], (32, 20))
    made = controlled(uneven, tmp_path / "u.npy")
    read = read_video(uneven)
    assert made.frames.shape == read.frames.shape and made.fps == pytest.approx(read.fps)
    assert len(read.frames) / read.fps == pytest.approx(0.52, abs=0.1)  # as long as it lasts, the long frame repeated
    clear = np.zeros((6, 21, 33, 4), np.uint8)
    clear[:, 5:12, 5:12] = (255, 0, 0, 255)
    shown = [Image.fromarray(f) for f in clear]
    shown[0].save(tmp_path / "clear.webp", save_all=True, append_images=shown[1:], duration=100, lossless=True)
    assert read_video(tmp_path / "clear.webp").frames[0, 0, 0].tolist() == [255, 255, 255]
    assert read_video(tmp_path / "clear.webp").frames[0, 8, 8].tolist() == [255, 0, 0]
    assert controlled(tmp_path / "clear.webp", tmp_path / "c.npy").frames.shape[1:3] == (21, 33)
    sound(tmp_path / "sound.mp4")
    refused(
        "no video stream", "control", tmp_path / "sound.mp4", "a", "-o", tmp_path / "o.npy", "--model", picture_model
    )


@pytest.mark.slow
def test_tune_then_edit_several_times(tmp_path, picture_model, clip):
    folder = tmp_path / "tuned"
    tune = ("tune", clip[0], "--caption", "a red circle", "--folder", folder, "--model", picture_model)
    tune = (*tune, "--train-steps", 2, "--steps", 4, "--num-frames", 4, "--stride", 2)
    ok(*tune)
    assert (folder / "model" / "inversion.safetensors").is_file()
    made = []
    for words in ("a blue star", "a white ring"):
        ok("edit", folder / "model", words, "-o", tmp_path / "edit.npy", "--steps", 4)
        made.append(read_video(tmp_path / "edit.npy").frames)
        assert "the same" in ok("replay", tmp_path / "edit.npy")
    assert made[0].shape == (3, 16, 16, 3)  # of 5 frames every second
    assert not np.array_equal(*made)
    kept = folder / "model" / "inversion.safetensors"
    noise = kept.read_bytes()
    ok(*tune)  # nothing is left to do
    assert kept.read_bytes() == noise
    ok(*tune, "--train-steps", 3)  # other weights, other noise
    longer = kept.read_bytes()
    ok(*tune, "--train-steps", 3, "--iterations", 2)
    assert noise != longer != kept.read_bytes()
    ok("edit", folder / "model", "a", "-o", tmp_path / "edit.npy", "--steps", 4)
    write_video(clip[1][::-1].copy(), clip[0], 8.0)
    refused("different: data", *tune, "--train-steps", 3, "--iterations", 2)  # another video under the same name
    refused("caption", "tune", clip[0], "--caption", " ", "--folder", tmp_path / "other", "--model", picture_model)
    refused("not tuned on a video", "edit", picture_model, "a")


def test_redrawing_keeps_size_and_replays(tmp_path, picture_model, clip):
    out = tmp_path / "redrawn.npy"
    base = ("restyle", clip[0], "-o", out, "--model", picture_model, "--content", "a red circle", "--steps", 4)
    ok(*base, "--strength", 0.5, "--precision", "bf16", "--own-size")
    assert read_video(out).frames.shape == clip[1].shape
    assert "the same" in ok("replay", out)
    refused("strength must be in 0..1", *base, "--strength", 2)
    refused("give --strength", *base)
    refused("--content", "restyle", clip[0], "-o", out, "--model", picture_model, "--strength", 0.5)
    recipe = json.loads(out.with_name("redrawn.npy.json").read_text())
    assert recipe["options"]["strength"] == 0.5


def test_edits_keep_the_sound_of_their_source(tmp_path, picture_model):
    from tests.data.making_files import encode, heard, pitch, steps

    talk = encode(tmp_path / "talk.mp4", steps(10, 16, 16), tone=440)
    base = ("restyle", talk, "--model", picture_model, "--content", "a red circle", "--steps", 2, "--strength", 0.5)
    made = ok(*base, "--own-size", "--max-frames", 6, "-o", tmp_path / "out.mp4")
    assert "left out" not in made
    samples, rate, _ = heard(tmp_path / "out.mp4")
    assert len(samples) / rate == pytest.approx(0.6, abs=0.06)
    assert pitch(samples[2000:], rate) == pytest.approx(440, abs=5)
    assert ".gif holds no sound" in ok(*base, "--own-size", "--max-frames", 3, "-o", tmp_path / "out.gif")


def test_a_longer_video_says_that_it_is_silent(tmp_path):
    from muybridge.cli.writing import _sound_of
    from muybridge.making.base import Heard
    from tests.data.making_files import encode, steps

    talk = encode(tmp_path / "talk.mp4", steps(10, 16, 16), tone=440)
    with pytest.warns(Notice, match="its sound is left out: the video is longer"):
        assert _sound_of(Heard(str(talk), silent="the video is longer than its sound now")) is None
    assert _sound_of(Heard(str(talk), 0.0, 1.0)).seconds == 1.0
    assert _sound_of(Heard(str(encode(tmp_path / "still.mp4", steps(3))), silent="x")) is None  # nothing to tell
