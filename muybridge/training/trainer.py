"""One trainer for all systems. The same command resumes: randomness is a function of (seed, step, place in the
batch)."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn
from torch.distributed.checkpoint.state_dict import get_model_state_dict

from muybridge.diffusion.noise import derive_seed
from muybridge.errors import UserError
from muybridge.learning.contract import TrainingBatch
from muybridge.locks import locked
from muybridge.nn.devices import AUTO
from muybridge.nn.layout import SLOW_BF16, emulates_bf16, keep_freed_memory, suit_cpu
from muybridge.progress import Bars
from muybridge.training.checkpoint import FULL, CheckpointFolder
from muybridge.training.ema import EMA
from muybridge.training.export import save_model
from muybridge.training.feed import Feed
from muybridge.training.health import Health
from muybridge.training.logs import RunLog
from muybridge.training.looking import Samples, Validation
from muybridge.training.network import count_parameters, first_network, frozen_digest
from muybridge.training.optimizers import make_optimizer
from muybridge.training.processes import StopRequest, described, from_main, main_decides, make_accelerator, shard
from muybridge.training.recipe import Recipe, make_system
from muybridge.training.run_data import run_data
from muybridge.training.run_folder import check_free, claim


class Trainer:
    """Runs a recipe in a folder, from its newest checkpoint if there is one.

    Args:
        recipe: what to train.
        folder: of the run: checkpoints/, log.jsonl, samples/, and model/ at the end.
        cache: for caption embeddings; beside the run unless given.
        device: "auto" takes the machine's accelerator, else its CPU.

    Raises:
        UserError: settings that cannot run, or a folder that holds another recipe's run.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        console: Console | None = None,
        cache: Path | None = None,
        device: str = AUTO,
    ):
        self.recipe, self.config, self.folder = recipe, recipe.training, folder
        self.console = console or Console(markup=False)
        self.cache = cache or folder / "cache"
        keep_freed_memory()
        if self.config.threads:
            torch.set_num_threads(self.config.threads)
        self.system = make_system(recipe)
        unused = bool(getattr(self.system, "find_unused_parameters", False))
        self.accelerator = make_accelerator(self.config.precision, device, unused)
        self.main = self.accelerator.is_main_process
        if self.config.sharded and self.accelerator.num_processes == 1:
            raise UserError(
                "training.sharded: there is one process, so nothing to share the weights with; see docs/training.md"
            )
        if self.config.precision == "bf16" and self.accelerator.device.type == "cpu" and emulates_bf16():
            self.console.print(f"warning: {SLOW_BF16}", style="bold yellow")
        self.health, self.last_saved, self.stop = Health(), 0, StopRequest()

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
        self.batches, self.held_out, self.data_motion, self.told = data.batches, data.held_out, data.motion, data.told
        self.vocabulary = data.vocabulary
        self.feed = Feed(self._batch, config.workers, accelerator.device, config.steps * config.accumulation)
        model = self._build()
        self.counts, frozen = count_parameters(model), frozen_digest(model)
        model.to(accelerator.device)
        if config.sharded:
            shard(model, accelerator)
        adamw: dict[str, Any] = dict(weight_decay=config.weight_decay, eps=config.eps)
        optimizer = make_optimizer(config.optimizer, model, lr=config.learning_rate, betas=config.betas, **adamw)
        # a sharded network is its own wrapper: only autocast is put around it
        self.model = accelerator.prepare_model(model, evaluation_mode=config.sharded)
        self.optimizer = accelerator.prepare_optimizer(optimizer)
        bare = accelerator.unwrap_model(self.model)
        self.ema = EMA(((n, p) for n, p in bare.named_parameters() if p.requires_grad), config.ema)
        self.checkpoints = CheckpointFolder(self.folder / "checkpoints", config.keep_checkpoints, frozen)
        self.validate = Validation(self.system, self.held_out, accelerator, self.share)
        self.sample = Samples(self.recipe, self.system, self.held_out, accelerator, self.folder / "samples")

    def _build(self) -> nn.Module:
        """The network with its first weights, laid out for where it runs."""
        model = first_network(self.recipe, self.system)
        if self.config.gradient_checkpointing:
            model.enable_gradient_checkpointing()  # type: ignore[operator]
        if self.accelerator.device.type == "cpu" and not self.config.sharded:
            suit_cpu(model, only_trainable=True)
        return model

    def _batch(self, number: int) -> TrainingBatch:
        """This process' share of the number'th forward pass of the run."""
        step, turn = divmod(number, self.config.accumulation)
        first = (turn * self.accelerator.num_processes + self.accelerator.process_index) * self.share
        return self.batches(step, range(first, first + self.share))

    # --- the loop ---------------------------------------------------------------------------------------------------

    def run(self, until: int | None = None) -> Path:
        """Train to the recipe's last step (or to `until`); returns the folder of the finished model.

        Raises:
            KeyboardInterrupt: a signal asked for a stop; the step was finished and saved.
            UserError: what was wrong.
        """
        finish = self.config.steps if until is None else until
        if not 1 <= finish <= self.config.steps:
            raise UserError(
                f"training goes to step 1 at least and {self.config.steps} at most, got {finish}; for more raise "
                "training.steps, which the learning rate follows"
            )
        main_decides(self._check_folder, self.main)
        self.prepare()
        with self._own_folder():
            start = self._resume()
            if start > finish:
                raise UserError(
                    f"{self.folder}: has gone to step {start}, beyond step {finish} that is asked for; give another "
                    "--output, or raise training.steps"
                )
            if self.vocabulary is not None and self.main:
                self.vocabulary.save(self.folder)  # for `muybridge export`, which opens no data
            self.log = RunLog(self.folder, start, self.console, quiet=not self.main)
            self.log.say(f"{self.counts['total']:,} parameters, {self.counts['trainable']:,} of them train")
            self.log.say(described(self.accelerator, self.config.sharded))
            if self.told:
                self.log.say(f"note: {self.told}")
            self.log.say(f"going on from step {start}" if start else f"starting in {self.folder}")
            try:
                if not start and (self.config.start_from or self.recipe.distillation):
                    self._validate(0)
                with StopRequest(self.console.print) as self.stop, self._progress(start, finish) as bar:
                    for step in range(start, finish):
                        self._train_and_look(step, finish, bar)
            finally:
                self.feed.close()
                self.log.close()
            made = self.export(self.folder / "model") if finish == self.config.steps else self.folder
            self.accelerator.wait_for_everyone()  # nobody takes the group apart while another still gathers
            return made

    def _check_folder(self) -> None:
        """Refuse a folder before minutes of preparation, and before anything is written there."""
        with locked(self.folder, "training") if self.folder.is_dir() else nullcontext():
            check_free(self.folder, self.recipe)

    @contextmanager
    def _own_folder(self) -> Iterator[None]:
        """Refuse a folder of another run, or one that is in use; the main process holds it within the block."""
        with ExitStack() as stack:

            def take() -> None:
                sign = stack.enter_context(locked(self.folder, "training"))
                claim(self.folder, self.recipe)
                sign()

            main_decides(take, self.main)
            yield

    def _resume(self) -> int:
        """Load the newest whole checkpoint; returns its step, 0 where there is none."""
        found = [0]
        main_decides(lambda: found.append(self.checkpoints.go_on_from(self.console.print)), self.main)
        self.last_saved = from_main(found[-1])
        if self.last_saved:
            self.checkpoints.load(self.last_saved, self.model, self.optimizer, self.ema)
        return self.last_saved

    @contextmanager
    def _progress(self, start: int, finish: int) -> Iterator[Bars]:
        with Bars(self.console, self.main and self.console.is_terminal) as bar:
            bar.add_task(self.recipe.name, total=finish, completed=start)
            yield bar

    def _train_and_look(self, step: int, finish: int, bar: Bars) -> None:
        """One step, and what is due after it."""
        config, reached = self.config, step + 1
        began = time.perf_counter()
        loss, norm = self.step(step)
        bar.update(bar.task_ids[0], completed=reached, description=f"loss {loss:.4f}")
        if reached % config.log_every == 0:
            seconds = time.perf_counter() - began
            self.log.write(reached, loss=loss, gradient_norm=norm, seconds_per_step=seconds)
        if reached % (10 * config.log_every) == 0:
            named = ((n, p) for n, p in self.model.named_parameters() if p.requires_grad)
            self.log.warn(reached, self.health.check_gradients(named))
        self.optimizer.zero_grad()
        last = reached == finish
        if reached % config.validate_every == 0 or last:
            self._validate(reached)
        if config.sample_every and (reached % config.sample_every == 0 or last):
            with self.ema.applied():
                frames = self.sample(self.model, reached)
            self.log.warn(reached, self.health.check_motion(frames, self.data_motion))
        if reached % config.checkpoint_every == 0 or last or self.stop.agreed:
            state = {"recipe": self.recipe.name}
            self.checkpoints.save(reached, self.model, self.optimizer, self.ema, state, self.main)
            self.last_saved = reached
        if self.stop.agreed:
            self.accelerator.wait_for_everyone()  # a launcher ends the others when the first is gone
            self.log.say(f"stopped at step {reached}; run the same command again to go on")
            raise KeyboardInterrupt

    def _validate(self, reached: int) -> None:
        with self.ema.applied():
            error = self.validate(self.model, reached, self.log)
        if reached:
            self.log.warn(reached, self.health.check_held_out(error, self.log.before))
        else:
            self.log.before = error

    def step(self, step: int) -> tuple[float, float]:
        """One optimizer step on the global batch of `step`; returns its loss and gradient norm. Gradients stay.

        Raises:
            UserError: a loss or gradient that is not finite; the weights have not seen it.
        """
        config, accelerator = self.config, self.accelerator
        torch.manual_seed(derive_seed(self.recipe.seed, "dropout", step, accelerator.process_index))
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(step)
        self.model.train()
        total = torch.zeros((), device=accelerator.device)
        for turn in range(config.accumulation):
            batch = self.feed(step * config.accumulation + turn)
            with accelerator.autocast():
                # a share of the mean over the global batch: rows of clips hold different numbers of them
                loss = self.system.losses(self.model, batch).weighted.sum() * accelerator.num_processes / batch.total
            accelerator.backward(loss)
            total += loss.detach()
        size = accelerator.clip_grad_norm_(self.model.parameters(), config.clip_norm or math.inf)
        norm = float(size.full_tensor() if hasattr(size, "full_tensor") else size)
        # one reduction tells every process the loss, and whether any of them was asked to stop
        told = accelerator.reduce(torch.stack([total, torch.full_like(total, float(self.stop.asked))]), "mean")
        mean, asked = told.tolist()
        self.stop.agreed = asked > 0
        self.health.check_step(mean, norm, step, self.last_saved, scaled=accelerator.scaler is not None)
        self.optimizer.step()
        if not self.optimizer.step_was_skipped:
            self.ema.update(step)
        return mean, norm

    def learning_rate(self, step: int) -> float:
        config = self.config
        rate = config.learning_rate * min(1.0, (step + 1) / max(1, config.warmup_steps))
        if config.decay == "cosine":
            rate *= 0.5 * (1 + math.cos(math.pi * min(1.0, step / config.steps)))
        elif config.decay == "tail":
            rate *= min(1.0, max(0.0, 5 * (1 - step / config.steps)))
        return rate

    def export(self, target: Path) -> Path:
        """Save the averaged weights as a model folder, whole or not at all."""
        bare = self.accelerator.unwrap_model(self.model)
        with self.ema.applied():
            if self.config.sharded:  # gathered into a network of its own
                weights: dict[str, Any] = get_model_state_dict(bare, options=FULL)
                if self.main:
                    bare = self.system.build()
                    bare.load_state_dict(weights)
            main_decides(
                lambda: save_model(self.system, bare, target, self.recipe, vocabulary=self.vocabulary), self.main
            )
        return target
