"""The system sora on videos of any sides, and on some settings together with given frames."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from muybridge.diffusion.prediction import INTO, to_x
from muybridge.errors import UserError
from muybridge.pipelines.continuation import bridge, extend_video
from tests.conftest import randomise
from tests.systems.test_sora import PROMPT, SAMPLING, autoencoder, folder, pipeline, system_of

__all__ = ["autoencoder", "folder", "pipeline"]  # fixtures


@pytest.mark.parametrize("prediction", ["flow", "v_prediction"])
def test_given_frames_count_in_no_spread(autoencoder, prediction):
    """The guidance rescale is of the frames that are drawn: a clean one has no output."""
    torch.manual_seed(0)
    system = system_of(autoencoder, prediction=prediction)
    pipeline = system.pipeline(randomise(system.build(), 0.05), SAMPLING)
    settings = pipeline.settings(guidance_scale=3.0, guidance_rescale=0.7)
    condition = pipeline.condition([PROMPT], settings)
    denoise = pipeline.denoiser(condition, pipeline.null(condition), settings, 3.0)
    plain = pipeline.denoiser(condition, pipeline.null(condition), replace(settings, guidance_rescale=0.0), 3.0)
    z, lam = torch.randn(1, 4, 3, 4, 4), torch.tensor([[math.inf, 0.3, 0.3]])
    with torch.no_grad():
        got, guided = denoise(z, lam)[:, :, 1:], plain(z, lam)[:, :, 1:]
        told = pipeline.closed(condition)(z, lam)[:, :, 1:]
    level, free = lam[:, 1:], z[:, :, 1:]
    outputs = [INTO[prediction](x, free, level, "sample") for x in (guided, told)]
    rescaled = outputs[0] * (0.3 + 0.7 * outputs[1].std() / outputs[0].std())
    assert torch.allclose(got, to_x(rescaled, free, level, prediction), atol=1e-5)
    assert not torch.allclose(got, guided, atol=1e-3)
    frames = np.zeros((9, 16, 16, 3), np.uint8)
    assert (
        len(extend_video(pipeline, frames, PROMPT, 4, method="trained", guidance_scale=3.0, guidance_rescale=0.7)) == 13
    )


def test_videos_of_any_sides_go_on_and_are_joined(pipeline):
    """Sides are filled up for the model and cut off again."""
    frames = np.random.default_rng(0).integers(0, 255, (9, 18, 13, 3), dtype=np.uint8)
    longer = extend_video(pipeline, frames, PROMPT, 4, method="auto", seed=2)
    assert longer.shape == (13, 18, 13, 3) and np.array_equal(longer[:9], frames)
    whole = np.pad(frames, ((0, 0), (0, 2), (0, 3), (0, 0)), mode="edge")
    assert np.array_equal(longer, extend_video(pipeline, whole, PROMPT, 4, method="auto", seed=2)[:, :18, :13])
    assert bridge(pipeline, frames, frames[::-1], PROMPT, num_frames=17).shape == (7, 18, 13, 3)


def test_sizes_are_told_in_pixels_where_patches_are_larger(autoencoder):
    system = system_of(autoencoder, {"patch_size": [1, 2, 3]})
    pipeline = system.pipeline(system.build(), SAMPLING)
    assert pipeline.multiple == 24
    with pytest.raises(UserError, match="36x30 pixels: this model takes multiples of 24, such as 24x24"):
        pipeline(PROMPT, height=36, width=30)
