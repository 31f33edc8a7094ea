"""What users own runs on a device that is not the CPU: every kind of file, every choice of memory, few steps, reuse."""

import pytest
from diffusers import ControlNetModel, UNet2DConditionModel

from benchmarks import weights
from muybridge.data.video_io import read_recipe
from tests import user_folders
from tests.conftest import randomise
from tests.devices.conftest import the_same_there

pytestmark = pytest.mark.slow

SMALL = ("--height", 16, "--width", 16, "--steps", 2)
WORDS = "a fox"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    from muybridge.models.text.clip_vocabulary import VARIABLE

    monkeypatch.setenv("MUYBRIDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(VARIABLE, str(tmp_path))  # single files set it


@pytest.fixture(scope="module")
def sd15(tmp_path_factory):
    return user_folders.stable_diffusion(tmp_path_factory.mktemp("sd15"))


@pytest.fixture(scope="module")
def xl(tmp_path_factory):
    return user_folders.stable_diffusion_xl(tmp_path_factory.mktemp("xl"))


@pytest.mark.parametrize("memory", ["low", "fast"])
def test_memory(memory, sd15, tmp_path, device):
    the_same_there(tmp_path, device, "generate", WORDS, "--model", sd15, *SMALL, "--memory", memory)


def test_a_sampler_of_few_steps(sd15, tmp_path, device):
    how = ("--sampler", "unipc", "--guidance-scale", 2, "--negative", "blue")
    the_same_there(tmp_path, device, "generate", WORDS, "--model", sd15, *SMALL, *how)


KINDS = ("XL as a single file", "1.5 with motion modules and a MotionLoRA", "latent consistency folder")


@pytest.mark.parametrize("name", KINDS)
def test_generate_from(name, tmp_path, device):
    found = next(kind for kind in weights.KINDS if kind.name == name).make(tmp_path)
    frames = ("--num-frames", 3) if "motion_module" in found else ()
    given = ("--model", found["model"], *found.get("options", ()))
    the_same_there(tmp_path, device, "generate", "a Fox", *given, *SMALL, *frames, "--memory", "low")


def test_stable_video(tmp_path, clip, device):
    svd = user_folders.stable_video(tmp_path / "svd")
    how = ("--height", 64, "--width", 64, "--steps", 1, "--num-frames", 2, "--memory", "low")
    the_same_there(tmp_path, device, "animate", clip, "--model", svd, *how)


@pytest.mark.parametrize("command", ["zero", "control"])
def test_xl_in(command, xl, tmp_path, clip, device):
    net = ControlNetModel.from_unet(
        UNet2DConditionModel.from_pretrained(xl / "unet"), conditioning_embedding_out_channels=(8, 16)
    )
    randomise(net, 0.1).save_pretrained(tmp_path / "net")
    given = {
        "zero": (WORDS, "--num-frames", 2),
        "control": (clip, WORDS, "--control-net", tmp_path / "net", "--method", "zero", "--max-frames", 2),
    }
    the_same_there(tmp_path, device, command, *given[command], "--model", xl, *SMALL, "--memory", "low")


def test_reuse(sd15, tmp_path, device):
    """What is counted before the run (--memory, or a model of one's own) leaves no feature behind that a step uses."""
    found = weights._moved(lambda _: {"model": sd15}, tmp_path)
    given = ("--model", sd15, *found["options"], "--height", 16, "--width", 16, "--num-frames", 3)
    out = the_same_there(tmp_path, device, "generate", WORDS, *given, "--steps", 4, "--reuse", 0.5)
    assert read_recipe(out)["sampling"]["reuse"] == 0.5
