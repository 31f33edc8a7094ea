"""Shared fixtures: one thread setting, tiny real networks, a tiny recipe. Nothing here touches the network."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TQDM_DISABLE", "1")
if "GOMP_SPINCOUNT" not in os.environ:  # as muybridge.waiting has it, before torch is loaded
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from muybridge.models.unet3d import UNet3DModel
from muybridge.nn.text_conditioning import TextCondition
from muybridge.training.recipe import Recipe, TrainingConfig
from tests.devices import pretend

if not os.environ.get(pretend.REAL):  # the machine's own accelerator is to be tested, and torch knows one at a time
    pretend.register()  # before the first backward pass of the process


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)


def randomise(model: torch.nn.Module, std: float = 0.1) -> torch.nn.Module:
    """Perturb every parameter, zero-initialised ones included, so that a law is tested on a network that does
    something."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype) * std)
    return model


TOY = dict(
    sample_size=16,
    base_channels=16,
    channel_multipliers=(1, 2),
    blocks_per_level=1,
    attention_resolutions=(8,),
    attention_head_dim=8,
    embedding_dim=64,
    embedding_layers=2,
    norm_groups=4,
)


@pytest.fixture
def toy_unet() -> UNet3DModel:
    """The specification's toy configuration, perturbed, float64."""
    return randomise(UNet3DModel(**TOY)).double().eval()


def some_text(batch: int, captions: int = 0, width: int = 8, length: int = 5) -> TextCondition:
    lead = (batch, captions) if captions else (batch,)
    mask = torch.ones(*lead, length, dtype=torch.bool)
    mask[..., -1] = False
    return TextCondition(torch.randn(*lead, width), torch.randn(*lead, length, width), mask)


#: A picture autoencoder of 16x16 pixels, 8x8 latents.
TINY_VAE = dict(
    block_out_channels=(8, 16),
    down_block_types=("DownEncoderBlock2D",) * 2,
    up_block_types=("UpDecoderBlock2D",) * 2,
    latent_channels=4,
    layers_per_block=1,
    norm_num_groups=4,
    sample_size=16,
)

TINY_MODEL = {
    "type": "unet3d",
    "sample_size": 16,
    "base_channels": 16,
    "channel_multipliers": [1, 2],
    "blocks_per_level": 1,
    "attention_resolutions": [8],
    "attention_head_dim": 8,
    "embedding_dim": 32,
    "embedding_layers": 2,
    "norm_groups": 4,
    "text_pooled_dim": 384,
    "text_token_dim": 384,
}


@pytest.fixture
def tiny_recipe() -> Recipe:
    return make_tiny_recipe()


def make_tiny_recipe() -> Recipe:
    """A real recipe small enough to train in seconds: text encoder, world data, U-Net."""
    from muybridge.models.text.encoder import TextConfig

    return Recipe(
        name="tiny",
        system="vdm",
        seed=3,
        model=dict(TINY_MODEL),
        text=TextConfig(max_length=8),
        data={"source": "world", "height": 16, "width": 16, "num_frames": 4, "num_clips": 24, "two_things": 0.0},
        diffusion={"images_per_video": 1},
        training=TrainingConfig(
            steps=6,
            batch_size=4,
            learning_rate=1e-3,
            warmup_steps=2,
            checkpoint_every=2,
            log_every=1,
            validate_every=3,
            validation_clips=4,
            sample_every=0,
            ema=0.9,
            threads=1,
        ),
        sampling={"num_frames": 4, "height": 16, "width": 16, "num_inference_steps": 4},
    )


def with_training(recipe: Recipe, **changes) -> Recipe:
    return replace(recipe, training=replace(recipe.training, **changes))


def write_recipe(recipe: Recipe, path: Path) -> Path:
    import yaml

    def plain(value):
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value

    path.write_text(yaml.safe_dump(plain(recipe.as_dict())))
    return path


from tests.tiny_models import latent_space, picture_model  # noqa: E402, F401 (fixtures for all tests)
