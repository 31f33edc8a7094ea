"""Every system trains on a device that is not the CPU, and does there what it does on the CPU."""

import json
from dataclasses import replace

import pytest
import torch
from accelerate.state import AcceleratorState

from muybridge.training.checkpoint import CheckpointFolder
from muybridge.training.trainer import Trainer
from tests.conftest import with_training
from tests.devices.recipes import SYSTEMS, recipe_of

#: As MPS is, the pretend device is here without double precision.
pytestmark = [pytest.mark.slow, pytest.mark.parametrize("device", [False], indirect=True, ids=["no float64"])]


def losses(folder):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line], [
        line["validation_error"] for line in lines if "validation_error" in line
    ]


def on(device, monkeypatch):
    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", str(device))


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_run_on_the_device_is_the_run_on_the_cpu(name, tiny_models, tmp_path, device, monkeypatch, fresh_accelerate):
    """Data, steps, validation, samples, checkpoints, a resume, and the saved model."""
    told = recipe_of(name, tiny_models, validation_clips=2)
    recipe = replace(told, sampling={**told.sampling, "num_inference_steps": 1})
    Trainer(with_training(recipe, sample_every=0), tmp_path / "cpu").run()
    on(device, monkeypatch)
    trainer = Trainer(recipe, tmp_path / "there")
    assert trainer.accelerator.device == device
    trainer.run(until=1)
    assert {p.device for p in trainer.model.parameters()} == {device}
    assert {s.device for s in trainer.ema.shadow.values()} == {device}
    resumed = Trainer(recipe, tmp_path / "there")
    resumed.run()
    assert CheckpointFolder(tmp_path / "there" / "checkpoints").steps() == [1, 2]
    here, there = losses(tmp_path / "cpu"), losses(tmp_path / "there")
    assert len(here[0]) == 2
    assert there[0] == pytest.approx(here[0], rel=1e-3) and there[1][-1] == pytest.approx(here[1][-1], rel=1e-3)


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_step_in_half_precision(name, tiny_models, tmp_path, device, monkeypatch, fresh_accelerate):
    """Autocast: the network's weights stay float32, its matrix products are bf16."""
    on(device, monkeypatch)
    trainer = Trainer(recipe_of(name, tiny_models, precision="bf16"), tmp_path / "run")
    trainer.prepare()
    before = {n: p.detach().clone() for n, p in trainer.model.named_parameters() if p.requires_grad}
    loss, norm = trainer.step(0)
    assert 0 < loss < 100 and 0 < norm < 1e5
    moved = [n for n, p in trainer.model.named_parameters() if n in before and not torch.equal(p, before[n])]
    assert moved and all(p.dtype == torch.float32 for p in trainer.model.parameters())
