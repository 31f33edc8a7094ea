"""Stable Video Diffusion: EDM in our words, the picture's way in, training end to end (spec 09)."""

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel

from muybridge.diffusion.noise import Noise
from muybridge.diffusion.samplers import sampler_named
from muybridge.diffusion.schedule import alpha_of, sigma_of
from muybridge.diffusion.tables import karras_levels
from muybridge.errors import UserError
from muybridge.models.text.scorers import DualEncoder
from muybridge.opening.sampling import load_pipeline
from muybridge.pipelines.picture_token import context_of
from muybridge.systems.stable_video.training import StableVideo, with_more_inputs
from muybridge.training.trainer import Trainer
from tests.conftest import randomise
from tests.systems.test_latent import recipe_of
from tests.tiny_models import UNET

SAMPLING = {"num_frames": 8, "height": 16, "width": 16, "num_inference_steps": 3, "guidance_scale": 2.0, "fps": 8.0}


def test_karras_grid():
    lams = karras_levels(25, 0.002, 700.0)
    sigma = (-lams / 2).exp()
    assert sigma[0] == pytest.approx(700) and sigma[-2] == pytest.approx(0.002) and sigma[-1] == 0
    assert (lams.diff() > 0).all()
    with pytest.raises(ValueError, match="sigma_min"):
        karras_levels(5, 3.0, 2.0)


def test_edm_preconditioning_is_v_prediction():
    x, n = torch.randn(2, 6, 4, 3, 3, 3).double().unbind(0)
    sigma = torch.logspace(-2, 2.8, 6, dtype=torch.float64)[:, None, None, None, None]
    lam = -2 * sigma.log()
    c_in = c_out = (sigma**2 + 1).rsqrt()
    noisy = x + sigma * n
    v = alpha_of(lam) * n - sigma_of(lam) * x
    assert torch.allclose(noisy / (sigma**2 + 1) - sigma * c_out * v, x, rtol=1e-5)
    guess = v + 0.1 * torch.randn_like(v)
    denoised = noisy / (sigma**2 + 1) - sigma * c_out * guess
    weighted = (1 + sigma**2) / sigma**2 * (denoised - x) ** 2
    assert torch.allclose(weighted, (guess - v) ** 2, rtol=1e-5)
    assert torch.allclose(c_in * noisy, alpha_of(lam) * x + sigma_of(lam) * n)


def test_euler_steps_on_sigma_are_ddim_steps():
    lams = karras_levels(12, 0.01, 80.0)
    sigma = (-lams / 2).exp()

    def denoise(z, lam):  # of N(0, 0.5^2) data
        power = 0.25
        a, s = alpha_of(lam), sigma_of(lam)
        return (power * a / (power * a**2 + s**2)).reshape(-1, 1, 1, 1, 1) * z

    start = Noise([3], dtype=torch.float64)((2, 3, 4, 4), "start")
    for state in sampler_named("ddim")(denoise, start, lams, Noise([3], dtype=torch.float64)):
        last = state.z
    x = start * (1 + sigma[0] ** 2).sqrt()
    for now, then in zip(sigma[:-1], sigma[1:], strict=True):
        d = (x - 0.25 / (0.25 + now**2) * x) / now
        x = x + (then - now) * d
    assert torch.allclose(last, x, atol=1e-8)


@torch.no_grad()
def test_more_inputs_change_nothing():
    net = randomise(UNet2DConditionModel(**UNET)).eval()
    wider = with_more_inputs(net, 4).eval()
    z, more, text = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.randn(2, 3, 384)
    expected = net(z, torch.tensor(5), encoder_hidden_states=text).sample
    got = wider(torch.cat([z, more], 1), torch.tensor(5), encoder_hidden_states=text).sample
    assert torch.allclose(got, expected, atol=1e-6)


@pytest.fixture
def scorer(tmp_path):
    DualEncoder(hidden=16, width=8).save_pretrained(tmp_path / "scorer")
    return tmp_path / "scorer"


def recipe_for(picture_model, scorer):
    model = {"image": str(picture_model), "scorer": str(scorer)}
    from dataclasses import replace

    return replace(recipe_of("alive", "stable_video", model), text=None, sampling=SAMPLING)


@pytest.mark.slow
def test_trains_and_brings_a_picture_to_life(tmp_path, picture_model, scorer):
    trainer = Trainer(recipe_for(picture_model, scorer), tmp_path / "run")
    model = trainer.run()
    assert trainer.counts["trainable"] == trainer.counts["total"]
    pipeline = load_pipeline(str(model))
    pictures = torch.rand(3, 3, 16, 16) * 2 - 1
    alone = pipeline(pictures, seed=4).samples
    assert alone.shape == (3, 3, 8, 16, 16)
    assert torch.allclose(pipeline(pictures, seed=4, batch_size=3).samples, alone, atol=1e-4)
    assert torch.allclose(pipeline(pictures[1:2], seed=5).samples, alone[1:2], atol=1e-4)
    assert not torch.allclose(pipeline(pictures.flip(0), seed=4).samples, alone, atol=1e-3)
    with pytest.raises(UserError, match="resize"):
        pipeline(torch.zeros(1, 3, 8, 16))
    with pytest.raises(UserError, match="0..255"):
        pipeline(pictures, motion_bucket=300)


@torch.no_grad()
def test_conditions(picture_model, scorer):
    system = StableVideo({"image": str(picture_model), "scorer": str(scorer)}, {"drop": 0.2}, None)
    frames = torch.rand(40, 3, 1, 16, 16) * 2 - 1

    class Batch:
        seed, step, places, total = 1, 0, range(40), 40
        video, first_frame = torch.randn(40, 4, 8, 8, 8), frames

    lam, _, told = system._draw(Batch)
    normal = -lam / 2
    assert abs(float(normal.mean()) - 0.7) < 3 * 1.6 / np.sqrt(40)
    no_picture = (told["picture"] == 0).flatten(1).all(1)
    no_context = (told["context"] == 0).flatten(1).all(1)
    assert 0 < int((no_picture & no_context).sum()) < 20
    assert bool((no_picture & ~no_context).any()) and bool((no_context & ~no_picture).any())
    kept = ~no_picture
    clean = system.space.encode(frames)[0] / system.space.scale
    distance = (told["picture"] - clean)[kept].abs().mean()
    assert 0 < float(distance) < 0.5  # the picture with a little noise, unscaled
    assert torch.equal(told["context"][~no_context], context_of(system.scorer, frames, 384)[~no_context])


@torch.no_grad()
def test_what_the_network_is_told_and_how_guidance_grows(picture_model, scorer):
    system = StableVideo({"image": str(picture_model), "scorer": str(scorer)}, {}, None)
    pipeline = system.pipeline(randomise(system.build(), 0.02).eval(), SAMPLING)
    picture, seen = torch.rand(1, 3, 16, 16) * 2 - 1, []
    handle = pipeline.network.register_forward_pre_hook(lambda m, a, k: seen.append((a, k)), with_kwargs=True)
    options = {"seed": 4, "output": "latents", "threshold": "none", "noise_augmentation": 0.3, "motion_bucket": 50.0}
    cond = pipeline(picture, guidance_scale=1.0, first_guidance=1.0, num_inference_steps=3, **options).samples
    levels = torch.stack([a[1].flatten()[0] for a, _ in seen])
    sigma = torch.exp(-0.5 * karras_levels(3, 0.002, 700.0)[:3])
    torch.testing.assert_close(levels.double(), 0.25 * sigma.log(), atol=1e-5, rtol=0)
    grain = Noise([4])((3, 1, 16, 16), "picture")
    latents = pipeline.space.encode(picture[:, :, None] + 0.3 * grain)[0] / pipeline.space.scale
    for a, k in seen:
        torch.testing.assert_close(a[0][:, 4:], latents.expand(-1, -1, 8, -1, -1), atol=1e-5, rtol=0)
        told = {name: float(value) for name, value in k["conditions"].items()}
        assert told == pytest.approx({"fps": 8.0, "motion_bucket": 50.0, "noise_augmentation": 0.3})
    handle.remove()

    one = {"num_inference_steps": 1, **options}
    cond = pipeline(picture, guidance_scale=1.0, first_guidance=1.0, **one).samples
    null = pipeline(picture, guidance_scale=0.0, first_guidance=0.0, **one).samples
    guided = pipeline(picture, guidance_scale=3.0, first_guidance=1.5, **one).samples
    for f in range(8):
        g = 1.5 + 1.5 * f / 7
        torch.testing.assert_close(guided[:, :, f], (null + g * (cond - null))[:, :, f], atol=1e-4, rtol=1e-4)
    assert float((cond - null).abs().mean()) > 0.05


def test_first_frames_match_their_latents(tmp_path, picture_model, scorer):
    trainer = Trainer(recipe_for(picture_model, scorer), tmp_path / "run")
    trainer.prepare()
    trainer.batches.rolls = True
    batch = trainer.batches(1, range(4))
    mean, std = trainer.system.space.encode(batch.first_frame)
    assert ((batch.video[:, :, :1] - mean).abs() < 6 * std + 0.02).all()


def test_errors(picture_model, scorer):
    given = {"image": str(picture_model), "scorer": str(scorer)}
    with pytest.raises(UserError, match="scorer"):
        StableVideo({"image": "x"}, {}, None)
    with pytest.raises(UserError, match="unknown key"):
        StableVideo({**given, "images": 1}, {}, None)
    with pytest.raises(UserError, match="p_std"):
        StableVideo(given, {"p_std": 0}, None)
    with pytest.raises(UserError, match="drop"):
        StableVideo(given, {"drop": 0.5}, None)
