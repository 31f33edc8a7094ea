"""What a training step will take, counted without taking it: the step runs on the meta device, where tensors have sizes
only."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

FLOAT_BYTES = 4


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of every storage that is alive while it is on, and their peak; storages seen twice count once.

    It does not see what a kernel takes within itself (a fused attention's blocks, a convolution's workspace), nor
    memory that an allocator keeps between sizes: real peaks are some per cent above it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: dict[int, Any] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        for value in tree_leaves(out):
            if isinstance(value, Tensor):
                self._count(value.untyped_storage())
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._seen:
            return
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)

        def gone(_: Any, key: int = key, size: int = size) -> None:
            if self._seen.pop(key, None) is not None:
                self.now -= size

        self._seen[key] = weakref.ref(storage, gone)


class _Fused(torch.autograd.Function):
    """Attention whose weights are never laid out, as fused kernels compute it: it keeps its inputs and output."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        out = query.new_empty(*query.shape[:-1], value.shape[-1])
        ctx.save_for_backward(query, key, value, out)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value, _ = ctx.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


@contextmanager
def fused_attention() -> Iterator[None]:
    """On the meta device torch lays attention's weights out, which no kernel that would run does: take `_Fused`
    everywhere.

    A mode would not do: what is computed again in a backward pass runs outside of it.
    """
    own = torch.nn.functional.scaled_dot_product_attention

    def fused(query: Tensor, key: Tensor, value: Tensor, *others: Any, **more: Any) -> Any:
        return _Fused.apply(query, key, value)

    name = "scaled_dot_product_attention"
    holders = [m for m in list(sys.modules.values()) if getattr(m, "__dict__", {}).get(name) is own]
    for module in holders:
        setattr(module, name, fused)
    try:
        yield
    finally:
        for module in holders:
            setattr(module, name, own)


def predicted_bytes(model: nn.Module, step: Callable[[nn.Module], Tensor], averaged: bool = True) -> dict[str, int]:
    """Bytes of a training step with AdamW; weights, gradients and moments are float32 as in training.

    Args:
        model: on the meta device, in the type that activations are computed in; `requires_grad` says what trains.
        step: the step's loss, from the model.
        averaged: whether a moving average of the trained weights is kept.

    Returns:
        "weights", "optimizer" (its two moments, gradients and the average), "activations" (the peak of all else in
        forward and backward pass), and "total".
    """
    every = sum(p.numel() for p in model.parameters()) + sum(b.numel() for b in model.buffers())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    element = next(model.parameters()).element_size()
    with fused_attention(), LiveBytes() as live:
        step(model).backward()
    gradients = FLOAT_BYTES * trained
    found = {
        "weights": FLOAT_BYTES * every,
        "optimizer": gradients + FLOAT_BYTES * trained * (3 if averaged else 2),
        "activations": max(0, live.peak - gradients * element // FLOAT_BYTES),
    }
    return {**found, "total": sum(found.values())}
