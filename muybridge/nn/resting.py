"""Weights that wait in the half precision of their file and are widened for the pass of their layer alone: half the
memory of a large network that computes in float32, and the same numbers to the last bit."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

N = TypeVar("N", bound=nn.Module)

HALVES = (torch.float16, torch.bfloat16)
#: Values of a weight from which on it waits, and of a whole network: widening small ones costs more than it saves.
FEWEST, LARGE = 2**16, 100_000_000

_allowed: ContextVar[bool] = ContextVar("weights_at_rest", default=False)
_own = threading.local()


class Resting(nn.Module):
    """Mixed into a layer that computes in float32 while its `weight` waits in half precision.

    Who reads `weight` gets a float32 copy: what is written to it is lost, so `wake` the layer before.
    """

    #: what the layer is when its weight lies in float32
    awake: type[nn.Module]

    @property
    def weight(self) -> Tensor:
        if getattr(_own, "layer", None) is self:
            widened: Tensor = _own.weight
            return widened
        return _stored(self).float()

    def forward(self, *args: Any, **named: Any) -> Any:
        stored = _stored(self)
        _own.layer, _own.weight = self, _widened(stored, args[0] if args else named["input"])
        try:
            with _widened_again(stored, _own.weight) if torch.is_grad_enabled() else nullcontext():
                return super().forward(*args, **named)
        finally:
            _own.layer = _own.weight = None

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """To float32, the weight stays as it waits; it goes along to another device, and to another type for good."""
        if fn(torch.empty(0)).dtype != torch.float32:
            wake(self)
            return self._apply(fn, recurse)
        kept = _stored(self).dtype
        super()._apply(fn, recurse)
        moved = _stored(self)
        self._parameters["weight"] = nn.Parameter(moved.detach().to(kept), requires_grad=moved.requires_grad)
        return self

    def _load_from_state_dict(self, state: Any, prefix: str, *args: Any) -> None:  # type: ignore[override]
        if f"{prefix}weight" in state:
            wake(self)  # other weights than the file's, which half precision may not hold
            self._load_from_state_dict(state, prefix, *args)
        else:
            super()._load_from_state_dict(state, prefix, *args)


def _stored(layer: nn.Module) -> Tensor:
    """A layer's weight as it lies in memory."""
    stored = layer._parameters["weight"]
    assert stored is not None
    return stored


def _widened(stored: Tensor, given: Tensor) -> Tensor:
    """A weight in float32, in room that the thread's next layer takes again: to ask the system for it anew takes six
    times as long as to widen it."""
    if given.is_meta:
        return torch.empty_strided(stored.shape, stored.stride(), dtype=torch.float32, device="meta")
    dense = stored.is_contiguous() or stored.is_contiguous(memory_format=torch.channels_last)
    if torch.is_grad_enabled() or not dense:
        return stored.float()
    room: Tensor | None = getattr(_own, "room", None)
    if room is None or room.device != stored.device or room.numel() < stored.numel():
        _own.room = None  # let the smaller one go first
        with torch.inference_mode(False):  # calls outside of it take the same room
            _own.room = room = torch.empty(stored.numel(), dtype=torch.float32, device=stored.device)
    return room[: stored.numel()].as_strided(stored.shape, stored.stride()).copy_(stored)


@contextmanager
def _widened_again(stored: Tensor, wide: Tensor) -> Iterator[None]:
    """What a layer saves of its widened weight for the way back is where it lies; it is widened again there, so that no
    second network of float32 is kept."""
    place = wide.untyped_storage().data_ptr()

    def pack(saved: Tensor) -> Any:
        own = not saved.is_meta and saved.untyped_storage().data_ptr() == place
        return (saved.shape, saved.stride(), saved.storage_offset()) if own else saved

    def unpack(kept: Any) -> Tensor:
        return kept if isinstance(kept, Tensor) else stored.detach().float().as_strided(*kept)

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        yield


class RestingLinear(Resting, nn.Linear):  # type: ignore[misc, override]
    awake = nn.Linear


class RestingConv1d(Resting, nn.Conv1d):  # type: ignore[misc, override]
    awake = nn.Conv1d


class RestingConv2d(Resting, nn.Conv2d):  # type: ignore[misc, override]
    awake = nn.Conv2d


class RestingConv3d(Resting, nn.Conv3d):  # type: ignore[misc, override]
    awake = nn.Conv3d


RESTING: dict[type[nn.Module], type[Resting]] = {
    kind.awake: kind for kind in (RestingLinear, RestingConv1d, RestingConv2d, RestingConv3d)
}


@contextmanager
def weights_at_rest(allowed: bool = True) -> Iterator[None]:
    """Large networks that are opened in float32 within the block keep weights of half-precision files as they are."""
    before = _allowed.set(allowed)
    try:
        yield
    finally:
        _allowed.reset(before)


def are_to_rest(sizes: Iterable[int], dtype: torch.dtype) -> bool:
    """Whether a network of tensors of these sizes, opened to compute in `dtype`, is to keep its weights at rest."""
    return _allowed.get() and dtype == torch.float32 and sum(sizes) >= LARGE


def half_of(types: Iterable[torch.dtype]) -> torch.dtype:
    """The half precision that all floating tensors of these types are in; float32 where there is none."""
    found = {kind for kind in types if kind.is_floating_point}
    return found.pop() if len(found) == 1 and found <= set(HALVES) else torch.float32


def can_rest(module: nn.Module, leaf: str, value: Tensor) -> bool:
    """Whether a tensor that was read is a layer's weight that can wait as it is."""
    return leaf == "weight" and type(module) in RESTING and value.dtype in HALVES and value.numel() >= FEWEST


def settle(network: N) -> N:
    """A network that was read as it is stored, to compute in float32: its weights are widened, or are at rest where
    that is allowed."""
    if are_to_rest((p.numel() for p in network.parameters()), torch.float32):
        first = next(network.parameters())
        for module in network.modules():
            weight = module._parameters.get("weight")
            if weight is not None and weight is not first and can_rest(module, "weight", weight):
                module.__class__ = RESTING[type(module)]
    return network.float()


def is_at_rest(network: nn.Module) -> bool:
    """Whether any weight of a network waits in half precision."""
    return any(isinstance(module, Resting) for module in network.modules())


def wake(network: nn.Module) -> None:
    """Widen all weights of a network, or of a layer, for good: before they are changed, trained or compiled."""
    for module in network.modules():
        if isinstance(module, Resting):
            stored = _stored(module)
            module.__class__ = module.awake  # type: ignore[assignment]
            module._parameters["weight"] = nn.Parameter(stored.detach().float(), requires_grad=stored.requires_grad)
