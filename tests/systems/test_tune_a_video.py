"""Tune-A-Video: what trains, what each frame sees, exact inversion, and tuning end to end (spec 06)."""

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel

from muybridge.data.video_io import write_video
from muybridge.diffusion.prediction import to_eps, to_v
from muybridge.diffusion.samplers import invert_ddim, sample_ddim
from muybridge.diffusion.tables import DiscreteSchedule
from muybridge.models.inflated_unet import InflatedUNet
from muybridge.opening.sampling import load_pipeline
from muybridge.pipelines.inversion import invert, sample_from
from muybridge.pipelines.redraw import redraw
from muybridge.systems.tune_a_video.training import TuneAVideo
from muybridge.training.recipe import Recipe, TrainingConfig
from muybridge.training.trainer import Trainer
from tests.conftest import randomise
from tests.tiny_models import PROMPT, SAMPLING, TEXT, UNET

F = 4
SD15 = dict(sample_size=64, cross_attention_dim=768, attention_head_dim=8)


@pytest.fixture
def picture():
    return randomise(UNet2DConditionModel(**UNET), 0.05).eval()


def inflated(picture, **settings):
    return InflatedUNet.from_image_model(picture, {"type": "tune_a_video", **settings}).eval()


def inputs(frames=F):
    return torch.randn(1, 4, frames, 8, 8), torch.tensor([300]), torch.randn(1, 5, 384)


def test_published_count_at_full_size():
    with torch.device("meta"):
        model = InflatedUNet(SD15, {"type": "tune_a_video"})
    assert sum(p.numel() for _, p in model.trainable_parameters()) == 74_354_880


def test_exactly_the_published_names_train(picture):
    names = {n for n, _ in inflated(picture).trainable_parameters()}
    assert names and all(
        n.endswith(("attn1.to_q.weight", "attn2.to_q.weight")) or n.startswith("temporal.attn_temp.") for n in names
    )
    assert not any("norm_temp" in n for n in names)
    blocks = sum(n.endswith("attn1.to_q.weight") for n in names)
    assert len(names) == blocks * (2 + 5)


@torch.no_grad()
def test_at_the_start_one_frame_and_the_first_frame_and_equal_frames_are_the_picture_models(picture):
    model = inflated(picture)
    z, t, text = inputs()
    alone = picture(z[:, :, 0], t, text).sample
    assert torch.allclose(model(z[:, :, :1], t, text).sample[:, :, 0], alone, atol=1e-5)
    assert torch.allclose(model(z, t, text).sample[:, :, 0], alone, atol=1e-5)
    same = z[:, :, :1].repeat(1, 1, F, 1, 1)
    assert torch.allclose(model(same, t, text).sample, alone[:, :, None].expand_as(same), atol=1e-5)


@torch.no_grad()
def test_frames_see_the_first_and_the_one_before_until_time_attention_lives(picture):
    z, t, text = inputs()
    other = z.clone()
    other[:, :, 2] += 1

    def changed(model):
        difference = (model(other, t, text).sample - model(z, t, text).sample).abs().amax((0, 1, 3, 4))
        return set(torch.nonzero(difference > 1e-6)[:, 0].tolist())

    assert changed(inflated(picture)) == {2, 3}
    assert changed(inflated(picture, group_norm="pooled")) == {0, 1, 2, 3}
    assert changed(randomise(inflated(picture), 0.05)) == {0, 1, 2, 3}


def test_gradients_at_the_start_reach_queries_and_output_projections_alone(picture):
    model = inflated(picture)
    z, t, text = inputs()
    model(z, t, text).sample.square().mean().backward()
    for name, parameter in model.trainable_parameters():
        # keys and queries of the zero-projected attention get nothing yet
        alive = bool(parameter.grad is not None and parameter.grad.abs().max() > 0)
        assert alive == (name.startswith("image.") or ".to_out." in name), name


@pytest.fixture
def tuned(tmp_path, picture_model):
    """A model folder tuned for a few steps on a written clip."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (6, 16, 16, 3), dtype=np.uint8)
    write_video(frames, tmp_path / "clip.npy", 8.0, {})
    recipe = Recipe(
        name="tuned",
        system="tune_a_video",
        seed=2,
        model={"image": str(picture_model)},
        text=TEXT,
        data={
            "source": "one_video",
            "path": str(tmp_path / "clip.npy"),
            "caption": PROMPT,
            "height": 16,
            "width": 16,
            "num_frames": F,
        },
        training=TrainingConfig(
            steps=3, batch_size=1, learning_rate=1e-3, warmup_steps=0, checkpoint_every=1, validate_every=3,
            validation_clips=1, sample_every=0, log_every=1, ema=0.0, threads=1,
        ),
        sampling={**SAMPLING, "num_frames": F, "num_inference_steps": 6},
    )  # fmt: skip
    before = {
        n: p.clone() for n, p in TuneAVideo(recipe.model, {}, TEXT).build().named_parameters() if n.startswith("image.")
    }
    Trainer(recipe, tmp_path / "run").run()
    return tmp_path / "run" / "model", before


def test_tuning_changes_the_queries_alone_and_the_folder_brings_them_back(tuned):
    folder, before = tuned
    pipeline = load_pipeline(str(folder))
    for name, parameter in pipeline.network.named_parameters():
        if name.startswith("image."):
            changed = not torch.equal(parameter, before[name])
            assert changed == name.endswith(("attn1.to_q.weight", "attn2.to_q.weight")), name
    made = [pipeline(PROMPT, seed=1).samples for _ in range(2)]
    assert torch.equal(*made)


@pytest.mark.slow
@pytest.mark.parametrize("iterations, floor", [(1, 10), (10, 60)])
def test_inversion_and_sampling_are_a_round_trip(tuned, iterations, floor):
    pipeline = load_pipeline(str(tuned[0]))
    z = torch.randn(1, 4, F, 8, 8) * 0.5
    start = invert(pipeline, z, iterations, num_inference_steps=20)
    found = []
    pipeline.to_pixels = lambda samples: found.append(samples) or torch.zeros(1, 3, F, 16, 16)
    sample_from(pipeline, start, "", guidance_scale=1.0, num_inference_steps=20)
    error = (found[0] - z).square().mean() / z.square().mean()
    assert -10 * torch.log10(error) > floor


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_inversion_is_the_same_for_every_prediction_type_and_exact_for_gaussian_data(kind):
    table = DiscreteSchedule.from_config({"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012})
    from muybridge.diffusion.prediction import to_x

    convert = {"epsilon": to_eps, "v_prediction": to_v, "sample": to_x}[kind]

    def ideal(z, lam):
        """The denoiser of N(0, 1/4): through another prediction type and back."""
        share = 0.25 * torch.sigmoid(lam) / (0.25 * torch.sigmoid(lam) + torch.sigmoid(-lam))
        x = (share / torch.sigmoid(lam).sqrt()).reshape(-1, 1, 1, 1, 1) * z
        return to_x(convert(x, z, lam, "sample"), z, lam, kind)

    x = torch.randn(1, 2, 3, 4, 4, dtype=torch.float64) * 0.5
    errors = []
    for steps in (10, 20):
        lams = table.inference_levels(steps).clamp(max=12.0)
        *_, noisy = invert_ddim(ideal, x, lams.flip(0), 1)
        *_, back = sample_ddim(ideal, noisy.z, lams)
        errors.append(float((back.z - x).abs().max()))
        *_, noisy = invert_ddim(ideal, x, lams.flip(0), 30)
        *_, back = sample_ddim(ideal, noisy.z, lams)
        assert (back.z - x).abs().max() < 1e-6
    assert 1.3 < errors[0] / errors[1] < 3.2  # first order


def test_redrawing_keeps_more_of_the_video_the_weaker_it_is(picture_model):
    pipeline = load_pipeline(str(picture_model))
    video = torch.rand(1, 3, 3, 16, 16) * 2 - 1
    assert torch.equal(redraw(pipeline, video, PROMPT, 0.0).samples, video)
    near, far = (redraw(pipeline, video, PROMPT, s, seed=1, num_inference_steps=20).samples for s in (0.2, 1.0))
    back = pipeline.to_pixels(pipeline.to_samples(video))
    assert (near - back).square().mean() < (far - back).square().mean()
    plain = pipeline(PROMPT, seed=1, num_inference_steps=20, num_frames=3).samples
    assert torch.allclose(far, plain, atol=1e-3)  # at zero terminal SNR nothing of the video is left
    from muybridge.errors import UserError

    with pytest.raises(UserError, match="strength"):
        redraw(pipeline, video, PROMPT, 1.5)
