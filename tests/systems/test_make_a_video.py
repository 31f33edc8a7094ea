"""Make-A-Video: rates, masks, what each network is told, training stage behind stage, and the whole (spec 05)."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from muybridge.cli.main import app
from muybridge.data.video_io import read_recipe, read_video, write_video
from muybridge.errors import UserError
from muybridge.learning.contract import TrainingBatch
from muybridge.learning.draws import Draws
from muybridge.library.parts import load_network_weights
from muybridge.models.image_projection import ImageProjection, open_projection
from muybridge.models.inflated_unet import InflatedUNet
from muybridge.models.text.prior import ContentPrior
from muybridge.models.weights.packaged import WEIGHTS
from muybridge.nn.factorised import TemporalAttention
from muybridge.nn.temporal_convolution import FrameConvolution
from muybridge.opening.sampling import load_pipeline
from muybridge.systems.make_a_video.masks import (
    TASKS,
    drawn_masks,
    extrapolation_mask,
    interpolation_mask,
    target_frames,
)
from muybridge.systems.make_a_video.rates import Rates, at_drawn_rates
from muybridge.systems.make_a_video.training import MakeAVideo, MakeAVideoSR
from muybridge.systems.make_a_video.whole import save_make_a_video
from muybridge.training.recipe import Recipe, TrainingConfig
from muybridge.training.trainer import Trainer
from tests.conftest import randomise, some_text
from tests.tiny_models import TEXT, save_latent_space, save_picture_model

WORLD = {"source": "world", "height": 16, "width": 16, "num_clips": 8, "fps": 24.0}
SR = {
    "sample_size": 32, "block_out_channels": [8, 16], "layers_per_block": 1, "norm_num_groups": 4,
    "down_block_types": ["DownBlock2D", "DownBlock2D"], "up_block_types": ["UpBlock2D", "UpBlock2D"],
}  # fmt: skip


def batch_of(video, fps, loops=False, step=0):
    rows = range(len(video))
    return TrainingBatch(video, None, 0, rows, len(video), 1, step, scalars={"fps": torch.tensor(fps)}, loops=loops)


def test_rates_go_from_high_to_low_and_strides_follow():
    rates = Rates(1, 30, 4, 1, 100)
    assert [rates.exponent(s) for s in (0, 50, 100, 1000)] == [4.0, 2.5, 1.0, 1.0]
    batch = batch_of(torch.zeros(4000, 1, 2, 1, 1), [30.0] * 4000)
    for step, mean in ((0, 1 + 29 * 4 / 5), (50, 1 + 29 * 2.5 / 3.5), (100, 15.5)):  # E[Beta(a, 1)] = a / (a + 1)
        assert abs(float(rates.wanted(Draws(batch, "rate"), step).mean()) - mean) < 0.5
    assert rates.strides(30.0, 31, 4, False) == list(range(1, 11))
    assert rates.strides(60.0, 100, 4, False)[0] == 2  # 60 frames a second are more than were asked for
    assert rates.strides(4.0, 9, 8, False) == [1] and rates.strides(4.0, 9, 8, True) == [1, 2, 3, 4]
    with pytest.raises(UserError, match="8 frames at 1 to 30 frames a second cannot be taken from clips of 7"):
        rates.strides(4.0, 7, 8, False)


@pytest.mark.parametrize("loops", [False, True])
def test_what_is_told_is_the_rate_of_what_is_seen(loops):
    index = torch.arange(31.0).reshape(1, 1, 31, 1, 1).expand(64, 2, -1, 4, 4)
    x, fps, places = at_drawn_rates(batch_of(index, [24.0] * 64, loops, 100), 4, Rates(1, 30, 4, 1, 100))
    assert x.shape == (64, 2, 4, 4, 4) and torch.equal(x[:, 0, :, 0, 0].long(), places)
    strides = places.diff(dim=1) % 31
    assert (strides == strides[:, :1]).all()
    assert torch.allclose(fps, 24.0 / strides[:, 0]) and len(fps.unique()) > 3
    assert loops or (places.diff(dim=1) > 0).all()
    assert len(places[:, 0].unique()) > 10
    whole, own, _ = at_drawn_rates(batch_of(index, [24.0] * 64), 0, Rates())
    assert torch.equal(whole, index) and (own == 24).all()


def test_6_masks():
    assert target_frames(16, 5) == 76
    mask = interpolation_mask(76, 5)
    assert mask.nonzero()[:, 0].tolist() == list(range(0, 76, 5))
    assert extrapolation_mask(5, 2).tolist() == [1, 1, 0, 0, 0]
    assert extrapolation_mask(5, 2, True).tolist() == [0, 0, 0, 1, 1]
    with pytest.raises(UserError, match="a skip of 4 does not end at the last of 8 frames: it must divide 7"):
        interpolation_mask(8, 4)
    draws = Draws(batch_of(torch.zeros(300, 1, 1, 1, 1), [1.0] * 300), "mask")
    rows = drawn_masks(draws, 7, {"interpolation": 1.0, "extrapolation": 1.0, "animation": 1.0}, (2, 3))[:, 0, :, 0, 0]
    seen = {tuple(r.long().tolist()) for r in rows}
    assert {(1, 0, 1, 0, 1, 0, 1), (1, 0, 0, 1, 0, 0, 1), (1, 0, 0, 0, 0, 0, 0), (0, 0, 0, 0, 0, 0, 1)} <= seen
    assert len(seen) == 2 + 2 * 6  # two skips, one to six frames at either end
    alone = drawn_masks(Draws(batch_of(torch.zeros(50, 1, 1, 1, 1), [1.0] * 50)), 7, {"animation": 1.0}, (2,))
    assert (alone.sum(2) == 1).all() and (alone[:, 0, 0] == 1).all()


def recipe_of(name, system, model, frames, steps=2, size=16, sampling=None, **diffusion):
    return Recipe(
        name=name, system=system, model=model, data={**WORLD, "height": size, "width": size, "num_frames": frames},
        diffusion=diffusion,
        training=TrainingConfig(
            steps=steps, batch_size=2, learning_rate=1e-3, warmup_steps=0, checkpoint_every=1, validate_every=steps,
            validation_clips=2, sample_every=steps, log_every=1, ema=0.0, threads=1,
        ),
        sampling={
            "num_inference_steps": 2, "threshold": "none", "height": size, "width": size, "fps": 8.0,
            **(sampling or {}),
        },
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Every network, each trained for two steps behind the one before."""
    folder = tmp_path_factory.mktemp("make-a-video")
    torch.manual_seed(0)
    save_picture_model(folder / "picture", save_latent_space(folder / "vae"))
    randomise(ContentPrior(width=256, hidden=16)).save_pretrained(folder / "prior")
    randomise(ImageProjection(hidden=16, tokens=3), 0.3).save_pretrained(folder / "projection")
    start = {"image": str(folder / "picture"), "scorer": "emoji-clip", "prior": str(folder / "prior")}
    recipes = {
        "image": recipe_of("image", "make_a_video", start, 2, stage="image", sampling={"num_frames": 1}),
        "video": recipe_of(
            "video", "make_a_video", {"decoder": str(folder / "image/model")}, 9, stage="video", num_frames=3,
            sampling={"num_frames": 3},
        ),
        "between": recipe_of(
            "between", "make_a_video", {"decoder": str(folder / "video/model")}, 9, stage="between", num_frames=5,
            skips=[2], sampling={"num_frames": 5},
        ),
        "sr": recipe_of("sr", "make_a_video_sr", SR, 1, size=32, sampling={"noise_correlation": 1.0}),
        "sr-time": recipe_of(
            "sr-time", "make_a_video_sr", {"image": str(folder / "sr/model")}, 4, size=32, window=3, overlap=1
        ),
    }  # fmt: skip
    trainers = {}
    for name, recipe in recipes.items():
        trainers[name] = Trainer(recipe, folder / name)
        trainers[name].run()
    return folder, recipes, trainers


@pytest.mark.parametrize("name", ["video", "between", "sr-time"])
def test_frozen_layers_stay_bit_for_bit(trained, name):
    trainer = trained[2][name]
    before, after = trainer.system.build().state_dict(), trainer.accelerator.unwrap_model(trainer.model).state_dict()
    moved = {n for n in before if not torch.equal(before[n], after[n].cpu())}
    pictures = {n for n in moved if n.startswith("image.")}
    assert pictures == ({"image.conv_in.weight", "image.conv_in.bias"} if name == "between" else set())
    assert any(n.startswith("temporal.convolutions") for n in moved)
    assert trainer.counts["trainable"] < sum(v.numel() for v in before.values())


@pytest.mark.parametrize(("projected", "stages"), [(False, 1), (True, 3)])
def test_a_decoder_that_was_only_taught_to_read_is_kept_without_the_picture_model(
    trained, tmp_path, caplog, projected, stages
):
    folder, recipes, _ = trained
    start = {**recipes["image"].model, "adapted": "reading"}
    if projected:
        start |= {"projection": str(folder / "projection")}
    told = {
        "image": replace(recipes["image"], model=start),
        "video": replace(recipes["video"], model={"decoder": str(tmp_path / "image/model")}),
        "between": replace(recipes["between"], model={"decoder": str(tmp_path / "video/model")}),
    }
    own = load_pipeline(str(folder / "picture")).network.state_dict()
    for name, recipe in list(told.items())[:stages]:
        trainer = Trainer(recipe, tmp_path / name)
        made = trainer.run()
        assert not (made / "network").exists()
        kept = trainer.accelerator.unwrap_model(trainer.model).state_dict()
        again = load_pipeline(str(made)).network.state_dict()  # what is not there comes from the picture model
        assert not caplog.records
        assert load_pipeline(str(made), precision="bf16").network.dtype == torch.bfloat16
        started = trainer.system.build()
        load_network_weights(started, str(made))  # as training.start_from does
        for state in (again, started.state_dict()):
            assert state.keys() == kept.keys() and all(torch.equal(state[n], kept[n].cpu()) for n in state)
        picture = {n.removeprefix("image."): v for n, v in again.items() if not n.startswith("temporal.")}
        assert picture.keys() == own.keys()
        moved = {n for n, v in own.items() if picture[n].shape != v.shape or not torch.equal(picture[n], v)}
        assert any("attn2.to_v" in n for n in moved) and "down_blocks.0.resnets.0.conv1.weight" not in moved
        assert ("conv_in.weight" in moved) == (name == "between")
        (made / "image" / WEIGHTS).rename(tmp_path / "away")  # a decoder that was never taught would open
        with pytest.raises(UserError, match="image"):
            load_pipeline(str(made))
        (tmp_path / "away").rename(made / "image" / WEIGHTS)
    with pytest.raises(UserError, match="model.adapted: the decoder has 'reading', got 'all'; leave it out"):
        MakeAVideo({**told["video"].model, "adapted": "all"}, {"stage": "video"}, None)
    if projected:
        said = load_pipeline(str(made)).told(torch.nn.functional.normalize(torch.randn(1, 256), dim=1), 8.0).text.tokens
        assert said.shape == (1, 3, 384)  # what frame interpolation is told follows from the first stage
        with pytest.raises(UserError, match="model.projection: the decoder has .*projection', got 'other'"):
            MakeAVideo({**told["video"].model, "projection": "other"}, {"stage": "video"}, None)


@torch.no_grad()
def test_an_embedding_in_the_words_of_the_picture_model(trained, tmp_path):
    """What the projection says of it, and of zero where it is not told."""
    folder, recipes, _ = trained
    recipe, own = recipes["image"], open_projection(folder / "projection")
    system = MakeAVideo({**recipe.model, "projection": str(folder / "projection")}, recipe.diffusion, None)
    telling = system.telling(system.build())
    embedding = torch.nn.functional.normalize(torch.randn(2, 256), dim=1)
    tokens, _ = telling(embedding, torch.tensor([True, False]))
    assert torch.equal(tokens, own(torch.stack([embedding[0], torch.zeros(256)])))
    assert (tokens[0] - tokens[1]).abs().max() > 0.1
    with pytest.raises(UserError, match="embeddings have 200 values, model.projection takes 256"):
        telling(embedding[:, :200], torch.tensor([True, True]))
    plain = MakeAVideo(recipe.model, recipe.diffusion, None)
    with pytest.raises(UserError, match="embeddings have 400 values, the network's attention takes 384"):
        plain.telling(plain.build())(torch.randn(2, 400), torch.tensor([True, True]))
    randomise(ImageProjection(tokens=2, token_dim=100)).save_pretrained(tmp_path / "narrow")
    with pytest.raises(UserError, match="tokens of 100 values, the picture model's attention takes 384"):
        narrow = MakeAVideo({**recipe.model, "projection": str(tmp_path / "narrow")}, recipe.diffusion, None)
        narrow.telling(narrow.build())
    randomise(ImageProjection(tokens=2, text_encoder="other")).save_pretrained(tmp_path / "other")
    with pytest.raises(UserError, match="says the states of other, the picture model reads those of all-MiniLM-L6-v2"):
        other = MakeAVideo({**recipe.model, "projection": str(tmp_path / "other")}, recipe.diffusion, None)
        other.telling(other.build())


def overfitted(trainer, steps=40, rate=1e-2):
    """The loss of one batch, noise and all, before and after steps on it."""
    system, batch = trainer.system, trainer.batches(0, range(2))
    model = copy.deepcopy(trainer.accelerator.unwrap_model(trainer.model)).train()
    optimizer, losses = torch.optim.AdamW([p for _, p in system.trainable(model)], rate), []
    for _ in range(steps):
        loss = system.losses(model, batch).weighted.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses[0], min(losses[-5:])


@pytest.mark.parametrize("name", ["image", "video", "between", "sr", "sr-time"])
def test_each_network_learns_a_batch_by_heart(trained, name):
    first, last = overfitted(trained[2][name])
    assert last < 0.8 * first, (first, last)


def test_a_run_goes_on_where_it_stopped(trained, tmp_path):
    folder, recipes, _ = trained
    Trainer(recipes["video"], tmp_path / "half").run(until=1)
    Trainer(recipes["video"], tmp_path / "half").run()
    name = "model/network/diffusion_pytorch_model.safetensors"
    assert (tmp_path / "half" / name).read_bytes() == (folder / "video" / name).read_bytes()


@torch.no_grad()
def test_7_frame_interpolation_starts_as_the_decoder(trained):
    folder, recipes, _ = trained
    video = load_pipeline(str(folder / "video/model"), "cpu").network
    recipe = recipes["between"]
    fresh = MakeAVideo(recipe.model, recipe.diffusion, None).build().eval()
    assert fresh.image.conv_in.in_channels == 9
    z, t, token, fps = (
        torch.randn(2, 4, 5, 8, 8),
        torch.tensor([9, 500]),
        torch.randn(2, 1, 384),
        torch.tensor([2.0, 9]),
    )
    known, mask = torch.randn(2, 4, 5, 8, 8), torch.ones(2, 1, 5, 1, 1)
    told = fresh(z, t, token, conditions={"fps": fps, "known": known, "known_mask": mask}).sample
    assert torch.allclose(told, video(z, t, token, conditions={"fps": fps}).sample, atol=1e-5)


@torch.no_grad()
def test_sampling_follows_words_rate_and_seed(trained):
    pipeline = load_pipeline(str(trained[0] / "video/model"), "cpu")
    randomise(pipeline.network, 0.05)
    made = pipeline("a red circle", seed=1).samples
    assert made.shape == (1, 3, 3, 16, 16) and torch.equal(pipeline("a red circle", seed=1).samples, made)
    others = [
        pipeline("a blue star", seed=1),
        pipeline("a red circle", seed=2),
        pipeline("a red circle", seed=1, fps=2),
    ]
    assert all((o.samples - made).abs().max() > 1e-4 for o in others)
    pair = pipeline(["a red circle", "a red circle"], seed=[1, 2], batch_size=2).samples
    assert torch.allclose(pair, torch.cat([made, others[1].samples]), atol=1e-4)
    told = pipeline.embedded(["a red circle"], [1])
    assert torch.equal(pipeline(embedding=told, seed=1).samples, made)
    assert torch.allclose(told.norm(dim=1), torch.ones(1))
    nothing = pipeline(None, seed=1, guidance_scale=3.0).samples
    assert torch.allclose(nothing, pipeline(None, seed=1, guidance_scale=1.0).samples, atol=1e-4)
    with pytest.raises(UserError, match="trained on 1 to 30 frames a second"):
        pipeline("a", fps=31)
    with pytest.raises(UserError, match="negative"):
        pipeline("a", negative_prompt="b")


@torch.no_grad()
def test_what_is_given_comes_back_and_is_seen(trained):
    pipeline = load_pipeline(str(trained[0] / "between/model"), "cpu")
    randomise(pipeline.network, 0.05)
    keys = torch.rand(1, 3, 3, 16, 16) * 2 - 1
    made = pipeline.raise_video(keys, ["a red circle"], seed=1).samples
    assert made.shape == (1, 3, 5, 16, 16) and torch.equal(made[:, :, ::2], keys)
    assert pipeline.raise_video(keys, ["a red circle"], seed=1, skip=5).samples.shape[2] == 11
    changed = keys.clone()
    changed[:, :, 1] = -changed[:, :, 1]
    moved = (pipeline.raise_video(changed, ["a red circle"], seed=1).samples - made).abs().amax((0, 1, 3, 4))
    assert (moved[1::2] > 1e-4).all()
    ahead = pipeline.extended(keys, 6, ["a"], seed=1).samples
    behind = pipeline.extended(keys, 6, ["a"], seed=1, backwards=True).samples
    assert torch.equal(ahead[:, :, :3], keys) and torch.equal(behind[:, :, 3:], keys)
    alive = pipeline.animated(keys[:, :, 0], seed=1).samples
    assert alive.shape[2] == 5 and torch.equal(alive[:, :, 0], keys[:, :, 0])
    for call, words in (
        (lambda: pipeline.raise_video(keys[:, :, :1]), "at least 2 frames"),
        (lambda: pipeline.extended(keys, 3), "more than the 3 given"),
    ):
        with pytest.raises(UserError, match=words):
            call()


@torch.no_grad()
def test_a_long_video_is_interpolated_in_windows_of_the_trained_length(trained):
    folder, _, _ = trained
    pipeline = load_pipeline(str(folder / "between/model"))  # trained on 5 frames, every second of them given
    randomise(pipeline.network, 0.05)
    seen = []
    pipeline.network.register_forward_pre_hook(
        lambda module, args, told: seen.append(told["conditions"]["known"][:1]), with_kwargs=True
    )
    keys = torch.rand(1, 3, 5, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    options = {"num_inference_steps": 2, "fps": 8.0}
    long = pipeline.raise_video(keys, seed=3, **options).samples
    assert torch.equal(long[:, :, ::2], keys)
    given = pipeline.to_samples(keys)
    for number, told in enumerate(seen):  # the first and the second window in turn, in each of two steps
        start = 2 * (number // (len(seen) // 4) % 2)
        assert told.shape[2] == 5 and torch.allclose(told[:, :, ::2], given[:, :, start : start + 3], atol=1e-6)
    known = torch.zeros(1, 3, 9, 16, 16)
    known[:, :, ::2] = keys
    mask = interpolation_mask(9, 2)
    whole = pipeline.fill(known, mask, [None], 3, **options).samples
    assert seen[-1].shape[2] == 9 and not torch.allclose(long, whole, atol=1e-3)
    # frames that stand alone see nothing of their neighbours: then windows are the whole
    for module in pipeline.network.temporal.modules():
        if isinstance(module, FrameConvolution):
            torch.nn.init.dirac_(module.weight)
            torch.nn.init.zeros_(module.bias)
        elif isinstance(module, TemporalAttention):
            torch.nn.init.zeros_(module.proj.weight)
            torch.nn.init.zeros_(module.proj.bias)
    apart = pipeline.raise_video(keys, seed=3, **options).samples
    assert torch.allclose(apart, pipeline.fill(known, mask, [None], 3, **options).samples, atol=1e-4)
    short = pipeline.raise_video(keys[:, :, :3], seed=3, **options).samples
    assert torch.equal(short, pipeline.fill(known[:, :, :5], mask[:5], [None], 3, **options).samples)


@torch.no_grad()
def test_8_shared_noise_makes_equal_frames_equal(trained):
    pipeline = load_pipeline(str(trained[0] / "sr/model"), "cpu")
    randomise(pipeline.network, 0.05)
    assert pipeline.settings().noise_correlation == 1.0
    still = (torch.rand(1, 3, 1, 16, 16) * 2 - 1).expand(-1, -1, 4, -1, -1)
    made = pipeline.raise_video(still, seed=3).samples
    assert made.shape == (1, 3, 4, 32, 32) and torch.equal(made, made[:, :, :1].expand_as(made))
    own = pipeline.raise_video(still, seed=3, noise_correlation=0.0).samples
    assert (own - own[:, :, :1]).abs().max() > 1e-2
    moving = torch.rand(1, 3, 4, 16, 16) * 2 - 1
    whole = pipeline.raise_video(moving, seed=3).samples
    pipeline.making = replace(pipeline.making, window=2, overlap=0)
    assert torch.allclose(pipeline.raise_video(moving, seed=3).samples, whole, atol=1e-5)  # frames stand alone


@torch.no_grad()
def test_super_resolution_with_time(trained):
    pipeline = load_pipeline(str(trained[0] / "sr-time/model"), "cpu")
    randomise(pipeline.network, 0.05)
    video = torch.rand(1, 3, 5, 16, 16) * 2 - 1
    made = pipeline.raise_video(video, seed=1).samples
    assert made.shape == (1, 3, 5, 32, 32)
    changed = video.clone()
    changed[:, :, 0] = -changed[:, :, 0]
    moved = (pipeline.raise_video(changed, seed=1).samples - made).abs().amax((0, 1, 3, 4))
    assert (moved[:3] > 1e-4).all()  # the first window, of three frames
    with pytest.raises(UserError, match="guidance_scale"):
        pipeline.raise_video(video, guidance_scale=3.0)


def test_11_no_network_but_the_prior_takes_words(trained):
    for system, model in ((MakeAVideo, {"image": "emoji-image", "scorer": "emoji-clip"}), (MakeAVideoSR, {})):
        with pytest.raises(UserError, match="text: .*leave the section out"):
            system(model, {}, TEXT)
    for name in ("video", "between"):
        settings = json.loads((trained[0] / name / "model" / "muybridge.json").read_text())
        assert not [k for k in settings if "text" in k]
    for name in ("video", "between", "sr-time"):  # captions beside the clips change nothing
        trainer = trained[2][name]
        model = trainer.accelerator.unwrap_model(trainer.model)
        batch = trainer.batches(0, range(2))
        assert batch.text is None
        with torch.no_grad():
            bare = trainer.system.losses(model, batch).error
            captioned = replace(batch, text=some_text(2, 1, 384), null_text=some_text(1, 0, 384))
            assert torch.equal(trainer.system.losses(model, captioned).error, bare)


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_the_whole_on_the_command_line(trained, tmp_path):
    folder = trained[0]
    stages = [folder / n / "model" for n in ("video", "between", "sr-time", "sr")]
    done = run("models", "make-a-video", *stages, "-o", tmp_path / "whole")
    assert done.exit_code == 0, done.output
    out = tmp_path / "out.mp4"
    done = run("generate", "a red circle", "--model", tmp_path / "whole", "-o", out, "--fps", 12, "--seed", 3)
    assert done.exit_code == 0, done.output
    clip = read_video(out)
    assert clip.frames.shape == (5, 64, 64, 3) and clip.fps == pytest.approx(12)
    assert read_recipe(out)["sampling"]["num_frames"] == 5
    again = run("replay", out)
    assert again.exit_code == 0 and "the same" in again.output, again.output
    whole = load_pipeline(str(tmp_path / "whole"), "cpu")
    kept = {}
    whole("a red circle", seed=3, fps=12, keep=lambda name, frames, fps: kept.__setitem__(name, frames))
    decoder = load_pipeline(str(stages[0]), "cpu")
    assert np.array_equal(kept["decoder"], decoder("a red circle", seed=3, fps=6).frames)  # told 12 / 2
    assert np.array_equal(kept["2-between"][:, ::2], kept["decoder"])
    refused = run("generate", "a", "--model", tmp_path / "whole", "--steps", 3, "-o", tmp_path / "no.mp4")
    assert refused.exit_code == 2 and "has its own" in refused.output
    for wrong, words in (
        ((stages[1], stages[0]), "decoder comes first"), ((folder / "image/model",), "trained on videos"),
        ((stages[0], stages[2], stages[1]), "before super-resolution"), ((folder / "picture",), "not a stage"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=words):
            save_make_a_video(wrong, tmp_path / "wrong")


def test_single_networks_on_the_command_line(trained, tmp_path):
    folder = trained[0]
    write_video((np.random.default_rng(0).random((3, 16, 16, 3)) * 255).astype(np.uint8), tmp_path / "x.npy", 4)
    done = run(
        "upscale", tmp_path / "x.npy", "--model", folder / "sr-time/model", "--space", 2, "-o", tmp_path / "l.npy"
    )
    assert done.exit_code == 0, done.output
    assert read_video(tmp_path / "l.npy").frames.shape == (3, 32, 32, 3)
    done = run("upsample-fps", tmp_path / "x.npy", "--model", folder / "between/model", "-o", tmp_path / "s.npy")
    assert done.exit_code == 0, done.output
    smooth, given = read_video(tmp_path / "s.npy"), read_video(tmp_path / "x.npy")
    assert smooth.frames.shape == (5, 16, 16, 3) and np.array_equal(smooth.frames[::2], given.frames)
    from PIL import Image

    Image.fromarray(given.frames[0]).save(tmp_path / "p.png")
    done = run("animate", tmp_path / "p.png", "--model", folder / "between/model", "-o", tmp_path / "a.npy")
    assert done.exit_code == 0, done.output
    alive = read_video(tmp_path / "a.npy").frames
    assert alive.shape == (5, 16, 16, 3) and np.array_equal(alive[0], given.frames[0])
    done = run("generate", "a", "--model", folder / "between/model", "-o", tmp_path / "no.mp4")
    assert done.exit_code == 2 and "does not draw from words alone" in done.output


def test_errors(trained):
    folder = trained[0]
    picture, prior = str(folder / "picture"), str(folder / "prior")
    start = {"image": picture, "scorer": "emoji-clip", "prior": prior}
    for model, settings, words in (
        ({"image": picture}, {"stage": "image"}, "name image and scorer"),
        (start, {"stage": "video"}, "needs model.decoder of the stage 'image', got no decoder"),
        ({"decoder": str(folder / "video/model")}, {"stage": "video"}, "got a decoder of the stage 'video'"),
        ({"decoder": str(folder / "image/model"), "image": "emoji-image"}, {}, "the decoder has"),
        ({"decoder": picture}, {}, "no decoder of Make-A-Video"),
        ({**start, "temporal": {"kernel": 5}}, {"stage": "image"}, "made in the stage video"),
        (start, {"stage": "image", "fps_low": 40}, "must be below fps_high"),
        (start, {"stage": "image", "tasks": {"animation": 0.0}}, "all shares are 0"),
        (start, {"stage": "image", "tasks": {"interpolate": 1.0}}, "did you mean 'interpolation'"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=words):
            MakeAVideo(model, settings, None)
    sr = str(folder / "sr/model")
    for model, settings, words in (
        ({**SR, "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"]}, {}, "told no words"),
        ({**SR, "in_channels": 3}, {}, "6 in a super-resolution network, got 3"),
        ({"image": sr, "layers_per_block": 2}, {}, "layers_per_block: the picture network of model.image has its own"),
        ({"image": sr}, {"factor": 4}, "factor: .* has 2, got 4"),
        ({"image": picture}, {}, "no super-resolver of pictures"),
        (SR, {"window": 4, "overlap": 4}, r"can share 0\.\.3"),
        (SR, {"crop": 15}, "a multiple of factor 2"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=words):
            MakeAVideoSR(model, settings, None).build()
    assert set(TASKS) == {"interpolation", "extrapolation", "animation"}
    assert isinstance(load_pipeline(str(folder / "video/model"), "cpu").network, InflatedUNet)
