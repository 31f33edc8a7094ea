"""Resume is exact, processes agree, a network learns, and what goes wrong is said in words."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from muybridge.errors import UserError
from muybridge.opening.sampling import load_pipeline
from muybridge.training.checkpoint import CheckpointFolder
from muybridge.training.export import export_run
from muybridge.training.health import OVERFLOWS, Health
from muybridge.training.plan import plan_run
from muybridge.training.trainer import Trainer
from tests.conftest import with_training, write_recipe

REPOSITORY = Path(__file__).parents[2]


def run_process(recipe_path, folder, *more, check=True):
    environment = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "tests.training.runner",
        str(recipe_path),
        str(folder),
        *(("--stopped", *map(str, more)) if more else ()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, env=environment)
    if check:
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done


def final_weights(folder):
    return load_file(folder / "model" / "network" / "diffusion_pytorch_model.safetensors")


def losses_of(folder):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_kill_9_and_the_same_command_gives_the_same_bits(optimizer, tiny_recipe, tmp_path):
    recipe = with_training(tiny_recipe, optimizer=optimizer, decay="cosine")
    path = write_recipe(recipe, tmp_path / "r.yaml")
    Trainer(recipe, tmp_path / "whole").run()
    killed = run_process(path, tmp_path / "killed", 3, int(signal.SIGKILL), check=False)
    assert killed.returncode == -9
    assert CheckpointFolder(tmp_path / "killed" / "checkpoints").steps() == [2]
    run_process(path, tmp_path / "killed")
    whole, resumed = final_weights(tmp_path / "whole"), final_weights(tmp_path / "killed")
    assert whole.keys() == resumed.keys()
    for name in whole:
        assert torch.equal(whole[name], resumed[name]), name
    assert losses_of(tmp_path / "whole") == losses_of(tmp_path / "killed")


def test_accumulation_is_the_same_step(tiny_recipe, tmp_path):
    whole = Trainer(tiny_recipe, tmp_path / "a")
    whole.prepare()
    parts = Trainer(with_training(tiny_recipe, accumulation=2), tmp_path / "b", cache=tmp_path / "a" / "cache")
    parts.prepare()
    for step in range(2):
        (a, norm_a), (b, norm_b) = whole.step(step), parts.step(step)
        assert abs(a - b) < 1e-5 and abs(norm_a - norm_b) < 1e-4
        whole.optimizer.zero_grad()
        parts.optimizer.zero_grad()


@pytest.mark.slow
def test_a_transformer_and_a_unet_overfit_one_clip(tiny_recipe, tmp_path):
    """The whole path learns: one clip, a hundred steps or two, and the clip is read out of noise."""
    from dataclasses import replace

    from muybridge.diffusion.process import diffuse
    from muybridge.nn.frames import from_uint8, to_uint8

    transformer = {
        "type": "transformer", "in_channels": 3, "out_channels": 3, "layers": 2, "width": 96, "heads": 4,
        "patch_size": [1, 2, 2], "text_pooled_dim": 384, "text_token_dim": 384,
    }  # fmt: skip
    for name, model, steps in (("unet", tiny_recipe.model, 120), ("transformer", transformer, 200)):
        recipe = replace(
            tiny_recipe,
            model=model,
            data={**tiny_recipe.data, "num_clips": 1, "backgrounds": ["dark"], "sizes": ["large"]},
            diffusion={"null_probability": 0.0},
        )
        recipe = with_training(
            recipe,
            steps=steps,
            batch_size=4,
            optimizer="muon",
            learning_rate=6e-3,
            ema=0.95,
            threads=1,
            checkpoint_every=steps,
            decay="cosine",
        )
        trainer = Trainer(recipe, tmp_path / name, cache=tmp_path / "cache")
        trainer.prepare()
        for step in range(recipe.training.steps):
            loss, _ = trainer.step(step)
            trainer.optimizer.zero_grad()
        clip = trainer.batches.source.clip(0)
        spread = np.abs(clip.frames.astype(int).mean() - clip.frames).mean()
        with trainer.ema.applied():
            pipeline = trainer.system.pipeline(trainer.model.eval())
            settings = pipeline.settings(**{**recipe.sampling, "guidance_scale": 1.0, "num_inference_steps": 12})
            words = pipeline.condition([clip.caption], settings)
            denoise = pipeline.denoiser(words, pipeline.null(words), settings, 1.0)
            x, lam = from_uint8(clip.frames)[None], torch.tensor([-1.0])
            with torch.no_grad():
                read = to_uint8(denoise(diffuse(x, torch.randn_like(x), lam), lam))[0]
            error = np.abs(read.astype(int) - clip.frames).mean()
            assert error < 0.35 * spread, (name, error, spread, loss)  # out of more noise than signal


def test_run_writes_logs_samples_checkpoints_and_a_model(tiny_recipe, tmp_path, capsys):
    recipe = with_training(
        tiny_recipe, sample_every=6, sample_prompts=("a red circle moving left",), keep_checkpoints=2
    )
    folder = tmp_path / "run"
    model = Trainer(recipe, folder).run()
    told = capsys.readouterr().out
    assert "parameters," in told and "of them train" in told
    assert CheckpointFolder(folder / "checkpoints").steps() == [4, 6]
    assert (folder / "samples" / "step-00000006.png").is_file() and list((folder / "tensorboard").iterdir())
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    held_out = [r for r in records if "validation_error" in r]
    assert [r["step"] for r in held_out] == [3, 6] and any("validation_error_layout" in r for r in held_out)
    assert load_pipeline(str(model)).settings().num_frames == 4
    half = export_run(folder, tmp_path / "half")
    weights = load_file(half / "network" / "diffusion_pytorch_model.safetensors")
    assert {w.dtype for w in weights.values()} == {torch.float16}
    full = final_weights(folder)
    assert all(torch.allclose(weights[n].float(), full[n], rtol=2**-10, atol=1e-5) for n in full)


def test_another_recipe_in_the_same_folder_is_refused(tiny_recipe, tmp_path):
    Trainer(with_training(tiny_recipe, steps=2), tmp_path / "run").run()
    with pytest.raises(UserError, match=r"another recipe \(different: training\)"):
        Trainer(with_training(tiny_recipe, learning_rate=2e-3), tmp_path / "run").run()
    Trainer(
        with_training(tiny_recipe, steps=3, log_every=2), tmp_path / "run"
    ).run()  # longer, other bookkeeping: goes on


@pytest.mark.slow
def test_a_run_can_start_from_a_saved_model(tiny_recipe, tmp_path):
    model = Trainer(with_training(tiny_recipe, steps=2), tmp_path / "first").run()
    second = Trainer(with_training(tiny_recipe, start_from=str(model)), tmp_path / "second")
    second.prepare()
    saved = load_file(model / "network" / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(p, saved[n]) for n, p in second.model.state_dict().items())
    from dataclasses import replace

    wider = replace(tiny_recipe, model={**tiny_recipe.model, "base_channels": 24})
    with pytest.raises(UserError, match="do not fit"):
        Trainer(with_training(wider, start_from=str(model)), tmp_path / "third").prepare()


@pytest.mark.slow
def test_a_cut_checkpoint_is_passed_over(tiny_recipe, tmp_path):
    folder = tmp_path / "run"
    Trainer(with_training(tiny_recipe, steps=4), folder).run()
    (folder / "checkpoints" / "unfinished-00000005").mkdir()
    (folder / "checkpoints" / "step-00000004" / "state.json").unlink()
    assert CheckpointFolder(folder / "checkpoints").steps() == [2]
    Trainer(with_training(tiny_recipe, steps=4), folder).run()
    assert CheckpointFolder(folder / "checkpoints").steps() == [2, 4]


@pytest.mark.slow
def test_a_full_disk_keeps_the_last_checkpoint(tiny_recipe, tmp_path, monkeypatch):
    from muybridge.training import checkpoint

    folder = tmp_path / "run"
    Trainer(with_training(tiny_recipe, steps=2), folder).run()
    real, count = checkpoint.save_file, iter(range(99))

    def full(tensors, path):
        if next(count) == 1:  # the second file of the next checkpoint
            raise OSError(28, "No space left on device")
        real(tensors, path)

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(UserError, match="No space left on device.*last whole one is step 2"):
        Trainer(tiny_recipe, folder).run()
    assert [p.name for p in (folder / "checkpoints").iterdir()] == ["step-00000002"]


def test_learning_rates(tiny_recipe, tmp_path):
    def rates(**settings):
        trainer = Trainer(
            with_training(tiny_recipe, steps=100, learning_rate=1e-2, warmup_steps=10, **settings), tmp_path
        )
        return [trainer.learning_rate(step) for step in range(100)]

    assert rates()[4] == pytest.approx(5e-3) and rates()[99] == pytest.approx(1e-2)
    tail = rates(decay="tail")
    assert tail[10:80] == pytest.approx([1e-2] * 70)
    assert tail[90] == pytest.approx(5e-3) and tail[99] == pytest.approx(5e-4)
    trainer = Trainer(with_training(tiny_recipe, steps=100, decay="tail"), tmp_path)
    assert trainer.learning_rate(100) == trainer.learning_rate(140) == 0  # never up the gradient
    cosine = rates(decay="cosine")
    assert cosine[50] == pytest.approx(5e-3) and cosine[99] < 1e-5
    with pytest.raises(UserError, match="tail"):
        with_training(tiny_recipe, decay="tale")


def test_batch_must_divide(tiny_recipe, tmp_path):
    with pytest.raises(UserError, match="precision: fp16 needs a GPU"):
        Trainer(with_training(tiny_recipe, precision="fp16"), tmp_path)


def test_health_speaks_in_words():
    health = Health()
    with pytest.raises(UserError, match="the loss is nan. Nothing after step 40"):
        health.check_step(float("nan"), 1.0, 50, 40)
    for norm in (float("inf"), float("nan")):
        with pytest.raises(UserError, match=f"gradient's norm is {norm}"):
            health.check_step(1.0, norm, 50, 40)
    health = Health()
    for _ in range(OVERFLOWS):  # float16's loss scale is looking for its size
        health.check_step(1.0, float("inf"), 50, 40, scaled=True)
    with pytest.raises(UserError, match="norm is inf"):
        health.check_step(1.0, float("inf"), 50, 40, scaled=True)
    live, dead = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    live.grad = torch.ones(2)
    named = [("live", live), ("dead", dead)]
    assert [health.check_gradients(named) for _ in range(2)] == [[], []]
    assert "no gradient reaches dead" in health.check_gradients(named)[0]
    assert health.check_gradients(named) == []  # once
    still, moving = (
        np.zeros((1, 4, 8, 8, 3), np.uint8),
        np.random.default_rng(0).integers(0, 255, (1, 4, 8, 8, 3), np.uint8),
    )
    assert health.check_motion(moving, 5.0) == []
    assert "hardly move" in health.check_motion(still, 5.0)[0]


@pytest.mark.slow
def test_what_a_trained_network_loses_is_told(tiny_recipe, tmp_path, capsys):
    """A run that begins with weights measures them before its first step, and says when it has made them worse."""
    whole = Trainer(tiny_recipe, tmp_path / "first").run()
    assert held_out(tmp_path / "first")[0][0] > 0 and "held-out error" in capsys.readouterr().out
    begun = {"start_from": str(whole), "warmup_steps": 0, "ema": 0.0}
    for rate, worse in ((1e-9, False), (0.3, True)):
        recipe = with_training(tiny_recipe, learning_rate=rate, clip_norm=0.0, **begun)
        folder = tmp_path / f"{rate}"
        Trainer(recipe, folder).run(until=3)
        Trainer(recipe, folder).run()  # goes on: what was measured before the first step is still known
        errors = held_out(folder)
        assert [step for step, _ in errors] == [0, 3, 6] and errors[0][1] == pytest.approx(
            held_out(whole.parent)[-1][1]
        )
        told = [r for r in records(folder) if "is above" in r.get("warning", "")]
        assert len(told) == (2 if worse else 0), errors  # once a process


def records(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def held_out(folder):
    return [(r["step"], r["validation_error"]) for r in records(folder) if "validation_error" in r]


@pytest.mark.slow
def test_plan_counts_and_measures(tiny_recipe, tmp_path):
    found = plan_run(tiny_recipe, tmp_path)
    trainer = Trainer(tiny_recipe, tmp_path / "again")
    trainer.prepare()
    assert found.parameters == trainer.counts["total"] == found.trainable
    assert found.state_bytes == 20 * found.parameters
    assert 0 < found.seconds_per_step < 30 and found.seconds == found.seconds_per_step * 6
    assert found.peak_bytes > found.state_bytes and not found.advice
    Trainer(tiny_recipe, tmp_path / "run").run()
    checkpoint = sum(p.stat().st_size for p in (tmp_path / "run" / "checkpoints" / "step-00000006").iterdir())
    assert abs(found.disk_bytes / 3 / checkpoint - 1) < 0.1


def test_validation_is_the_same_every_time(tiny_recipe, tmp_path):
    trainer = Trainer(tiny_recipe, tmp_path)
    trainer.prepare()
    first = [trainer.system.losses(trainer.model, b).error for b in trainer.held_out(4, trainer.accelerator)]
    again = [trainer.system.losses(trainer.model, b).error for b in trainer.held_out(4, trainer.accelerator)]
    assert torch.equal(torch.cat(first), torch.cat(again)) and len(torch.cat(first)) == 4
