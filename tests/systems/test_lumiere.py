"""Lumiere: windows, masks, styles, training, and the commands (spec 11)."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from PIL import Image
from typer.testing import CliRunner

from muybridge.cli.main import app
from muybridge.data.video_io import read_recipe, read_video, write_video
from muybridge.diffusion.guidance import with_threshold
from muybridge.diffusion.noise import Noise
from muybridge.diffusion.samplers import sample_ddim
from muybridge.diffusion.windows import Windowed, averaged, sample_windowed, windowed, windows_of
from muybridge.errors import UserError
from muybridge.learning.contract import TrainingBatch
from muybridge.learning.draws import Draws
from muybridge.making.boxes import Box, parse_box
from muybridge.models.inflated_unet import InflatedUNet
from muybridge.opening.sampling import load_pipeline
from muybridge.pipelines.redraw import redraw
from muybridge.pipelines.style import interpolate_weights, parse_style
from muybridge.systems.lumiere.masks import box_mask, cinemagraph_mask, drawn_masks, image_mask, known_of, shrunk
from muybridge.systems.lumiere.pipeline import save_lumiere
from muybridge.systems.lumiere.training import Lumiere
from muybridge.training.recipe import Recipe, TrainingConfig
from muybridge.training.trainer import Trainer
from tests.conftest import randomise
from tests.systems.test_make_a_video import SR, WORLD, overfitted, recipe_of
from tests.tiny_models import PROMPT, SAMPLING, TEXT, UNET, save_latent_space, save_picture_model

F = 4


# --- windows over time (invariants 7 and 8) -------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "overlap"), [(8, 2), (8, 0), (5, 2), (30, 2)])
def test_7_windows_are_averaged_by_least_squares(size, overlap):
    z = torch.randn(1, 2, 21, 3, 3, dtype=torch.float64)
    windows = windows_of(21, size, overlap)
    assert len(windows) == (1 if size >= 21 else -(-(21 - overlap) // (size - overlap)))
    said = [torch.randn(1, 2, w.stop - w.start, 3, 3, dtype=torch.float64) for w in windows]
    best = averaged(said, windows, z)
    rest = torch.zeros_like(z)
    for w, part in zip(windows, said, strict=True):
        rest[:, :, w] += best[:, :, w] - part
    assert rest.abs().max() < 1e-12  # the gradient of the sum of squares is zero there
    assert torch.allclose(averaged(said[::-1], windows[::-1], z), best, atol=1e-12)  # in any order
    counts = averaged([torch.ones_like(p) for p in said], windows, z)
    assert torch.equal(counts, torch.ones_like(z))  # every frame is covered
    whole = windowed(lambda w: lambda z, lam: z.cumsum(2), 21, 21, 2)
    assert torch.equal(whole(z, torch.zeros(1)), z.cumsum(2))  # one window is plain sampling to the last bit


def test_8_averaging_outputs_or_samples():
    """The same for DDIM without clipping, and not with it."""
    z, lams = torch.randn(1, 2, 11, 3, 3, dtype=torch.float64), torch.linspace(-6, 8, 9, dtype=torch.float64)

    def denoise_in(window, clip):
        def denoise(z, lam):
            x = 1.5 * z.cumsum(2) / torch.arange(1.0, z.shape[2] + 1).reshape(-1, 1, 1)
            return x.clamp(-1, 1) if clip else x

        return denoise

    for clip in (False, True):
        by = Windowed(lambda w, clip=clip: denoise_in(w, clip), windows_of(11, 5, 2))
        *_, outputs = sample_ddim(by, z, lams)
        *_, samples = sample_windowed(by, z, lams)
        # each window clipped, then averaged: what differs is where the clip of the whole estimate comes
        after = Windowed(lambda w: denoise_in(w, False), windows_of(11, 5, 2))
        *_, clipped = sample_ddim(with_threshold(after, "static" if clip else "none"), z, lams)
        assert torch.allclose(outputs.z, samples.z, atol=1e-9)
        assert torch.allclose(clipped.z, samples.z, atol=1e-9) == (not clip)


# --- masks (invariant 11) -------------------------------------------------------------------------------------------


def test_masks():
    assert image_mask(3, 2, 2).sum((0, 2, 3)).tolist() == [4, 0, 0]
    region = torch.zeros(4, 4, dtype=torch.bool)
    region[1:3, :2] = True
    mask = cinemagraph_mask(region.expand(3, -1, -1))[0]
    assert (mask[0] == 1).all() and torch.equal(mask[1:] == 0, region.expand(2, -1, -1))
    assert box_mask(2, 4, 6, (1, 2, 4, 3)).sum() == 2 * 3 and box_mask(2, 4, 6, (1, 2, 4, 3))[0, 1, 2, 1:4].all()
    small = shrunk(cinemagraph_mask(region.expand(3, -1, -1))[None], 2)
    assert small[0, 0, 1].tolist() == [[0, 1], [0, 1]]  # given only where all of its pixels are
    batch = TrainingBatch(torch.zeros(400, 1), None, 0, range(400), 400, 1, 0)
    rows = drawn_masks(Draws(batch, "mask"), (3, 8, 12), {"text": 1, "image": 1, "inpaint": 1, "outpaint": 1})[:, 0]
    shares = rows.mean((1, 2, 3))
    kinds = {"text": shares == 0, "image": torch.isclose(shares, torch.tensor(1 / 3)) & (rows[:, 1] == 0).all(2).all(1)}
    boxed = ~kinds["text"] & ~kinds["image"]
    assert all(60 < int(k.sum()) < 140 for k in kinds.values())
    assert torch.equal(rows[boxed][:, 0], rows[boxed][:, 2]) and ((rows == 0) | (rows == 1)).all()
    corner = rows[boxed][:, 0, 0, 0].mean()
    assert 0.2 < corner < 0.8  # boxes are given as often as their surroundings
    only = drawn_masks(Draws(batch, "mask"), (3, 8, 12), {"image": 1.0})
    assert torch.equal(only[7], image_mask(3, 8, 12))


def test_boxes():
    assert parse_box("a mask.png") is None and parse_box("1,2,x,4") is None
    assert Box(0.25, 0.5, 1, 1).within(8, 16) == (4, 4, 16, 8) and Box(2, 3, 40, 5).within(8, 16) == (2, 3, 16, 5)
    for text in ("1,2,3", "3,0,1,5", "-1,0,1,1", "0,0,nan,1"):
        with pytest.raises(UserError, match="LEFT,TOP,RIGHT,BOTTOM"):
            parse_box(text)
    with pytest.raises(UserError, match="nothing of a picture of 16x8"):
        Box(20, 0, 30, 5).within(8, 16)


# --- styles (invariant 9) -------------------------------------------------------------------------------------------


@torch.no_grad()
def test_9_styles_move_the_spatial_weights_alone_and_linearly():
    own, style = (randomise(UNet2DConditionModel(**UNET), s) for s in (0.05, 0.1))
    found = {}
    for weight in (0.0, 0.25, 0.5, 1.0):
        torch.manual_seed(0)
        video = InflatedUNet.from_image_model(own, {"type": "lumiere", "levels": 1, "layers": 1, "known_channels": 4})
        randomise(video.temporal, 0.1)
        interpolate_weights(video.image, style, weight)
        found[weight] = video.state_dict()
    for name, start in found[0.0].items():
        if name.startswith("temporal."):
            assert all(torch.equal(start, f[name]) for f in found.values())
            continue
        leaf = name.removeprefix("image.")
        end = style.state_dict()[leaf]
        if leaf == "conv_in.weight":  # what known frames come in by is not the style's
            assert all((f[name][:, 4:] == 0).all() for f in found.values())
            found = {k: {**f, name: f[name][:, :4]} for k, f in found.items()}
            start = found[0.0][name]
        assert torch.equal(start, own.state_dict()[leaf]) and torch.equal(found[1.0][name], end)
        assert torch.allclose(found[0.25][name], 0.75 * start + 0.25 * end, atol=1e-6)
        assert torch.allclose(found[0.5][name] - start, 2 * (found[0.25][name] - start), atol=1e-6)
    other = UNet2DConditionModel(**{**UNET, "block_out_channels": (16, 48)})
    with pytest.raises(UserError, match="the style's"):
        interpolate_weights(video.image, other, 0.5)
    with pytest.raises(UserError, match=r"0\.\.1"):
        parse_style("emoji-image:1.5")
    with pytest.raises(UserError, match="neither a picture model's folder nor a LoRA"):
        parse_style("nothing-there:0.5")


# --- training and sampling ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A base model of words and given parts, and super-resolution of pictures and in windows over time."""
    folder = tmp_path_factory.mktemp("lumiere")
    torch.manual_seed(0)
    vae = save_latent_space(folder / "vae")
    for name, std in (("picture", 0.05), ("style", 0.07)):
        save_picture_model(folder / name, vae, std)
    base = Recipe(
        name="base", system="lumiere", text=TEXT, data={**WORLD, "num_frames": F},
        model={"image": str(folder / "picture"), "temporal": {"levels": 1, "layers": 1}},
        diffusion={"tasks": {"text": 1, "image": 1, "inpaint": 1, "outpaint": 1}},
        training=TrainingConfig(
            steps=2, batch_size=2, learning_rate=1e-3, warmup_steps=0, checkpoint_every=1, validate_every=2,
            validation_clips=2, sample_every=0, log_every=1, ema=0.0, threads=1,
        ),
        sampling={"num_inference_steps": 2, "threshold": "none", "num_frames": F, "height": 16, "width": 16},
    )  # fmt: skip
    recipes = {
        "base": base,
        "sr": recipe_of("sr", "lumiere_sr", SR, 1, size=32),
        "sr-time": recipe_of(
            "sr-time", "lumiere_sr", {"image": str(folder / "sr/model"), "temporal": {"levels": 1, "layers": 1}}, F,
            size=32, window=4, overlap=2,
        ),
    }  # fmt: skip
    trainers = {}
    for name, recipe in recipes.items():
        trainers[name] = Trainer(recipe, folder / name)
        trainers[name].run()
    save_lumiere([folder / "base/model", folder / "sr-time/model"], folder / "whole")
    return folder, recipes, trainers


@pytest.mark.parametrize("name", ["base", "sr-time"])
def test_5_frozen_layers_stay_bit_for_bit(trained, name):
    trainer = trained[2][name]
    before, after = trainer.system.build().state_dict(), trainer.accelerator.unwrap_model(trainer.model).state_dict()
    moved = {n for n in before if not torch.equal(before[n], after[n].cpu())}
    inputs = {"image.conv_in.weight", "image.conv_in.bias"} if name == "base" else set()
    assert {n for n in moved if n.startswith("image.")} == inputs
    assert any(n.startswith("temporal.downs") for n in moved)
    if name == "base":
        saved = {
            p.relative_to(trained[0] / "base/model").as_posix() for p in (trained[0] / "base/model").rglob("*.s*s")
        }
        files = {"temporal/diffusion_pytorch_model.safetensors", "image/diffusion_pytorch_model.safetensors"}
        assert files <= saved | {"vocabulary.safetensors"}


@pytest.mark.parametrize("name", ["base", "sr", "sr-time"])
def test_each_network_learns_a_batch_by_heart(trained, name):
    first, last = overfitted(trained[2][name])
    assert last < 0.8 * first, (first, last)


def test_a_run_goes_on_where_it_stopped(trained, tmp_path):
    folder, recipes, _ = trained
    Trainer(recipes["base"], tmp_path / "half").run(until=1)
    Trainer(recipes["base"], tmp_path / "half").run()
    for part in ("temporal", "image"):
        name = f"model/{part}/diffusion_pytorch_model.safetensors"
        assert (tmp_path / "half" / name).read_bytes() == (folder / "base" / name).read_bytes()


def lived(folder):
    pipeline = load_pipeline(str(folder), "cpu")
    randomise(pipeline.network, 0.05)
    return pipeline


@torch.no_grad()
def test_11_and_what_is_given_comes_back(trained):
    pipeline = lived(trained[0] / "base/model")
    video = torch.rand(1, 3, F, 16, 16) * 2 - 1
    mask = 1 - box_mask(F, 16, 16, (4, 4, 12, 12))[None]
    told = known_of(pipeline.space, video, mask)
    assert (told["known"][told["known_mask"].expand_as(told["known"]) == 0] == 0).all() and told["known"].any()
    made = pipeline.fill(video, mask, PROMPT, seed=1).samples
    assert torch.equal(made[mask.expand_as(made) > 0], video[mask.expand_as(made) > 0])
    hidden = torch.where(mask > 0, video, torch.rand_like(video))
    assert torch.equal(pipeline.fill(hidden, mask, PROMPT, seed=1).samples, made)
    drawn = pipeline.fill(video, mask, PROMPT, seed=1, keep=False).samples
    inside = (mask == 0).expand_as(made)
    assert torch.equal(drawn[inside], made[inside]) and not torch.allclose(drawn, made, atol=1e-2)
    seen = torch.where(mask > 0, -video, video)
    assert not torch.allclose(pipeline.fill(seen, mask, PROMPT, seed=1).samples[inside], made[inside], atol=1e-4)
    bare = pipeline(PROMPT, seed=1).samples  # 10: nothing given is the model of words
    assert torch.allclose(pipeline.fill(video, mask * 0, PROMPT, seed=1).samples, bare, atol=1e-5)
    with pytest.raises(UserError, match=r"5 frames.*levels"):
        pipeline(PROMPT, num_frames=5)
    words = Lumiere({"image": str(trained[0] / "picture"), "temporal": {"levels": 1}}, {}, TEXT)
    with pytest.raises(UserError, match="words alone"):
        words.pipeline(words.build(), SAMPLING).fill(video, mask)


@torch.no_grad()
def test_cinemagraph_stands_still_outside(trained):
    pipeline = lived(trained[0] / "base/model")
    picture = (torch.rand(1, 3, 1, 16, 16) * 2 - 1).expand(-1, -1, F, -1, -1)
    region = torch.zeros(16, 16, dtype=torch.bool)
    region[8:] = True
    made = pipeline.fill(picture, cinemagraph_mask(region.expand(F, -1, -1))[None], "", seed=1).frames[0].astype(float)
    assert made[:, ~region.numpy()].var(0).max() == 0 and made[:, region.numpy()].var(0).max() > 1


@torch.no_grad()
def test_12_sdedit(trained):
    pipeline = lived(trained[0] / "base/model")
    one, other = (torch.rand(1, 3, F, 16, 16) * 2 - 1 for _ in range(2))
    assert torch.equal(redraw(pipeline, one, PROMPT, 0.0).samples, one)
    assert float(pipeline.levels(2)[0]) == -torch.inf  # terminal SNR zero
    whole = [redraw(pipeline, v, PROMPT, 1.0, seed=2).samples for v in (one, other)]
    assert torch.allclose(*whole, atol=1e-5)
    half = [redraw(pipeline, v, PROMPT, 0.5, seed=2).samples for v in (one, other)]
    assert not torch.allclose(*half, atol=1e-3)


@torch.no_grad()
def test_super_resolution_in_windows(trained):
    pipeline = lived(trained[0] / "sr-time/model")
    video = torch.rand(1, 3, 10, 16, 16) * 2 - 1
    made = pipeline.raise_video(video, seed=1).samples
    assert made.shape == (1, 3, 10, 32, 32)
    pipeline.making = replace(pipeline.making, average="sample")
    stepped = pipeline.raise_video(video, seed=1).samples
    assert torch.allclose(stepped, made, atol=1e-4)  # DDIM without clipping
    clipped = [
        pipeline.raise_video(video, seed=1, threshold="static").samples
        for pipeline.making in (pipeline.making, replace(pipeline.making, average="output"))
    ]
    assert not torch.allclose(*clipped, atol=1e-4)
    pipeline.making = replace(pipeline.making, average="sample")
    with pytest.raises(UserError, match="sampler ddim"):
        pipeline.raise_video(video, sampler="dpmpp_2m")
    with pytest.raises(UserError, match="reuse goes with average output"):
        pipeline.raise_video(video, reuse=0.5)
    pipeline.making = replace(pipeline.making, average="output", window=0)
    whole = pipeline.raise_video(video, seed=1).samples
    pipeline.making = replace(pipeline.making, window=12)
    assert torch.equal(pipeline.raise_video(video, seed=1).samples, whole)  # 7 (b)
    assert not torch.allclose(whole, made, atol=1e-4)
    assert torch.equal(Noise([1])((3, 10, 32, 32), "start"), Noise([1])((3, 10, 32, 32), "start"))


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_commands(trained, tmp_path):
    whole = trained[0] / "whole"
    noise = np.random.default_rng(0)
    write_video((noise.random((F, 16, 16, 3)) * 255).astype(np.uint8), tmp_path / "x.npy", 8)
    out = tmp_path / "out.mp4"
    done = run("generate", PROMPT, "--model", whole, "-o", out, "--style", f"{trained[0] / 'style'}:0.6")
    assert done.exit_code == 0, done.output
    assert read_video(out).frames.shape == (F, 32, 32, 3) and "style:0.6" in read_recipe(out)["options"]["style"]
    again = run("replay", out)
    assert again.exit_code == 0 and "the same" in again.output, again.output
    plain = run("generate", PROMPT, "--model", whole, "-o", tmp_path / "plain.npy")
    styled = run(
        "generate", PROMPT, "--model", whole, "-o", tmp_path / "s.npy", "--style", f"{trained[0] / 'style'}:0.6"
    )
    assert plain.exit_code == styled.exit_code == 0
    assert not np.array_equal(read_video(tmp_path / "plain.npy").frames, read_video(tmp_path / "s.npy").frames)
    out = tmp_path / "in.mp4"
    done = run("inpaint", tmp_path / "x.npy", "--mask", "0,0,.5,1", "--model", whole, "--prompt", PROMPT, "-o", out)
    assert done.exit_code == 0, done.output
    assert read_video(out).frames.shape == (F, 32, 32, 3)
    again = run("replay", out)
    assert again.exit_code == 0 and "the same" in again.output, again.output
    white = np.zeros((16, 16, 3), np.uint8)
    white[4:8] = 255
    Image.fromarray(white).save(tmp_path / "mask.png")
    base, given = trained[0] / "base/model", read_video(tmp_path / "x.npy").frames
    for outside in (False, True):
        done = run(
            "inpaint", tmp_path / "x.npy", "--mask", tmp_path / "mask.png", "--model", base, "-o", tmp_path / "y.npy",
            *(["--outside"] if outside else []),
        )  # fmt: skip
        assert done.exit_code == 0, done.output
        same = (read_video(tmp_path / "y.npy").frames == given).all(-1)
        assert same[:, (white[..., 0] > 0) == outside].all() and not same.all()
        (tmp_path / "y.npy").unlink()
    Image.fromarray(given[0]).save(tmp_path / "p.png")
    done = run("cinemagraph", tmp_path / "p.png", "--region", "0,8,16,16", "--model", base, "-o", tmp_path / "c.npy")
    assert done.exit_code == 0, done.output
    moving = read_video(tmp_path / "c.npy").frames
    assert moving.shape == (F, 16, 16, 3) and (moving[:, :8] == given[0, :8]).all() and (moving[0] == given[0]).all()
    for arguments, words in (
        (("inpaint", tmp_path / "x.npy", "--mask", "0,0,1,1"), "leaves nothing that stays"),
        (("inpaint", tmp_path / "x.npy", "--mask", "nothing.png", "--model", base), "no file is there"),
        (("inpaint", tmp_path / "x.npy", "--mask", "9,0,1,1", "--model", base), "LEFT,TOP,RIGHT,BOTTOM"),
        (("cinemagraph", tmp_path / "p.png", "--region", "0,0,1,1", "--model", "emoji-video"), "not told parts"),
        (("generate", "a", "--style", "emoji-image:2", "--model", base), "0..1"),
        (("generate", "a", "--style", "emoji-image:1", "--model", trained[0] / "sr/model"), "does not draw from words"),
    ):  # fmt: skip
        done = run(*arguments, "-o", tmp_path / "no.npy")
        assert done.exit_code == 2 and words in " ".join(done.output.split()), (arguments, done.output)


def test_errors(trained):
    folder = trained[0]
    with pytest.raises(UserError, match="all shares are 0"):
        Lumiere({"image": str(folder / "picture")}, {"tasks": {"text": 0.0}}, TEXT)
    with pytest.raises(UserError, match="did you mean 'inpaint'"):
        Lumiere({"image": str(folder / "picture")}, {"tasks": {"inpain": 1.0}}, TEXT)
    with pytest.raises(UserError, match="base model comes first"):
        save_lumiere([folder / "sr-time/model"], folder / "wrong")
    assert json.loads((folder / "whole/muybridge.json").read_text())["stages"] == ["base", "2-larger"]
