"""Video LDM's upsampler: four times as many pixels, in a latent space or in pixels, with and without time (spec 08)."""

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from muybridge.cli.main import app
from muybridge.data.video_io import read_video, write_video
from muybridge.errors import UserError
from muybridge.models.super_resolution import enlarged, on_grid
from muybridge.opening.sampling import load_pipeline
from muybridge.pipelines.super_resolution import GivenPixels, SuperResolutionPipeline
from muybridge.systems.video_ldm.training import VideoLDMSR
from muybridge.training.trainer import Trainer
from tests.conftest import randomise
from tests.systems.test_make_a_video import SR, overfitted, recipe_of
from tests.tiny_models import save_latent_space

SIZE = 32


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The upsampler of pictures in latents that stand for 2 x 2 pixels, and the same with time behind it."""
    folder = tmp_path_factory.mktemp("upsampler")
    torch.manual_seed(0)
    save_latent_space(folder / "vae")
    recipes = {
        "picture": recipe_of(
            "picture", "video_ldm_sr", {"autoencoder": str(folder / "vae"), **SR}, 1, size=SIZE, factor=4, crop=16
        ),
        "video": recipe_of(
            "video", "video_ldm_sr", {"image": str(folder / "picture/model")}, 4, size=SIZE, factor=4, window=3,
        ),
    }  # fmt: skip
    trainers = {}
    for name, recipe in recipes.items():
        trainers[name] = Trainer(recipe, folder / name)
        trainers[name].run()
    return folder, recipes, trainers


def test_the_small_video_lies_at_the_points_that_are_drawn(trained):
    space = trained[2]["picture"].system.canvas
    small = torch.randn(2, 3, 3, 8, 8)
    assert torch.equal(on_grid(small, 2, space), small)  # a latent a pixel: nothing is made up
    assert torch.equal(on_grid(small, 4, space), enlarged(small, 2))
    with pytest.raises(UserError, match=r"multiple of 2.*got 3"):
        on_grid(small, 3, space)


def test_what_is_learned_is_the_latents_of_the_large_video(trained):
    system, batch = trained[2]["picture"].system, trained[2]["picture"].batches(0, range(2))
    seen = []

    class Network(torch.nn.Module):
        def forward(self, z, index, encoder_hidden_states, class_labels):
            seen.append(z)
            return type("Out", (), {"sample": z[:, :4] * 0})

    losses = system.losses(Network(), batch)
    assert seen[0].shape == (2, 4 + 3, 8, 8)  # of crops of 16 pixels: latents, and the small video between them
    assert losses.weighted.shape == (2,)
    latents = system.canvas.encode(batch.video)[0]
    assert latents.shape[3:] == (16, 16) and not torch.allclose(latents.std(), torch.zeros(()))


def test_the_picture_network_stays_bit_for_bit(trained):
    trainer = trained[2]["video"]
    before, after = trainer.system.build().state_dict(), trainer.accelerator.unwrap_model(trainer.model).state_dict()
    moved = {n for n in before if not torch.equal(before[n], after[n].cpu())}
    assert moved and not any(n.startswith("image.") for n in moved)


@pytest.mark.parametrize("name", ["picture", "video"])
def test_each_network_learns_a_batch_by_heart(trained, name):
    first, last = overfitted(trained[2][name])
    assert last < 0.8 * first, (first, last)


@torch.no_grad()
def test_without_time_it_is_the_picture_network_frame_by_frame(trained):
    system = trained[2]["video"].system
    picture = load_pipeline(str(trained[0] / "picture/model"), "cpu")
    video = SuperResolutionPipeline(system.build(), system.scheduler, system.making(), {}, picture.space.vae)
    z, small = torch.randn(1, 4, 4, 16, 16), torch.randn(1, 3, 4, 16, 16)
    told, lam = GivenPixels(small, torch.tensor([1.0])), torch.tensor([0.3])
    assert torch.allclose(video.predict(z, lam, told), picture.predict(z, lam, told), atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", ["picture", "video"])
def test_the_folder_makes_four_times_as_many_pixels(trained, name):
    pipeline = load_pipeline(str(trained[0] / name / "model"), "cpu")
    randomise(pipeline.network, 0.05)
    video = torch.rand(2, 3, 4, 8, 12) * 2 - 1
    made = pipeline.raise_video(video, [None] * 2, seed=[1, 2]).samples
    assert made.shape == (2, 3, 4, 32, 48)
    alone = pipeline.raise_video(video[1:], seed=2).samples
    assert torch.allclose(alone, made[1:], atol=1e-4)
    assert not torch.allclose(pipeline.raise_video(-video[1:], seed=2).samples, alone, atol=1e-2)  # it is looked at


def test_upscale_takes_it(trained, tmp_path):
    given = (np.random.default_rng(0).random((4, 16, 16, 3)) * 255).astype(np.uint8)
    write_video(given, tmp_path / "x.npy", 8)
    command = ["upscale", tmp_path / "x.npy", "--model", trained[0] / "video/model", "-o", tmp_path / "y.npy"]
    done = CliRunner().invoke(app, [str(a) for a in [*command, "--space", "4"]])
    assert done.exit_code == 0, done.output
    assert read_video(tmp_path / "y.npy").frames.shape == (4, 64, 64, 3)


def test_wrong_settings_are_refused(trained, tmp_path):
    vae = {"autoencoder": str(trained[0] / "vae"), **SR}
    for model, settings, words in (
        (vae, {"factor": 3}, "multiple of 2"),
        ({**vae, "in_channels": 6}, {"factor": 4}, "7 in a super-resolution network, got 6"),
        ({"image": str(trained[0] / "picture/model"), "autoencoder": "x"}, {"factor": 4}, "autoencoder.*has its own"),
        ({"image": str(trained[0] / "picture/model")}, {"factor": 2}, "has 4, got 2"),
    ):
        with pytest.raises(UserError, match=words):
            VideoLDMSR(model, settings, None).build()
    assert VideoLDMSR(SR, {"factor": 4}, None).build().config.in_channels == 6
