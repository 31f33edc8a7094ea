"""Plain words for what goes wrong in training."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from torch import nn

from muybridge.errors import UserError
from muybridge.evaluation.motion import mean_frame_difference

#: Steps in a row that float16 may skip for too large a gradient: its loss scale halves at each.
OVERFLOWS = 30
#: Checks in a row without gradient before a layer is called dead.
PATIENCE = 3
#: So many times the held-out error of before the first step is more than rounding and the average's lag.
WORSE = 1.02


class Health:
    """Watches loss, gradients and samples; each warning is given once."""

    def __init__(self) -> None:
        self._silent: dict[str, int] = {}
        self._told: set[str] = set()
        self._overflows = 0

    def check_step(self, loss: float, norm: float, step: int, checkpoint: int, scaled: bool = False) -> None:
        """Stop on a loss or a gradient that is NaN or infinite, before the optimizer takes it.

        Args:
            loss, norm: of the step, the same on every process.
            step: counted from 0.
            checkpoint: the last step that was saved.
            scaled: the loss is scaled for float16, where the scaler skips steps of infinite gradient until its scale
                fits.

        Raises:
            UserError: one of them is not finite.
        """
        infinite = not math.isfinite(norm)
        self._overflows = self._overflows + 1 if infinite else 0
        if math.isfinite(loss) and (not infinite or (scaled and self._overflows <= OVERFLOWS)):
            return
        what = f"the gradient's norm is {norm}" if math.isfinite(loss) else f"the loss is {loss}"
        raise UserError(
            f"step {step}: {what}. Nothing after step {checkpoint} was saved, and no weight has seen it. Usual "
            f"causes: too large a learning rate, half precision without loss scaling, or broken clips; lower "
            "training.learning_rate and "
            "run the same command again"
        )

    def check_gradients(self, parameters: Iterable[tuple[str, nn.Parameter]]) -> list[str]:
        """Warn of trainable tensors whose gradient has been exactly zero or absent for several checks."""
        for name, parameter in parameters:
            gradient = parameter.grad
            if gradient is not None and hasattr(gradient, "full_tensor"):  # sharded: no process sees all of it
                gradient = gradient.full_tensor()
            dead = gradient is None or not bool(gradient.any())
            self._silent[name] = self._silent.get(name, 0) + 1 if dead else 0
        dead_names = [n for n, count in self._silent.items() if count >= PATIENCE and n not in self._told]
        self._told.update(dead_names)
        if not dead_names:
            return []
        shown = ", ".join(dead_names[:3]) + (f" and {len(dead_names) - 3} more" if len(dead_names) > 3 else "")
        return [f"no gradient reaches {shown}: these layers do not learn (cut off, masked, or multiplied by zero?)"]

    def check_held_out(self, error: float, before: float | None) -> list[str]:
        """Warn, once, of a network that was trained already and has become worse: it started close to its target, and
        the steps are too large."""
        if before is None or error <= WORSE * before or "held out" in self._told:
            return []
        self._told.add("held out")
        return [
            f"the held-out error {error:.4f} is above the {before:.4f} of before the first step: what the network knew "
            "is being lost; lower training.learning_rate (of a distillation: learning_rate, halving_learning_rate)"
        ]

    def check_motion(self, samples: np.ndarray, data_motion: float) -> list[str]:
        """Warn of samples that stand still while the data moves. samples: uint8 [B, F, H, W, 3]."""
        motion = mean_frame_difference(samples)
        if data_motion > 0 and motion < 0.1 * data_motion and "motion" not in self._told:
            self._told.add("motion")
            return [f"samples hardly move: {motion:.2f} grey levels a frame, the data {data_motion:.2f}"]
        return []
