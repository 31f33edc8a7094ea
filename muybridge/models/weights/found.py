"""Which files of a folder hold a network's weights: whole, in shards, or in half precision; never pickled ones."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from muybridge.errors import UserError
from muybridge.files import read_mapping
from muybridge.models.weights.packaged import WEIGHTS

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
HALF = "fp16"
#: For every `from_pretrained`: nothing is fetched, and no pickle is opened where safetensors are missing.
SAFE: dict[str, Any] = {"local_files_only": True, "use_safetensors": True}


def shapes_of(file: Path) -> tuple[dict[str, tuple[int, ...]], int]:
    """Names and shapes in a safetensors file, and the bytes of its tensors; only its header is read.

    Raises:
        UserError: not a whole safetensors file.
    """
    size = file.stat().st_size
    try:
        with open(file, "rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > min(size, 100_000_000):
                raise ValueError("its header is longer than the file")
            header: dict[str, Any] = json.loads(stream.read(length))
    except (OSError, ValueError, struct.error, RecursionError) as error:
        raise UserError(f"{file}: not a readable safetensors file: damaged or cut short ({error})") from error
    try:
        tensors = {k: v for k, v in header.items() if k != "__metadata__"}
        end = max((int(v["data_offsets"][1]) for v in tensors.values()), default=0)
        shapes = {k: tuple(int(n) for n in v["shape"]) for k, v in tensors.items()}
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise UserError(f"{file}: damaged: its header does not describe tensors ({error!r}); copy it again") from error
    if size < 8 + length + end:
        raise UserError(f"{file}: cut short: {size:,} bytes of {8 + length + end:,}; copy it again")
    return shapes, end


def weight_files(folder: Path) -> list[Path]:
    """The safetensors of a network's folder: one file, the shards that its index names, or the half-precision variant
    of either.

    Raises:
        UserError: none is there, only pickled ones are, or a shard is missing.
    """
    for name in (WEIGHTS, WEIGHTS.replace(".safetensors", f".{HALF}.safetensors")):
        if (folder / name).is_file():
            return [folder / name]
        index = folder / f"{name}.index.json"
        if index.is_file():
            shards = sorted({str(shard) for shard in read_mapping(index).get("weight_map", {}).values()})
            missing = [s for s in shards if Path(s).name != s or not (folder / s).is_file()]
            if missing or not shards:
                raise UserError(
                    f"{folder}: the shard {missing[0] if missing else 'of its index'} is missing; copy it again"
                )
            return [folder / shard for shard in shards]
    pickled = [p.name for p in folder.glob("*") if p.suffix in PICKLES]
    if pickled:
        raise UserError(
            f"{folder}: holds pickled weights ({pickled[0]}), which can run code when opened and are refused; "
            "convert them to safetensors first"
        )
    problem = f"{WEIGHTS} is missing" if folder.is_dir() else "no such folder"
    raise UserError(f"{folder}: {problem}; expected config.json and {WEIGHTS}, as diffusers saves a network")


def variant_of(folder: Path) -> str | None:
    """What diffusers' loaders call the files that are there: None for the plain ones, else "fp16"."""
    return HALF if f".{HALF}" in weight_files(folder)[0].name else None
