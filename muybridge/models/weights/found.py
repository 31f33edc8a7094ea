"""Which files of a folder hold a network's weights: whole, in shards, or in half precision; never pickled ones."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from pathlib import Path
from typing import Any

from muybridge.errors import UserError
from muybridge.files import read_mapping
from muybridge.models.weights.packaged import WEIGHTS

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
#: What stands in the names of a network's other weights, the ones that are taken first in front.
VARIANTS = ("fp16", "bf16", "fp32", "ema", "non_ema")
#: What transformers calls the weights of an encoder.
ENCODER_WEIGHTS = "model.safetensors"
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


def feed_file(digest: Any, path: Path) -> None:
    """Take a file's bytes into a running digest, a piece at a time."""
    with open(path, "rb") as file:
        hashlib.file_digest(file, lambda: digest)


def weight_files(folder: Path, name: str = WEIGHTS) -> list[Path]:
    """The safetensors of a network's folder: one file, the shards that its index names, or a variant of either (half
    precision).

    Args:
        name: of the whole file; transformers' encoders have ENCODER_WEIGHTS.

    Raises:
        UserError: none is there, only pickled ones are, or a shard is missing.
    """
    return _found(folder, name)[1]


def variant_of(folder: Path, name: str = WEIGHTS) -> str | None:
    """What the loaders of diffusers and transformers call the files that are there: None for the plain ones, else
    "fp16" or another variant.

    Raises:
        UserError: as `weight_files`.
    """
    return _found(folder, name)[0]


def _found(folder: Path, name: str) -> tuple[str | None, list[Path]]:
    stem, _, ending = name.rpartition(".")
    for variant in (None, *_variants(folder, stem)):
        dotted = f".{variant}" if variant else ""
        whole, index = folder / f"{stem}{dotted}.{ending}", folder / f"{name}.index{dotted}.json"
        if whole.is_file():
            return variant, [whole]
        if index.is_file():
            return variant, _shards(folder, index)
    pickled = [p.name for p in folder.glob("*") if p.suffix in PICKLES]
    if pickled:
        raise UserError(
            f"{folder}: holds pickled weights ({pickled[0]}), which can run code when opened and are refused; "
            "convert them to safetensors first"
        )
    problem = f"{name} is missing" if folder.is_dir() else "no such folder"
    raise UserError(f"{folder}: {problem}; expected config.json and {name}, as diffusers saves a network")


def _variants(folder: Path, stem: str) -> list[str]:
    """The variants that a folder has files of."""
    named = re.compile(rf"{re.escape(stem)}\.(?P<whole>\w+)\.safetensors|"
                       rf"{re.escape(stem)}\.safetensors\.index\.(?P<shards>\w+)\.json")  # fmt: skip
    found = [named.fullmatch(p.name) for p in folder.glob("*")]
    names = {str(m["whole"] or m["shards"]) for m in found if m}
    return sorted(names, key=lambda n: (VARIANTS.index(n) if n in VARIANTS else len(VARIANTS), n))


def _shards(folder: Path, index: Path) -> list[Path]:
    table = read_mapping(index).get("weight_map", {})
    shards = sorted({str(shard) for shard in table.values()}) if isinstance(table, dict) else []
    missing = [s for s in shards if Path(s).name != s or not (folder / s).is_file()]
    if missing or not shards:
        raise UserError(f"{folder}: the shard {missing[0] if missing else 'of its index'} is missing; copy it again")
    return [folder / shard for shard in shards]
