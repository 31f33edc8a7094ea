"""Adding a system means adding its folder: one that is thrown away after the test trains, saves, opens, generates and
replays."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from typer.testing import CliRunner

import muybridge.systems
from muybridge.cli.main import app
from muybridge.data.video_io import read_recipe, read_video
from muybridge.errors import UserError
from muybridge.opening.offers import offered, offers

INIT = '''
"""A system of one convolution."""

TRAINS = {"throwaway": "whole:Throwaway"}
OPENS = {"ThrowawayPipeline": "whole:ThrowawayPipeline"}
'''
WHOLE = """
from pathlib import Path
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config

from muybridge.diffusion.losses import mse_per_sample
from muybridge.diffusion.process import diffuse
from muybridge.diffusion.schedule import CosineSchedule
from muybridge.diffusion.tables import level_grid
from muybridge.learning.contract import Losses, System
from muybridge.learning.draws import Draws
from muybridge.library.index import settings_of, write_index, write_settings
from muybridge.models.weights.opening import open_network
from muybridge.pipelines.base import VideoPipeline


class Net(ModelMixin, ConfigMixin):
    @register_to_config
    def __init__(self, width: int = 4):
        super().__init__()
        self.net = torch.nn.Sequential(
            torch.nn.Conv3d(3, width, 3, padding=1), torch.nn.SiLU(), torch.nn.Conv3d(width, 3, 3, padding=1)
        )

    def forward(self, z):
        return self.net(z)


class ThrowawayPipeline(VideoPipeline):
    prediction_type = "sample"

    def __init__(self, network, sampling=None):
        super().__init__()
        self.register_modules(network=network)
        self.register_to_config(text_encoder=None, sampling=dict(sampling or {}))

    @classmethod
    def from_folder(cls, folder: Path, dtype=torch.float32):
        return cls(open_network(Net, folder / "network", dtype), settings_of(folder)["sampling"])

    def predict(self, z, lam, condition):
        return self.network(z)

    def null(self, condition, negative_prompt=""):
        return None

    def levels(self, steps, sampler="ddim"):
        return level_grid(CosineSchedule(-8.0, 8.0), steps)

    def sample_shape(self, settings):
        return (3, settings.num_frames, settings.height, settings.width)


class Throwaway(System):
    name = "throwaway"
    section = "objective"

    def __init__(self, model, settings, text):
        self.width = int(model.get("width", 4))

    def build(self):
        return Net(self.width)

    def losses(self, model, batch):
        draws = Draws(batch)
        lam = CosineSchedule(-8.0, 8.0)(draws.times()).float()
        eps = draws.normal(batch.video.shape[1:])
        error = mse_per_sample(model(diffuse(batch.video, eps, lam)), batch.video)
        return Losses(error, error.detach(), lam)

    def preview(self, model, prompts, sampling, clips):
        return ThrowawayPipeline(model, sampling)(None, seed=0).frames

    def save(self, model, folder, sampling):
        model.save_pretrained(str(folder / "network"))
        write_settings(folder, {"sampling": dict(sampling)})
        write_index(folder, "ThrowawayPipeline", network=["muybridge.systems.throwaway.whole", "Net"])
"""
RECIPE = """
name: thrown
system: throwaway
model: {width: 5}
data: {source: world, height: 16, width: 16, num_frames: 4, num_clips: 8}
training: {steps: 2, batch_size: 2, checkpoint_every: 1, validate_every: 2, validation_clips: 2, sample_every: 2,
           warmup_steps: 0, threads: 1}
sampling: {num_frames: 4, height: 16, width: 16, num_inference_steps: 2}
"""


@pytest.fixture
def throwaway(tmp_path, monkeypatch):
    folder = tmp_path / "more" / "throwaway"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(textwrap.dedent(INIT))
    (folder / "whole.py").write_text(textwrap.dedent(WHOLE))
    monkeypatch.setattr(muybridge.systems, "__path__", [*muybridge.systems.__path__, str(folder.parent)])
    yield
    for name in [n for n in sys.modules if n.startswith("muybridge.systems.throwaway")]:
        del sys.modules[name]


def run(*arguments):
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def test_a_folder_is_all_that_a_new_system_needs(throwaway, tmp_path):
    recipe = tmp_path / "thrown.yaml"
    recipe.write_text(RECIPE)
    run("train", recipe, "-o", tmp_path / "run")
    assert list((tmp_path / "run" / "samples").glob("*.png"))
    model, out = tmp_path / "run" / "model", tmp_path / "out.npy"
    run("export", tmp_path / "run", tmp_path / "exported")
    run("generate", "anything", "--model", model, "-o", out, "--sampler", "ancestral", "--seed", 3)
    assert read_video(out).frames.shape == (4, 16, 16, 3)
    assert read_recipe(out)["command"] == "generate" and "the same" in run("replay", out)
    run("restyle", out, "--model", model, "--content", "x", "--strength", 0.5, "-o", tmp_path / "other.npy")


def test_without_its_folder_the_system_is_unknown_and_the_names_are_told():
    assert {"vdm", "gen1", "image_ldm"} <= set(offers("TRAINS"))
    with pytest.raises(UserError, match="did you mean 'gen1'"):
        offered("TRAINS", "gen2", "system")


def test_asking_for_names_loads_nothing_heavy():
    code = (
        "import sys\nfrom muybridge.opening.offers import offers\noffers('TRAINS'), offers('OPENS')\n"
        "print([m for m in ('torch', 'numpy', 'diffusers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd())
    assert done.stdout.strip() == "[]"
