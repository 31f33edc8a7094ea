"""Networks that are told a guidance scale: nothing at the start, diffusers' numbers, one call a step in sampling."""

import pytest
import torch
from diffusers import AutoencoderKL, LatentConsistencyModelPipeline, UNet2DConditionModel

from muybridge.errors import UserError
from muybridge.models import build_network
from muybridge.models.inflated_unet import InflatedUNet
from muybridge.nn.embeddings import guidance_wave
from muybridge.pipelines.latents import LatentPipeline
from muybridge.pipelines.pixels import TextToVideoPipeline
from tests.conftest import TINY_MODEL, randomise
from tests.tiny_models import SAMPLING, UNET, VAE

TRANSFORMER = {"type": "transformer", "in_channels": 3, "out_channels": 3, "layers": 2, "width": 24, "heads": 2,
               "patch_size": [1, 4, 4]}  # fmt: skip


@pytest.mark.parametrize("model", [TINY_MODEL, TRANSFORMER], ids=["unet3d", "transformer"])
@torch.no_grad()
def test_a_scale_counts_for_nothing_at_the_start_and_then_does(model):
    plain = randomise(build_network(model), 0.05).eval()
    told = build_network({**model, "guidance_embedding": True}).eval()
    assert set(told.state_dict()) - set(plain.state_dict()) == {"guidance.proj.weight"}
    told.load_state_dict(plain.state_dict(), strict=False)
    video, lam = torch.randn(2, 3, 2, 16, 16), torch.zeros(2)
    scales = torch.tensor([1.0, 7.0])
    assert torch.allclose(told(video, lam, guidance=scales), plain(video, lam), atol=1e-6)
    randomise(told.guidance, 0.1)
    out = told(video, lam, guidance=scales)
    assert torch.allclose(out[:1], told(video[:1], lam[:1], guidance=scales[:1]), atol=1e-5)
    assert not torch.allclose(out, told(video, lam, guidance=scales.flip(0)), atol=1e-3)
    with pytest.raises(UserError, match="must be told one"):
        told(video, lam)
    with pytest.raises(UserError, match="takes none"):
        plain(video, lam, guidance=scales)


def test_the_wave_is_diffusers():
    scales = torch.tensor([1.0, 2.5, 8.0])
    theirs = LatentConsistencyModelPipeline.get_guidance_scale_embedding(None, scales - 1, embedding_dim=256)
    assert torch.allclose(guidance_wave(scales), theirs, atol=2e-3)


def told_unet():
    return randomise(UNet2DConditionModel(**UNET, time_cond_proj_dim=256), 0.1).eval()


@torch.no_grad()
def test_a_picture_network_of_diffusers_and_frames_behind_it_are_told():
    net, z = told_unet(), torch.randn(2, 4, 3, 8, 8)
    text, at, scales = torch.randn(2, 5, 384), torch.tensor([3, 700]), torch.tensor([2.0, 6.0])
    video = InflatedUNet.from_image_model(net, {"type": "video_ldm"}).eval()
    out = video(z, at, text, guidance=scales).sample
    for row in range(2):
        wave = guidance_wave(scales[row : row + 1])
        for f in range(3):
            alone = net(z[row : row + 1, :, f], at[row], text[row : row + 1], timestep_cond=wave).sample
            assert torch.allclose(out[row : row + 1, :, f], alone, atol=1e-4)


@pytest.mark.parametrize("kind", ["pixels", "latents"])
def test_sampling_calls_it_once_a_step_with_the_scale_that_was_asked_for(kind):
    torch.manual_seed(0)
    if kind == "pixels":
        network = randomise(build_network({**TINY_MODEL, "guidance_embedding": True}), 0.05)
        settings = {**SAMPLING, "num_frames": 4, "height": 16, "width": 16}
        pipeline = TextToVideoPipeline(network, "cosine", {}, "all-MiniLM-L6-v2", 8, settings)
    else:
        vae = randomise(AutoencoderKL(**VAE), 0.02)
        table = {"num_train_timesteps": 1000, "beta_schedule": "scaled_linear", "prediction_type": "v_prediction"}
        pipeline = LatentPipeline(told_unet(), vae, table, "all-MiniLM-L6-v2", 8, SAMPLING)
    assert pipeline.takes_guidance
    scales = []
    predict = type(pipeline).predict

    def watched(self, z, lam, condition, guidance=None):
        scales.append(guidance.tolist())
        return predict(self, z, lam, condition, guidance)

    type(pipeline).predict = watched
    try:
        pipeline(["a red circle", "a star"], seed=0, num_inference_steps=3, guidance_scale=4.0, batch_size=2)
        assert scales == [[4.0, 4.0]] * 3
        scales.clear()
        pipeline("a star", seed=0, num_inference_steps=4, guidance_scale=4.0, guidance_end=0.5)
        assert scales == [[4.0], [4.0], [1.0], [1.0]]
        with pytest.raises(UserError, match="one scale a video"):
            pipeline("a star", seed=0, num_inference_steps=2, guidance=torch.ones(4))
    finally:
        type(pipeline).predict = predict
