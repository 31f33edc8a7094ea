"""What a run leaves on disk: never weights that are not finite, never half a checkpoint or model, never two runs in one
folder."""

import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from muybridge.data.ahead import in_order
from muybridge.data.latents import ClipLatents
from muybridge.data.registry import make_source
from muybridge.errors import UserError
from muybridge.locks import RUNNING, locked
from muybridge.models.latent.space import LatentSpace
from muybridge.training.checkpoint import FILES, CheckpointFolder
from muybridge.training.export import export_run
from muybridge.training.recipe import TrainingConfig
from muybridge.training.trainer import Trainer
from tests.conftest import with_training
from tests.devices.recipes import WORLD, recipe_of


def tensors(folder):
    return {p.relative_to(folder): load_file(p) for p in sorted(folder.rglob("*.safetensors"))}


def spoiled_at(trainer, step, value):
    """The trainer, with a gradient of `value` in that step while its loss is finite."""
    losses = trainer.system.losses

    def spoiled(model, batch):
        made = losses(model, batch)
        if not (model.training and batch.step == step):
            return made
        weight = next(p for p in model.parameters() if p.requires_grad).flatten()[0]
        return replace(made, weighted=made.weighted + Slope.apply(weight, value))

    trainer.system.losses = spoiled
    return trainer


class Slope(torch.autograd.Function):
    """Nothing, with a gradient of `value`."""

    @staticmethod
    def forward(ctx, x, value):
        ctx.value = value
        return torch.zeros(())

    @staticmethod
    def backward(ctx, grad):
        return torch.as_tensor(ctx.value), None


@pytest.mark.slow
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_reaches_no_weight_and_the_same_command_goes_on(value, tiny_recipe, tmp_path):
    recipe = with_training(tiny_recipe, checkpoint_every=1, steps=4)
    trainer = spoiled_at(Trainer(recipe, tmp_path / "run"), 2, value)
    with pytest.raises(UserError, match="step 2: the gradient's norm is .* Nothing after step 2 was saved"):
        trainer.run()
    assert all(bool(p.isfinite().all()) for p in trainer.model.parameters())
    assert CheckpointFolder(tmp_path / "run" / "checkpoints").steps() == [1, 2]
    Trainer(recipe, tmp_path / "run").run()
    Trainer(recipe, tmp_path / "whole", cache=tmp_path / "run" / "cache").run()
    ours, theirs = (load_file(tmp_path / f / "checkpoints" / "step-00000004" / FILES[0]) for f in ("run", "whole"))
    assert all(torch.equal(ours[n], theirs[n]) for n in theirs)


def test_weights_that_are_not_finite_are_never_written(tiny_recipe, tmp_path):
    trainer = Trainer(with_training(tiny_recipe, steps=2), tmp_path / "run")
    trainer.prepare()
    trainer.step(0)
    folder = CheckpointFolder(tmp_path / "checkpoints")
    folder.save(1, trainer.model, trainer.optimizer, trainer.ema, {}, True)
    name = next(iter(trainer.ema.shadow))
    trainer.ema.shadow[name].view(-1)[0] = math.nan
    with pytest.raises(UserError, match=f"after step 2 {name} is not finite.*last whole one is step 1"):
        folder.save(2, trainer.model, trainer.optimizer, trainer.ema, {}, True)
    assert [p.name for p in folder.folder.iterdir()] == ["step-00000001"]


@pytest.mark.parametrize(
    ("field", "value"),
    [("clip_norm", math.nan), ("learning_rate", math.nan), ("ema", math.nan), ("eps", math.inf), ("weight_decay",
    -1.0), ("warmup_steps", -1),
     ("validate_every", 0), ("validation_clips", 0), ("sample_every", -1), ("threads", -2), ("workers", -1), ("betas",
     (0.9,)), ("betas", (2.0, 5.0))],
)  # fmt: skip
def test_settings_that_cannot_train_are_refused(field, value):
    with pytest.raises(UserError, match=f"training.{field} must be"):
        TrainingConfig(**{field: value})


def damaged(folder, how, name):
    file = folder / name
    data = file.read_bytes()
    file.unlink()  # what is mapped elsewhere stays
    if how == "cut":
        file.write_bytes(data[: len(data) // 2])
    elif how == "empty":
        file.write_bytes(b"")
    elif how != "gone":  # one byte of a weight
        file.write_bytes(data[:-5] + bytes([data[-5] ^ 1]) + data[-4:])


def test_only_whole_checkpoints_count_among_those_that_are_kept(tiny_recipe, tmp_path):
    recipe = with_training(tiny_recipe, steps=6, checkpoint_every=1, keep_checkpoints=3, sample_every=0)
    Trainer(recipe, tmp_path / "run").run()
    for step in (5, 6):
        damaged(tmp_path / "run" / "checkpoints" / f"step-{step:08d}", "one byte", FILES[0])
    for keep in (2, 1):
        trainer = Trainer(with_training(recipe, keep_checkpoints=keep), tmp_path / "run")
        trainer.run(until=5)
        assert trainer.checkpoints.newest() == 5 and trainer.checkpoints.steps() == [4, 5][-keep:]
        assert sorted(p.name for p in (tmp_path / "run" / "checkpoints").glob("damaged-*")) == [
            "damaged-00000005", "damaged-00000006",
        ]  # fmt: skip
        damaged(trainer.checkpoints.path(5), "one byte", FILES[0]) if keep == 2 else None


def test_no_step_is_taken_or_exported_beyond_what_is_asked_for(tiny_recipe, tmp_path):
    recipe = with_training(tiny_recipe, steps=2, sample_every=0)
    with pytest.raises(UserError, match="2 at most, got 3"):
        Trainer(recipe, tmp_path / "run").run(until=3)
    Trainer(recipe, tmp_path / "run").run()
    with pytest.raises(UserError, match="has gone to step 2, beyond step 1"):
        Trainer(with_training(recipe, steps=1), tmp_path / "run").run()


# without state.json a checkpoint is not finished: see test_trainer
@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "name"),
    [("cut", FILES[0]), ("one byte", FILES[0]), ("empty", FILES[1]), ("gone", FILES[2]), ("cut", "state.json")],
)
def test_a_damaged_checkpoint_is_told_and_the_one_before_is_taken(how, name, tiny_recipe, tmp_path, capsys):
    folder = tmp_path / "run"
    Trainer(with_training(tiny_recipe, steps=4, sample_every=0), folder).run()
    whole = tensors(folder / "checkpoints" / "step-00000004")
    damaged(folder / "checkpoints" / "step-00000004", how, name)
    capsys.readouterr()
    assert export_run(folder, tmp_path / "model").is_dir()
    Trainer(with_training(tiny_recipe, steps=4, sample_every=0), folder).run()
    told = " ".join(capsys.readouterr().out.split())
    assert "is damaged" in told and "going on from step 2" in told
    again = tensors(folder / "checkpoints" / "step-00000004")
    assert all(torch.equal(again[f][n], t) for f, table in whole.items() for n, t in table.items())
    for step in (2, 4):
        damaged(folder / "checkpoints" / f"step-{step:08d}", "empty", FILES[0])
    with pytest.raises(UserError, match="no checkpoint there is whole"):
        Trainer(with_training(tiny_recipe, steps=4), folder).run()


def test_one_run_a_folder(tiny_recipe, tmp_path):
    with locked(tmp_path / "run", "training") as sign:
        sign()
        with pytest.raises(UserError, match=rf"another run is training there \(process {os.getpid()} on .*, since "):
            Trainer(with_training(tiny_recipe, steps=1), tmp_path / "run").run()
    assert not list((tmp_path / "run").glob("*.json*"))
    assert Trainer(with_training(tiny_recipe, steps=1), tmp_path / "run").run().is_dir()  # and it is given back
    with locked(tmp_path / "run", "training"):
        pass


def test_a_crash_lets_go_of_a_folder(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from muybridge.locks import locked\n"
        "with locked(Path(sys.argv[1]), 'training') as sign:\n    sign(); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=Path.cwd()).returncode == -9
    assert (tmp_path / RUNNING).is_file()
    with locked(tmp_path, "training") as sign:
        sign()
    assert not (tmp_path / RUNNING).exists()


def test_the_model_at_the_end_is_written_whole(tiny_recipe, tmp_path):
    trainer = Trainer(with_training(tiny_recipe, steps=1), tmp_path / "run")
    save = trainer.system.save

    def cut(model, folder, sampling):
        save(model, folder, sampling)
        raise KeyboardInterrupt

    trainer.system.save = cut
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert not (tmp_path / "run" / "model").exists()
    assert not [p for p in (tmp_path / "run").iterdir() if "unfinished" in p.name]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vdm_joint", "stable_video"])
def test_any_number_of_workers_gives_the_same_bits(name, tiny_models, tmp_path):
    """Clips, latents of a first run, batches of accumulated steps, and a resume in the middle."""
    runs = {}
    for workers in (0, 1, 2):
        recipe = recipe_of(
            name, tiny_models, steps=4, accumulation=2, checkpoint_every=2, sample_every=0, workers=workers
        )
        folder = tmp_path / str(workers)
        trainer = Trainer(recipe, folder)
        trainer.run(until=2)
        assert (trainer.feed._pool is None) == (workers == 0)
        Trainer(recipe, folder).run()
        runs[workers] = tensors(folder)
        lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        runs[workers]["log"] = {str(i): torch.tensor(x["loss"]) for i, x in enumerate(lines) if "loss" in x}
    assert len(runs[0]["log"]) == 4
    for workers in (1, 2):
        assert runs[workers].keys() == runs[0].keys()
        assert all(torch.equal(t, runs[workers][f][n]) for f, table in runs[0].items() for n, t in table.items())


def test_things_come_in_order_and_errors_in_their_turn():
    for workers in (0, 1, 3):
        assert list(in_order(lambda n: n * n, range(20), workers)) == [n * n for n in range(20)]
        got = []
        with pytest.raises(ZeroDivisionError):
            for value in in_order(lambda n: 1 // (n - 3), range(9), workers):
                got.append(value)
        assert len(got) == 3


def test_a_damaged_cache_is_made_anew(tiny_models, tmp_path):
    space = LatentSpace.open(tiny_models / "vae")
    source = make_source({**WORLD, "num_frames": 2})
    first = ClipLatents(source, space, tmp_path)
    damaged(tmp_path, "cut", first.path.name)
    again = ClipLatents(source, space, tmp_path, workers=2)
    assert torch.equal(again.mean, first.mean) and len(list(tmp_path.iterdir())) == 1


def test_the_encoder_stays_where_it_is(tiny_models, tmp_path, device):
    """Clips go to the encoder, several in a call where it is on an accelerator; latents come back to the CPU."""
    source, calls = make_source({**WORLD, "num_frames": 2}), []
    there = LatentSpace.open(tiny_models / "vae")
    there.vae.to(device)
    encode = there.encode
    there.encode = lambda video: calls.append(video.shape) or encode(video)
    made = ClipLatents(source, there, tmp_path / "there", workers=1)
    assert there.vae.device == device and made.mean.device.type == "cpu"
    assert calls == [(8, 3, 2, 16, 16)]
    here = ClipLatents(source, LatentSpace.open(tiny_models / "vae"), tmp_path / "here")
    assert torch.allclose(made.mean.float(), here.mean.float(), atol=2e-3)


@pytest.mark.slow
def test_a_checkpoint_holds_what_trains_and_knows_the_network_below(tmp_path, tiny_models):
    recipe = recipe_of("video_ldm_clip", tiny_models, steps=3, checkpoint_every=2, keep_checkpoints=2)
    run = tmp_path / "run"
    model = Trainer(recipe, run).run()
    folder = run / "checkpoints" / "step-00000002"
    names = set(load_file(folder / FILES[0]))
    trained = {n for n, p in Trainer(recipe, run)._build().named_parameters() if p.requires_grad}
    assert names == trained and all(n.startswith("temporal.") for n in names)
    whole = tensors(model)
    shutil.rmtree(run / "checkpoints" / "step-00000003")
    Trainer(recipe, run).run()
    assert same(tensors(model), whole) and same(tensors(export_run(run, tmp_path / "out", half=False)), whole)

    state = json.loads((folder / "state.json").read_text())
    assert len(state["frozen"]) == 64
    for other in ({"frozen": "0" * 64}, {"frozen": ""}):  # another network below; a version that wrote all of it
        shutil.rmtree(run / "checkpoints" / "step-00000003")
        (folder / "state.json").write_text(json.dumps(state | other))
        if other["frozen"]:
            for again in (lambda: Trainer(recipe, run).run(), lambda: export_run(run, tmp_path / "other")):
                with pytest.raises(UserError, match="has changed since this run began"):
                    again()
            (run / "checkpoints" / "step-00000003").mkdir()
    Trainer(recipe, run).run()
    assert same(tensors(model), whole)


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all(
        torch.equal(ours[f][n], theirs[f][n]) for f in theirs for n in theirs[f]
    )
