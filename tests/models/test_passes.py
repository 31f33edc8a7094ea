"""A pass leaves nothing behind, and what is computed again of it sees its own conditions."""

import pytest
import torch
from diffusers import AutoencoderKL

from muybridge.models.inflated_unet import InflatedUNet
from muybridge.models.latent.video_autoencoder import VideoAutoencoder
from tests.conftest import TINY_VAE, randomise
from tests.models.test_inflated_unet import LAYERS, conditions, inputs, picture_net

PLUGINS = {
    "video_ldm": LAYERS,
    "tune_a_video": {"type": "tune_a_video", "group_norm": "pooled"},
    "gen1": {"type": "gen1"},
    "motion_modules": {"type": "motion_modules", "heads": 4, "groups": 8},
    "make_a_video": {"type": "make_a_video"},
    "lumiere": {"type": "lumiere", "levels": 0, "layers": 1, "attention_head_dim": 4},
}


def inflated(name):
    return randomise(InflatedUNet.from_image_model(picture_net(), PLUGINS[name]), 0.05)


@pytest.mark.parametrize("name", PLUGINS)
@torch.no_grad()
def test_after_a_pass_the_picture_network_is_a_picture_network(name):
    video, given = inflated(name).eval(), inputs()
    pictures, index = torch.randn(10, 4, 8, 8), torch.arange(10)
    words = torch.randn(10, 7, 16)  # other words for each picture

    def drawn():
        return video.image(pictures, index, encoder_hidden_states=words).sample

    before = drawn()
    video(**given, conditions=conditions())
    assert video.call is None and torch.equal(drawn(), before)
    video(**given, conditions=conditions(), images_only=True)
    assert torch.equal(drawn(), before)
    with pytest.raises(RuntimeError):  # an error within the picture network
        video(given["sample"], given["timestep"], torch.randn(2, 7, 999), conditions=conditions())
    assert video.call is None and video.shared_text.frames == 1 and torch.equal(drawn(), before)


def gradients(video, given, first, second, between=None):
    """Of guidance's combination of two passes, before one backward pass."""
    z = given["sample"].clone().requires_grad_(True)
    video.zero_grad()
    one = video(**{**given, "sample": z}, conditions=first).sample
    two = video(**{**given, "sample": z}, conditions=second).sample
    if between:
        between()
    (two + 3 * (one - two)).square().sum().backward()
    return [z.grad, *(p.grad for p in video.temporal.parameters() if p.grad is not None)]


@pytest.mark.parametrize("name", PLUGINS)
def test_checkpointed_gradients_are_exact_for_two_passes_before_one_backward(name):
    video = inflated(name).double().train()
    given = {k: v.double() if v.is_floating_point() else v for k, v in inputs().items()}
    first = {k: v.double() for k, v in conditions().items()}
    second = {**first, "fps": first["fps"] * 3, "known": first["known"] * 0}
    plain = gradients(video, given, first, second)
    video.enable_gradient_checkpointing()

    def another_pass():
        with torch.no_grad():
            video(given["sample"][:, :, :3], given["timestep"], given["encoder_hidden_states"], images_only=True)

    for between in (None, another_pass):
        again = gradients(video, given, first, second, between)
        assert len(again) == len(plain) > 1
        assert all(torch.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in zip(plain, again, strict=True))
    assert video.call is None


def test_a_decoder_with_time_is_checkpointed_exactly():
    decoder = randomise(VideoAutoencoder.from_image_model(AutoencoderKL(**TINY_VAE)), 0.05).double().train()

    def gradient():
        z = torch.randn(1, 4, 5, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
        z.requires_grad_(True)
        decoder.decode(z).square().sum().backward()
        return z.grad

    plain = gradient()
    decoder.enable_gradient_checkpointing()
    assert torch.allclose(gradient(), plain, rtol=1e-9)
    assert decoder.call is None


def test_inflating_keeps_both_parts_in_one_place():
    with torch.device("meta"):
        picture = picture_net()
    made = InflatedUNet.from_image_model(picture.to("meta"), LAYERS)
    assert {p.device.type for p in made.parameters()} == {"meta"}
