"""What users own goes through the ordinary commands with diffusers' numbers, and training behind it learns its own
target."""

import json

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, StableVideoDiffusionPipeline
from diffusers.pipelines.stable_video_diffusion import pipeline_stable_video_diffusion as published
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.utils._pytree import tree_map
from typer.testing import CliRunner

from muybridge.cli.main import app
from muybridge.data.video_io import read_video
from muybridge.diffusion.noise import Noise
from muybridge.errors import UserError
from muybridge.library.parts import scheduler_of
from muybridge.opening.sampling import load_pipeline
from muybridge.training.recipe import Recipe, TextConfig, TrainingConfig, make_system
from muybridge.training.trainer import Trainer
from tests import user_folders

SIZE = {"height": 16, "width": 16}


@pytest.fixture(scope="module")
def sd15(tmp_path_factory):
    return user_folders.stable_diffusion(tmp_path_factory.mktemp("sd15"))


@pytest.fixture(scope="module")
def svd(tmp_path_factory):
    return user_folders.stable_video(tmp_path_factory.mktemp("svd"))


@pytest.mark.parametrize("prediction,scheduler", [("", "PNDMScheduler"), ("v_prediction", "DDIMScheduler")])
@pytest.mark.parametrize("guidance,negative", [(1.0, ""), (7.5, ""), (7.5, "blue")])
def test_a_stable_diffusion_folder_gives_diffusers_pictures(tmp_path, prediction, scheduler, guidance, negative):
    folder = user_folders.stable_diffusion(tmp_path / "sd", prediction, scheduler)
    theirs = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, feature_extractor=None)
    theirs.scheduler = DDIMScheduler.from_config(theirs.scheduler.config)
    theirs.set_progress_bar_config(disable=True)
    how = {"num_inference_steps": 5, "guidance_scale": guidance, "negative_prompt": negative}
    latents = Noise([5])((4, 1, 8, 8), "start")[:, :, 0]
    expected = theirs("a Fox runs", latents=latents, output_type="pt", **SIZE, **how).images
    got = load_pipeline(str(folder), "cpu")("a Fox runs", seed=5, **SIZE, **how).samples[:, :, 0]
    assert torch.allclose(got.clamp(-1, 1) / 2 + 0.5, expected, atol=1e-4)


#: kind -> what stands in the names beside the plain ones, and whether in shards
VARIANTS = {"fp16": ("fp16", False), "shards": ("", True), "fp16 shards": ("fp16", True), "bf16": ("bf16", False)}
WHOLE = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}


def as_variant(folder, kind, stem):
    """A part's weights in half precision alone, or in shards, under the names of diffusers and transformers."""
    variant, sharded = VARIANTS[kind]
    dotted = f".{variant}" if variant else ""
    file = folder / f"{stem}.safetensors"
    weights = load_file(file)
    file.unlink()
    if variant:
        half = torch.bfloat16 if variant == "bf16" else torch.float16
        weights = {k: v.to(half) if v.is_floating_point() else v for k, v in weights.items()}
        if stem == "model":  # transformers notes the type, and opens in it
            config = json.loads((folder / "config.json").read_text())
            (folder / "config.json").write_text(json.dumps({**config, "dtype": str(half).removeprefix("torch.")}))
    if not sharded:
        save_file(weights, folder / f"{stem}{dotted}.safetensors", {"format": "pt"})
        return
    names, table = sorted(weights), {}
    for i, rows in enumerate((names[::2], names[1::2]), 1):
        shard = f"{stem}{dotted}-0000{i}-of-00002.safetensors"
        save_file({n: weights[n] for n in rows}, folder / shard, {"format": "pt"})
        table |= dict.fromkeys(rows, shard)
    index = {"metadata": {"total_size": 1}, "weight_map": table}
    (folder / f"{stem}.safetensors.index{dotted}.json").write_text(json.dumps(index))


@pytest.mark.parametrize("kind", VARIANTS)
def test_half_precision_and_sharded_folders_open(tmp_path, sd15, kind):
    from muybridge.opening.identify import identify

    folder = user_folders.stable_diffusion(tmp_path / "sd")
    for part, stem in WHOLE.items():
        as_variant(folder / part, kind, stem)
    assert identify(folder).needs == [] and identify(folder).parameters == identify(sd15).parameters
    opened = load_pipeline(str(folder), "cpu")
    made, whole = (p("a fox", seed=1, **SIZE, num_inference_steps=2) for p in (opened, load_pipeline(str(sd15), "cpu")))
    least = {"fp16": 3, "fp16 shards": 3, "bf16": 12, "shards": 0}[kind]
    assert np.abs(made.frames.astype(int) - whole.frames).max() <= least
    assert all(p.dtype == torch.float32 for p in opened.encoder().model.parameters())
    for part in ("text_encoder", "unet"):
        next(iter((folder / part).glob("*.safetensors"))).unlink()
        with pytest.raises(UserError, match="missing|no .safetensors"):
            load_pipeline(str(folder), "cpu")("a fox", num_inference_steps=1)
        assert any("to be opened" in need and "missing" in need for need in identify(folder).needs)


@pytest.mark.parametrize("kind", VARIANTS)
def test_half_precision_and_sharded_control_nets_open(tmp_path, sd15, kind):
    from diffusers import ControlNetModel, UNet2DConditionModel

    from muybridge.models.vision.control import open_control_net
    from muybridge.opening.identify import identify

    net = ControlNetModel.from_unet(
        UNet2DConditionModel.from_pretrained(sd15 / "unet"), conditioning_embedding_out_channels=(8, 16)
    )
    net.save_pretrained(tmp_path / "net")
    as_variant(tmp_path / "net", kind, "diffusion_pytorch_model")
    opened = open_control_net(tmp_path / "net")
    for (name, a), b in zip(net.state_dict().items(), opened.state_dict().values(), strict=True):
        assert torch.allclose(a, b, atol=1e-2 if kind == "bf16" else 1e-3), name
    assert identify(tmp_path / "net").needs == []


def test_models_import_checks_what_opening_checks(tmp_path):
    """Weights that opening refuses, by name and shape, are told before."""
    from muybridge.opening.identify import identify

    folder = user_folders.stable_diffusion(tmp_path / "sd")
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    for damage, said in (
        ({k: v for k, v in weights.items() if k != "conv_in.bias"}, "1 tensors are missing"),
        ({**weights, "conv_in.bias": torch.zeros(3)}, r"conv_in.bias is \(3,\) in its weights"),
        ({**weights, "else": torch.zeros(3)}, "else stands in its weights"),
    ):
        save_file(damage, file)
        (need,) = identify(folder).needs
        with pytest.raises(UserError, match=said) as refused:
            load_pipeline(str(folder), "cpu")
        assert need == f"to be opened: {refused.value}"


def test_models_import_asks_for_nothing_that_is_not_needed(sd15, svd):
    from muybridge.opening.identify import identify

    assert identify(sd15).needs == [] and identify(svd).needs == []
    assert "animate --model" in identify(svd).used_by


# --- training behind a user's model ---------------------------------------------------------------------------------

SYSTEMS = {
    "video_ldm": {},
    "control_net": {"structure": "edges"},
    "tune_a_video": {},
    "gen1": {"structure": "edges"},
}


def recipe_behind(folder, system, **diffusion):
    text = None if system == "gen1" else TextConfig(str(folder / "text_encoder"), 77)
    return Recipe(
        name="behind", system=system, model={"image": str(folder), **SYSTEMS[system]}, text=text, diffusion=diffusion,
        data={"source": "world", "height": 16, "width": 16, "num_frames": 4, "num_clips": 4},
        training=TrainingConfig(
            steps=1, batch_size=2, warmup_steps=0, checkpoint_every=1, validate_every=1, validation_clips=2,
            sample_every=0,
            threads=1,
        ),
        sampling={"num_frames": 4, **SIZE, "num_inference_steps": 2, "threshold": "none"},
    )  # fmt: skip


@pytest.mark.parametrize("system", SYSTEMS)
def test_training_behind_an_epsilon_model_learns_epsilon_on_its_table(sd15, system):
    made = make_system(recipe_behind(sd15, system))
    assert made.scheduler["prediction_type"] == "epsilon" and made.scheduler == scheduler_of(str(sd15))
    assert float(made.table.table[-1]) > -10  # no zero terminal SNR
    assert made.table.spacing == "leading" and made.table.steps_offset == 1


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize(
    "contradiction", [{"prediction_type": "v_prediction"}, {"rescale_betas_zero_snr": True}, {"steps_offset": 0}]
)
def test_a_recipe_that_contradicts_the_folder_is_refused(sd15, system, contradiction):
    with pytest.raises(UserError, match="was trained with|unknown key"):
        make_system(recipe_behind(sd15, system, scheduler=contradiction))
    make_system(recipe_behind(sd15, "video_ldm", scheduler={"beta_start": 0.00085}))  # what agrees may be said


def test_the_target_is_the_noise_itself(sd15):
    """A network that answers with the noise has no error; one that answers with v has."""
    from muybridge.learning.contract import TrainingBatch
    from muybridge.learning.draws import Draws

    system = make_system(recipe_behind(sd15, "video_ldm"))
    text = system_text(system)
    batch = TrainingBatch(torch.randn(2, 4, 4, 8, 8), text, 0, range(2), 2, 1, 0, null_text=text_row(text))
    draws = Draws(batch)
    draws.times()
    noise = draws.normal(batch.video.shape[1:])
    system.predict = lambda model, z, index, tokens, given: noise
    right = system.losses(None, batch)
    assert float(right.error.max()) == 0.0
    system.predict = lambda model, z, index, tokens, given: torch.zeros_like(z)
    wrong = system.losses(None, batch)
    assert torch.allclose(wrong.error, noise.square().flatten(1).mean(1)) and torch.equal(wrong.error, wrong.weighted)


def system_text(system):
    from muybridge.nn.text_conditioning import TextCondition

    return TextCondition(torch.randn(2, 1, 32), torch.randn(2, 1, 77, 32), torch.ones(2, 1, 77, dtype=torch.bool))


def text_row(text):
    from muybridge.nn.text_conditioning import TextCondition

    return TextCondition(text.pooled[:1, 0], text.tokens[:1, 0], text.mask[:1, 0])


def test_the_saved_video_model_says_what_it_learned_and_samples(sd15, tmp_path):
    model = Trainer(recipe_behind(sd15, "video_ldm"), tmp_path / "run").run()
    assert json.loads((model / "muybridge.json").read_text())["scheduler"]["prediction_type"] == "epsilon"
    pipeline = load_pipeline(str(model), "cpu")
    assert pipeline.prediction_type == "epsilon" and pipeline.table.spacing == "leading"
    assert np.isfinite(pipeline("a fox", seed=0).samples).all()


def test_tune_and_edit_with_a_relative_folder_work_from_another_one(sd15, tmp_path, monkeypatch):
    from muybridge.data.video_io import write_video

    monkeypatch.chdir(sd15.parent)
    frames = np.random.default_rng(0).integers(0, 255, (4, 16, 16, 3), dtype=np.uint8)
    write_video(frames, tmp_path / "clip.npy", 8.0, {})
    told = [
        "--caption",
        "a fox",
        "--folder",
        tmp_path / "tuned",
        "--model",
        sd15.name,
        "--train-steps",
        1,
        "--steps",
        2,
    ]
    done = CliRunner().invoke(app, [str(a) for a in ("tune", tmp_path / "clip.npy", *told, "--iterations", 1)])
    assert done.exit_code == 0, (done.output, done.exception)
    monkeypatch.chdir(tmp_path)
    edit = ["edit", str(tmp_path / "tuned" / "model"), "a cat", "-o", str(tmp_path / "e.npy")]
    done = CliRunner().invoke(app, edit)
    assert done.exit_code == 0, (done.output, done.exception)
    done = CliRunner().invoke(app, [*edit, "--steps", "3"])
    assert done.exit_code == 2 and "found in 2 steps" in " ".join(done.output.split())


# --- Stable Video ---------------------------------------------------------------------------------------------------


def in_double(network):
    """Its passes in float64: at the scale of sigma, float32's kernels differ by more from processor to processor than
    the pipelines do."""
    network.double()

    def turned(kind):
        return lambda x: x.to(kind) if isinstance(x, torch.Tensor) and x.is_floating_point() else x

    network.register_forward_pre_hook(lambda m, a, k: tree_map(turned(torch.float64), (a, k)), with_kwargs=True)
    network.register_forward_hook(lambda m, a, out: tree_map(turned(torch.float32), out))


@pytest.mark.slow
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_stable_video_folder_gives_diffusers_latents(svd, guidance, monkeypatch):
    theirs = StableVideoDiffusionPipeline.from_pretrained(svd, local_files_only=True)
    theirs.set_progress_bar_config(disable=True)
    pixels = (np.random.default_rng(0).random((64, 64, 3)) * 255).astype(np.uint8)
    start = Noise([0])((4, 4, 8, 8), "start")
    grain = Noise([0])((3, 1, 64, 64), "picture")[:, :, 0]
    monkeypatch.setattr(published, "randn_tensor", lambda shape, **k: grain)
    how = {"num_frames": 4, "height": 64, "width": 64, "num_inference_steps": 2}
    in_double(theirs.unet)
    expected = theirs(
        Image.fromarray(pixels), fps=7, motion_bucket_id=127, noise_aug_strength=0.02, latents=start.transpose(1,
        2).clone(),
        output_type="latent", min_guidance_scale=1.0, max_guidance_scale=guidance, **how,
    ).frames  # fmt: skip
    ours = load_pipeline(str(svd), "cpu")
    in_double(ours.network)
    assert ours.settings().num_frames == 4 and ours.settings().fps == 7
    picture = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1
    got = ours(picture, seed=0, guidance_scale=guidance, output="latents", **how).samples
    # theirs are carried at the scale of sigma, 700, in float32
    assert torch.allclose(got, expected.transpose(1, 2), atol=5e-4)


def test_animate_takes_the_folder(svd, tmp_path):
    Image.fromarray(np.full((70, 90, 3), 120, np.uint8)).save(tmp_path / "p.png")
    told = [
        "--model",
        svd,
        "--steps",
        1,
        "--height",
        64,
        "--width",
        64,
        "-o",
        tmp_path / "o.npy",
        "--first-guidance",
        1.5,
    ]
    done = CliRunner().invoke(app, [str(a) for a in ("animate", tmp_path / "p.png", *told)])
    assert done.exit_code == 0, (done.output, done.exception)
    assert read_video(tmp_path / "o.npy").frames.shape == (4, 64, 64, 3)


def test_a_folder_without_its_image_encoder_is_told(svd, tmp_path):
    import shutil

    shutil.copytree(svd, tmp_path / "svd")
    shutil.rmtree(tmp_path / "svd" / "image_encoder")
    with pytest.raises(UserError, match="image_encoder"):
        load_pipeline(str(tmp_path / "svd"), "cpu")
