"""The exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class EMA:
    """theta_bar <- d theta_bar + (1 - d) theta after each step, float32, with the warm-up d_k = min(d, (1 + k)/(10 +
    k)).

    Works on plain and on sharded (FSDP2) parameters.
    """

    def __init__(self, parameters: Iterable[tuple[str, nn.Parameter]], decay: float):
        self.decay = decay
        self._live = dict(parameters)
        self.shadow: dict[str, Tensor] = {n: p.detach().float().clone() for n, p in self._live.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Call after optimizer step number `step` (0 is the first)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, parameter in self._live.items():
            self.shadow[name].lerp_(parameter.detach().float(), 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within this block the model has the averaged weights."""
        kept = {n: p.detach().clone() for n, p in self._live.items()}
        self._copy(self.shadow)
        try:
            yield
        finally:
            self._copy(kept)

    @torch.no_grad()
    def _copy(self, weights: dict[str, Tensor]) -> None:
        for name, parameter in self._live.items():
            parameter.copy_(weights[name].to(parameter.dtype))
