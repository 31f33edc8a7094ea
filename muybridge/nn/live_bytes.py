"""Memory counted without being taken: tensors on the meta device have sizes only, and their lives are watched."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

META = torch.device("meta")


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of every storage that is alive while it is on, and their peak; storages seen twice count once.

    It does not see what a kernel takes within itself (a fused attention's blocks, a convolution's workspace), nor
    memory that an allocator keeps between sizes: real peaks are some per cent above it.

    Args:
        mixing: operations on a meta tensor and others take the others' sizes too, so that a network whose weights lie
            where they are can be given an input without values; only what is on the meta device is counted.
    """

    def __init__(self, mixing: bool = False) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.mixing = mixing
        self._seen: dict[int, Any] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.mixing and any(isinstance(x, Tensor) and x.is_meta for x in tree_leaves((args, kwargs))):
            args, kwargs = tree_map(_without_values, args), tree_map(_without_values, kwargs)
        out = function(*args, **kwargs)
        for value in tree_leaves(out):
            if isinstance(value, Tensor) and (value.is_meta or not self.mixing):
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


def _without_values(x: Any) -> Any:
    """A tensor's sizes, and the device of tensors that have no values."""
    if isinstance(x, Tensor) and not x.is_meta:
        return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=META)
    return META if isinstance(x, torch.device) else x


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
