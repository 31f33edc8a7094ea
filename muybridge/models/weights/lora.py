"""LoRAs and their kin for picture networks, inflated ones and CLIP text encoders: read in every form in use, merged
into the weights.

What is read and how is in `adapters`; every tensor of a file is merged, or named in a line, or in the error.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from muybridge.errors import Notice, UserError
from muybridge.files import sha256_of
from muybridge.models.weights.adapters.merging import changes_of, check_family, merge
from muybridge.models.weights.adapters.names import TEXT, TEXT_2, UNET
from muybridge.models.weights.adapters.option import split_lora
from muybridge.models.weights.adapters.reading import Adapter, read_adapter

#: Gives the CLIP text encoders of a model by names.TEXT and TEXT_2, as many as it has; asked only for files with a text
#: half.
TextEncodersOf = Callable[[], Mapping[str, nn.Module]]


def apply_lora(
    network: nn.Module, file: Path, scale: float = 1.0, text_encoders: TextEncodersOf | nn.Module | None = None
) -> dict[str, Any]:
    """Merge an adapter file into a picture network, or an inflated one, and its text half into the text encoder.

    Tensors of text encoders that are not given are left out with a `Notice`. Nothing changes unless everything fits.

    Args:
        text_encoders: gives them, or is the only one.
        scale: of the differences; with magnitudes (DoRA) they are scaled before the norm, as PEFT does.

    Returns:
        What a recipe records of it.

    Raises:
        UserError: no such file, damaged, with tensors that are not read, or for another network.
    """
    adapter = read_adapter(file)
    check_family(adapter, network)
    encoders: Mapping[str, nn.Module] = {}
    if isinstance(text_encoders, nn.Module):
        encoders = {TEXT: text_encoders}
    elif text_encoders is not None and adapter.of(TEXT, TEXT_2):
        encoders = text_encoders()
    changes = changes_of(adapter, network, UNET)
    words = [(changes_of(adapter, encoder, model), encoder) for model, encoder in encoders.items()]
    count = sum(len(found) for found, _ in words)
    if not changes and not count:
        raise UserError(f"{file}: no LoRA for such a network in this file: it changes {_models(adapter)} alone")
    merge(changes, network, scale)
    for found, encoder in words:
        merge(found, encoder, scale)
    left_out = sum(len(adapter.of(model)) for model in (TEXT, TEXT_2) if model not in encoders)
    if left_out:
        warnings.warn(
            f"{file}: its {left_out} tensors for a text encoder are left out; those of the network are merged",
            Notice, stacklevel=3,
        )  # fmt: skip
    return record_of(adapter, scale, count, left_out)


def record_of(adapter: Adapter, scale: float, words: int = 0, left_out: int = 0) -> dict[str, Any]:
    """What a recipe records of an adapter: its file by hash, and how much of a text half was merged or left out."""
    entry: dict[str, Any] = {
        "file": str(adapter.file.resolve()),
        "scale": scale,
        "sha256": sha256_of(adapter.file),
    }
    if adapter.beside is not None:
        entry["settings_sha256"] = sha256_of(adapter.beside)
    if words:
        entry["text_layers"] = words
    return {**entry, "left_out": left_out} if left_out else entry


def recorded(text: str) -> dict[str, Any]:
    """What a model's settings record of FILE[:SCALE].

    Raises:
        UserError: as `read_adapter`.
    """
    ((adapter, scale),) = _opened([text])
    return record_of(adapter, scale)


def merge_recorded(network: nn.Module, entries: Sequence[Mapping[str, Any]]) -> None:
    """Merge what a model's settings record into its picture network again.

    Raises:
        UserError: a file that is not there, or that has changed since.
    """
    for entry in entries:
        text = f"{entry['file']}:{entry['scale']!r}"
        made = recorded(text)
        if any(made.get(key) != entry.get(key) for key in ("sha256", "settings_sha256")):
            raise UserError(f"{entry['file']} has changed since it was merged into this model")
        apply_network_halves(network, [text])


def apply_text_halves(encoders: Mapping[str, nn.Module], loras: Sequence[str]) -> None:
    """Merge the text halves of FILE[:SCALE] adapters into CLIP text encoders, by names.TEXT and TEXT_2; files without
    one change nothing.

    Raises:
        UserError: as `apply_lora`.
    """
    for adapter, scale in _opened(loras):
        for model, encoder in encoders.items():
            merge(changes_of(adapter, encoder, model), encoder, scale)


def apply_network_halves(network: nn.Module, loras: Sequence[str]) -> None:
    """Merge what FILE[:SCALE] adapters change of a picture network; their text halves are another's to merge.

    Raises:
        UserError: as `apply_lora`.
    """
    for adapter, scale in _opened(loras):
        check_family(adapter, network)
        merge(changes_of(adapter, network, UNET), network, scale)


def _opened(loras: Sequence[str]) -> Iterator[tuple[Adapter, float]]:
    """The adapter and the scale of each FILE[:SCALE]."""
    for text in loras:
        file, scale = split_lora(text)
        yield read_adapter(Path(file)), scale


def _models(adapter: Adapter) -> str:
    return " and ".join(sorted({p.model.replace("_", " ") for p in adapter.places.values()}))
