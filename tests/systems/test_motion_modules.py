"""AnimateDiff's motion modules and their LoRAs behind users' picture models, with diffusers' numbers."""

import json

import numpy as np
import pytest
import torch
from diffusers import AnimateDiffPipeline, AnimateDiffSDXLPipeline, DDIMScheduler, MotionAdapter, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from muybridge.cli.main import app
from muybridge.data.video_io import read_recipe, read_video
from muybridge.diffusion.noise import Noise
from muybridge.errors import UserError
from muybridge.opening.identify import identify
from muybridge.opening.sampling import load_pipeline
from tests import user_folders
from tests.conftest import randomise

HOW = {"num_inference_steps": 3, "guidance_scale": 4.0, "height": 16, "width": 16, "num_frames": 4}
WEIGHTS = "diffusion_pytorch_model.safetensors"


def adapter(folder, middle=False, **more):
    torch.manual_seed(2)
    made = MotionAdapter(
        block_out_channels=(32, 64), motion_layers_per_block=1, motion_num_attention_heads=4,
        use_motion_mid_block=middle, **more,
    )  # fmt: skip
    randomise(made, 0.1).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def sd15(tmp_path_factory):
    return user_folders.stable_diffusion(tmp_path_factory.mktemp("sd15"), scheduler="DDIMScheduler")


@pytest.fixture(scope="module")
def motion(tmp_path_factory):
    return adapter(tmp_path_factory.mktemp("motion") / "adapter")


def latents_of(theirs, folder, **how):
    theirs.scheduler = DDIMScheduler.from_config(theirs.scheduler.config, beta_schedule="linear")
    theirs.set_progress_bar_config(disable=True)
    start = Noise([5])((4, 4, 8, 8), "start")
    return theirs("a Fox", latents=start, output_type="latent", **HOW, **how).frames


def ours_of(folder, motion):
    return load_pipeline(str(folder), "cpu", motion=str(motion))


@pytest.mark.parametrize("middle", [False, True], ids=["v3", "v2"])
def test_videos_are_diffusers(sd15, tmp_path, middle):
    motion = adapter(tmp_path / "m", middle)
    opened = MotionAdapter.from_pretrained(motion)
    theirs = AnimateDiffPipeline.from_pretrained(sd15, motion_adapter=opened, feature_extractor=None)
    expected = latents_of(theirs, sd15, negative_prompt="blue")
    ours = ours_of(sd15, motion)
    got = ours("a Fox", seed=5, negative_prompt="blue", output="latents", **HOW).samples
    assert torch.allclose(got, expected, atol=1e-4), (got - expected).abs().max()
    assert ours.settings().num_frames == 16 and ours.network.temporal.max_frames == 32


def test_videos_of_xl_are_diffusers(tmp_path, motion):
    folder = user_folders.stable_diffusion_xl(tmp_path / "xl")
    theirs = AnimateDiffSDXLPipeline.from_pretrained(folder, motion_adapter=MotionAdapter.from_pretrained(motion))
    # diffusers 0.42.1 forgets these weights when it puts motion modules behind a U-Net (UNetMotionModel.from_unet2d)
    image = UNet2DConditionModel.from_pretrained(folder / "unet")
    theirs.unet.add_embedding.load_state_dict(image.add_embedding.state_dict())
    expected = latents_of(theirs, folder)
    got = ours_of(folder, motion)("a Fox", seed=5, output="latents", **HOW).samples
    assert torch.allclose(got, expected, atol=1e-4), (got - expected).abs().max()


def original(motion, file):
    """The same weights in the names of AnimateDiff's own files."""
    out = {}
    for name, value in load_file(motion / WEIGHTS).items():
        new = name.replace("motion_modules.0.", "motion_modules.0.temporal_transformer.")
        new = new.replace("motion_modules.1.", "motion_modules.1.temporal_transformer.")
        for k in (0, 1):
            new = new.replace(f"attn{k + 1}.", f"attention_blocks.{k}.").replace(f"norm{k + 1}.", f"norms.{k}.")
        new = new.replace("norm3.", "ff_norm.")
        if "pos_embed" in new:
            new = new.replace("pos_embed.pe", "attention_blocks.0.pos_encoder.pe")
        out[f"module.{new}"] = value.contiguous()
    save_file(out, file)
    return file


def test_an_original_file_is_the_folder(sd15, motion, tmp_path):
    file = original(motion, tmp_path / "mm.safetensors")
    one, two = ours_of(sd15, file), ours_of(sd15, motion)
    # eight heads are the published files'; the folder says four
    assert one.network.temporal.state_dict().keys() == two.network.temporal.state_dict().keys()
    for (name, a), b in zip(
        one.network.temporal.state_dict().items(), two.network.temporal.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b), name
    assert "generate --model SD_FOLDER --motion-module" in identify(file).used_by


def test_a_motion_lora_changes_what_it_changes_in_diffusers(sd15, motion, tmp_path):
    layer = "down_blocks.0.motion_modules.0.transformer_blocks.0.attn1.to_q"
    down, up = torch.randn(2, 32) * 0.3, torch.randn(32, 2) * 0.3
    save_file({f"unet.{layer}.lora_A.weight": down, f"unet.{layer}.lora_B.weight": up}, tmp_path / "zoom.safetensors")
    inside = "temporal_transformer.transformer_blocks.0.attention_blocks.0.processor.to_q_lora"
    old = f"down_blocks.0.motion_modules.0.{inside}"
    save_file({f"{old}.down.weight": down, f"{old}.up.weight": up}, tmp_path / "old.safetensors")
    opened = MotionAdapter.from_pretrained(motion)
    theirs = AnimateDiffPipeline.from_pretrained(sd15, motion_adapter=opened, feature_extractor=None)
    with torch.no_grad():
        theirs.unet.get_submodule(layer).weight += up @ down
    expected = latents_of(theirs, sd15)
    for file in ("zoom", "old"):
        ours = ours_of(sd15, motion)
        plain = ours("a Fox", seed=5, output="latents", **HOW).samples
        ours.use_lora(tmp_path / f"{file}.safetensors")
        got = ours("a Fox", seed=5, output="latents", **HOW).samples
        assert torch.allclose(got, expected, atol=1e-4), file
        assert not torch.allclose(got, plain, atol=1e-3)


def test_generate_takes_it_and_replay_makes_it_again(sd15, motion, tmp_path):
    options = ["--num-frames", 3, "--steps", 2, "--height", 16, "--width", 16, "-o", tmp_path / "o.npy"]
    told = ["generate", "a fox", "--model", sd15, "--motion-module", motion, *options]
    done = CliRunner().invoke(app, [str(a) for a in told])
    assert done.exit_code == 0, (done.output, done.exception)
    assert read_video(tmp_path / "o.npy").frames.shape == (3, 16, 16, 3)
    assert read_recipe(tmp_path / "o.npy")["motion"]["file"] == str(motion)
    done = CliRunner().invoke(app, ["replay", str(tmp_path / "o.npy")])
    assert done.exit_code == 0 and "every frame equals" in done.output, (done.output, done.exception)


def test_what_is_no_motion_module_is_refused(sd15, motion, tmp_path):
    weights = load_file(motion / WEIGHTS)
    for name, tensors, said in (
        ("none", {"a": torch.zeros(1)}, "no motion module"),
        ("pia", {**weights, "conv_in.weight": torch.zeros(1)}, "no motion module's, such as conv_in"),
        ("wide", {k: torch.cat([v, v]) for k, v in weights.items()}, "another picture model"),
        ("half", {k: v for k, v in weights.items() if "down_blocks.1" not in k}, "no counterpart"),
    ):
        save_file(tensors, tmp_path / f"{name}.safetensors")
        with pytest.raises(UserError, match=said):
            ours_of(sd15, tmp_path / f"{name}.safetensors")
    with pytest.raises(UserError, match="pickled"):
        ours_of(sd15, tmp_path / "mm.ckpt")
    with pytest.raises(UserError, match="stands behind a picture model"):
        ours_of("emoji-video", motion)
    with pytest.raises(UserError, match="at most 32 frames"):
        ours_of(sd15, motion)("a fox", **{**HOW, "num_frames": 33})
    assert np.isfinite(json.loads((motion / "config.json").read_text())["motion_max_seq_length"])
