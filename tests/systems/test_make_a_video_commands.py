"""Make-A-Video on a user's own videos and words: rates beyond those of training, seeds, noise that frames share; and
what training tells its networks."""

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from muybridge.cli.main import app
from muybridge.data.video_io import read_video, write_video
from muybridge.errors import UserError
from muybridge.learning.contract import TrainingBatch
from muybridge.models.text.prior import ContentPrior
from muybridge.nn.frames import from_uint8
from muybridge.opening.sampling import load_pipeline
from muybridge.systems.make_a_video import training
from muybridge.systems.make_a_video.training import MakeAVideo, MakeAVideoSR
from muybridge.systems.make_a_video.whole import save_make_a_video
from tests.conftest import randomise
from tests.systems.test_make_a_video import SR
from tests.tiny_models import SAMPLING, save_latent_space, save_picture_model

DRAWN = {**SAMPLING, "num_inference_steps": 2, "fps": 8.0}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Every network, of random weights: `image`, `video`, `between` (one frame between each two), `sr`, `sr-time`."""
    folder = tmp_path_factory.mktemp("make-a-video")
    torch.manual_seed(0)
    save_picture_model(folder / "picture", save_latent_space(folder / "vae"))
    randomise(ContentPrior(width=256, hidden=16), 0.2).save_pretrained(folder / "prior")
    start = {"image": str(folder / "picture"), "scorer": "emoji-clip", "prior": str(folder / "prior")}
    stages = {
        "image": (start, {"stage": "image"}, {"num_frames": 1}),
        "video": ({"decoder": str(folder / "image")}, {"stage": "video", "fps_low": 2.0}, {"num_frames": 3}),
        "between": ({"decoder": str(folder / "video")}, {"stage": "between", "skips": (2,)}, {"num_frames": 5}),
    }
    for name, (model, diffusion, sampling) in stages.items():
        system = MakeAVideo(model, diffusion, None)
        system.save(randomise(system.build(), 0.05), folder / name, {**DRAWN, **sampling})
    for name, model in (("sr", SR), ("sr-time", {"image": str(folder / "sr")})):
        system = MakeAVideoSR(model, {}, None)
        system.save(randomise(system.build(), 0.05), folder / name, {"num_inference_steps": 2, "threshold": "none"})
    return folder


def test_a_video_of_a_high_rate_is_told_the_nearest_that_was_trained(models, tmp_path):
    """24 frames a second become 48, which no network has seen: it is told 30, and the user that it is."""
    pixels = (np.random.default_rng(0).random((3, 16, 16, 3)) * 255).astype(np.uint8)
    between = load_pipeline(str(models / "between"), "cpu")
    for fps, told, said in ((24, 30.0, "told 30 frames a second, the nearest to 48"), (12, 24.0, "")):
        source, out = tmp_path / f"{fps}.mp4", tmp_path / f"{fps}.npy"
        write_video(pixels, source, fps)
        done = CliRunner().invoke(
            app, [str(a) for a in ("upsample-fps", source, "--model", models / "between", "-o", out)]
        )
        words = " ".join(done.output.split())
        assert done.exit_code == 0 and said in words and ("nearest" in words) == bool(said), words
        given = from_uint8(read_video(source).frames)[None]
        assert np.array_equal(read_video(out).frames, between.raise_video(given, fps=told).frames[0])
    assert not np.array_equal(
        between.raise_video(given, fps=30).frames, between.raise_video(given, fps=24).frames
    )  # it matters what it is told


def test_a_whole_model_says_which_rates_its_result_may_have(models, tmp_path):
    """The decoder knows 2 to 30, of which the frame interpolation behind it, which knows 1 to 30, makes 4 to 60."""
    save_make_a_video([models / "video", models / "between"], tmp_path / "whole")
    whole = load_pipeline(str(tmp_path / "whole"), "cpu")
    for fps in (3.0, 31.0):
        with pytest.raises(UserError, match=rf"fps {fps:g}: at the rate of the result.* 4 to 30 frames"):
            whole.settings(fps=fps)
    assert whole.settings(fps=4.0).fps == 4 and whole("a", fps=4.0).frames.shape == (1, 5, 16, 16, 3)


@torch.no_grad()
def test_neighbouring_seeds_do_not_share_the_priors_draws(models):
    """The better of two draws is taken; were a draw of seed 0 also one of seed 1, videos would share their picture."""
    pipeline = load_pipeline(str(models / "video"), "cpu")
    made = torch.cat([pipeline.embedded(["a red circle"], [seed]) for seed in range(12)])
    assert torch.allclose(made.norm(dim=1), torch.ones(12))
    assert torch.pdist(made).min() > 1e-3
    assert torch.equal(pipeline.embedded(["a red circle"], [3]), made[3:4])


@torch.no_grad()
def test_frames_share_their_noise_where_a_network_sees_them_alone(models):
    """SR_h by default, without a word in the recipe; SR_l^t does not."""
    alone, together = (load_pipeline(str(models / name), "cpu") for name in ("sr", "sr-time"))
    assert alone.settings().noise_correlation == 1 and together.settings().noise_correlation == 0
    still = (torch.rand(1, 3, 1, 16, 16) * 2 - 1).expand(-1, -1, 4, -1, -1)
    made = alone.raise_video(still, seed=3).samples
    assert torch.equal(made, made[:, :, :1].expand_as(made))
    noisy = alone.raise_video(still, seed=3, sampler="ancestral").samples  # of every step's noise too
    assert torch.equal(noisy, noisy[:, :, :1].expand_as(noisy))
    own = together.raise_video(still, seed=3).samples
    assert (own - own[:, :, :1]).abs().max() > 1e-2
    asked = MakeAVideoSR(SR, {}, None).own_sampling({"noise_correlation": 0.5})
    assert asked["noise_correlation"] == 0.5  # what a recipe says holds


def told_in_training(models, monkeypatch, drop):
    """What a step of the stage between tells its network: (clips' latents, embeddings, the frames that they are of,
    conditions), of 16 clips whose frame f has the brightness f / 10."""
    system = MakeAVideo({"decoder": str(models / "video")}, {"stage": "between", "skips": (2,), "drop": drop}, None)
    pixels = (torch.arange(5.0) / 10).reshape(1, 1, 5, 1, 1).expand(16, 3, -1, 16, 16)
    batch = TrainingBatch(
        torch.randn(16, 4, 5, 8, 8),
        None,
        0,
        range(16),
        16,
        1,
        0,
        scalars={"fps": torch.full((16,), 8.0)},
        pixels=pixels,
    )
    seen, told = [], []

    def embedded(scorer, pictures):
        seen.append((pictures.mean((1, 2, 3)) * 10).round().long())
        return torch.ones(len(pictures), 256)

    def predicted(network, z, index, tokens, labels, conditions):
        told.append((tokens, conditions))
        return torch.zeros_like(z)

    monkeypatch.setattr(system.picture, "seen", embedded)
    monkeypatch.setattr(training, "predict_told", predicted)
    system.losses(system.build(), batch)
    return batch.video, told[0][0], seen[0], told[0][1]


@torch.no_grad()
def test_what_training_tells(models, monkeypatch):
    video, tokens, frames, conditions = told_in_training(models, monkeypatch, drop=0.5)
    assert set(frames.tolist()) == set(range(5))  # the embedding is that of any frame of the clip
    dropped = tokens.abs().amax((1, 2)) == 0
    assert 2 <= int(dropped.sum()) <= 14
    assert torch.equal(conditions["known"], video * conditions["known_mask"])  # given frames are clean
    always = told_in_training(models, monkeypatch, drop=0.0)[1]
    assert (always.abs().amax((1, 2)) > 0).all()
