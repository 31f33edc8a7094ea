"""--memory: less of it makes the same frames but for rounding; what is predicted is what is taken; nothing is left in
the wrong place."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from muybridge.cli.main import app
from muybridge.data.video_io import read_recipe
from muybridge.errors import UserError
from muybridge.nn import pieces
from muybridge.nn.live_bytes import META, LiveBytes
from muybridge.opening.sampling import load_pipeline
from tests import user_folders
from tests.devices import pretend

HOW = {"num_inference_steps": 2, "guidance_scale": 3.0, "height": 16, "width": 16}


@pytest.fixture(scope="module")
def sd15(tmp_path_factory):
    return user_folders.stable_diffusion(tmp_path_factory.mktemp("sd15"))


@pytest.mark.parametrize("model", ["emoji-video", "world-vdm", "SD"])
def test_low_and_fast_make_the_same_frames_but_for_rounding(model, sd15, monkeypatch):
    monkeypatch.setattr(pieces, "PIECE", 2**14)  # so that these small layers go in pieces
    name = str(sd15) if model == "SD" else model
    how = HOW if model == "SD" else {"num_inference_steps": 2, "num_frames": 3}
    made = {
        m: load_pipeline(name, "cpu", memory=m)("a fox", seed=1, **how).samples for m in ("balanced", "low", "fast")
    }
    assert torch.allclose(made["balanced"], made["fast"], atol=1e-5)
    assert torch.allclose(made["balanced"], made["low"], atol=1e-4)


def test_layers_in_pieces_take_less_and_say_the_same(monkeypatch):
    from diffusers.models.attention import FeedForward
    from diffusers.models.resnet import ResnetBlock2D

    torch.manual_seed(0)
    block = ResnetBlock2D(in_channels=32, out_channels=64, temb_channels=8)
    for layer, given in (
        (FeedForward(32, activation_fn="geglu"), (torch.randn(16, 64, 32),)),
        (block, (torch.randn(16, 32, 8, 8), torch.randn(16, 8))),
    ):
        plain = layer(*given)

        def peak(layer=layer, given=given):
            with LiveBytes(mixing=True) as live, torch.no_grad():
                layer(*(torch.empty_like(x, device=META) for x in given))
            return live.peak

        whole = peak()
        monkeypatch.setattr(pieces, "PIECE", 2**14)
        holder = torch.nn.ModuleList([layer])
        assert pieces.in_pieces(holder) == 1 and pieces.in_pieces(holder) == 0
        assert torch.allclose(layer(*given), plain, atol=1e-6)
        assert peak() < 0.75 * whole, (peak(), whole)
        x = given[0].clone().requires_grad_()
        layer(x, *given[1:]).sum().backward()  # what guides by gradients goes through too
        assert x.grad is not None and x.grad.abs().sum() > 0


@pytest.mark.parametrize("shape", [(3, 1024, 32), (4000, 2, 32), (2501, 32)])
@pytest.mark.parametrize("cached, least", [(1, 800), (1200 * 8 * 32, 1200)])
def test_feed_forward_layers_that_stay_in_the_cache_say_the_same(shape, cached, least, monkeypatch):
    from diffusers.models.attention import FeedForward

    torch.manual_seed(0)
    layer, x = FeedForward(32, dim_out=48, activation_fn="geglu"), torch.randn(shape)
    plain = layer(x)
    monkeypatch.setattr(pieces, "CACHED", cached)

    def counted():
        with LiveBytes(mixing=True) as live, torch.no_grad():
            layer(torch.empty_like(x, device=META))
        return live.peak

    whole, rows = counted(), []
    hook = layer.net[0].register_forward_pre_hook(lambda _, given: rows.append(given[0].numel() // 32))
    pieces.within_cache(torch.nn.ModuleList([layer]))
    with torch.no_grad():
        assert torch.allclose(layer(x), plain, atol=1e-6)
    assert len(rows) == x.numel() // 32 // least and sum(rows) == x.numel() // 32 and min(rows) >= least
    assert counted() < 0.75 * whole, "and the prediction knows"
    rows.clear()
    assert torch.equal(layer(x), plain) and len(rows) == 1, "whole under gradients"
    hook.remove()
    assert pieces.in_pieces(torch.nn.ModuleList([layer])) == 1, "memory low goes further"


def test_an_unknown_choice_is_refused(sd15):
    with pytest.raises(UserError, match="unknown memory 'lots'"):
        load_pipeline(str(sd15), "cpu", memory="lots")


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_the_peak_is_said_before_and_after_and_low_is_recorded(sd15, tmp_path):
    told = ["generate", "a fox", "--model", sd15, "--steps", 1, "--height", 16, "--width", 16]
    done = run(*told, "--memory", "low", "-o", tmp_path / "a.png")
    assert done.exit_code == 0, (done.output, done.exception)
    assert "memory low: autoencoder in tiles" in done.output and "predicted peak" in done.output
    assert "measured peak" in done.output.split("predicted peak")[1]
    assert read_recipe(tmp_path / "a.png")["memory"] == "low"
    assert "every frame equals" in run("replay", tmp_path / "a.png").output
    own = run(*told, "-o", tmp_path / "b.png")  # a user's model: said without being asked
    assert "memory balanced: autoencoder a few" in own.output and "measured peak" in own.output
    assert "memory" not in read_recipe(tmp_path / "b.png")
    quiet = run("generate", "a fox", "--model", "emoji-image", "--steps", 1, "-o", tmp_path / "c.png")
    assert quiet.exit_code == 0 and "predicted peak" not in quiet.output


@pytest.mark.parametrize("command", ["generate", "zero", "animate", "control"])
def test_plan_counts_a_command_and_makes_nothing(command, sd15, tmp_path, monkeypatch):
    monkeypatch.setenv("MUYBRIDGE_CACHE", str(tmp_path / "cache"))
    from muybridge.data.video_io import write_video

    clip = write_video(
        np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3), dtype=np.uint8), tmp_path / "c.npy", 8.0, {}
    )
    small = ("--model", sd15, "--height", 16, "--width", 16)
    given = {"generate": ("a fox", *small), "zero": ("a fox", *small), "animate": (clip,), "control": (clip, "a fox")}
    done = run("plan", command, *given[command], "--steps", 3, "--memory", "low", "-o", tmp_path / "out.npy")
    assert done.exit_code == 0, (done.output, done.exception)
    assert "peak memory (predicted)" in done.output and "a network call beside it" in done.output
    assert not (tmp_path / "out.npy").exists()


def test_plan_refuses_what_it_does_not_know(tmp_path):
    done = run("plan", tmp_path / "none.yaml", "--stpes", "3")
    assert done.exit_code == 2 and "'--stpes' was not expected behind a recipe" in " ".join(done.output.split())


def test_the_network_and_the_autoencoder_take_turns_on_an_accelerator(sd15):
    with pretend.present() as device:
        here = load_pipeline(str(sd15), "cpu", memory="low")("a fox", seed=1, **HOW).samples
        pipeline = load_pipeline(str(sd15), str(device), memory="low")
        places = []
        decode = pipeline.space.decode
        pipeline.space.decode = lambda z: (places.append((pipeline.network.device, pipeline.vae.device)), decode(z))[1]
        network_hook = pipeline.network.register_forward_pre_hook(
            lambda *_: places.append((pipeline.network.device, pipeline.vae.device))
        )
        there = pipeline("a fox", seed=1, **HOW).samples
        network_hook.remove()
        cpu = torch.device("cpu")
        assert places[0] == (device, cpu) and places[-1] == (cpu, device)
        assert pipeline.device == device and pipeline.vae.device == cpu
        assert torch.allclose(there.to(cpu), here, atol=1e-3)


def test_compiled_blocks_say_the_same(sd15, monkeypatch):
    """Traced as torch.compile does, without the machine code, which takes minutes."""
    compiled = torch.compile
    seen = []
    monkeypatch.setattr(torch, "compile", lambda f: seen.append(f) or compiled(f, backend="eager"))
    plain = load_pipeline(str(sd15), "cpu")("a fox", seed=1, **HOW).samples
    made = load_pipeline(str(sd15), "cpu", compiled=True)("a fox", seed=1, **HOW).samples
    assert len(seen) >= 4 and torch.allclose(plain, made, atol=1e-5)


CALLS = {
    "words": "p('a red circle', seed=0, **how)",
    "given frames": "extend_video(p, numpy.zeros((4, 96, 96, 3), 'uint8'), 'a red', 12, context_frames=4, **how)",
}


@pytest.mark.slow
@pytest.mark.parametrize("name,side", [("words", 128), ("given frames", 96)])
def test_what_is_predicted_is_what_is_taken(name, side):
    """A process of its own, whose network takes more than its libraries; both branches of guidance are kept for the
    gradient by given frames."""
    program = (
        "import json, numpy, sys, warnings; warnings.filterwarnings('ignore')\n"
        "from muybridge.opening.sampling import load_pipeline\n"
        "from muybridge.pipelines.continuation import extend_video\n"
        "from muybridge.pipelines.peak import peak_bytes, watch\n"
        "p = load_pipeline('world-vdm', 'cpu'); found = []\n"
        "watch(p, found.append)\n"
        f"how = {{'num_frames': 16, 'height': {side}, 'width': {side}, 'num_inference_steps': 1}}; {CALLS[name]}\n"
        "print(json.dumps([found[0].total, peak_bytes(p.device), found[0].there]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    predicted, measured, there = json.loads(done.stdout.splitlines()[-1])
    assert measured > there + 100_000_000
    assert abs(predicted / measured - 1) < 0.15, (predicted, measured)


def test_a_network_that_asks_for_values_is_run_uncounted_and_said(sd15, tmp_path, monkeypatch):
    from muybridge.pipelines import latents

    predict = latents.LatentPipeline.predict
    asking = lambda self, z, *a, **k: (float(z.sum()), predict(self, z, *a, **k))[1]  # noqa: E731
    monkeypatch.setattr(latents.LatentPipeline, "predict", asking)
    told = ["generate", "a fox", "--model", sd15, "--steps", 1, "--height", 16, "--width", 16, "-o", tmp_path / "a.png"]
    done = run(*told)
    assert done.exit_code == 0 and "the peak is not predicted: " in done.output and "measured peak" in done.output
    refused = run("plan", *told)
    assert refused.exit_code == 2 and "cannot be counted without being run" in " ".join(refused.output.split())


def test_what_fits_with_memory_low_is_not_refused(monkeypatch):
    from muybridge.pipelines import memory

    pipeline = load_pipeline("world-vdm", "cpu")
    needed = memory.needed_bytes(pipeline, pipeline.settings())
    monkeypatch.setattr(memory, "available_bytes", lambda device: needed - 1)
    with pytest.raises(UserError, match="take --memory low, or sample fewer"):
        pipeline.settings()
    pipeline.memory = "low"
    pipeline.settings()
