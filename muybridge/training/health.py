"""Plain words for what goes wrong in training."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from torch import nn

from muybridge.errors import UserError
from muybridge.evaluation.motion import mean_frame_difference

#: Checks in a row without gradient before a layer is called dead.
PATIENCE = 3


class Health:
    """Watches loss, gradients and samples; each warning is given once."""

    def __init__(self) -> None:
        self._silent: dict[str, int] = {}
        self._told: set[str] = set()

    def check_loss(self, loss: float, step: int, checkpoint: int) -> None:
        """Stop on NaN or infinity, before it reaches a checkpoint."""
        if not math.isfinite(loss):
            raise UserError(
                f"step {step}: the loss is {loss}. Nothing after step {checkpoint} was saved. Usual causes: too large a "
                "learning rate, half precision without loss scaling, or broken clips; lower training.learning_rate and "
                "run the same command again"
            )

    def check_gradients(self, parameters: Iterable[tuple[str, nn.Parameter]]) -> list[str]:
        """Warn of trainable tensors whose gradient has been exactly zero or absent for several checks."""
        for name, parameter in parameters:
            dead = parameter.grad is None or not bool(parameter.grad.any())
            self._silent[name] = self._silent.get(name, 0) + 1 if dead else 0
        dead_names = [n for n, count in self._silent.items() if count >= PATIENCE and n not in self._told]
        self._told.update(dead_names)
        if not dead_names:
            return []
        shown = ", ".join(dead_names[:3]) + (f" and {len(dead_names) - 3} more" if len(dead_names) > 3 else "")
        return [f"no gradient reaches {shown}: these layers do not learn (cut off, masked, or multiplied by zero?)"]

    def check_motion(self, samples: np.ndarray, data_motion: float) -> list[str]:
        """Warn of samples that stand still while the data moves. samples: uint8 [B, F, H, W, 3]."""
        motion = mean_frame_difference(samples)
        if data_motion > 0 and motion < 0.1 * data_motion and "motion" not in self._told:
            self._told.add("motion")
            return [f"samples hardly move: {motion:.2f} grey levels a frame, the data {data_motion:.2f}"]
        return []
