"""Tiny random models as a user would have them, and the pretend accelerator as the device that accelerate finds."""

import pytest
import torch
from accelerate.state import AcceleratorState
from diffusers import AutoencoderKL

from muybridge.models.latent.causal_autoencoder import CausalAutoencoder
from muybridge.models.text.scorers import DualEncoder
from muybridge.opening.training import build_system
from muybridge.parts.image_ldm import ImageLDM
from tests.conftest import randomise
from tests.devices import pretend
from tests.tiny_models import SAMPLING, TEXT, UNET, VAE


@pytest.fixture
def device():
    with pretend.present() as found:
        yield found


@pytest.fixture
def no_float64():
    with pretend.present(float64=False) as found:
        yield found


@pytest.fixture
def fresh_accelerate():
    """accelerate keeps device and precision for a whole process: forgotten before and after."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory):
    """A folder with an autoencoder, a picture model, a scorer, and an image-to-video model."""
    return make_tiny_models(tmp_path_factory.mktemp("models"))


def make_tiny_models(folder):
    """Write them into a folder; returns it."""
    torch.manual_seed(0)
    vae = randomise(AutoencoderKL(**VAE), 0.02)
    vae.save_pretrained(folder / "vae")
    CausalAutoencoder.from_image_model(vae, 2).save_pretrained(folder / "causal")
    picture = ImageLDM({"autoencoder": str(folder / "vae"), **UNET}, {}, TEXT)
    picture.save(randomise(picture.build(), 0.05), folder / "picture", SAMPLING)
    DualEncoder(hidden=16, width=8).save_pretrained(folder / "scorer")
    model = {"image": str(folder / "picture"), "scorer": str(folder / "scorer")}
    alive = build_system("stable_video", model, {}, {}, None)
    alive.save(randomise(alive.build(), 0.02), folder / "alive", {**SAMPLING, "num_frames": 8, "fps": 8.0})
    before = {"image": model, "video": {"decoder": str(folder / "decoder-image")}}
    for stage, told in before.items():  # what Make-A-Video's later stages stand behind
        decoder = build_system("make_a_video", told, {"stage": stage}, {}, None)
        decoder.save(randomise(decoder.build(), 0.02), folder / f"decoder-{stage}", {**SAMPLING, "num_frames": 4})
    return folder
