"""Models that draw in few steps are known by their scheduler and sampled as they were made for."""

import json

import pytest
import torch
from diffusers import LatentConsistencyModelPipeline, StableDiffusionPipeline, UNet2DConditionModel

from muybridge.diffusion.noise import Noise
from muybridge.errors import UserError
from muybridge.making.base import Run
from muybridge.making.from_words import Generate, Zero
from muybridge.opening.identify import identify
from muybridge.opening.sampling import load_pipeline
from tests import user_folders

SIZE = {"height": 16, "width": 16}


def folder_with(folder, **scheduler):
    user_folders.stable_diffusion(folder)
    file = folder / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **scheduler}))
    return folder


def test_a_consistency_model_is_sampled_in_four_steps_as_diffusers_does(tmp_path, monkeypatch):
    folder = folder_with(tmp_path / "lcm", _class_name="LCMScheduler", original_inference_steps=50)
    network = UNet2DConditionModel.from_pretrained(folder / "unet")
    torch.manual_seed(3)
    told = UNet2DConditionModel(**{**network.config, "time_cond_proj_dim": 256})
    told.save_pretrained(folder / "unet")
    index = json.loads((folder / "model_index.json").read_text())
    index |= {"_class_name": "LatentConsistencyModelPipeline", "scheduler": ["diffusers", "LCMScheduler"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    ours = load_pipeline(str(folder), "cpu")
    own = ours.settings()
    assert (own.sampler, own.num_inference_steps, own.guidance_scale) == ("consistency", 4, 8.5)
    assert any("consistency model" in note for note in identify(folder).notes)

    theirs = LatentConsistencyModelPipeline.from_pretrained(folder, safety_checker=None, feature_extractor=None)
    theirs.set_progress_bar_config(disable=True)
    noise, step = Noise([5]), iter(range(10))
    start = noise((4, 1, 8, 8), "start")[:, :, 0]
    from diffusers.schedulers import scheduling_lcm

    with pytest.raises(UserError, match="draws once a step"):  # no branch would read it
        ours("a Fox", negative_prompt="blue", **SIZE)
    drawn = lambda shape, **k: noise((4, 1, 8, 8), "sampler", next(step))[:, :, 0]  # noqa: E731
    monkeypatch.setattr(scheduling_lcm, "randn_tensor", drawn)
    expected = theirs("a Fox", latents=start, num_inference_steps=4, output_type="pt", **SIZE).images
    got = ours("a Fox", seed=5, **SIZE).samples[:, :, 0].clamp(-1, 1) / 2 + 0.5
    assert torch.allclose(got, expected, atol=1e-4), (got - expected).abs().max()


@pytest.mark.parametrize("kind,sampler", [("Euler", "euler"), ("EulerAncestral", "ancestral")])
def test_a_turbo_folder_is_sampled_without_guidance(tmp_path, kind, sampler):
    folder = folder_with(tmp_path / "turbo", _class_name=f"{kind}DiscreteScheduler", timestep_spacing="trailing")
    ours = load_pipeline(str(folder), "cpu")
    own = ours.settings()
    assert (own.sampler, own.num_inference_steps, own.guidance_scale) == (sampler, 4, 1.0)
    before = Generate(prompt="a Fox", negative_prompt="blue").check(str(folder), {})  # before it is opened
    assert before.guidance_scale == 1.0 and before.num_inference_steps == 4
    zero = Zero(prompt="a Fox")  # walks by DDIM, whatever the folder's sampler
    assert zero.total_steps(Run(ours, str(folder), settings={"eta": 0.5, "num_frames": 2, **SIZE})) > 0
    assert any("turbo" in note for note in identify(folder).notes)


def test_eulers_pictures_are_diffusers(tmp_path):
    folder = folder_with(tmp_path / "turbo", _class_name="EulerDiscreteScheduler", timestep_spacing="trailing")
    index = json.loads((folder / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", "EulerDiscreteScheduler"]
    (folder / "model_index.json").write_text(json.dumps(index))
    ours = load_pipeline(str(folder), "cpu")
    theirs = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, feature_extractor=None)
    theirs.set_progress_bar_config(disable=True)
    top = float((-0.5 * ours.levels(4, "euler")[0]).exp())
    # theirs starts at sigma times its noise, ours at sigma / sqrt(1 + sigma^2)
    start = Noise([5])((4, 1, 8, 8), "start")[:, :, 0] * (1 + top**2) ** 0.5 / top
    how = {"num_inference_steps": 4, "guidance_scale": 0.0, "output_type": "pt"}
    expected = theirs("a Fox", latents=start, **how, **SIZE).images
    got = ours("a Fox", seed=5, **SIZE).samples[:, :, 0].clamp(-1, 1) / 2 + 0.5
    assert torch.allclose(got, expected, atol=1e-4), (got - expected).abs().max()


def test_a_folder_carries_its_own_preset(tmp_path):
    folder = folder_with(tmp_path / "mine")
    (folder / "muybridge.json").write_text(json.dumps({"sampling": {"num_inference_steps": 6, "sampler": "unipc"}}))
    own = load_pipeline(str(folder), "cpu").settings()
    assert (own.sampler, own.num_inference_steps, own.guidance_scale) == ("unipc", 6, 7.5)
