"""One trainer for all systems. The same command resumes: randomness is a function of (seed, step, place in the batch)."""

from __future__ import annotations

import json
import math
import signal
import time
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from muybridge.data.video_io import write_strip
from muybridge.diffusion.noise import derive_seed
from muybridge.errors import UserError
from muybridge.files import check_replaceable, write_json
from muybridge.nn.layout import SLOW_BF16, emulates_bf16, keep_freed_memory, suit_cpu
from muybridge.systems.contract import Losses
from muybridge.systems.loading import load_network_weights
from muybridge.training.bands import by_band
from muybridge.training.checkpoint import CheckpointFolder
from muybridge.training.ema import EMA
from muybridge.training.health import Health
from muybridge.training.logs import RunLog
from muybridge.training.optimizers import make_optimizer
from muybridge.training.recipe import Recipe, lasting_part, make_system
from muybridge.training.run_data import run_data

#: Held-out clips a system may show in its previews.
PREVIEWED = 6


class Trainer:
    """Runs a recipe in a folder, from its newest checkpoint if there is one.

    Args:
        recipe: what to train.
        folder: of the run: checkpoints/, log.jsonl, samples/, and model/ at the end.
        cache: for caption embeddings; beside the run unless given.

    Raises:
        UserError: settings that cannot run, or a folder that holds another recipe's run.
    """

    def __init__(self, recipe: Recipe, folder: Path, console: Console | None = None, cache: Path | None = None):
        self.recipe, self.config, self.folder = recipe, recipe.training, folder
        self.console = console or Console()
        self.cache = cache or folder / "cache"
        keep_freed_memory()
        if self.config.threads:
            torch.set_num_threads(self.config.threads)
        if self.config.precision == "fp16" and not torch.accelerator.is_available():
            raise UserError("training.precision: fp16 needs a GPU; use fp32 (or bf16 where the CPU has it)")
        if self.config.precision == "bf16" and not torch.accelerator.is_available() and emulates_bf16():
            self.console.print(f"warning: {SLOW_BF16}", style="bold yellow")
        precision = {"fp32": "no"}.get(self.config.precision, self.config.precision)
        self.accelerator = Accelerator(mixed_precision=precision)
        self.main = self.accelerator.is_main_process
        self.system = make_system(recipe)
        self.stopping = False

    # --- setting up -------------------------------------------------------------------------------------------------

    def prepare(self, limit: int = 0) -> None:
        """Build data, network and optimizer; `limit` keeps only the first clips (for a probe)."""
        config, accelerator = self.config, self.accelerator
        shares = accelerator.num_processes * config.accumulation
        if config.batch_size % shares:
            raise UserError(
                f"training.batch_size {config.batch_size} must be a multiple of processes x accumulation = {shares}"
            )
        self.share = config.batch_size // shares
        data = run_data(self.recipe, self.system, accelerator, self.cache, self.console, limit)
        self.batches, self.held_out, self.data_motion = data.batches, data.held_out, data.motion

        torch.manual_seed(derive_seed(self.recipe.seed, "init"))
        model = self.system.build()
        if config.start_from:
            load_network_weights(model, config.start_from)
        if config.gradient_checkpointing:
            model.enable_gradient_checkpointing()  # type: ignore[operator]
        trainable = {name for name, _ in self.system.trainable(model)}
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in trainable)
        self.counts = count_parameters(model)
        if self.accelerator.device.type == "cpu":
            suit_cpu(model, only_trainable=True)
        optimizer = make_optimizer(
            config.optimizer,
            model,
            lr=config.learning_rate,
            betas=(config.betas[0], config.betas[1]),
            weight_decay=config.weight_decay,
            eps=config.eps,
        )
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        bare = accelerator.unwrap_model(self.model)
        self.ema = EMA(((n, p) for n, p in bare.named_parameters() if p.requires_grad), config.ema)
        self.checkpoints = CheckpointFolder(self.folder / "checkpoints", config.keep_checkpoints)

    def _claim_folder(self) -> None:
        """Refuse to continue a run that was started with another recipe."""
        if not self.main:
            return
        path = self.folder / "recipe.json"
        if not path.exists():  # a new run starts in a folder of its own: nothing that lies there is written over
            check_replaceable(self.folder, ("cache/*",), "a run")
        self.folder.mkdir(parents=True, exist_ok=True)
        mine = self.recipe.as_dict()
        if path.exists():
            theirs = json.loads(path.read_text())
            changed = sorted(k for k in mine if lasting_part(k, mine[k]) != lasting_part(k, theirs.get(k)))
            if changed and self.checkpoints.steps():
                raise UserError(
                    f"{self.folder} holds a run with another recipe (different: {', '.join(changed)}); "
                    "give another --output, or restore the recipe to go on"
                )
        write_json(path, mine)

    # --- the loop ---------------------------------------------------------------------------------------------------

    def run(self, until: int | None = None) -> Path:
        """Train to the recipe's last step (or to `until`); returns the folder of the finished model."""
        self.prepare()
        self._claim_folder()
        self.accelerator.wait_for_everyone()
        done = self.checkpoints.steps()
        start = done[-1] if done else 0
        if start:
            self.checkpoints.load(start, self.model, self.optimizer, self.ema)
        self.log = RunLog(self.folder, start, self.console, quiet=not self.main)
        self.log.say(f"{self.counts['total']:,} parameters, {self.counts['trainable']:,} of them train")
        self.log.say(f"going on from step {start}" if start else f"starting in {self.folder}")
        health, last_saved, finish = Health(), start, until or self.config.steps
        before = {s: signal.signal(s, self._ask_to_stop) for s in (signal.SIGINT, signal.SIGTERM)}
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        try:
            with Progress(
                *columns, console=self.console, disable=not self.main or not self.console.is_terminal
            ) as progress:
                task = progress.add_task(self.recipe.name, total=finish, completed=start)
                for step in range(start, finish):
                    began = time.perf_counter()
                    loss, norm = self.step(step)
                    health.check_loss(loss, step, last_saved)
                    reached = step + 1
                    progress.update(task, completed=reached, description=f"loss {loss:.4f}")
                    if reached % self.config.log_every == 0:
                        seconds = time.perf_counter() - began
                        self.log.write(reached, loss=loss, gradient_norm=norm, seconds_per_step=seconds)
                    if reached % (10 * self.config.log_every) == 0:
                        named = ((n, p) for n, p in self.model.named_parameters() if p.requires_grad)
                        self._warn(health.check_gradients(named), reached)
                    self.optimizer.zero_grad()
                    if reached % self.config.validate_every == 0 or reached == finish:
                        self._validate(reached)
                    if self.config.sample_every and (reached % self.config.sample_every == 0 or reached == finish):
                        self._warn(health.check_motion(self._sample(reached), self.data_motion), reached)
                    if reached % self.config.checkpoint_every == 0 or reached == finish or self.stopping:
                        self.checkpoints.save(
                            reached, self.model, self.optimizer, self.ema, {"recipe": self.recipe.name}, self.main
                        )
                        last_saved = reached
                    if self.stopping:
                        self.log.say(f"stopped at step {reached}; run the same command again to go on")
                        raise KeyboardInterrupt
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            self.log.close()
        return self.export(self.folder / "model") if finish == self.config.steps else self.folder

    def step(self, step: int) -> tuple[float, float]:
        """One optimizer step on the global batch of `step`; returns its loss and gradient norm. Gradients stay."""
        config, accelerator = self.config, self.accelerator
        torch.manual_seed(derive_seed(self.recipe.seed, "dropout", step, accelerator.process_index))
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(step)
        self.model.train()
        total = torch.zeros((), device=accelerator.device)
        for turn in range(config.accumulation):
            first = (turn * accelerator.num_processes + accelerator.process_index) * self.share
            batch = self.batches(step, range(first, first + self.share), accelerator.device)
            with accelerator.autocast():
                loss = self.system.losses(self.model, batch).weighted.mean() / config.accumulation
            accelerator.backward(loss)
            total += loss.detach()
        norm = accelerator.clip_grad_norm_(self.model.parameters(), config.clip_norm or math.inf)
        self.optimizer.step()
        self.ema.update(step)
        mean = accelerator.reduce(total, "mean")
        return float(mean), float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)

    def learning_rate(self, step: int) -> float:
        config = self.config
        rate = config.learning_rate * min(1.0, (step + 1) / max(1, config.warmup_steps))
        if config.decay == "cosine":
            rate *= 0.5 * (1 + math.cos(math.pi * min(1.0, step / config.steps)))
        elif config.decay == "tail":
            rate *= min(1.0, 5 * (1 - step / config.steps))
        return rate

    # --- looking at it ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _validate(self, step: int) -> None:
        """Held-out error of the averaged weights, whole and by log-SNR band."""
        self.model.eval()
        parts: list[Losses] = []
        with self.ema.applied():
            for batch in self.held_out(self.share, self.accelerator):
                parts.append(self.system.losses(self.model, batch))
        gathered = [self.accelerator.gather(torch.cat([getattr(p, n) for p in parts])) for n in ("error", "log_snr")]
        error, lam = gathered[0], gathered[1]
        values = by_band(error, lam)
        self.log.write(step, **values)
        told = "  ".join(
            f"{k.removeprefix('validation_error_')} {v:.4f}" for k, v in values.items() if k[-5:] != "error"
        )
        self.log.say(f"step {step}: held-out error {values['validation_error']:.4f}   by band: {told}")

    @torch.no_grad()
    def _sample(self, step: int) -> np.ndarray:
        """Save what the system shows of itself as a strip."""
        self.model.eval()
        bare = self.accelerator.unwrap_model(self.model)
        clips = self.held_out.first(PREVIEWED, self.accelerator.device).video
        with self.ema.applied():
            frames = self.system.preview(bare, list(self.config.sample_prompts), self.recipe.sampling, clips)
        if self.main:
            folder = self.folder / "samples"
            folder.mkdir(exist_ok=True)
            write_strip(frames, folder / f"step-{step:08d}.png")
        return frames

    def _warn(self, warnings: list[str], step: int) -> None:
        for text in warnings:
            self.log.say(f"warning, step {step}: {text}", style="bold yellow")
            self.log.write(step, warning=text)

    def _ask_to_stop(self, *_: object) -> None:
        if self.stopping:
            raise KeyboardInterrupt
        self.stopping = True
        self.console.print("finishing this step and saving a checkpoint; once more to stop at once")

    def export(self, target: Path) -> Path:
        """Save the averaged weights as a model folder."""
        bare = self.accelerator.unwrap_model(self.model)
        with self.ema.applied():
            if self.main:
                self.system.save(bare, target, self.recipe.sampling)
        return target


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Total and trainable parameters."""
    sizes: list[tuple[int, bool]] = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return {"total": sum(n for n, _ in sizes), "trainable": sum(n for n, t in sizes if t)}
