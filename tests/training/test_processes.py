"""Two real processes: they are two, they compute what one computes, they stop together, and they can share one
network."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from muybridge.errors import UserError
from muybridge.training.checkpoint import CheckpointFolder
from muybridge.training.processes import check_launcher
from muybridge.training.trainer import Trainer
from tests.conftest import make_tiny_recipe, with_training, write_recipe
from tests.devices.recipes import recipe_of

REPOSITORY = Path(__file__).parents[2]


def launch(recipe, folder, *signalled, check=True):
    """Train in two processes of torch's launcher; returns its result and what each process reported."""
    done = launch_each([(recipe, folder)], *signalled, check=check)
    return done, reports_of(folder)


def launch_each(runs, *signalled, check=True):
    """The same of several recipes and folders, one after another in the same two processes."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("ACCELERATE_", "WORLD_SIZE"))}
    environment |= {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}
    command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "-m", "tests.training.runner"]
    for i, (recipe, folder) in enumerate(runs):
        command += [str(write_recipe(recipe, folder.with_name(f"{folder.name}-{i}.yaml"))), str(folder)]
    command += ["--stopped", *(str(int(s)) for s in signalled)] if signalled else []
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, env=environment, timeout=300)
    if check:
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done


def reports_of(folder):
    return [json.loads(p.read_text()) for p in sorted(folder.parent.glob(f"{folder.name}.*.json"))]


def numbers(folder, *names):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return {(line["step"], name): line[name] for line in lines for name in names if name in line}


def weights(folder):
    files = sorted((folder / "checkpoints").glob("step-*/model.safetensors"))
    return load_file(files[-1])


@pytest.mark.slow
def test_two_processes_compute_what_one_computes(tiny_models, tmp_path):
    recipes = {
        name: recipe_of(name, tiny_models, steps=5, validate_every=5, sample_every=0, checkpoint_every=5)
        for name in ("vdm_joint", "video_ldm_clip", "stable_video", "gen1", "sora")
    }
    launch_each([(recipe, tmp_path / f"{name}-two") for name, recipe in recipes.items()])
    for name, recipe in recipes.items():
        Trainer(recipe, tmp_path / f"{name}-one").run()
        folders = tmp_path / f"{name}-one", tmp_path / f"{name}-two"
        assert [r["processes"] for r in reports_of(folders[1])] == [2, 2]
        one, two = (numbers(f, "loss", "gradient_norm", "validation_error") for f in folders)
        assert one.keys() == two.keys() and len(one) == 11
        for key, value in one.items():
            near = 1e-6 * max(1, value) * (1 if key[1] == "loss" else 10)
            assert abs(value - two[key]) < near, (name, key, value, two[key])
        a, b = (weights(f) for f in folders)
        assert a.keys() == b.keys() and max(float((a[n] - b[n]).abs().max()) for n in a) < 1e-4, name


@pytest.mark.slow
def test_a_signal_to_either_process_stops_both_after_the_same_step(tmp_path):
    recipe = with_training(make_tiny_recipe(), steps=6, checkpoint_every=6, validate_every=6)
    whole, stopped = tmp_path / "whole", [tmp_path / "first", tmp_path / "second"]
    for rank, (number, folder) in enumerate(zip((signal.SIGTERM, signal.SIGINT), stopped, strict=True)):
        _, reports = launch(recipe, folder, 2, number, rank, check=False)
        assert [r["processes"] for r in reports] == [2, 2] and [r["last"] for r in reports] == [2, 2]
        # torch aborts a process in which one of the group's threads still runs when the interpreter has gone
        assert [name for r in reports for name in r.get("threads", ()) if "gloo" in name] == []
        assert CheckpointFolder(folder / "checkpoints").steps() == [3]
    launch_each([(recipe, folder) for folder in (whole, *stopped)])
    for folder in stopped:
        a, b = weights(whole), weights(folder)
        assert all(torch.equal(a[n], b[n]) for n in a)
        assert numbers(whole, "loss") == numbers(folder, "loss")


@pytest.mark.slow
def test_two_processes_share_one_network(tiny_models, tmp_path):
    """Fully sharded: each holds about half, losses are one process', checkpoints are whole files that one process
    resumes."""
    names = ("vdm_joint", "gen1")
    whole = {n: recipe_of(n, tiny_models, steps=4, checkpoint_every=2, validate_every=2) for n in names}
    half = {n: with_training(recipe, sharded=True, steps=2) for n, recipe in whole.items()}
    resumed = with_training(half["vdm_joint"], steps=3), tmp_path / "vdm_joint"
    launch_each([*((recipe, tmp_path / n) for n, recipe in half.items()), resumed])
    for name, recipe in whole.items():
        total = sum(v.numel() for v in dict(network_of(recipe).named_parameters()).values())
        reports = reports_of(tmp_path / name)
        assert [r["processes"] for r in reports] == [2, 2] and all(r["sharded"] for r in reports)
        assert sum(r["held"] for r in reports) == total and max(r["held"] for r in reports) < 0.6 * total
    assert CheckpointFolder(tmp_path / "vdm_joint" / "checkpoints").steps()[-1] == 3  # resumed, sharded
    for name, recipe in whole.items():
        Trainer(recipe, tmp_path / "one" / name).run()
        Trainer(recipe, tmp_path / name).run()  # and alone
        one, shared = (numbers(f / name, "loss", "validation_error") for f in (tmp_path / "one", tmp_path))
        assert all(abs(one[key] - shared[key]) < 1e-5 * max(1, one[key]) for key in one), (one, shared)
        a, b = weights(tmp_path / "one" / name), weights(tmp_path / name)
        assert a.keys() == b.keys() and max(float((a[n] - b[n]).abs().max()) for n in a) < 2e-3


def network_of(recipe):
    from muybridge.training.recipe import make_system

    return make_system(recipe).build()


def test_a_launcher_that_disagrees_is_refused():
    check_launcher({}, 1)
    check_launcher({"WORLD_SIZE": "2"}, 2)
    with pytest.raises(UserError, match="WORLD_SIZE=2, but 1 process found"):
        check_launcher({"WORLD_SIZE": "2"}, 1)
    with pytest.raises(UserError, match="asked for several processes and started one"):
        check_launcher({"ACCELERATE_MIXED_PRECISION": "no", "MASTER_ADDR": "127.0.0.1"}, 1)


@pytest.mark.slow
def test_accelerates_launcher_without_a_gpu_is_refused(tiny_recipe, tmp_path):
    """It starts one process for --num_processes 2, and says nothing."""
    path = write_recipe(tiny_recipe, tmp_path / "r.yaml")
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "-m", "muybridge.cli.main"]
    command += ["train", str(path), "-o", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, env=environment)
    assert "started one" in done.stderr and done.returncode != 0, done.stderr[-2000:]
    assert not (tmp_path / "run").exists()


def test_one_process_has_nobody_to_share_with(tiny_recipe, tmp_path):
    with pytest.raises(UserError, match="there is one process"):
        Trainer(with_training(tiny_recipe, sharded=True), tmp_path / "run")
    with pytest.raises(UserError, match="optimizer adamw"):
        with_training(tiny_recipe, sharded=True, optimizer="muon")
