"""Stable Video whole: text to video by stages, frames between two, and training behind a user's folder."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import UNetSpatioTemporalConditionModel
from safetensors.torch import load_file
from typer.testing import CliRunner

from muybridge.cli.main import app
from muybridge.errors import UserError
from muybridge.learning.contract import TrainingBatch
from muybridge.library.catalogue import LORA
from muybridge.making.base import Run
from muybridge.making.from_words import Generate
from muybridge.models.text.scorers import DualEncoder
from muybridge.nn.text_conditioning import TextCondition
from muybridge.opening.sampling import load_pipeline
from muybridge.systems.stable_video.training import StableVideo, put_earlier
from muybridge.training.recipe import Recipe, TrainingConfig
from muybridge.training.trainer import Trainer
from tests import user_folders
from tests.conftest import randomise
from tests.tiny_models import TEXT

HOW = {"height": 16, "width": 16, "num_inference_steps": 2, "guidance_scale": 2.0, "threshold": "none"}


@pytest.fixture
def scorer(tmp_path):
    DualEncoder(hidden=16, width=8).save_pretrained(tmp_path / "scorer")
    return str(tmp_path / "scorer")


def recipe_of(model, diffusion, frames, text=None, system="stable_video", side=16):
    return Recipe(
        name="stage", system=system, seed=2, model=model, diffusion=diffusion, text=text,
        data={"source": "world", "height": side, "width": side, "num_frames": frames, "num_clips": 4},
        training=TrainingConfig(
            steps=2, batch_size=2, learning_rate=1e-3, warmup_steps=0, checkpoint_every=2, validate_every=2,
            validation_clips=2, sample_every=2, threads=1,
        ),
        sampling={**HOW, "height": side, "width": side, "num_frames": frames, "fps": 8.0},
    )  # fmt: skip


def moved(trainer):
    """Names of the parameters that training changed."""
    trainer.prepare()
    before = {n: p.detach().clone() for n, p in trainer.model.named_parameters()}
    for step in range(2):
        trainer.step(step)
    return {n for n, p in trainer.model.named_parameters() if not torch.equal(p, before[n])}


@pytest.mark.slow
def test_the_stages_of_text_to_video(tmp_path, picture_model):
    """I trains pictures, first the time embedding alone; II and III everything; each starts from the one before."""
    given = {"image": str(picture_model)}
    first = {"task": "words", "images": True}
    changed = moved(Trainer(recipe_of(given, {**first, "trains": "time_embedding"}, 1, TEXT), tmp_path / "a"))
    assert changed and all(n.startswith("image.time_embedding.") for n in changed)
    whole = Trainer(recipe_of(given, first, 1, TEXT), tmp_path / "b")
    stage_1 = whole.run()
    assert all(n.startswith("image.") for n, _ in whole.system.trainable(whole.model))
    second = recipe_of({**given, "start": str(stage_1)}, {"task": "words", "p_mean": 0.5, "p_std": 1.4}, 4, TEXT)
    trainer = Trainer(second, tmp_path / "c")
    trainer.prepare()
    kept = load_file(stage_1 / "network" / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(v, kept[n]) for n, v in trainer.model.state_dict().items())
    stage_2 = Trainer(second, tmp_path / "c").run()
    pipeline = load_pipeline(str(stage_2), "cpu")
    drawn = pipeline("a red circle", seed=1, **HOW).samples
    assert drawn.shape == (1, 3, 4, 16, 16)
    for other in ({"motion_bucket": 250.0}, {"negative_prompt": "blue"}, {"fps": 3.0}):
        assert not torch.allclose(pipeline("a red circle", seed=1, **HOW, **other).samples, drawn, atol=1e-5), other
    out = tmp_path / "o.npy"
    done = CliRunner().invoke(
        app, ["generate", "a red circle", "--model", str(stage_2), "--steps", "1", "-o", str(out)]
    )
    assert done.exit_code == 0 and "measured peak" in done.output, (done.output, done.exception)
    run = Run(pipeline, str(stage_2), seed=1, settings=HOW)
    still, lively = (Generate(prompt="a red circle", motion=bucket).make(run).frames for bucket in (0.0, 255.0))
    assert not np.array_equal(still, lively)


@pytest.mark.slow
def test_frames_between_two(tmp_path, picture_model, scorer):
    """Nine input channels; the given frames come back; `upsample-fps` takes it."""
    given = {"image": str(picture_model), "scorer": scorer}
    trainer = Trainer(recipe_of(given, {"task": "interpolation", "p_mean": 1.0, "p_std": 1.2}, 5), tmp_path / "run")
    folder = trainer.run()
    assert trainer.model.image.config.in_channels == 9
    pipeline = load_pipeline(str(folder), "cpu")
    video = torch.rand(1, 3, 3, 16, 16) * 2 - 1
    made = pipeline.raise_video(video, seed=3, fps=16.0).samples
    assert made.shape[2] == 9 and torch.equal(made[:, :, ::4], video)
    other = pipeline.raise_video(torch.cat([video[:, :, :2], -video[:, :, 2:]], 2), seed=3, fps=16.0).samples
    assert torch.equal(other[:, :, :5], made[:, :, :5]) and not torch.equal(other[:, :, 5:8], made[:, :, 5:8])
    from muybridge.data.video_io import read_video, write_video
    from muybridge.nn.frames import to_uint8

    clip = write_video(to_uint8(video)[0], tmp_path / "clip.npy", 4.0, {})
    told = ["upsample-fps", clip, "--model", folder, "--steps", 1, "-o", tmp_path / "o.npy"]
    done = CliRunner().invoke(app, [str(a) for a in told])
    assert done.exit_code == 0, (done.output, done.exception)
    assert read_video(tmp_path / "o.npy").frames.shape == (9, 16, 16, 3)
    done = CliRunner().invoke(app, [str(a) for a in (*told, "--prompt", "a fox")])
    assert done.exit_code == 2 and "leave the prompt out" in " ".join(done.output.split())


@torch.no_grad()
def test_what_interpolation_is_told(picture_model, scorer):
    """{z_s, z_m, z_m, z_m, z_e}, a mask of 1, 0, 0, 0, 1, two embeddings; where latents are dropped all are hidden."""
    system = StableVideo({"image": str(picture_model), "scorer": scorer}, {"task": "interpolation", "drop": 0.2}, None)
    pixels, x = torch.rand(24, 3, 5, 16, 16) * 2 - 1, torch.randn(24, 4, 5, 8, 8)
    batch = TrainingBatch(x, None, 0, range(24), 24, 1, 0, pixels=pixels)
    _, _, told = system._draw(batch)
    mask = told["known_mask"].flatten(1)
    kept = mask.sum(1) > 0
    assert 0 < int(kept.sum()) < 24
    assert mask[kept].unique(dim=0).tolist() == [[1, 0, 0, 0, 1]]
    assert told["context"].shape == (24, 2, 384) and not told["known"][:, :, 1:4].any()
    off = (told["known"] * system.space.scale - x)[:, :, [0, -1]].flatten(1).std(1)
    torch.testing.assert_close(off, told["level"], rtol=0.2, atol=1e-3)
    net = randomise(system.build(), 0.05).eval()
    seen = []
    net.image.register_forward_pre_hook(lambda m, a: seen.append(a[0]))
    scalars = {n: torch.ones(24) for n in ("fps", "motion_bucket", "noise_augmentation")}
    given = {name: told[name] for name in ("known", "known_mask")}
    net(x, torch.zeros(24), told["context"], conditions={**scalars, **given})
    inputs = seen[0].unflatten(0, (24, 5)).transpose(1, 2)
    assert inputs.shape[1] == 9 and torch.equal(inputs[:, :4], x) and torch.equal(inputs[:, 8, :, 0, 0], mask)
    hidden = net.temporal.hidden[None, :, None, None].expand(24, -1, 8, 8)
    assert torch.allclose(inputs[:, 4:8, 2], hidden) and torch.allclose(inputs[kept, 4:8, 0], told["known"][kept, :, 0])


@torch.no_grad()
def test_dropped_words_and_a_later_stage_starts_as_the_earlier_one(picture_model, scorer):
    words = StableVideo({"image": str(picture_model)}, {"task": "words", "drop": 0.3}, TEXT)
    text = TextCondition(torch.ones(40, 1, 384), torch.ones(40, 1, 12, 384), torch.ones(40, 1, 12, dtype=torch.bool))
    null = TextCondition(torch.zeros(1, 384), torch.zeros(1, 12, 384), torch.ones(1, 12, dtype=torch.bool))
    batch = TrainingBatch(torch.randn(40, 4, 2, 8, 8), text, 0, range(40), 40, 1, 0, null_text=null)
    shares = words._draw(batch)[2]["context"].flatten(1).mean(1)
    assert set(shares.tolist()) == {0.0, 1.0} and 4 < int((shares == 0).sum()) < 20
    earlier = randomise(words.build(), 0.05).eval()
    later = StableVideo({"image": str(picture_model), "scorer": scorer}, {"task": "interpolation"}, None).build().eval()
    put_earlier(later, earlier.state_dict(), "x")
    x, told = torch.randn(1, 4, 5, 8, 8), {"fps": torch.tensor([7.0]), "motion_bucket": torch.tensor([9.0])}
    more = {"noise_augmentation": torch.tensor([0.3]), "known": torch.randn(1, 4, 5, 8, 8),
            "known_mask": torch.ones(1, 1, 5, 1, 1)}  # fmt: skip
    context = torch.randn(1, 2, 384)
    before = earlier(x, torch.tensor([0.2]), context, conditions=told).sample
    assert torch.allclose(later(x, torch.tensor([0.2]), context, conditions={**told, **more}).sample, before, atol=1e-5)
    with pytest.raises(UserError, match="is no earlier stage of this network"):
        put_earlier(earlier, later.state_dict(), "x")


def test_what_does_not_fit_is_refused(tmp_path, picture_model, scorer):
    image = {"image": str(picture_model)}
    for model, diffusion, text, said in (
        (image, {"task": "words"}, None, "trains on captions"),
        ({**image, "scorer": scorer}, {}, TEXT, "told a picture, not words"),
        (image, {"task": "interpolation"}, None, "model.scorer"),
        (image, {"task": "between"}, None, "between"),
    ):
        with pytest.raises(UserError, match=said):
            StableVideo(model, diffusion, text)
    svd = user_folders.stable_video(tmp_path / "svd")
    with pytest.raises(UserError, match="is told a picture"):
        StableVideo({"image": str(svd)}, {"task": "interpolation"}, None)


@pytest.mark.slow
def test_a_users_folder_trains_and_stays_diffusers(tmp_path):
    """The saved folder is one that diffusers loads, with our numbers; a camera LoRA behind it has diffusers' names, and
    diffusers' network with it merged gives what ours gives."""
    svd = user_folders.stable_video(tmp_path / "svd")
    recipe = recipe_of({"image": str(svd)}, {}, 3, side=64)
    folder = Trainer(replace(recipe, training=replace(recipe.training, sample_every=0)), tmp_path / "run").run()
    ours, theirs = load_pipeline(str(folder), "cpu"), UNetSpatioTemporalConditionModel.from_pretrained(folder / "unet")
    started = load_file(svd / "unet" / "diffusion_pytorch_model.safetensors")
    assert any(not torch.equal(v, started[n]) for n, v in theirs.state_dict().items())
    same_numbers(ours.network, theirs)
    camera = recipe_of({"base": str(svd), "rank": 2, "layers": "all"}, {}, 3, system="camera_lora", side=64)
    camera = replace(camera, training=replace(camera.training, sample_every=0, validate_every=100))
    file = Trainer(camera, tmp_path / "camera").run() / LORA
    weights = load_file(file)
    theirs, ours = UNetSpatioTemporalConditionModel.from_pretrained(svd / "unet"), load_pipeline(str(svd), "cpu")
    layers = {name.removeprefix("unet.").rpartition(".lora_")[0] for name in weights}
    assert any(".temporal_transformer_blocks.0.attn1.to_q" in n for n in layers)
    with torch.no_grad():
        for name in layers:
            down, up = (weights[f"unet.{name}.lora_{part}.weight"] for part in "AB")
            weight = theirs.get_submodule(name).weight
            weight += torch.einsum("or...,ri...->oi...", up.flatten(1), down) if down.ndim == 4 else up @ down
    ours.use_lora(file)
    same_numbers(ours.network, theirs)


@torch.no_grad()
def same_numbers(ours, theirs):
    torch.manual_seed(3)
    x, token, ids = torch.randn(1, 3, 8, 8, 8), torch.randn(1, 1, 32), torch.tensor([[6.0, 127.0, 0.02]])
    expected = theirs.eval()(x, torch.tensor([0.7]), token, ids).sample
    told = {n: ids[:, i] for i, n in enumerate(("fps", "motion_bucket", "noise_augmentation"))}
    got = ours(x.transpose(1, 2), torch.tensor([0.7]), token, conditions=told).sample.transpose(1, 2)
    assert torch.allclose(got, expected, atol=1e-4), (got - expected).abs().max()
