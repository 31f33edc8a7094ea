"""Every sampling command runs on a device that is not the CPU, and makes there what it makes on the CPU."""

import json
import shutil

import pytest
from diffusers import UNet2DConditionModel
from typer.testing import CliRunner

from muybridge.cli.main import app
from tests.conftest import randomise
from tests.devices.conftest import made, the_same_there
from tests.tiny_models import UNET

pytestmark = pytest.mark.slow

WORDS = "fox, fluent style"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MUYBRIDGE_CACHE", str(tmp_path / "cache"))


PRECISIONS = [(), ("--precision", "bf16")]
GENERATED = {
    "world-vdm": ("--steps", 3, "--num-frames", 4),
    "emoji-video": ("--steps", 3, "--num-frames", 4),
    "emoji-image": ("--steps", 3),
}


@pytest.mark.parametrize("precision", PRECISIONS, ids=["fp32", "bf16"])
@pytest.mark.parametrize("model", GENERATED)
def test_generate_and_replay(model, precision, tmp_path, device):
    out = the_same_there(tmp_path, device, "generate", WORDS, "--model", model, *GENERATED[model], precision=precision)
    done = CliRunner().invoke(app, ["replay", str(out), "--device", str(device)])
    assert done.exit_code == 0 and "every frame equals" in done.output, (done.output, done.exception)


@pytest.mark.parametrize("sampler", ["ddim", "ancestral", "dpmpp_2m", "dpmpp_2m_sde", "distilled"])
def test_every_sampler(sampler, tmp_path, device):
    the_same_there(
        tmp_path,
        device,
        "generate",
        WORDS,
        "--model",
        "world-vdm",
        "--steps",
        3,
        "--num-frames",
        3,
        "--sampler",
        sampler,
    )


@pytest.mark.parametrize(
    "method,model", [("reconstruction", "world-vdm"), ("reconstruction", "emoji-video"), ("replacement", "emoji-video")]
)
def test_extend_and_interpolate(method, model, tmp_path, clip, device):
    how = (clip, "--prompt", WORDS, "--model", model, "--method", method, "--steps", 2)
    how += ("--weight", 1) if method == "reconstruction" else ()
    the_same_there(tmp_path, device, "extend", *how, "--add-frames", 3)
    out = the_same_there(tmp_path, device, "interpolate", *how)
    done = CliRunner().invoke(app, ["replay", str(out), "--device", str(device)])
    assert done.exit_code == 0 and "every frame equals" in done.output, (done.output, done.exception)


@pytest.mark.parametrize("precision", PRECISIONS, ids=["fp32", "bf16"])
def test_animate(precision, tmp_path, clip, device):
    the_same_there(tmp_path, device, "animate", clip, "--steps", 2, "--num-frames", 4, precision=precision)


@pytest.mark.parametrize("precision", PRECISIONS, ids=["fp32", "bf16"])
def test_upsample_fps(precision, tmp_path, clip, device):
    the_same_there(tmp_path, device, "upsample-fps", clip, "--steps", 2, precision=precision)


@pytest.mark.parametrize(
    "more", [(), ("--background", 0.5), ("--attention", "full")], ids=["first", "background", "full"]
)
def test_zero(more, tmp_path, device):
    the_same_there(tmp_path, device, "zero", WORDS, "--num-frames", 3, "--steps", 8, *more)


@pytest.mark.parametrize("interpolator", ["learned", "flow", "linear"])
def test_control(interpolator, tmp_path, clip, device):
    how = ("--smooth", interpolator, "--steps", 4, "--max-frames", 3)
    the_same_there(tmp_path, device, "control", clip, WORDS, *how)


@pytest.mark.parametrize("control", ["depth", "soft_edges"])
def test_control_by_other_structure(control, tmp_path, clip, device):
    how = ("--control", control, "--control-net", "emoji-depth", "--method", "zero", "--steps", 2, "--max-frames", 2)
    the_same_there(tmp_path, device, "control", clip, WORDS, *how)


@pytest.fixture
def instructed(tmp_path, tiny_models):
    """A picture model with four more channels for the given picture, as InstructPix2Pix has it."""
    folder = tmp_path / "instruct"
    shutil.copytree(tiny_models / "picture", folder)
    randomise(UNet2DConditionModel(**{**UNET, "in_channels": 8}), 0.05).save_pretrained(folder / "unet")
    return folder


@pytest.mark.parametrize("precision", PRECISIONS, ids=["fp32", "bf16"])
def test_instruct(precision, tmp_path, clip, instructed, device):
    how = ("--model", instructed, "--steps", 2, "--max-frames", 2)
    the_same_there(tmp_path, device, "instruct", clip, "make it red", *how, precision=precision)


@pytest.mark.parametrize("precision", PRECISIONS, ids=["fp32", "bf16"])
def test_restyle_by_structure(precision, tmp_path, clip, device):
    how = (clip, "--steps", 2, "--max-frames", 4)
    the_same_there(tmp_path, device, "restyle", *how, "--content", WORDS, precision=precision)
    the_same_there(tmp_path, device, "restyle", *how, "--content", clip, precision=precision)


@pytest.mark.parametrize("model", ["emoji-video", "emoji-image", "world-vdm"])
def test_restyle_by_drawing_anew(model, tmp_path, clip, device):
    how = ("--strength", 0.6, "--steps", 3, "--max-frames", 3)
    the_same_there(tmp_path, device, "restyle", clip, "--content", WORDS, "--model", model, *how)


def test_edit(tmp_path, clip, tiny_models, device, fresh_accelerate):
    """Tuned and inverted on the CPU, edited on the device."""
    how = ("--model", tiny_models / "picture", "--train-steps", 1, "--steps", 3, "--iterations", 2)
    tuned = ("tune", clip, "--caption", WORDS, "--folder", tmp_path / "run", "--num-frames", 3, *how, "--device", "cpu")
    done = CliRunner().invoke(app, [str(a) for a in tuned])
    assert done.exit_code == 0, (done.output, done.exception)
    assert json.loads((tmp_path / "run" / "model" / "muybridge.json").read_text())
    the_same_there(tmp_path, device, "edit", tmp_path / "run" / "model", "cat, fluent style")


MPS = {
    "world-vdm": ("generate", WORDS, "--model", "world-vdm", "--steps", 2, "--num-frames", 3),
    "emoji-video": ("generate", WORDS, "--model", "emoji-video", "--steps", 2, "--num-frames", 3),
    "animate": ("animate", "CLIP", "--steps", 2, "--num-frames", 3),
    "upsample-fps": ("upsample-fps", "CLIP", "--steps", 2),
    "extend": ("extend", "CLIP", "--model", "world-vdm", "--steps", 2, "--add-frames", 2),
    "zero": ("zero", WORDS, "--num-frames", 2, "--steps", 6),
    "control": ("control", "CLIP", WORDS, "--steps", 4, "--max-frames", 2),
    "restyle": ("restyle", "CLIP", "--content", WORDS, "--steps", 2, "--max-frames", 3),
    "redraw": ("restyle", "CLIP", "--content", WORDS, "--strength", 0.6, "--model", "emoji-video", "--steps", 3,
    "--max-frames", 3),
}  # fmt: skip


@pytest.mark.parametrize("name", MPS)
def test_on_a_device_without_double_precision(name, tmp_path, clip, no_float64):
    arguments = [clip if a == "CLIP" else a for a in MPS[name]]
    frames = made(tmp_path / "out.npy", *arguments, "--device", no_float64)
    assert frames.std() > 0
