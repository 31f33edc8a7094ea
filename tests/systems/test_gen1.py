"""Gen-1: structure operator, guidance over time, images through the same weights, and training end to end (spec 07)."""

import json

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel

from muybridge.diffusion.guidance import content_and_time
from muybridge.diffusion.prediction import to_eps, to_v, to_x
from muybridge.diffusion.samplers import ddim_step
from muybridge.errors import UserError
from muybridge.learning.latent_diffusion import SCHEDULER
from muybridge.models.inflated_unet import InflatedUNet
from muybridge.models.text.prior import ContentPrior
from muybridge.models.vision.structure_level import LEVELS, coarsened, level_channels
from muybridge.models.weights.widened import with_more_inputs
from muybridge.opening.sampling import load_pipeline
from muybridge.systems.gen1.pipeline import Gen1Pipeline, structure_latents
from tests.conftest import randomise
from tests.tiny_models import UNET

F = 4


@pytest.fixture
def picture():
    return randomise(UNet2DConditionModel(**UNET), 0.05).eval()


def given(channels=4, frames=F):
    return torch.randn(1, channels, frames, 8, 8), torch.tensor([300]), torch.randn(1, 1, 384)


def alone(net, z, t, text):
    return torch.stack([net(z[:, :, i], t, text).sample for i in range(z.shape[2])], 2)


@torch.no_grad()
def test_it_starts_as_the_picture_model_and_images_pass_whatever_the_weights(picture):
    z, t, text = given()
    fresh = InflatedUNet.from_image_model(picture, {"type": "gen1"}).eval()
    expected = alone(picture, z, t, text)
    assert torch.allclose(fresh(z, t, text).sample, expected, atol=1e-5)
    assert torch.allclose(fresh(z[:, :, :1], t, text).sample, expected[:, :, :1], atol=1e-5)
    lived = randomise(fresh, 0.05)
    by_itself = lived(z, t, text, images_only=True).sample
    assert torch.allclose(by_itself, alone(lived.image, z, t, text), atol=1e-5)
    assert (lived(z, t, text).sample - by_itself).abs().max() > 1e-3
    with pytest.raises(ValueError, match="use windows"):
        lived(torch.randn(1, 4, 9, 8, 8), t, text)


@torch.no_grad()
def test_structure_channels_start_without_effect(picture):
    z, t, text = given()
    wide = with_more_inputs(picture, 8)
    assert torch.equal(
        wide(torch.cat([z, torch.randn_like(z), torch.randn_like(z)], 1)[:, :, 0], t, text).sample,
        picture(z[:, :, 0], t, text).sample,
    )


def test_structure_levels_destroy_more_and_more():
    structure = torch.rand(3, 1, 32, 32)
    assert torch.equal(coarsened(structure, 0), structure)
    variation = [
        float(s.diff(dim=-1).abs().sum() + s.diff(dim=-2).abs().sum())
        for s in (coarsened(structure, level) for level in range(LEVELS))
    ]
    assert (
        all(a >= b - 1e-4 for a, b in zip(variation, variation[1:], strict=False)) and variation[4] < variation[0] / 4
    )
    taps, coarse = torch.tensor([1.0, 4, 6, 4, 1]) / 16, structure
    for level in (1, 2, 3):  # blurred, then 2 x 2 means, as often as the level says
        padded = torch.nn.functional.pad(coarse, (2, 2, 2, 2), mode="replicate")
        side = coarse.shape[-1]
        rows = sum(t * padded[..., k : k + side, :] for k, t in enumerate(taps))
        blurred = sum(t * rows[..., k : k + side] for k, t in enumerate(taps))
        coarse = torch.nn.functional.avg_pool2d(blurred, 2)
        enlarged = torch.nn.functional.interpolate(coarse, size=(32, 32), mode="bilinear")
        torch.testing.assert_close(coarsened(structure, level), enlarged)
    flat = torch.full((1, 1, 32, 32), 0.3)
    order = torch.tensor([2, 0, 1])
    for level in range(LEVELS):
        assert torch.allclose(coarsened(flat, level), flat, atol=1e-6)
        assert torch.equal(coarsened(structure[order], level), coarsened(structure, level)[order])
    with pytest.raises(ValueError, match="level"):
        coarsened(flat, 8)


def test_of_a_constant_depth_the_level_changes_its_own_channels_alone(latent_space):
    from muybridge.models.latent.space import LatentSpace

    space = LatentSpace.open(latent_space)
    depth = torch.full((2, 1, F, 16, 16), 0.2)
    low, high = (structure_latents(space, depth, torch.tensor([n, n])) for n in (0, 5))
    assert torch.allclose(low[:, :4], high[:, :4], atol=1e-5)
    assert (low[:, 4:] - high[:, 4:]).abs().max() > 0.1
    channels = level_channels(torch.arange(LEVELS), (1,))[..., 0]
    assert torch.pdist(channels).min() > 0.1  # every level is told apart


def test_guidance_over_content_and_time():
    calls = []

    def branch(name, value):
        def denoise(z, lam):
            calls.append(name)
            return torch.full_like(z, value)

        return denoise

    parts = branch("content", 3.0), branch("null", 1.0), branch("alone", 0.0)
    z, lam = torch.randn(1, 2, F, 4, 4), torch.zeros(1)
    assert content_and_time(*parts, 1.0, 1.0)(z, lam).mean() == 3.0 and calls == ["content"]
    calls.clear()
    assert content_and_time(*parts, 4.0, 1.0)(z, lam).mean() == 9.0 and len(calls) == 2
    calls.clear()
    assert content_and_time(*parts, 4.0, 1.5)(z, lam).mean() == 9.5 and len(calls) == 3
    assert content_and_time(*parts, 0.0, 0.0)(z, lam).mean() == 0.0
    close = content_and_time(*parts, 4.0, 1.0 + 1e-7)(z, lam)
    assert torch.allclose(close, torch.full_like(z, 9.0), atol=1e-5)


def test_guiding_in_any_prediction_space_gives_the_same_step():
    z, a, b, c = (torch.randn(1, 2, F, 4, 4, dtype=torch.float64) for _ in range(4))
    lam_t, lam_s = torch.tensor(-1.0, dtype=torch.float64), torch.tensor(0.5, dtype=torch.float64)
    lam = lam_t.expand(1)

    def guided(convert):
        parts = [lambda z, lam, x=x: convert(x, z, lam, "sample") for x in (a, b, c)]
        return content_and_time(*parts, 4.0, 1.5)(z, lam)

    step = ddim_step(z, guided(to_x), lam_t, lam_s)
    for kind, convert in (("epsilon", to_eps), ("v_prediction", to_v)):
        x = to_x(guided(convert), z, lam, kind)
        assert torch.allclose(ddim_step(z, x, lam_t, lam_s), step, atol=1e-9)


class SomeScorer:
    """Unit embeddings that depend on the input."""

    def embed_pictures(self, pictures):
        return torch.nn.functional.normalize(pictures.flatten(1)[:, :32], dim=-1)

    def embed_texts(self, texts):
        rows = [torch.randn(32, generator=torch.Generator().manual_seed(len(t))) for t in texts]
        return torch.nn.functional.normalize(torch.stack(rows), dim=-1)


@pytest.fixture
def pipeline(picture, latent_space):
    from muybridge.models.latent.space import LatentSpace

    space = LatentSpace.open(latent_space)
    wide = with_more_inputs(picture, 8)
    network = randomise(InflatedUNet.from_image_model(wide, {"type": "gen1"}), 0.05).eval()
    prior = randomise(ContentPrior(width=32, hidden=16), 0.05).eval()
    sampling = {"num_frames": F, "height": 16, "width": 16, "num_inference_steps": 3, "threshold": "none"}
    return Gen1Pipeline(network, space.vae, SCHEDULER, SomeScorer(), prior, {**sampling, "guidance_scale": 2.0})


def test_sampling_reads_structure_content_and_time_and_counts_its_calls(pipeline):
    depth = torch.rand(1, 1, F, 16, 16)
    made = pipeline(depth, "a red fox", seed=1).samples
    assert torch.equal(pipeline(depth, "a red fox", seed=1).samples, made)
    others = [
        pipeline(depth, "something else", seed=1),
        pipeline(1 - depth, "a red fox", seed=1),
        pipeline(depth, "a red fox", seed=1, level=5),
        pipeline(depth, "a red fox", seed=1, temporal_scale=1.5),
        pipeline(depth, torch.rand(1, 3, 16, 16), seed=1),
    ]
    assert all((o.samples - made).abs().max() > 1e-4 for o in others)
    count, forward = [0], pipeline.network.forward
    pipeline.network.forward = lambda *a, **k: (count.__setitem__(0, count[0] + 1), forward(*a, **k))[1]
    for scale, temporal, calls in ((2.0, 1.0, 2), (2.0, 1.2, 3), (1.0, 1.0, 1)):
        count[0] = 0
        pipeline(depth, "a red fox", guidance_scale=scale, temporal_scale=temporal)
        assert count[0] == 3 * calls
    # without content and without time every frame stands alone
    bare = pipeline(depth, "a red fox", seed=1, guidance_scale=0.0, temporal_scale=0.0).samples
    changed = depth.clone()
    changed[:, :, 2] = 0
    other = pipeline(changed, "another", seed=1, guidance_scale=0.0, temporal_scale=0.0).samples
    assert [bool((other - bare)[:, :, i].abs().max() > 1e-5) for i in range(F)] == [False, False, True, False]
    with pytest.raises(UserError, match=r"0\.\.7"):
        pipeline(depth, "a", level=9)
    pipeline.prior = None
    with pytest.raises(UserError, match="prior"):
        pipeline(depth, "a")


def test_it_trains_and_its_folder_opens(tmp_path, picture_model, monkeypatch):
    """On drawn scenes, with outlines as the structure; the folder is then sampled from."""
    from muybridge.systems.gen1 import training as gen1
    from muybridge.training.recipe import Recipe, TrainingConfig
    from muybridge.training.trainer import Trainer

    ContentPrior(width=256, hidden=16).save_pretrained(tmp_path / "prior")
    recipe = Recipe(
        name="restyle",
        system="gen1",
        model={"image": str(picture_model), "prior": str(tmp_path / "prior"), "structure": "edges"},
        data={"source": "world", "height": 16, "width": 16, "num_frames": F, "num_clips": 8},
        diffusion={"image_share": 0.5, "drop": 0.3},
        training=TrainingConfig(
            steps=4, batch_size=2, learning_rate=1e-3, warmup_steps=0, checkpoint_every=2, validate_every=4,
            validation_clips=2, sample_every=0, log_every=1, ema=0.0, threads=1,
        ),
        sampling={"num_frames": F, "height": 16, "width": 16, "num_inference_steps": 2, "threshold": "none"},
    )  # fmt: skip
    images = []
    forward = InflatedUNet.forward
    monkeypatch.setattr(
        InflatedUNet, "forward", lambda s, *a, **k: images.append(k.get("images_only")) or forward(s, *a, **k)
    )
    Trainer(recipe, tmp_path / "run").run()
    assert {True, False} == set(images)
    folder = tmp_path / "run" / "model"
    assert json.loads((folder / "muybridge.json").read_text())["structure"] == "edges"
    pipeline = load_pipeline(str(folder))
    assert np.isfinite(pipeline(torch.zeros(1, 1, F, 16, 16), "a red fox").samples).all()
    with pytest.raises(UserError, match="max_level"):
        gen1.Gen1({"image": str(picture_model)}, {"max_level": 9}, None)
