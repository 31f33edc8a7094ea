"""What a run will need, before it runs: counted where it can be, measured by a short probe where it cannot."""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from muybridge.nn.devices import AUTO
from muybridge.training.logs import RunLog
from muybridge.training.recipe import Recipe
from muybridge.training.trainer import Trainer

PROBE_STEPS = 3
#: A run takes so much more than a probe: its allocator leaves holes between what lives long (docs/training.md).
ROOM = 1.05
FLOAT_BYTES = 4


@dataclass(frozen=True)
class Plan:
    """An estimate of a run on this machine.

    Attributes:
        parameters, trainable: counts.
        state_bytes: weights, gradients, AdamW moments and EMA: what stays between steps.
        peak_bytes: of the whole process (on a GPU: of its memory), from a probe that trains, validates, samples and
            saves, and ROOM.
        available_bytes: of this machine or GPU.
        seconds_per_step: the fastest probed step.
        seconds: of all steps, without validation and samples.
        disk_bytes: of the checkpoints that are kept.
        advice: what to change if it does not fit.
        told: what of the captions is not read, in words; "" if nothing.
    """

    parameters: int
    trainable: int
    state_bytes: int
    peak_bytes: int
    available_bytes: int
    seconds_per_step: float
    seconds: float
    disk_bytes: int
    advice: str
    told: str


def plan_run(recipe: Recipe, scratch: Path, device: str = AUTO) -> Plan:
    """Probe a few steps of a recipe, with its own network, batch and data, in a scratch folder."""
    sampling = {**recipe.sampling, "num_inference_steps": 2}  # more take longer, not more memory
    # weights that are spread over processes are probed whole, in this one
    training = replace(recipe.training, warmup_steps=0, sharded=False)
    probe = replace(recipe, training=training, sampling=sampling)
    trainer = Trainer(probe, scratch, device=device)
    trainer.prepare(limit=2 * recipe.training.batch_size)
    times = []
    for step in range(PROBE_STEPS):
        began = time.perf_counter()
        trainer.step(step)
        trainer.optimizer.zero_grad()
        times.append(time.perf_counter() - began)
    trainer.feed.close()
    _look(trainer)
    counts, config = trainer.counts, recipe.training
    state = FLOAT_BYTES * (counts["total"] + 4 * counts["trainable"])
    written = trainer.checkpoints.path(PROBE_STEPS)
    checkpoint = sum(p.stat().st_size for p in written.iterdir())
    peak, available = _memory(trainer.accelerator.device)
    peak = round(ROOM * peak)
    advice = ""
    if peak > 0.9 * available:
        advice = (
            "this will not fit well: raise training.accumulation (same result, smaller pieces), "
            "set training.gradient_checkpointing, or lower frames, size or batch_size"
        )
    if config.sharded:
        advice += " Probed in one process: sharded over N, each holds an Nth of weights, gradients, moments and EMA"
    return Plan(
        counts["total"],
        counts["trainable"],
        state,
        peak,
        available,
        min(times),
        min(times) * config.steps,
        checkpoint * (config.keep_checkpoints + 1),
        advice.strip(),
        trainer.told,
    )


def _look(trainer: Trainer) -> None:
    """What training does now and then, once: each may need more memory than a step."""
    trainer.folder.mkdir(parents=True, exist_ok=True)
    log = RunLog(trainer.folder, 0, trainer.console, quiet=True)
    with trainer.ema.applied():
        trainer.validate(trainer.model, PROBE_STEPS, log)
        if trainer.config.sample_every:
            trainer.sample(trainer.model, PROBE_STEPS)
    log.close()
    trainer.checkpoints.save(PROBE_STEPS, trainer.model, trainer.optimizer, trainer.ema, {}, trainer.main)
    trainer.export(trainer.folder / "model")


def _memory(device: torch.device) -> tuple[int, int]:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device), torch.cuda.get_device_properties(device).total_memory
    if device.type == "mps":
        return torch.mps.driver_allocated_memory(), torch.mps.recommended_max_memory()
    import psutil

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, int(psutil.virtual_memory().total)
