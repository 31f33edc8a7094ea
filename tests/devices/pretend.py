"""A pretend accelerator: real CPU arithmetic on tensors that say they are on "pretend:0".

It is torch's PrivateUse1 backend written in Python: every kernel of a pretend tensor unwraps its arguments, checks
where they lie, runs the CPU's kernel and wraps what comes out. Autograd lies above it and works as on a GPU, so whole
training steps run.

What it sees: an operation that mixes devices raises as on CUDA ("Expected all tensors to be on the same device"),
numbers of no dimension and indices of an indexed tensor excepted; a CPU generator cannot fill its tensors; `numpy()`
needs `cpu()` first; with `no_float64()` it refuses double precision as MPS does; autocast casts what goes into matrix
products, convolutions and attention. What it does not see: kernels that a device lacks, its rounding, memory and speed,
streams and races, pinned memory, the sums that autocast keeps in float32 on CUDA, anything with more than one device,
and code that asks for "cuda" by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "pretend"
#: A variable that holds a device of this machine ("auto", "cuda:1"): the tests of this folder then run there.
REAL = "MUYBRIDGE_TEST_DEVICE"
#: Operations that take what lies on two devices: copies, and indexing by tensors on the CPU.
COPIES = {"aten::copy_", "aten::_to_copy", "aten::_copy_from", "aten::_copy_from_and_resize"}
INDEXED = {
    "aten::index",
    "aten::index_put",
    "aten::index_put_",
    "aten::_index_put_impl_",
    "aten::_unsafe_index",
    "aten::_unsafe_index_put",
}
#: Operations that do not take a CPU number beside their tensors, as element-wise ones do.
NO_SCALARS = {
    "aten::cat",
    "aten::stack",
    "aten::mm",
    "aten::addmm",
    "aten::bmm",
    "aten::baddbmm",
    "aten::embedding",
    "aten::gather",
    "aten::index_select",
    "aten::scatter",
}
#: What autocast computes in half precision.
AUTOCAST = (
    "linear",
    "matmul",
    "mm",
    "bmm",
    "addmm",
    "baddbmm",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose2d",
    "prelu",
    "scaled_dot_product_attention",
)
#: What makes a tensor by resizing an empty one, where the backend has no kernel of its own.
FACTORIES = ("arange", "linspace", "eye", "randperm")

_state = {"present": False, "float64": True}


class PretendTensor(torch.Tensor):
    """A tensor on the pretend device; `_held` is where its numbers are."""

    _held: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> PretendTensor:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=torch.device(NAME, 0),
        )
        made._held = held
        return made

    def __repr__(self, **_: Any) -> str:
        return f"{self._held!r} on {NAME}"

    def data_ptr(self) -> int:
        return self._held.data_ptr()

    def tolist(self) -> Any:
        return self._held.tolist()

    def untyped_storage(self) -> torch.UntypedStorage:
        """safetensors asks which tensors share memory."""
        return self._held.untyped_storage()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, *args, **(kwargs or {}))


def _mapped(change: Callable[[Any], Any], value: Any) -> Any:
    """What an operation takes or gives, with every leaf changed: lists, tuples and dictionaries are all that nests
    there, and torch's own walk through them was half of these tests' time."""
    if isinstance(value, list | tuple):
        return type(value)([_mapped(change, v) for v in value])
    if isinstance(value, dict):
        return {k: _mapped(change, v) for k, v in value.items()}
    return change(value)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, list | tuple | dict):
        for v in value.values() if isinstance(value, dict) else value:
            yield from _leaves(v)
    else:
        yield value


def _held(value: Any) -> Any:
    return value._held if isinstance(value, PretendTensor) else value


def _check_devices(func: Any, args: Any, kwargs: Any) -> None:
    name = func._schema.name
    if name in COPIES:
        return
    if name in INDEXED:
        # indices may lie on the CPU where what is indexed is on the device, not the other way round
        first, indices, *rest = args
        if not isinstance(first, PretendTensor) and any(isinstance(i, PretendTensor) for i in _leaves(indices)):
            raise RuntimeError(
                f"{name}: indices should be either on cpu or on the same device as the indexed tensor (cpu)"
            )
        args = (first, *rest)
    tensors = [t for t in _leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
    there = [t for t in tensors if isinstance(t, PretendTensor)]
    astray = [t for t in tensors if not isinstance(t, PretendTensor) and (t.ndim or name in NO_SCALARS)]
    if there and astray:
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but {name} got {[tuple(t.shape) for t in there]} on "
            f"{NAME} "
            f"and {[tuple(t.shape) for t in astray]} on the CPU"
        )


def _run(func: Any, *args: Any, **kwargs: Any) -> Any:
    """One operation: check, unwrap, compute on the CPU, wrap."""
    _check_devices(func, args, kwargs)
    asked = kwargs.get("device")
    where = torch.device(asked).type if asked is not None else ""
    stays = where not in ("", NAME) or (func._schema.name in INDEXED and not isinstance(args[0], PretendTensor))
    if not stays and any(isinstance(a, torch.Generator) for a in (*args, *kwargs.values())):
        raise RuntimeError(f"Expected a '{NAME}' device type for generator but found 'cpu'")
    if where == NAME:
        kwargs["device"] = torch.device("cpu")
    held_args, held_kwargs = _mapped(_held, (args, kwargs))
    out = func(*held_args, **held_kwargs)
    if func._schema.is_mutable:
        return _mutated(func, args, kwargs, out)
    return out if stays else _mapped(_wrapped, out)


def _mutated(func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    """What an operation that writes into its arguments returns: those arguments, and what else it made."""
    schema = func._schema
    written = []
    for i, argument in enumerate(schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[i] if i < len(args) else kwargs.get(argument.name)
            written.append(value)
            for t in _leaves(value):
                if isinstance(t, PretendTensor) and t.shape != t._held.shape:
                    raise NotImplementedError(f"{schema.name} changes a pretend tensor's shape in place")
    results = out if isinstance(out, tuple) and len(schema.returns) > 1 else (out,)
    made, give = [], iter(written)
    for returned, result in zip(schema.returns, results, strict=False):
        aliases = returned.alias_info is not None and returned.alias_info.is_write
        made.append(next(give) if aliases else _mapped(_wrapped, result))
    return None if not made else made[0] if len(made) == 1 else tuple(made)


def _wrapped(value: Any) -> Any:
    if not isinstance(value, torch.Tensor) or isinstance(value, PretendTensor):
        return value
    if not _state["float64"] and value.dtype in (torch.float64, torch.complex128):
        raise TypeError(f"Cannot convert a {NAME} tensor to {value.dtype}: the device does not support it")
    return PretendTensor(value)


def _copy_from(source: torch.Tensor, target: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    raw_source, raw_target = (_held(t) for t in (source, target))
    raw_target.copy_(raw_source)
    return target


def _lower(op: Any) -> Any:
    """An operation under autocast: float32 arguments go in as autocast's type."""

    def cast(value: Any) -> Any:
        floats = isinstance(value, torch.Tensor) and value.dtype == torch.float32
        return value.to(torch.get_autocast_dtype(NAME)) if floats else value

    def run(*args: Any, **kwargs: Any) -> Any:
        without = torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1))
        with without:
            return op(*_mapped(cast, args), **_mapped(cast, kwargs))

    return run


class _Module:
    """torch.pretend: what torch and diffusers ask of a device's module."""

    @staticmethod
    def is_available() -> bool:
        return _state["present"]

    @staticmethod
    def is_initialized() -> bool:
        return True

    @staticmethod
    def current_device() -> int:
        return 0

    @staticmethod
    def device_count() -> int:
        return int(_state["present"])

    @staticmethod
    def _is_in_bad_fork() -> bool:
        return False

    @staticmethod
    def manual_seed_all(seed: int) -> None: ...

    @staticmethod
    def get_amp_supported_dtype() -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    @staticmethod
    def get_rng_state(device: Any = None) -> torch.Tensor:
        return torch.get_rng_state()

    @staticmethod
    def set_rng_state(state: torch.Tensor, device: Any = None) -> None: ...

    @staticmethod
    @contextmanager
    def device(index: Any) -> Iterator[None]:
        yield


def _overloads(name: str) -> Iterator[tuple[str, Any]]:
    """An operation's variants with their full names, but those that write into a given tensor."""
    packet = getattr(torch.ops.aten, name)
    for overload in packet.overloads():
        if "out" not in overload and not overload.startswith("dtype"):
            yield f"{name}.{overload}".removesuffix(".default"), getattr(packet, overload)


_libraries: list[torch.library.Library] = []


def register() -> None:
    """Teach torch the device; once a process, before its first backward pass (autograd counts the devices then)."""
    if _libraries:
        return
    _setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
    kernels, casts = torch.library.Library("_", "IMPL"), torch.library.Library("aten", "IMPL")
    kernels.fallback(_run, "PrivateUse1")
    for name in FACTORIES:
        for own, operation in _overloads(name):
            casts.impl(own, partial(_run, operation), "PrivateUse1")
    # torch.tensor(..., device=...) goes past wrappers to the backend itself, and there takes no fallback
    casts.impl("_copy_from", _copy_from, "PrivateUse1")
    kernels.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    for name in AUTOCAST:
        for own, operation in _overloads(name):
            casts.impl(own, _lower(operation), "AutocastPrivateUse1")
    _libraries.extend((kernels, casts))


@contextmanager
def present(float64: bool = True) -> Iterator[torch.device]:
    """Within this block there is such a device, and modules move to it in place, as they do to a GPU."""
    before = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    _state.update(present=True, float64=float64)
    try:
        yield torch.device(NAME, 0)
    finally:
        _state.update(present=False, float64=True)
        torch.__future__.set_swap_module_params_on_conversion(before)
