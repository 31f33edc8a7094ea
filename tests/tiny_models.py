"""A tiny latent space and a tiny picture model behind it, saved as a user would have them."""

from pathlib import Path

import pytest
from diffusers import AutoencoderKL

from muybridge.models.text.encoder import TextConfig
from muybridge.parts.image_ldm import ImageLDM
from tests.conftest import TINY_VAE, randomise

VAE = {**TINY_VAE, "scaling_factor": 0.7}
UNET = dict(
    sample_size=8,
    in_channels=4,
    out_channels=4,
    block_out_channels=(16, 32),
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    layers_per_block=1,
    norm_num_groups=8,
    attention_head_dim=[2, 4],
    cross_attention_dim=384,
)
TEXT = TextConfig(max_length=12)
SAMPLING = {"num_frames": 1, "height": 16, "width": 16, "num_inference_steps": 4, "threshold": "none"}
PROMPT = "a red circle moving left"


def save_latent_space(folder: Path) -> Path:
    randomise(AutoencoderKL(**VAE), 0.02).save_pretrained(folder)
    return folder


def save_picture_model(folder: Path, vae: Path, std: float = 0.05) -> Path:
    """A saved image model behind a saved latent space, with perturbed weights."""
    system = ImageLDM({"autoencoder": str(vae), **UNET}, {}, TEXT)
    system.save(randomise(system.build(), std), folder, SAMPLING)
    return folder


@pytest.fixture
def latent_space(tmp_path):
    return save_latent_space(tmp_path / "vae")


@pytest.fixture
def picture_model(tmp_path, latent_space):
    return save_picture_model(tmp_path / "picture", latent_space)
