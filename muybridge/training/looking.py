"""What a run shows of itself: the held-out error of its averaged weights, and samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from muybridge.data.video_io import write_strip
from muybridge.learning.contract import System
from muybridge.training.bands import by_band
from muybridge.training.batches import HeldOutClips
from muybridge.training.logs import RunLog
from muybridge.training.recipe import Recipe

#: Held-out clips a system may show in its previews.
PREVIEWED = 6


class Validation:
    """Held-out error, whole and by log-SNR band, over all processes.

    Args:
        share: clips of one pass.
    """

    def __init__(self, system: System, held_out: HeldOutClips, accelerator: Accelerator, share: int):
        self.system, self.held_out, self.accelerator, self.share = system, held_out, accelerator, share

    @torch.no_grad()
    def __call__(self, model: nn.Module, step: int, log: RunLog) -> float:
        """Measure, log and tell; returns the error of the whole."""
        model.eval()
        parts = [self.system.losses(model, batch) for batch in self.held_out(self.share, self.accelerator)]
        error, lam = (self.accelerator.gather(torch.cat([getattr(p, n) for p in parts])) for n in ("error", "log_snr"))
        values = by_band(error, lam)
        log.write(step, **values)
        bands = {k.removeprefix("validation_error_"): v for k, v in values.items() if k != "validation_error"}
        told = "  ".join(f"{name} {value:.4f}" for name, value in bands.items())
        log.say(f"step {step}: held-out error {values['validation_error']:.4f}   by band: {told}")
        return float(values["validation_error"])


class Samples:
    """What the system shows of itself, as strips in a folder."""

    def __init__(self, recipe: Recipe, system: System, held_out: HeldOutClips, accelerator: Accelerator, folder: Path):
        self.recipe, self.system, self.held_out = recipe, system, held_out
        self.accelerator, self.folder = accelerator, folder

    @torch.no_grad()
    def __call__(self, model: nn.Module, step: int) -> np.ndarray:
        """Draw and save; returns uint8 [B, F, H, W, 3]."""
        model.eval()
        clips = self.held_out.first(PREVIEWED, self.accelerator.device).video
        prompts = list(self.recipe.training.sample_prompts)
        frames = self.system.preview(self.accelerator.unwrap_model(model), prompts, self.recipe.sampling, clips)
        if self.accelerator.is_main_process:
            self.folder.mkdir(exist_ok=True)
            write_strip(frames, self.folder / f"step-{step:08d}.png")
        return frames
