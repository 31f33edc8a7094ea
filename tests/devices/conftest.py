"""Tiny random models as a user would have them, and the device that accelerate finds: the pretend accelerator, or with
`make test-gpu` this machine's own."""

import os

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from diffusers import AutoencoderKL
from typer.testing import CliRunner

from muybridge.cli.main import app
from muybridge.data.video_io import read_video, write_video
from muybridge.models.latent.causal_autoencoder import CausalAutoencoder
from muybridge.models.text.scorers import DualEncoder
from muybridge.nn.devices import AUTO, device_named
from muybridge.opening.training import build_system
from muybridge.parts.image_ldm import ImageLDM
from tests.conftest import randomise
from tests.devices import pretend
from tests.tiny_models import SAMPLING, TEXT, UNET, VAE

ASKED = os.environ.get(pretend.REAL, "")
NONE = "torch finds no accelerator on this machine; `make test` runs these tests on the pretend one"


@pytest.fixture
def device(monkeypatch, request):
    """Told False by a test, the pretend one has no double precision."""
    if not ASKED:
        with pretend.present(float64=getattr(request, "param", True)) as found:
            yield found
        return
    found = device_named(ASKED)
    if ASKED == AUTO and found.type == "cpu":
        pytest.skip(NONE)
    # convolutions in TF32 keep three digits: what is compared with the CPU must not be rounded so
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    yield torch.device(found.type, found.index or 0) if found.type != "cpu" else found


@pytest.fixture
def no_float64():
    if ASKED:
        pytest.skip("a device without double precision is pretended; this run is on the machine's own")
    with pretend.present(float64=False) as found:
        yield found


def made(out, *arguments):
    """The frames that a command writes."""
    done = CliRunner().invoke(app, [str(a) for a in (*arguments, "-o", out)])
    assert done.exit_code == 0, (done.output, done.exception)
    assert "peak is not predicted" not in done.output, done.output
    return read_video(out).frames.astype(int)


def the_same_there(tmp_path, device, *arguments, precision=()):
    """Runs a command on the CPU and on the device; returns the device's file."""
    here = made(tmp_path / "here.npy", *arguments, *precision, "--device", "cpu")
    there = made(tmp_path / "there.npy", *arguments, *precision, "--device", device)
    assert here.shape == there.shape
    # the CPU multiplies by other kernels (nn/layout.py): rounding, which guidance and thin networks make larger
    assert np.abs(here - there).mean() < (4 if precision else 1), np.abs(here - there).mean()
    return tmp_path / "there.npy"


@pytest.fixture
def clip(tmp_path):
    """Five frames of a blob that moves, of the bundled models' size."""
    y, x = np.mgrid[:64, :64]
    frames = [255 - 200 * np.exp(-((x - 24 - 4 * i) ** 2 + (y - 32) ** 2) / 150) for i in range(5)]
    shown = np.stack(frames).astype(np.uint8)[..., None].repeat(3, -1)
    return write_video(shown, tmp_path / "clip.npy", 6.0, {})


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
