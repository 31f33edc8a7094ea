"""Opening a large picture network with its weights in memory once: read a tensor at a time, laid out as it comes.

Memory-mapped files stay resident as long as one of their tensors is in use, beside every copy that was made of the
others.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Collection, Container, Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import safe_open
from torch import Tensor, nn

from muybridge.errors import UserError
from muybridge.files import read_mapping
from muybridge.models.weights.compact import SCALE, read_weights
from muybridge.models.weights.found import ENCODER_WEIGHTS, SAFE, shapes_of, variant_of, weight_files
from muybridge.models.weights.packaged import WEIGHTS
from muybridge.nn.resting import RESTING, are_to_rest, can_rest, half_of, settle

N = TypeVar("N", bound=nn.Module)

TYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


def stream_weights(file: Path) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a safetensors file one after another, each with memory of its own, the largest first: while one is
    laid out there are two of it, which costs nothing as long as the small ones are not there yet.

    Raises:
        UserError: not a safetensors file, or cut short.
    """
    try:
        with open(file, "rb") as opened:
            length = struct.unpack("<Q", opened.read(8))[0]
            if length > file.stat().st_size:
                raise UserError(f"{file}: damaged: its header is longer than the file")
            header = json.loads(opened.read(length))
            header.pop("__metadata__", None)
            if any(name.endswith(SCALE) for name in header):  # packed ones are small and need two tensors at a time
                yield from read_weights(file).items()
                return
            for name, entry in sorted(header.items(), key=lambda item: -_size(item[1])):
                start, end = entry["data_offsets"]
                kind = TYPES[entry["dtype"]]
                if end - start != math.prod(entry["shape"]) * kind.itemsize:
                    raise UserError(f"{file}: damaged: {name} has another size than its shape")
                opened.seek(8 + length + start)
                data = bytearray(end - start)
                if opened.readinto(data) != end - start:
                    raise UserError(f"{file}: cut short within {name}; copy it again")
                yield name, torch.frombuffer(data, dtype=kind).reshape(entry["shape"]) if data else torch.empty(0)
    except (OSError, struct.error, json.JSONDecodeError, UnicodeDecodeError, KeyError) as error:
        raise UserError(f"{file}: not a readable safetensors file: {error}") from error


def stored_type(folder: Path, name: str = WEIGHTS) -> torch.dtype:
    """What a network's files are in, whatever its config says: a half precision if all their floating tensors are, else
    float32.

    Raises:
        UserError: as `weight_files`, or a damaged file.
    """
    found = set()
    for file in weight_files(folder, name):
        shapes_of(file)
        with safe_open(file, "pt") as opened:
            found |= {opened.get_slice(key).get_dtype() for key in opened.keys()}  # noqa: SIM118
    return half_of(TYPES.get(kind, torch.float32) for kind in found)


def open_encoder(kind: Any, folder: Path, unread: tuple[str, ...] = (), **how: Any) -> Any:
    """An encoder's folder as a class of transformers', whole, frozen, computing in float32 (nn.resting).

    Args:
        unread: beginnings of names of tensors that its class has and never reads; files may lack them.
        how: further options of its `from_pretrained`.

    Raises:
        UserError: incomplete or damaged, or tensors of other shapes than its config says.
    """
    how = {"variant": variant_of(folder, ENCODER_WEIGHTS), "dtype": stored_type(folder, ENCODER_WEIGHTS), **how}
    opened = _whole(kind, folder, unread, **how)
    return settle(opened).eval().requires_grad_(False)


def open_part(kind: type[N], folder: Path) -> N:
    """A small network from its folder by diffusers' own loader, float32, whole, for sampling: for classes that compute
    tables when they are made, and for networks that go on training.

    Raises:
        UserError: as `open_encoder`.
    """
    made: N = _whole(kind, folder, torch_dtype=torch.float32).eval()
    return made


def _whole(kind: Any, folder: Path, unread: tuple[str, ...] = (), **how: Any) -> Any:
    """By a library's own loader, which draws what a folder lacks: refused, but for what is never read."""
    try:
        opened, found = kind.from_pretrained(str(folder), **SAFE, **how, output_loading_info=True)
    except UserError:
        raise
    except Exception as error:  # libraries raise many kinds for damaged files
        raise UserError(f"{folder}: it cannot be opened: {error}") from error
    _check_none_left(folder, sorted(name for name in found["missing_keys"] if not name.startswith(unread)))
    return opened


def cast(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Turn a network's weights into another type, in place.

    By torch's own method: diffusers' warns of layers that should stay in float32 even where there are none.
    """
    return nn.Module.to(network, dtype)


def _size(entry: dict[str, Any]) -> int:
    start, end = entry["data_offsets"]
    return int(end - start)


def check_network(kind: str, folder: Path) -> None:
    """Compare the names and shapes in a folder's weights with what its config describes, without reading a tensor.

    Args:
        kind: a model class of diffusers.

    Raises:
        UserError: tensors missing, left over, of another shape, or damaged files.
    """
    import diffusers

    config = read_mapping(folder / "config.json")
    try:
        with torch.device("meta"):
            network = getattr(diffusers, kind).from_config(config)
    except Exception as error:  # diffusers raises many kinds for values that it does not know
        raise UserError(f"{folder}: its config.json describes no {kind}: {error}") from error
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    for file in weight_files(folder):
        shapes, _ = shapes_of(file)
        for name, shape in shapes.items():
            if not name.endswith(SCALE):
                _check_shape(folder, name, shape, wanted.pop(name, None))
    _check_none_left(folder, wanted)


def _check_shape(folder: Path, name: str, got: tuple[int, ...], wanted: tuple[int, ...] | None) -> None:
    if wanted is None:
        raise UserError(f"{folder}: {name} stands in its weights but is not part of the network its config describes")
    if wanted != got:
        raise UserError(f"{folder}: {name} is {got} in its weights, {wanted} by its config")


def check_filled(folder: Path, network: nn.Module) -> None:
    """Refuse a network with tensors that diffusers' own loader left empty.

    Raises:
        UserError: names the first.
    """
    _check_none_left(folder, [name for name, value in network.named_parameters() if value.is_meta])


def _check_none_left(folder: Path, wanted: Collection[str]) -> None:
    if wanted:
        raise UserError(
            f"{folder}: {len(wanted)} tensors are missing from its weights, the first is {next(iter(wanted))}"
        )


def open_network(network_class: type[N], folder: Path, dtype: torch.dtype = torch.float32) -> N:
    """A diffusers model's network from its folder, whole and packed or not, frozen, for sampling.

    For networks whose state is all in their weights: what the class computes when it is made (tables that are not
    saved) is lost.

    Raises:
        UserError: tensors missing, left over, of another shape, or a damaged file.
    """
    with torch.device("meta"):
        config = read_mapping(folder / "config.json")
        network: N = network_class.from_config(config)  # type: ignore[attr-defined]
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    first, rest = next(iter(wanted), ""), are_to_rest(map(math.prod, wanted.values()), dtype)
    for name, value in (pair for file in weight_files(folder) for pair in stream_weights(file)):
        _check_shape(folder, name, tuple(value.shape), wanted.pop(name, None))
        put(network, name, value, dtype, rest and name != first)  # whose type is what libraries call the network's
    check_computed(network, wanted)
    _check_none_left(folder, wanted)
    return network.eval()


def put(network: nn.Module, name: str, value: Tensor, dtype: torch.dtype, rest: bool = False) -> None:
    """Make a tensor that was read the parameter or buffer `name` of a network without memory, frozen, laid out for
    convolutions; where `rest`, large weights in half precision wait in it (nn.resting)."""
    layout = torch.channels_last if value.ndim == 4 else torch.contiguous_format
    owner, _, leaf = name.rpartition(".")
    module = network.get_submodule(owner)
    if rest and can_rest(module, leaf, value):
        module.__class__, dtype = RESTING[type(module)], value.dtype
    value = value.to(dtype=dtype, memory_format=layout) if value.is_floating_point() else value
    if leaf in module._parameters:
        module._parameters[leaf] = nn.Parameter(value, requires_grad=False)
    else:
        module._buffers[leaf] = value


def check_computed(network: nn.Module, missing: Container[str]) -> None:
    """Refuse a network that has a table without values, apart from those of these names: its class computes it when it
    is made."""
    lost = [name for name, value in network.named_buffers() if value.is_meta and name not in missing]
    if lost:
        raise RuntimeError(f"{type(network).__name__} computes {lost[0]} when it is made: open it another way")
