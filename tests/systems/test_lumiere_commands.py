"""Lumiere on a user's own pictures and videos: any length, any size, boxes in their own pixels, and a whole model."""

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from muybridge.cli.main import app
from muybridge.data.video_io import read_video, write_video
from muybridge.errors import UserError
from muybridge.learning.contract import TrainingBatch
from muybridge.learning.draws import Draws
from muybridge.opening.sampling import load_pipeline
from muybridge.systems.lumiere.masks import cinemagraph_mask, drawn_masks
from muybridge.systems.lumiere.pipeline import save_lumiere
from muybridge.systems.lumiere.training import Lumiere, LumiereSR
from tests.conftest import randomise
from tests.systems.test_make_a_video import SR
from tests.tiny_models import PROMPT, SAMPLING, TEXT, save_latent_space, save_picture_model

F = 4
BASE = {**SAMPLING, "num_inference_steps": 2, "num_frames": F, "fps": 6.0}
LEVELS = {"levels": 1, "layers": 1}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A conditional base of random weights, super-resolution in windows of 4, and the whole of both."""
    folder = tmp_path_factory.mktemp("lumiere")
    torch.manual_seed(0)
    save_picture_model(folder / "picture", save_latent_space(folder / "vae"))
    base = Lumiere({"image": str(folder / "picture"), "temporal": LEVELS}, {"tasks": {"image": 1.0}}, TEXT)
    network = base.build()
    randomise(network.temporal, 0.05), randomise(network.image.conv_in, 0.05)
    base.save(network, folder / "base", BASE)
    small = LumiereSR(SR, {"window": F}, None)
    small.save(randomise(small.build(), 0.05), folder / "sr", SAMPLING)
    large = LumiereSR({"image": str(folder / "sr"), "temporal": LEVELS}, {"window": F}, None)
    network = large.build()
    randomise(network.temporal, 0.05)
    large.save(network, folder / "sr-time", {**SAMPLING, "height": 32, "width": 32})
    save_lumiere([folder / "base", folder / "sr-time"], folder / "whole")
    return folder


@pytest.fixture
def video(tmp_path):
    """Makes a video of random pixels: (name, frames, height, width) -> its path."""

    def made(name, frames, height, width):
        pixels = np.random.default_rng(0).random((frames, height, width, 3)) * 255
        write_video(pixels.astype(np.uint8), tmp_path / name, 8)
        return tmp_path / name

    return made


@pytest.fixture
def picture(tmp_path):
    """A picture twice as wide as it is high, 32x16."""
    pixels = (np.random.default_rng(1).random((16, 32, 3)) * 255).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def made_by(*arguments):
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split()), read_video(arguments[-1]).frames


def refused(*arguments):
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    assert done.exit_code == 2, done.output
    return " ".join(done.output.split())


@pytest.mark.parametrize("box", ["32,0,64,32", "0.5,0,1,1"])
def test_a_box_is_in_the_pixels_of_the_users_video(models, video, tmp_path, box):
    """64x32 pixels, worked on at 32x16: the right half is drawn, and the left comes back."""
    source = video("x.npy", F, 32, 64)
    out = tmp_path / "y.npy"
    _, whole = made_by("inpaint", source, "--mask", box, "--model", models / "base", "-o", out)
    out.unlink()
    _, other = made_by("inpaint", source, "--mask", box, "--seed", 5, "--model", models / "base", "-o", out)
    same = (whole == other).all((0, 3))
    assert whole.shape == (F, 16, 32, 3) and same[:, :16].all() and not same[:, 16:].any()


def test_a_box_is_cropped_as_the_picture_is(models, picture, tmp_path):
    """32x16 pixels, of which the model sees columns 8 to 24: a region of columns 8 to 16 is its left half."""
    out = tmp_path / "y.npy"
    _, frames = made_by("cinemagraph", picture, "--region", "8,0,16,16", "--model", models / "base", "-o", out)
    seen = np.asarray(Image.open(picture))[:, 8:24]
    assert (frames[:, :, 8:] == seen[:, 8:]).all() and (frames[0] == seen).all()
    assert not (frames[1:, :, :8] == seen[:, :8]).all(-1).any(-1).all()
    words = refused(
        "cinemagraph", picture, "--region", "0,0,8,16", "--model", models / "base", "-o", tmp_path / "n.npy"
    )
    assert "the mask is empty" in words  # all of it is cropped


def test_a_region_may_move(models, picture, video, tmp_path):
    """A video of masks: in each frame its white moves, and the rest of it stands still."""
    white = np.zeros((F, 16, 32, 3), np.uint8)
    for frame in range(F):
        white[frame, 4 * frame : 4 * frame + 4] = 255
    write_video(white, tmp_path / "masks.npy", 8)
    assert torch.equal(
        cinemagraph_mask(torch.from_numpy(white[..., 0] > 0))[0, 1:] == 0, torch.from_numpy(white[1:, ..., 0] > 0)
    )
    _, frames = made_by(
        "cinemagraph", picture, "--region", tmp_path / "masks.npy", "--model", models / "base", "-o", tmp_path / "y.npy"
    )  # fmt: skip
    still = (frames == frames[:1]).all((2, 3))
    assert all(still[f, row] == (f == 0 or row // 4 != f) for f in range(F) for row in range(16))


def test_a_cinemagraph_of_a_whole_model_stands_still_outside_its_region(models, picture, tmp_path):
    out = tmp_path / "y.npy"
    arguments = ("cinemagraph", picture, "--region", "0,0.5,1,1", "--model", models / "whole")
    _, frames = made_by(*arguments, "-o", out)
    assert frames.shape == (F, 32, 32, 3)
    assert frames[:, :16].astype(float).var(0).max() == 0 and frames[:, 16:].astype(float).var(0).max() > 1
    out.unlink()
    _, drawn = made_by(*arguments, "--no-keep", "-o", out)
    assert drawn[:, :16].astype(float).var(0).max() > 1


@pytest.mark.parametrize("frames", [3, 7])
def test_videos_of_any_length(models, video, tmp_path, frames):
    """The last frame is repeated until time can be halved, and what was made of it is cut."""
    source, given = video("x.npy", frames, 16, 16), tmp_path / "y.npy"
    for arguments in (
        ("inpaint", source, "--mask", "0,0,8,16", "--model", models / "base"),
        ("outpaint", source, "--left", 4, "--model", models / "base"),
        ("restyle", source, "--content", "robot", "--strength", 0.5, "--model", models / "base"),
        ("upscale", source, "--space", 2, "--model", models / "sr-time"),
    ):
        given.unlink(missing_ok=True)
        _, made = made_by(*arguments, "-o", given)
        assert len(made) == frames, arguments
    pipeline = load_pipeline(str(models / "base"), "cpu")
    assert [pipeline.length_for(n) for n in (1, 2, 3, 8)] == [2, 2, 4, 8]


@torch.no_grad()
def test_super_resolution_sees_the_last_frame_again(models):
    pipeline = load_pipeline(str(models / "sr-time"), "cpu")
    small = torch.rand(1, 3, 3, 16, 16) * 2 - 1
    longer = torch.cat([small, small[:, :, -1:]], 2)
    made = pipeline.raise_video(small, seed=1)
    assert torch.equal(made.samples, pipeline.raise_video(longer, seed=1).samples[:, :, :3])
    assert made.frames.shape == (1, 3, 32, 32, 3)


def test_a_window_that_time_cannot_halve_is_refused_before_training(models):
    with pytest.raises(UserError, match=r"diffusion.window: a multiple of 2, .*got 5"):
        LumiereSR({"image": str(models / "sr"), "temporal": LEVELS}, {"window": 5}, None).build()


def test_a_picture_is_brought_to_life_by_a_model_that_is_told_it(models, picture, tmp_path):
    out = tmp_path / "y.npy"
    arguments = ("animate", picture, "--prompt", PROMPT, "--model")
    said, frames = made_by(*arguments, models / "base", "-o", out)
    seen = np.asarray(Image.open(picture))[:, 8:24]
    assert "told to the network, which was trained with them" in said
    assert len(frames) == F and (frames[0] == seen).all() and not (frames[1:] == seen).all((1, 2, 3)).any()
    replayed = CliRunner().invoke(app, ["replay", str(out)])
    assert replayed.exit_code == 0 and "the same" in replayed.output, replayed.output
    pipeline = load_pipeline(str(models / "base"), "cpu")
    video = torch.from_numpy(seen.copy()).permute(2, 0, 1)[None, :, None].expand(-1, -1, F, -1, -1) / 127.5 - 1
    mask = torch.zeros(1, 1, F, 16, 16)
    mask[:, :, 0] = 1
    assert np.array_equal(pipeline.fill(video, mask, PROMPT).frames[0], frames)
    out.unlink()
    _, large = made_by(*arguments, models / "whole", "--fps", 5, "-o", out)
    assert large.shape == (F, 32, 32, 3) and read_video(out).fps == 5
    assert "nothing guides it" in refused(
        "inpaint", picture, "--mask", "0,0,8,8", "--weight", 9, "--model", models / "base", "-o", tmp_path / "n.npy"
    )
    assert "--weight" in refused(*arguments, models / "base", "--weight", 9, "-o", tmp_path / "n.npy")


def test_a_whole_model_says_what_its_super_resolution_does(models, video, tmp_path):
    source = video("x.npy", F, 16, 16)
    said, _ = made_by("inpaint", source, "--mask", "0,0,8,16", "--model", models / "whole", "-o", tmp_path / "y.npy")
    assert "super-resolution draws what is known anew" in said
    _, large = made_by("upscale", source, "--space", 2, "--model", models / "whole", "-o", tmp_path / "l.npy")
    _, alone = made_by(
        "upscale", source, "--space", 2, "--seed", 1_000_003, "--model", models / "sr-time", "-o", tmp_path / "a.npy"
    )  # fmt: skip
    assert np.array_equal(large, alone)
    redraw = ("restyle", source, "--content", "robot", "--strength", 0.5)
    words = refused(*redraw, "--model", models / "whole", "-o", tmp_path / "n.npy")
    assert "first stage's folder" in words and str(models / "whole" / "base") in words.replace(" ", "")


def test_a_style_is_not_put_on_a_style(models):
    pipeline, twice = (load_pipeline(str(models / "base"), "cpu") for _ in range(2))
    own = pipeline.network.image.conv_out.weight.clone()
    pipeline.use_style(f"{models / 'picture'}:0")
    assert torch.equal(pipeline.network.image.conv_out.weight, own)
    twice.use_style(f"{models / 'picture'}:1")
    with pytest.raises(UserError, match="has the style .* already; open it again"):
        twice.use_style(f"{models / 'picture'}:0.5")


def test_cinemagraphs_are_trained():
    batch = TrainingBatch(torch.zeros(50, 1), None, 0, range(50), 50, 1, 0)
    rows = drawn_masks(Draws(batch, "mask"), (3, 8, 12), {"cinemagraph": 1.0})[:, 0]
    assert (rows[:, 0] == 1).all() and torch.equal(rows[:, 1], rows[:, 2])
    hidden = (rows[:, 1] == 0).float().mean((1, 2))
    assert hidden.min() > 0.02 and hidden.max() < 0.7
