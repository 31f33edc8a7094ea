"""The system sora on tiny random models: what it trains on and towards, given frames, sizes, every command (spec 04,
T15 to T17)."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from muybridge.cli.main import app
from muybridge.data.video_io import read_recipe, read_video, write_video
from muybridge.diffusion.conditioning import Known, frame_mask, given_frames
from muybridge.diffusion.noise import Noise
from muybridge.diffusion.prediction import shift_flow_time
from muybridge.errors import UserError
from muybridge.learning.contract import TrainingBatch
from muybridge.learning.draws import Draws
from muybridge.making.base import Run
from muybridge.making.continued import Extend
from muybridge.models.text.encoder import TextConfig
from muybridge.nn.frames import from_uint8
from muybridge.opening.sampling import load_pipeline
from muybridge.pipelines.continuation import extend_video, interpolate_video
from muybridge.pipelines.redraw import redraw
from muybridge.pipelines.regions import known_entries
from muybridge.systems.sora.masks import given_frames as masks_of
from muybridge.systems.sora.pipeline import stretches
from muybridge.systems.sora.training import Sora
from muybridge.training.recipe import Recipe, TrainingConfig
from muybridge.training.trainer import Trainer
from tests.conftest import randomise, some_text
from tests.models.test_causal_autoencoder import causal

TEXT = TextConfig(max_length=12)
NETWORK = {"layers": 2, "width": 48, "heads": 4, "patch_size": [1, 1, 1], "text_pooled_dim": 384, "text_token_dim": 384}
SAMPLING = {
    "num_frames": 9,
    "height": 16,
    "width": 16,
    "num_inference_steps": 3,
    "sampler": "ddim",
    "threshold": "none",
}
PROMPT = "a red circle moving left"


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("autoencoder") / "vae"
    causal().float().save_pretrained(folder)
    return folder


def system_of(autoencoder, model=None, **diffusion):
    return Sora({"autoencoder": str(autoencoder), **NETWORK, **(model or {})}, diffusion, TEXT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, autoencoder):
    """A saved model that was trained with given frames, with random weights."""
    system = system_of(autoencoder, base_positions=100)
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("sora")
    system.save(randomise(system.build(), 0.05), path, SAMPLING)
    return path


@pytest.fixture(scope="module")
def pipeline(folder):
    return load_pipeline(str(folder), "cpu")


# --- training --------------------------------------------------------------------------------------------------------


def batch_of(clips=(), video=None, numbers=None, total=None, step=0):
    count = len(clips) if video is None else len(video)
    text = some_text(count, 1, width=384)
    numbers = list(range(count)) if numbers is None else numbers
    empty = torch.zeros(0) if video is None else video
    return TrainingBatch(empty, text, 0, numbers, total or count, 7, step, clips=tuple(clips))


class Spy(torch.nn.Module):
    """Keeps what it is told, and answers zero."""

    def forward(self, sample, log_snr, text=None):
        self.sample, self.log_snr, self.text = sample, log_snr, text
        return torch.zeros_like(sample) if isinstance(sample, torch.Tensor) else [torch.zeros_like(z) for z in sample]


@pytest.mark.parametrize("prediction", ["flow", "v_prediction"])
def test_the_loss_is_the_mean_over_what_is_not_given(autoencoder, prediction):
    system, spy = system_of(autoencoder, prediction=prediction, masks=1.0, base_positions=24), Spy()
    clips = [torch.randn(4, 3, 4, 2), torch.randn(4, 1, 2, 2), torch.randn(4, 5, 2, 4)]
    batch = batch_of(clips)
    losses = system.losses(spy, batch)
    uniform = Draws(batch).times()
    for i, x in enumerate(clips):
        generators = Draws(batch)
        generators.times(), generators.shares()
        given = masks_of(x.shape[1], 1.0, generators.generators[i])
        noise = torch.randn(x.shape, generator=generators.generators[i])
        told = spy.log_snr[i]
        assert torch.equal(told == math.inf, given) and bool(given.any()) == (x.shape[1] > 1)
        lam = float(told[~given][0])
        assert bool((told[~given] == lam).all()) and losses.log_snr[i] == pytest.approx(lam)
        alpha, sigma = (1 / (1 + math.exp(-lam))) ** 0.5, (1 / (1 + math.exp(lam))) ** 0.5
        z = torch.where(given[None, :, None, None], x, alpha * x + sigma * noise)
        assert torch.allclose(spy.sample[i], z, atol=1e-5)
        target = noise - x if prediction == "flow" else alpha * noise - sigma * x
        expected = target[:, ~given].square().mean()  # the network says zero
        assert losses.error[i] == pytest.approx(float(expected), rel=1e-4)
        assert losses.weighted[i] == losses.error[i]
        if prediction == "flow":  # the time's quantile of a logit-normal, shifted by size
            time = torch.special.ndtri(uniform[i]).sigmoid()
            shifted = shift_flow_time(time, math.sqrt(x[0].numel() / 24))
            assert lam == pytest.approx(float(2 * ((1 - shifted) / shifted).log()), abs=1e-4)


def test_v_prediction_sees_the_end_of_its_table(autoencoder):
    """At zero terminal SNR the last entry is pure noise, and the loss is finite there."""
    system = system_of(autoencoder, prediction="v_prediction", masks=0.0)
    levels = system.process.level(torch.tensor([0.0, 0.5, 0.9999], dtype=torch.float64), (4, 1, 2, 2))
    assert levels[-1] == -math.inf and bool((levels.diff() < 0).all())
    assert system.process.levels(4, "ddim", (4, 1, 2, 2))[0] == -math.inf
    losses = system.losses(randomise(system.build()), batch_of(video=torch.randn(8, 4, 1, 2, 2)))
    assert bool(losses.weighted.isfinite().all())


def test_a_pack_a_batch_and_one_by_one_are_one_loss(autoencoder):
    system = system_of(autoencoder, masks=0.5)
    model = randomise(system.build()).eval()
    clips = [torch.randn(4, 3, 4, 2) for _ in range(3)]
    text = some_text(3, 1, width=384)
    whole = replace(batch_of(video=torch.stack(clips)), text=text)
    packed = replace(batch_of(clips), text=text)
    mixed = replace(batch_of([*clips, torch.randn(4, 1, 2, 2)], total=4), text=some_text(4, 1, width=384))
    with torch.no_grad():
        a, b = (system.losses(model, x).weighted for x in (whole, packed))
        assert torch.allclose(a, b, atol=1e-5) and len(system.losses(model, mixed).weighted) == 4
        parts = [replace(batch_of([c], numbers=[i], total=3), text=text.rows(slice(i, i + 1)))
                 for i, c in enumerate(clips)]  # fmt: skip
        alone = torch.cat([system.losses(model, part).weighted for part in parts])
    assert torch.allclose(alone, a, atol=1e-5)


def test_kinds_of_given_frames():
    generator = torch.Generator().manual_seed(1)
    masks = [masks_of(6, 0.5, generator) for _ in range(2000)]
    share = sum(bool(m.any()) for m in masks) / len(masks)
    assert 0.46 < share < 0.54 and not any(bool(m.all()) for m in masks)
    some = torch.stack([m for m in masks if m.any()])
    heads = (some[:, 0] & ~some[:, -1]).float().mean()
    tails = (~some[:, 0] & some[:, -1]).float().mean()
    both = (some[:, 0] & some[:, -1]).float().mean()
    assert min(heads, tails, both) > 0.2 and int(some.sum(1).max()) <= 5
    assert not masks_of(1, 1.0, generator).any()  # a picture has nothing to be given
    for frames in range(2, 9):
        drawn = [masks_of(frames, 1.0, generator) for _ in range(200)]
        assert all(1 <= int(m.sum()) < frames for m in drawn)


def recipe_of(autoencoder, **changes):
    world = {"source": "world", "num_clips": 12, "backgrounds": ["dark"], "pans": ["none"], "height": 16, "width": 16}
    parts = [{**world, "num_frames": 1}, {**world, "num_frames": 5, "width": 24}, {**world, "num_frames": 9}]
    diffusion = {"token_budget": 80, "masks": 0.5, **changes.pop("diffusion", {})}
    training = dict(
        steps=3, batch_size=2, learning_rate=2e-3, warmup_steps=1, checkpoint_every=2, validate_every=3,
        validation_clips=6, sample_every=3, ema=0.5, log_every=1, threads=1,
    )  # fmt: skip
    return Recipe(
        name="tiny", system="sora", seed=2, model={"autoencoder": str(autoencoder), **NETWORK}, text=TEXT,
        data={"source": "mix", "of": parts}, diffusion=diffusion,
        training=TrainingConfig(**{**training, **changes}), sampling=SAMPLING,
    )  # fmt: skip


WEIGHTS = "network/diffusion_pytorch_model.safetensors"


def test_rows_train_resume_and_do_not_depend_on_accumulation(autoencoder, tmp_path):
    from safetensors.torch import load_file

    model = Trainer(recipe_of(autoencoder), tmp_path / "whole").run()
    Trainer(recipe_of(autoencoder), tmp_path / "half").run(until=2)
    Trainer(recipe_of(autoencoder), tmp_path / "half").run()
    assert (model / WEIGHTS).read_bytes() == (tmp_path / "half" / "model" / WEIGHTS).read_bytes()
    Trainer(recipe_of(autoencoder, accumulation=2), tmp_path / "two").run()
    one, two = (load_file(path / WEIGHTS) for path in (model, tmp_path / "two" / "model"))
    assert all(torch.allclose(one[n], two[n], atol=1e-4) for n in one)
    frames = load_pipeline(str(model), "cpu")(PROMPT, seed=1).frames
    assert frames.shape == (1, 9, 16, 16, 3)


def test_the_loss_falls_in_buckets_too(autoencoder, tmp_path):
    recipe = recipe_of(
        autoencoder, steps=60, checkpoint_every=60, validate_every=60, sample_every=0, batch_size=1, learning_rate=3e-3,
        diffusion={"batching": "bucket", "prediction": "v_prediction", "masks": 0.0},
    )  # fmt: skip
    trainer = Trainer(recipe, tmp_path / "run")
    trainer.prepare()

    def error():
        """Of the same clips and noise, whenever it is asked."""
        with torch.no_grad():
            found = [trainer.system.losses(trainer.model, trainer.feed(k)).error for k in range(8)]
        return float(torch.cat(found).mean())

    before = error()
    for step in range(60):
        trainer.step(step)
        trainer.optimizer.zero_grad()
    after = error()
    trainer.feed.close()
    assert after < 0.95 * before, (before, after)


@pytest.mark.parametrize(
    ("model", "diffusion", "said"),
    [
        ({}, {"scheduler": {"beta_end": 0.02}}, "a flow has no noise table"),
        ({}, {"prediction": "epsilon"}, "diffusion.prediction: unknown 'epsilon'"),
        ({}, {"batching": "pad"}, "diffusion.batching: unknown 'pad'"),
        ({"in_channels": 3}, {}, "model.in_channels: it follows"),
        ({"autoencoder": ""}, {}, "model.autoencoder: name the latent space"),
        ({"text_pooled_dim": 0, "text_token_dim": 0}, {}, "reads no captions"),
        (
            {},
            {"prediction": "v_prediction", "time_mean": 1.0},
            "diffusion.time_mean: v_prediction draws its times evenly",
        ),
        (
            {},
            {"prediction": "v_prediction", "time_std": 2.0},
            "diffusion.time_std: v_prediction draws its times evenly",
        ),
        ({}, {"batching": "bucket"}, "diffusion.batching: without a token_budget"),
        ({"text_token_dim": 0, "text_mode": "joint"}, {}, "model.text_mode joint: the network reads no words"),
        ({"attention": "skiparse", "layers": 4}, {}, "of 4 layers none is left that skips"),
        ({"guidance_embedding": True}, {}, "model.guidance_embedding: this system trains no"),
        ({"patch_size": [2, 1, 1]}, {}, "latent frames of one patch are given together"),
        ({"learned_variance": True}, {}, "model.learned_variance: the steps of a flow have no variance"),
        ({}, {"vlb_weight": 0.5}, "diffusion.vlb_weight: nothing reads it"),
    ],
)
def test_settings_that_are_refused(autoencoder, model, diffusion, said):
    with pytest.raises(UserError, match=said):
        system_of(autoencoder, model, **diffusion)


def test_a_row_too_small_for_a_clip_is_told(autoencoder, tmp_path):
    with pytest.raises(UserError, match="token_budget 20: the largest clips have 48 tokens"):
        Trainer(recipe_of(autoencoder, diffusion={"token_budget": 20}), tmp_path / "run").run()


# --- sampling --------------------------------------------------------------------------------------------------------


def test_any_size_any_length_and_the_levels_follow(pipeline):
    shapes = {}
    for frames, height, width in ((1, 16, 16), (5, 24, 16), (17, 16, 32)):
        size = {"num_frames": frames, "height": height, "width": width}
        made = pipeline(PROMPT, seed=3, **size).frames
        assert made.shape == (1, frames, height, width, 3)
        shapes[frames] = pipeline.levels_for(pipeline.settings(**size))
    positions = {1: 16, 5: 2 * 6 * 4, 17: 5 * 4 * 8}
    for frames, lams in shapes.items():
        times = shift_flow_time(torch.tensor([2 / 3, 1 / 3], dtype=torch.float64), math.sqrt(positions[frames] / 100))
        assert torch.allclose(lams[1:3], 2 * ((1 - times) / times).log())
        assert lams[0] == -math.inf and lams[-1] == math.inf
    for size, said in (({"num_frames": 6}, "such as 5 or 9"), ({"height": 18}, "multiples of 4")):
        with pytest.raises(UserError, match=said):
            pipeline(PROMPT, **size)


def test_t15_given_frames_reach_the_network_as_clean(pipeline):
    """The denoiser of given frames is the network with their level at no noise, and with none given the plain one."""
    z, value = torch.randn(2, 1, 4, 3, 4, 4)
    lam = torch.tensor([0.3])
    condition = pipeline.condition([PROMPT], pipeline.settings())
    plain = pipeline.closed(condition)
    mask = frame_mask([0, 2], 3)
    with torch.no_grad():
        got = given_frames(plain, Known(value, mask, replace="clean"))(z, lam)
        told = torch.tensor([[math.inf, 0.3, math.inf]])
        expected = plain(torch.where(mask, value, z), told)
        none = given_frames(plain, Known(value, frame_mask([], 3), replace="clean"))(z, lam)
        assert torch.allclose(none, plain(z, lam), atol=1e-5)
    assert torch.allclose(got[:, :, 1], expected[:, :, 1], atol=1e-6)
    assert torch.equal(got[:, :, [0, 2]], value[:, :, [0, 2]])
    assert not torch.allclose(got[:, :, 1], none[:, :, 1], atol=1e-4)
    with pytest.raises(ValueError, match="whole frames"):
        given_frames(plain, Known(value, torch.rand(1, 1, 3, 4, 4) > 0.5, replace="clean"))


def test_t17_given_latents_come_back(pipeline):
    value = torch.randn(1, 4, 3, 4, 4)
    for replace_by, weight in (("clean", 0.0), ("fresh", 0.0), ("fresh", 1.0)):
        known = Known(value, frame_mask([0, 2], 3), weight, replace_by)
        made = pipeline(PROMPT, seed=1, known=known, output="latents").samples
        assert torch.equal(made[:, :, [0, 2]], value[:, :, [0, 2]]) and float(made[:, :, 1].std()) > 0


def test_where_given_frames_lie_in_latents(pipeline):
    assert stretches([0, 1, 2, 6, 8, 9]) == [(0, 2), (6, 6), (8, 9)]
    video = torch.rand(1, 3, 17, 16, 16) * 2 - 1
    encode = pipeline.to_samples

    def found(places):
        value, mask = pipeline.known_samples(video, places)
        return value, mask[0, 0, :, 0, 0].tolist()

    value, mask = found(range(6))  # 1 + 4 whole, one frame more
    assert mask == [True, True, False, False, False]
    assert torch.allclose(value[:, :, :2], encode(video[:, :, :5]), atol=1e-5)
    value, mask = found(range(8, 17))  # 8 is coded alone and left out
    assert mask == [False, False, False, True, True]
    assert torch.allclose(value[:, :, 3:], encode(video[:, :, 8:])[:, :, 1:], atol=1e-5)
    value, mask = found(range(6, 14))  # from 8 on; 13 is no whole latent
    assert mask == [False, False, False, True, False]
    assert torch.allclose(value[:, :, 3:4], encode(video[:, :, 8:13])[:, :, 1:], atol=1e-5)
    _, mask = found([0, *range(12, 17)])
    assert mask == [True, False, False, False, True]
    for places in (range(1, 4), range(14, 17), [16]):
        with pytest.raises(UserError, match="stands for 4 frames"):
            pipeline.known_samples(video, places)


def test_t17_redrawing_of_no_and_of_all_strength(pipeline):
    a, b = (torch.rand(1, 3, 9, 16, 16) * 2 - 1 for _ in range(2))
    assert torch.equal(redraw(pipeline, a, PROMPT, 0.0).samples, a)
    full = [redraw(pipeline, x, PROMPT, 1.0, seed=4).samples for x in (a, b)]
    assert torch.allclose(full[0], full[1], atol=1e-5)  # it begins at pure noise
    part = [redraw(pipeline, x, PROMPT, 0.7, seed=4).samples for x in (a, b)]
    assert not torch.allclose(part[0], part[1], atol=1e-3)


def test_videos_go_on_and_begin_earlier_and_their_frames_stay(pipeline):
    frames = np.random.default_rng(0).integers(0, 255, (9, 16, 16, 3), dtype=np.uint8)
    longer = extend_video(pipeline, frames, PROMPT, 6, method="auto")
    assert longer.shape[0] == 15 and np.array_equal(longer[:9], frames)
    earlier = extend_video(pipeline, frames, PROMPT, 6, method="auto", backward=True)
    assert earlier.shape[0] == 15 and np.array_equal(earlier[6:], frames)
    half = extend_video(pipeline, frames, PROMPT, 4, method="auto")  # of 1 + 8 frames: one is no motion to go on from
    assert np.array_equal(half, extend_video(pipeline, frames, PROMPT, 4, method="auto", context_frames=5))
    anchored = extend_video(pipeline, frames, PROMPT, 4, method="auto", context_frames=4, anchor_frames=1)
    plain = extend_video(pipeline, frames, PROMPT, 4, method="auto", context_frames=5)
    assert np.array_equal(anchored[:9], frames) and not np.array_equal(anchored, plain)
    for wrong, said in (({"backward": True, "context_frames": 3}, r"context_frames must be in 5\.\."),
                        ({"context_frames": 9}, "context_frames must be in"), ({"method": "best"}, "unknown method"),
                        ({"backward": True, "anchor_frames": 1}, "anchor_frames"),
                        ({"num_frames": 33, "anchor_frames": 9}, "at least 1 beside 9 anchor")):  # fmt: skip
        with pytest.raises(UserError, match=said):
            extend_video(pipeline, frames, PROMPT, 4, **{"method": "auto", **wrong})
    with pytest.raises(UserError, match="a video of 1 frames: at least 5 must be known"):
        extend_video(pipeline, frames[:1], PROMPT, 4, method="auto", backward=True)
    for name, told in (("8", {"context_frames": 8}), ("all", {})):  # the context lies behind the anchor
        found = extend_video(pipeline, frames, PROMPT, 2, method="auto", num_frames=33, anchor_frames=1, **told)
        assert len(found) == 11, name
    long = {"method": "auto", "num_frames": 33, "anchor_frames": 5}  # of 9 frames 4 are left behind it
    known_once = extend_video(pipeline, frames, PROMPT, 2, context_frames=4, **long)
    assert np.array_equal(extend_video(pipeline, frames, PROMPT, 2, **long), known_once)


def test_frames_between_frames_are_refused_where_a_latent_is_several(pipeline):
    with pytest.raises(UserError, match="draws 4 frames at once"):
        interpolate_video(pipeline, np.zeros((3, 16, 16, 3), np.uint8), PROMPT)


def test_going_on_is_sampling_under_the_code_of_the_last_frames(pipeline):
    """By hand: the context's code as given latents, the same noise, decoded."""
    frames = np.random.default_rng(1).integers(0, 255, (9, 16, 16, 3), dtype=np.uint8)
    got = extend_video(pipeline, frames, PROMPT, 4, seed=5, method="trained", context_frames=5)[9:]
    from muybridge.diffusion.noise import derive_seed

    code = pipeline.to_samples(from_uint8(frames[-5:])[None])
    value = torch.cat([code, torch.zeros(1, 4, 1, 4, 4)], 2)
    known = Known(value, frame_mask([0, 1], 3), 0.0, "clean")
    made = pipeline(PROMPT, seed=derive_seed(5, "extend", 0), known=known).frames[0, 5:9]
    assert np.abs(got.astype(int) - made).max() <= 1


def test_what_is_known_of_a_region():
    unknown = torch.zeros(9, 16, 16, dtype=torch.bool)
    unknown[6, 5, 9] = True  # one pixel of frame 6: the third latent frame, row 1, column 2
    like = torch.zeros(1, 4, 3, 4, 4)
    mask = known_entries(unknown, like, 4)
    assert mask.shape == (1, 1, 3, 4, 4) and (~mask).nonzero().tolist() == [[0, 0, 2, 1, 2]]
    pixels = known_entries(unknown, torch.zeros(1, 3, 9, 16, 16), 1)
    assert torch.equal(pixels[0, 0], ~unknown)


# --- commands --------------------------------------------------------------------------------------------------------


def run(*arguments, code=0):
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    assert done.exit_code == code, (done.output, done.exception)
    return " ".join(done.output.split())


@pytest.fixture
def video(tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (9, 16, 16, 3), dtype=np.uint8)
    write_video(frames, tmp_path / "v.npy", 8)
    return tmp_path / "v.npy", frames


def frames_of(path):
    return read_video(path).frames


def test_extend_loop_and_connect(folder, tmp_path, video):
    path, frames = video
    out = tmp_path / "out.npy"
    given = ("--model", folder, "--prompt", PROMPT, "-o", out)
    told = run("extend", path, *given, "--add-frames", 3, "--backward")
    assert "given frames are told to the network" in told and np.array_equal(frames_of(out)[3:], frames)
    assert "the same" in run("replay", out)
    run("loop", path, *given, "--num-frames", 13)
    assert np.array_equal(frames_of(out)[:9], frames) and len(frames_of(out)) == 9 + 13 - 2 * 5 + 4 * 0
    assert "the same" in run("replay", out)
    other = frames[::-1]
    write_video(other, tmp_path / "w.npy", 8)
    run("connect", path, tmp_path / "w.npy", *given, "--num-frames", 17, "--method", "replacement")
    made = frames_of(out)
    assert np.array_equal(made[:9], frames) and np.array_equal(made[-9:], other) and len(made) == 18 + 17 - 2 * 5
    assert "the same" in run("replay", out) and str(tmp_path / "w.npy") in read_recipe(out)["options"]["other"]
    assert "take a larger num_frames" in run("loop", path, *given, code=2)
    write_video(frames.repeat(2, 1).repeat(2, 2), tmp_path / "large.npy", 8)
    told = run("extend", tmp_path / "large.npy", *given)
    assert "large.npy: 32x32 pixels are 2 times the model's size a side, and are taken at 16x16" in told
    write_video(other[:6], tmp_path / "w.npy", 8)
    told = run("blend", path, tmp_path / "w.npy", *given, "--strength", 0.7)
    assert f"{path}: its first 6 frames are taken" in told and frames_of(out).shape == (6, 16, 16, 3)
    assert "the same" in run("replay", out)


@pytest.mark.parametrize("how", [{}, {"backward": True}, {"context_frames": 3}, {"anchor_frames": 1}], ids=str)
def test_as_many_steps_are_told_as_are_made(how, folder, video):
    path, _ = video
    steps: list[object] = []
    pipeline = load_pipeline(str(folder), "cpu")
    settings = {"num_frames": 9, "num_inference_steps": 2}
    asked = Run(pipeline, str(folder), settings=settings, source=str(path), read=read_video, on_step=steps.append)
    extend = Extend(prompt=PROMPT, add_frames=15, **how)
    told = extend.total_steps(asked)
    extend.make(asked)
    assert told == len(steps) > 2


def test_animate_restyle_and_generate(folder, tmp_path, video):
    path, frames = video
    out = tmp_path / "out.npy"
    given = ("--model", folder, "-o", out)
    assert "told to the network" in run("animate", path, *given, "--prompt", PROMPT, "--num-frames", 5)
    assert np.array_equal(frames_of(out)[0], frames[0]) and len(frames_of(out)) == 5
    assert "the same" in run("replay", out)
    assert "does not read it" in run("animate", path, *given, "--motion", 10, code=2)
    assert "would give the picture back" in run("animate", path, *given, "--num-frames", 1, code=2)
    for command in (("animate", path, *given), ("extend", path, *given)):  # the network is told: nothing is weighed
        assert "nothing guides it" in run(*command, "--weight", 3, code=2)
        assert "--method replacement has no guidance" in run(*command, "--weight", 3, "--method", "replacement", code=2)
    short = tmp_path / "short.npy"
    write_video(frames[:7], short, 8)  # no length that the model takes
    run("restyle", short, *given, "--content", PROMPT, "--strength", 0.7)
    assert frames_of(out).shape == (7, 16, 16, 3) and "the same" in run("replay", out)
    told = run("generate", "Show me a video of Red Circle going to the left!", *given, "--expand", "rules")
    assert "'a red circle moving left'" in told and "the same" in run("replay", out)
    run("generate", PROMPT, "--model", folder, "-o", tmp_path / "plain.npy")
    assert np.array_equal(frames_of(out), frames_of(tmp_path / "plain.npy"))


def test_inpaint_and_outpaint_keep_what_is_known(folder, tmp_path, video):
    from PIL import Image

    path, frames = video
    out, mask = tmp_path / "out.npy", np.zeros((16, 16), np.uint8)
    mask[4:8, 8:16] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    given = ("--model", folder, "--prompt", PROMPT, "-o", out, "--own-size")
    run("inpaint", path, *given, "--mask", tmp_path / "mask.png")
    Image.fromarray(mask[:8]).save(tmp_path / "small.png")
    told = run("inpaint", path, *given[:4], "-o", tmp_path / "n.npy", "--own-size", "--mask", tmp_path / "small.png")
    assert f"{tmp_path / 'small.png'}: 16x8 pixels are resized to 16x16" in told  # the mask is named, not the video
    made, hole = frames_of(out), mask > 127
    assert np.array_equal(made[:, ~hole], frames[:, ~hole]) and not np.array_equal(made[:, hole], frames[:, hole])
    assert "the same" in run("replay", out)
    run("outpaint", path, *given, "--left", 6, "--bottom", 4, "--method", "replacement")
    made = frames_of(out)
    assert made.shape == (9, 20, 22, 3) and np.array_equal(made[:, :16, 6:], frames)
    assert "the same" in run("replay", out)
    Image.fromarray(np.zeros_like(mask)).save(tmp_path / "mask.png")
    assert "the mask is empty" in run("inpaint", path, *given, "--mask", tmp_path / "mask.png", code=2)
    Image.fromarray(np.full_like(mask, 255)).save(tmp_path / "mask.png")
    assert "leaves nothing that stays" in run("inpaint", path, *given, "--mask", tmp_path / "mask.png", code=2)
    assert "at least one of" in run("outpaint", path, *given, code=2)


def test_noise_is_the_samples_own_at_any_size(pipeline):
    assert torch.equal(pipeline([PROMPT] * 2, seed=[3, 4]).samples[1:], pipeline(PROMPT, seed=4).samples)
    shape = pipeline.sample_shape(pipeline.settings())
    assert shape == (4, 3, 4, 4) and Noise([1])(shape, "start").shape == (1, 4, 3, 4, 4)
