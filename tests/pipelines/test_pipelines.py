"""The pipeline: a sample is its own, known frames stay, saving and loading, bad models."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from muybridge.diffusion.conditioning import Known, frame_mask
from muybridge.diffusion.noise import Noise
from muybridge.errors import Notice, UserError
from muybridge.evaluation.motion import seam_ratio
from muybridge.library.catalogue import find_model, model_hash
from muybridge.making.base import Run
from muybridge.making.from_words import Generate
from muybridge.making.record import frames_hash
from muybridge.making.replay import replay
from muybridge.models import build_network
from muybridge.nn.frames import from_uint8, to_uint8
from muybridge.opening.sampling import load_pipeline
from muybridge.pipelines.continuation import extend_video, interpolate_video
from muybridge.pipelines.pixels import TextToVideoPipeline
from muybridge.pipelines.settings import SamplingConfig
from tests.conftest import TINY_MODEL, randomise

SAMPLING = {"num_frames": 6, "height": 16, "width": 16, "num_inference_steps": 4, "guidance_scale": 3.0}
PROMPTS = [
    f"a {c} {s} moving {d}"
    for c, s, d in zip(
        ["red", "blue", "green", "white"] * 2,
        ["circle", "star", "ring", "cross"] * 2,
        ["left", "right", "up", "down"] * 2,
        strict=True,
    )
]


@pytest.fixture(scope="module")
def pipeline():
    torch.manual_seed(0)
    made = TextToVideoPipeline(
        randomise(build_network(TINY_MODEL), 0.02),
        text_encoder="all-MiniLM-L6-v2",
        text_max_length=8,
        sampling=SAMPLING,
    )
    made.network.eval()
    made.set_progress_bar_config(disable=True)
    return made


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["ddim", "ancestral", "dpmpp_2m", "dpmpp_2m_sde", "distilled"])
def test_same_seed_same_video_for_batch_sizes_1_3_and_8(pipeline, sampler):
    samples = [pipeline(PROMPTS, seed=5, batch_size=b, sampler=sampler).samples for b in (1, 3, 8)]
    assert float((samples[0] - samples[1]).abs().max()) < 1e-5
    assert float((samples[0] - samples[2]).abs().max()) < 1e-5
    third = pipeline(PROMPTS[2], seed=7, sampler=sampler).samples
    assert torch.equal(samples[0][2], third[0])
    assert not torch.allclose(pipeline(PROMPTS[2], seed=8, sampler=sampler).samples, third, atol=1e-2)


@pytest.mark.slow
def test_strong_reconstruction_guidance_amplifies_what_batches_add_in_another_order():
    """The docstring's figure, on the bundled model: rounding grown a thousand times, not videos that see each other."""
    world, clip = load_pipeline("world-vdm"), 2 * torch.rand(1, 3, 12, 32, 32) - 1
    prompts = ["a red circle moving left", "a blue star moving up"]

    def apart(weight):
        known = Known(clip, frame_mask(range(6), 12), weight)
        one, two = (
            world(prompts, seed=5, batch_size=b, known=known, num_inference_steps=4, sampler="ancestral").samples
            for b in (1, 2)
        )
        return float((one - two).abs().max())

    assert apart(0.0) < 1e-5
    assert apart(4.0) < 0.05


def test_sampling_under_inference_mode_is_the_same(pipeline):
    known = Known(torch.rand(1, 3, 6, 16, 16), frame_mask([0, 1], 6), 2.0)
    expected = pipeline(PROMPTS[0], seed=1, known=known, num_inference_steps=2).samples
    with torch.inference_mode():
        pipeline._embedded.clear()
        assert torch.equal(pipeline(PROMPTS[0], seed=1, known=known, num_inference_steps=2).samples, expected)


def test_the_prompt_and_the_scale_matter(pipeline):
    a = pipeline("a red circle moving left", seed=1).samples
    assert not torch.allclose(a, pipeline("a blue star moving up", seed=1).samples, atol=1e-3)
    assert not torch.allclose(a, pipeline("a red circle moving left", seed=1, guidance_scale=1.0).samples, atol=1e-3)
    assert pipeline(None, seed=1).samples.shape == a.shape


def test_guidance_only_where_it_is_wanted(pipeline, monkeypatch):
    calls, predict = [], pipeline.predict
    monkeypatch.setattr(pipeline, "predict", lambda z, lam, text: calls.append(float(lam[0])) or predict(z, lam, text))

    def a_step(**limits):
        """Network calls of each step, and the video."""
        calls.clear()
        out = pipeline(PROMPTS[0], seed=1, num_inference_steps=10, sampler="ddim", **limits).samples
        return [calls.count(lam) for lam in dict.fromkeys(calls)], out

    whole, reference = a_step()
    assert whole == [2] * 10
    assert a_step(guidance_end=0.6)[0] == [2] * 6 + [1] * 4
    assert a_step(guidance_start=0.25, guidance_end=0.5)[0] == [1] * 3 + [2] * 2 + [1] * 5
    assert not torch.allclose(a_step(guidance_start=0.9)[1], reference, atol=1e-3)
    with pytest.raises(UserError, match="0.7 to guidance_end 0.2"):
        pipeline(PROMPTS[0], guidance_start=0.7, guidance_end=0.2)


@pytest.mark.parametrize("flags,slow", [("flags: avx2", True), ("flags: avx512f avx512_bf16", False)])
def test_a_processor_without_bf16_is_told_of(saved, monkeypatch, flags, slow):
    import platform
    import warnings

    from muybridge.nn import layout

    monkeypatch.setattr(layout, "_processor", lambda: flags)
    layout.emulates_bf16.cache_clear()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        load_pipeline(str(saved), precision="bf16")
    layout.emulates_bf16.cache_clear()
    known = platform.machine() in ("x86_64", "AMD64") and Path("/proc/cpuinfo").is_file()
    said = [w.category for w in told if "bf16 instructions" in str(w.message)]
    assert said == [Notice] * (slow and known)


def test_half_precision(saved):
    full, half = (load_pipeline(str(saved), precision=p) for p in ("fp32", "bf16"))
    assert {p.dtype for p in half.network.parameters()} == {torch.bfloat16}
    a, b = (p(PROMPTS[0], seed=3).samples for p in (full, half))
    assert b.dtype == torch.float32 and 1e-6 < float((a - b).abs().mean()) < 0.03
    made = made_of(half, saved, PROMPTS[:1], [3])[0]
    assert made.record["precision"] == "bf16"
    assert "precision" not in made_of(full, saved, PROMPTS[:1], [3])[0].record
    assert np.array_equal(replay(made.record, None, device="cpu").frames, made.frames)


def made_of(pipeline, folder, prompts, seeds, **settings):
    run = Run(pipeline, str(folder), 0, settings)
    return Generate.make_batch([Generate(prompt=p) for p in prompts], run, seeds)


@pytest.mark.parametrize(
    "where,message",
    [
        ({"precision": "int4"}, "unknown precision 'int4'"),
        ({"precision": "fp16"}, "for GPUs"),
        ({"device": "gpu"}, "unknown device 'gpu'"),
        ({"device": "mps"}, "has none"),
    ],
)
def test_where_a_model_cannot_go(saved, where, message):
    with pytest.raises(UserError, match=message):
        load_pipeline(str(saved), **where)


def test_known_frames_come_back(pipeline):
    value = torch.rand(1, 3, 6, 16, 16) * 2 - 1
    for weight in (0.0, 2.0):
        known = Known(value, frame_mask([0, 1], 6), weight)
        out = pipeline("a red circle moving left", seed=1, known=known, sampler="ancestral").samples
        assert torch.equal(out[:, :, :2], value[:, :, :2])
        assert not torch.allclose(out[:, :, 2:], value[:, :, 2:], atol=0.05)


def test_known_frames_start_from_their_own_noise(pipeline, monkeypatch):
    """With posterior replacement nothing else ever sets them: q(z | x) of what is known, the model's noise
    elsewhere."""
    value, seen, predict = torch.rand(1, 3, 6, 16, 16) * 2 - 1, [], pipeline.predict
    monkeypatch.setattr(
        pipeline, "predict", lambda z, lam, c, **how: seen.append((z, lam)) or predict(z, lam, c, **how)
    )
    pipeline(PROMPTS[0], seed=3, known=Known(value, frame_mask([4], 6), 0.0, "posterior"), num_inference_steps=2)
    z, lam = seen[0]
    noise = Noise([3])((3, 6, 16, 16), "start")
    expected = noise.clone()
    expected[:, :, 4] = (torch.sigmoid(lam).sqrt() * value + torch.sigmoid(-lam).sqrt() * noise).float()[:, :, 4]
    torch.testing.assert_close(z, expected)


def test_an_extension_goes_on_from_the_last_frames(pipeline):
    frames = pipeline(PROMPTS[0], seed=1).frames[0]
    others = frames.copy()
    others[:3] = 255 - others[:3]  # 3 of the model's 6 frames are known, the last
    steps = {"num_inference_steps": 2}
    longer = extend_video(pipeline, frames, PROMPTS[0], 3, seed=2, **steps)
    assert np.array_equal(extend_video(pipeline, others, PROMPTS[0], 3, seed=2, **steps)[6:], longer[6:])
    others[-1] = 255 - others[-1]
    assert not np.array_equal(extend_video(pipeline, others, PROMPTS[0], 3, seed=2, **steps)[6:], longer[6:])


@pytest.mark.slow
def test_extension_and_interpolation_keep_what_is_given(pipeline):
    frames = pipeline("a red circle moving left", seed=1).frames[0]
    longer = extend_video(pipeline, frames, "a red circle moving left", 7, seed=2)
    assert longer.shape == (13, 16, 16, 3) and np.array_equal(longer[:6], frames)
    assert np.array_equal(longer, extend_video(pipeline, frames, "a red circle moving left", 7, seed=2))
    for count in (2, 3, 6):
        smooth = interpolate_video(pipeline, frames[:count], "a red circle moving left", 4, seed=2)
        assert smooth.shape == (4 * (count - 1) + 1, 16, 16, 3) and np.array_equal(smooth[::4], frames[:count])
    assert seam_ratio(longer, [5]) > 0


@pytest.mark.parametrize(
    "call,message",
    [
        (lambda p, f: extend_video(p, f, None, 0), "at least 1"),
        (lambda p, f: extend_video(p, f, None, 3, context_frames=6), "context_frames"),
        (lambda p, f: extend_video(p, f, None, 3, method="magic"), "unknown method"),
        (lambda p, f: interpolate_video(p, f, None, 3), "factor must be"),
        (lambda p, f: interpolate_video(p, f[:1], None, 2), "at least 2 frames"),
        (lambda p, f: p("a", sampler="dimm"), "did you mean 'ddim'"),
        (lambda p, f: p("a", num_inference_steps=0), "num_inference_steps must be in 1..1000"),
        (lambda p, f: p("a", num_inference_steps=10**6), "num_inference_steps must be in 1..1000"),
        (lambda p, f: p("a", num_frames=0), "num_frames must be at least 1"),
        (lambda p, f: p("a", height=10**5, width=10**5), "134 million"),
        (lambda p, f: p("a", height=17), "divisible by"),
        (lambda p, f: p("a", guidance=1, guidance_scal=2), "did you mean 'guidance_scale'"),
        (lambda p, f: p("  "), "prompt is empty"),
        (lambda p, f: p("word " * 10_000), "10000 words"),
        (lambda p, f: p(["a", "b"], seed=[1]), "2 prompts but 1 seeds"),
        (lambda p, f: p("a", batch_size=0), "batch_size"),
    ],
)
def test_bad_calls(pipeline, call, message):
    with pytest.raises(UserError, match=message):
        call(pipeline, np.zeros((6, 16, 16, 3), np.uint8))


def test_settings_come_from_the_model_and_can_be_replaced(pipeline):
    assert pipeline.settings() == SamplingConfig(**SAMPLING)
    assert pipeline.settings(num_frames=None, fps=4.0).fps == 4.0


def test_uint8_round_trip():
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 5, 3), dtype=np.uint8)
    assert np.array_equal(to_uint8(from_uint8(frames)), frames)


@pytest.fixture
def saved(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_save_load_and_hash(pipeline, saved):
    loaded = load_pipeline(str(saved))
    assert loaded.settings() == pipeline.settings()
    a, b = (p("a red circle moving left", seed=3).samples for p in (pipeline, loaded))
    assert float((a - b).abs().max()) < 1e-5
    before = model_hash(saved)
    config = json.loads((saved / "network" / "config.json").read_text())
    (saved / "network" / "config.json").write_text(json.dumps({**config, "x": 1}))
    assert model_hash(saved) != before


def test_replay_makes_the_same_frames(saved):
    pipeline = load_pipeline(str(saved))
    makings = [Generate(prompt=p) for p in PROMPTS[:3]]
    alone = [m.make(Run(pipeline, str(saved), 4 + i, {"num_inference_steps": 3})) for i, m in enumerate(makings)]
    made = alone[0]
    again = replay(made.record, None, device="cpu")
    assert frames_hash(again.frames) == made.record["frames_sha256"] == frames_hash(made.frames)
    assert again.record == made.record
    together = made_of(pipeline, saved, PROMPTS[:3], [4, 5, 6], num_inference_steps=3)
    assert np.abs(together[0].frames.astype(int) - made.frames).max() <= 1  # but for rounding
    with pytest.raises(UserError, match="not the model"):
        replay({**made.record, "model_hash": "0" * 16}, None)


def test_a_default_may_change_and_old_videos_stay_replayable(saved):
    """sampling.json says how a model is sampled where nobody asks; it is no part of the model's hash."""
    made = Generate(prompt=PROMPTS[0]).make(Run(load_pipeline(str(saved)), str(saved), 4, {"num_inference_steps": 3}))
    before = model_hash(saved)
    (saved / "sampling.json").write_text(json.dumps({"num_inference_steps": 2, "sampler": "dpmpp_2m"}))
    assert model_hash(saved) == before
    settings = load_pipeline(str(saved)).settings()
    assert (settings.num_inference_steps, settings.sampler) == (2, "dpmpp_2m")
    assert frames_hash(replay(made.record, None, device="cpu").frames) == made.record["frames_sha256"]
    (saved / "sampling.json").write_text("[2]")
    with pytest.raises(UserError, match="sampling.json"):
        load_pipeline(str(saved))


def broken(saved, what):
    weights = saved / "network" / "diffusion_pytorch_model.safetensors"
    if what == "missing":
        weights.unlink()
    elif what == "truncated":
        weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    elif what == "pickled":
        weights.unlink()
        torch.save({"a": torch.zeros(1)}, saved / "network" / "diffusion_pytorch_model.bin")
    elif what == "lacks tensors":
        from safetensors.torch import load_file, save_file

        kept = dict(list(load_file(weights).items())[:-3])
        save_file(kept, weights)
    elif what == "no index":
        (saved / "model_index.json").unlink()
    elif what == "foreign":
        index = json.loads((saved / "model_index.json").read_text())
        (saved / "model_index.json").write_text(json.dumps({**index, "network": ["os", "system"]}))
    return saved


@pytest.mark.parametrize(
    "what,message",
    [
        ("missing", "is missing"),
        ("truncated", "cut short"),
        ("pickled", "pickled weights"),
        ("lacks tensors", "tensors are missing"),
        ("no index", "without model_index.json"),
        ("foreign", "expected a network of muybridge"),
    ],
)
def test_bad_models_are_told_apart(saved, what, message):
    with pytest.raises(UserError, match=message):
        load_pipeline(str(broken(saved, what)))
    shutil.rmtree(saved)


def test_unknown_model():
    with pytest.raises(UserError, match="did you mean 'world-vdm'"):
        find_model("world-vmd")


def test_the_limit_is_the_machines_memory(pipeline, monkeypatch):
    from muybridge.pipelines import memory

    monkeypatch.setattr(memory, "available_bytes", lambda device: 4 * 10**9)
    long = {"num_frames": 300, "height": 272, "width": 640}
    with pytest.raises(UserError, match="4.0 GB are free.*extend"):
        pipeline.settings(**long)
    monkeypatch.setattr(type(pipeline), "in_windows", True)
    assert pipeline.settings(**long).num_frames == 300
    with pytest.raises(UserError, match="fewer or smaller frames"):
        pipeline.settings(num_frames=5000, height=272, width=640)
    monkeypatch.setattr(memory, "available_bytes", lambda device: 10**12)
    assert pipeline.settings(num_frames=5000, height=272, width=640).num_frames == 5000


@pytest.mark.parametrize(
    "given,message",
    [
        ({"eta": 0.5, "sampler": "dpmpp_2m"}, "dpmpp_2m does not read it; ddim does"),
        ({"gamma": 0.5, "sampler": "ddim"}, "ancestral does"),
        ({"corrector_step_size": 0.1, "sampler": "ddim"}, "ancestral does"),
        ({"eta": 2.0}, "eta must be in 0..1"),
        ({"gamma": -3.0, "sampler": "ancestral"}, "gamma must be in 0..1"),
        ({"guidance_rescale": 5.0}, "guidance_rescale must be in 0..1"),
        ({"threshold": "soft"}, "did you mean|unknown 'soft'"),
        ({"guidance_scale": float("nan")}, "finite"),
        ({"fps": float("inf")}, "finite"),
    ],
)
def test_settings_that_would_be_dropped_or_are_out_of_range_are_refused(pipeline, given, message):
    with pytest.raises(UserError, match=message):
        pipeline.settings(**given)


def test_every_sampler_reads_what_the_settings_say_it_reads():
    """The table of settings and the samplers' own arguments agree."""
    import inspect

    from muybridge.diffusion.samplers import SAMPLERS
    from muybridge.pipelines.settings import READ_BY

    assert set(READ_BY) == set(SAMPLERS)
    common = {"denoise", "z", "lams", "noise", "stochastic", "lower_order_final"}
    for name, sampler in SAMPLERS.items():
        assert set(READ_BY[name]) == set(inspect.signature(sampler).parameters) - common, name


def test_weights_that_are_not_finite_are_an_error_and_no_black_video(pipeline):
    import copy

    broken = copy.deepcopy(pipeline)
    with torch.no_grad():
        next(broken.network.parameters()).fill_(torch.nan)
    with pytest.raises(UserError, match="not finite"):
        broken(PROMPTS[0], seed=1)
