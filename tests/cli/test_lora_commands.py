"""--lora on every command that samples, and on tune: it changes what is made, is recorded, and replays bit for bit."""

import json
import shutil

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from muybridge.cli.main import app
from muybridge.data.video_io import read_recipe, read_video, write_video
from muybridge.diffusion.noise import Noise
from muybridge.models.text.encoder import TextConfig
from muybridge.opening.sampling import load_pipeline
from muybridge.systems.video_ldm.training import VideoLDM
from tests import user_folders
from tests.adapter_files import Parts, by_diffusers, kohya, layers
from tests.conftest import randomise

SIZE = {"height": 16, "width": 16}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A Stable Diffusion folder, models behind it, and a LoRA for its U-Net and text encoder."""
    home = tmp_path_factory.mktemp("home")
    sd15 = user_folders.stable_diffusion(home / "sd15")
    torch.manual_seed(0)
    parts = Parts(sd15)
    randomise(ControlNetModel.from_unet(parts.unet, conditioning_embedding_out_channels=(8, 16)), 0.05).save_pretrained(
        home / "net"
    )
    shutil.copytree(sd15, home / "ip2p")
    wide = UNet2DConditionModel.from_config({**parts.unet.config, "in_channels": 8})
    randomise(wide, 0.05).save_pretrained(home / "ip2p" / "unet")
    index = json.loads((sd15 / "model_index.json").read_text())
    index["_class_name"] = "StableDiffusionInstructPix2PixPipeline"
    (home / "ip2p" / "model_index.json").write_text(json.dumps(index))
    sampling = {"num_frames": 5, **SIZE, "num_inference_steps": 2, "threshold": "none", "guidance_scale": 1.0}
    text = TextConfig(str(sd15 / "text_encoder"), 77)
    for name, diffusion in (("video", {}), ("between", {"task": "interpolation"})):
        system = VideoLDM({"image": str(sd15)}, diffusion, text)
        system.save(system.build(), home / name, sampling)
    save_file(kohya(parts), home / "lora.safetensors")
    zoo = load_pipeline("emoji-restyle", "cpu").network.image
    for name in ("emoji-restyle", "emoji-animate"):
        told = {}
        for layer in layers(zoo, "attention")[:4]:
            down, up = parts.pair(zoo.get_submodule(layer))
            told |= {f"unet.{layer}.lora.down.weight": down, f"unet.{layer}.lora.up.weight": up}
        save_file(told, home / f"{name}.safetensors")
    drawn = np.random.default_rng(0).integers(0, 255, (5, 16, 16, 3), dtype=np.uint8)
    write_video(drawn, home / "v.npy", 8)
    Image.fromarray(drawn[0]).resize((64, 64)).save(home / "p.png")
    return home


#: command -> (arguments, model, whether it reads words with the model's own CLIP)
COMMANDS = {
    "generate": (("a fox", "--steps", "2"), "sd15", True),
    "zero": (("a fox", "--steps", "2", "--num-frames", "2"), "sd15", True),
    "control": (("{home}/v.npy", "a fox", "--steps", "2", "--control-net", "{home}/net", "--method", "zero",
                 "--control", "edges"), "sd15", True),
    "instruct": (("{home}/v.npy", "make it snow", "--steps", "2"), "ip2p", True),
    "extend": (("{home}/v.npy", "--prompt", "a fox", "--steps", "2", "--add-frames", "2"), "video", True),
    "interpolate": (("{home}/v.npy", "--prompt", "a fox", "--steps", "2"), "video", True),
    "upsample-fps": (("{home}/v.npy", "--prompt", "a fox", "--steps", "2"), "between", True),
    "animate": (("{home}/p.png", "--steps", "1"), "emoji-animate", False),
    "restyle": (("{home}/v.npy", "--content", "a fox", "--steps", "1"), "emoji-restyle", False),
}  # fmt: skip


def run(*arguments):
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    assert done.exit_code == 0, (done.output, done.exception)
    return " ".join(done.output.split())


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_merges_records_and_replays_it(home, tmp_path, command, monkeypatch):
    monkeypatch.setenv("MUYBRIDGE_CACHE", str(tmp_path / "cache"))
    arguments, model, words = COMMANDS[command]
    named = home / model if (home / model).is_dir() else model
    file = home / ("lora.safetensors" if words else f"{model}.safetensors")
    given = [command, *(a.format(home=home) for a in arguments), "--model", named]
    run(*given, "-o", tmp_path / "without.npy")
    run(*given, "-o", tmp_path / "with.npy", "--lora", f"{file}:0.5")
    (entry,) = read_recipe(tmp_path / "with.npy")["lora"]
    assert entry["file"] == str(file) and entry["scale"] == 0.5
    assert entry.get("text_layers", 0) == (12 if words else 0) and "left_out" not in entry
    frames = [read_video(tmp_path / f"{name}.npy").frames for name in ("with", "without")]
    assert not np.array_equal(*frames)
    assert "the same: every frame" in run("replay", tmp_path / "with.npy")
    if words:  # the text half alone makes other frames, and replays
        half = {k: v for k, v in load_file(file).items() if k.startswith("lora_te")}
        save_file(half, tmp_path / "te.safetensors")
        guided = ["--guidance-scale", 3] if command in ("upsample-fps", "extend", "interpolate") else []
        run(*given, *guided, "-o", tmp_path / "words.npy", "--lora", tmp_path / "te.safetensors:4")
        run(*given, *guided, "-o", tmp_path / "plain.npy")
        frames = [read_video(tmp_path / f"{name}.npy").frames for name in ("words", "plain")]
        assert not np.array_equal(*frames)
        assert "the same: every frame" in run("replay", tmp_path / "words.npy")


def test_the_pictures_are_diffusers(home):
    """Both halves merged, guided by words: what diffusers' pipeline makes of the weights that it would merge."""
    folder = home / "sd15"
    theirs = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, feature_extractor=None)
    for network, weights in zip(
        (theirs.unet, theirs.text_encoder), by_diffusers(Parts(folder), home / "lora.safetensors", 0.3), strict=True
    ):
        network.load_state_dict({**network.state_dict(), **weights})
    theirs.scheduler = DDIMScheduler.from_config(theirs.scheduler.config)
    theirs.set_progress_bar_config(disable=True)
    how = {"num_inference_steps": 4, "guidance_scale": 5.0, "negative_prompt": "blue"}
    latents = Noise([5])((4, 1, 8, 8), "start")[:, :, 0]
    expected = theirs("a Fox runs", latents=latents, output_type="pt", **SIZE, **how).images
    mine = load_pipeline(str(folder), "cpu")
    mine("a Fox runs", seed=5, **SIZE, **how)  # words that were embedded before are embedded anew
    mine.use_lora(home / "lora.safetensors", 0.3)
    got = mine("a Fox runs", seed=5, **SIZE, **how).samples[:, :, 0]
    assert torch.allclose(got.clamp(-1, 1) / 2 + 0.5, expected, atol=1e-4)


def test_a_record_from_before_text_halves_replays_without_them(home, tmp_path):
    pipeline = load_pipeline(str(home / "sd15"), "cpu")
    with pytest.warns(match="are left out"):
        old = pipeline.use_lora(home / "lora.safetensors", 0.5, text=False)
    assert old["left_out"] == 36 and "text_layers" not in old
    again = load_pipeline(str(home / "sd15"), "cpu")
    with pytest.warns(match="are left out"):
        again.merge_again({"file": old["file"], "scale": 0.5, "sha256": old["sha256"]})
    frames = [p("a fox", seed=1, num_inference_steps=2).frames for p in (pipeline, again)]
    assert np.array_equal(*frames)


def tuned(home, folder, *more):
    arguments = [
        "tune", home / "v.npy", "--caption", "a fox", "--model", home / "sd15", "--folder", folder, "--train-steps", 1,
        "--steps", 2, "--iterations", 1, *more,
    ]  # fmt: skip
    return run(*arguments)


@pytest.mark.slow
def test_tune_merges_it_first_and_the_tuned_model_says_so(home, tmp_path, monkeypatch):
    monkeypatch.setenv("MUYBRIDGE_CACHE", str(tmp_path / "cache"))
    lora = str(shutil.copy(home / "lora.safetensors", tmp_path / "mine.safetensors"))
    tuned(home, tmp_path / "with", "--lora", f"{lora}:0.5")
    tuned(home, tmp_path / "without")
    recipe = json.loads((tmp_path / "with" / "recipe.json").read_text())
    assert recipe["model"]["lora"] == recipe["text"]["lora"] == [f"{lora}:0.5"]
    (entry,) = json.loads((tmp_path / "with" / "model" / "muybridge.json").read_text())["lora"]
    assert entry["file"] == lora and entry["scale"] == 0.5 and len(entry["sha256"]) == 64
    assert "lora" not in json.loads((tmp_path / "without" / "model" / "muybridge.json").read_text())
    opened = load_pipeline(str(tmp_path / "with" / "model"), "cpu")
    parts = Parts(home / "sd15")
    unet, text = by_diffusers(parts, lora, 0.5)
    for name, value in opened.network.image.state_dict().items():
        if name in unet and "attn1.to_q" not in name and "attn2.to_q" not in name:  # those train
            assert torch.allclose(value, unet[name], atol=1e-5), name
    for name, value in opened.encoder().model.state_dict().items():
        assert torch.allclose(value, text.get(name, parts.text.state_dict()[name]), atol=1e-5), name
    # on top of it another one, for an edit alone
    edit = ["edit", tmp_path / "with" / "model", "a cat", "-o"]
    run(*edit, tmp_path / "e.npy")
    run(*edit, tmp_path / "more.npy", "--lora", f"{home / 'lora.safetensors'}:0.2")
    assert "lora" not in read_recipe(tmp_path / "e.npy")
    assert read_recipe(tmp_path / "more.npy")["lora"][0]["text_layers"] == 12
    made = [read_video(tmp_path / f"{name}.npy").frames for name in ("e", "more")]
    assert not np.array_equal(*made)
    for name in ("e", "more"):
        assert "the same: every frame" in run("replay", tmp_path / f"{name}.npy")
    save_file({k: 2 * v for k, v in load_file(lora).items()}, lora)
    done = CliRunner().invoke(app, [str(a) for a in (*edit, tmp_path / "f.npy")])
    assert done.exit_code == 2 and "has changed since it was merged" in " ".join(done.output.split())


@pytest.mark.parametrize("command", ["generate", "tune"])
def test_what_cannot_be_used_is_refused_before_anything_is_opened(home, tmp_path, command, monkeypatch):
    from muybridge.opening import sampling

    monkeypatch.setattr(sampling, "load_pipeline", None)
    save_file({"lora_unet_conv_in.oft_blocks": torch.zeros(2, 4, 4)}, tmp_path / "oft.safetensors")
    (tmp_path / "old.ckpt").write_bytes(b"x")
    given = {"generate": ["generate", "x"], "tune": ["tune", home / "v.npy", "--caption", "x"]}[command]
    for file, said in (("oft.safetensors", "OFT"), ("old.ckpt", "pickled"), ("none.safetensors", "no LoRA file at")):
        done = CliRunner().invoke(app, [str(a) for a in (*given, "--lora", tmp_path / file)])
        assert done.exit_code == 2 and said in done.output, (done.output, done.exception)
        assert done.output.count("error:") == 1
