"""An adapter file, read whole: every tensor with its place, and what the header says of alpha and rank."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muybridge.errors import UserError
from muybridge.files import read_mapping
from muybridge.models.weights.adapters.names import TensorName, is_adapter, kind_of_unread, read_name
from muybridge.models.weights.adapters.option import PEFT_FILE
from muybridge.models.weights.found import PICKLES, shapes_of

if TYPE_CHECKING:
    from torch import Tensor

    from muybridge.models.weights.adapters.formulas import Strength

#: Where diffusers' header keeps the settings of an adapter, and the file beside PEFT's that does.
HEADER, BESIDE = "lora_adapter_metadata", "adapter_config.json"
#: Settings of PEFT's that change numbers and are not read: any value but these defaults is refused.
NOT_READ = (
    "layer_replication", "modules_to_save", "trainable_token_indices", "target_parameters", "alora_invocation_tokens",
    "fan_in_fan_out", "use_qalora", "use_bdlora", "arrow_config",
)  # fmt: skip
#: Ways to begin that change the weights of the model itself, which the file then lacks.
CHANGES_THE_BASE = ("pissa", "olora", "corda", "loftq")


@dataclass(frozen=True, eq=False)
class Adapter:
    """What a file holds.

    Attributes:
        file: where it is.
        tensors: by name.
        places: name -> its place; every tensor has one.
        settings: of PEFT's, by model and name: {"unet": {"lora_alpha": 16, ...}}; "" stands for all models.
        header: the other metadata of the file (kohya's ss_..., modelspec...).
        beside: the file beside it that settings came from, if any.
    """

    file: Path
    tensors: Mapping[str, Tensor]
    places: Mapping[str, TensorName]
    settings: Mapping[str, Mapping[str, Any]]
    header: Mapping[str, str]
    beside: Path | None = None

    def of(self, *models: str) -> dict[str, TensorName]:
        """The places of some models' tensors."""
        return {name: place for name, place in self.places.items() if place.model in models}

    def strength(self, model: str, layer: str) -> Strength:
        """What the settings say of a layer, in the file's words."""
        return strength_of(self.settings.get(model, self.settings.get("", {})), layer)


def read_adapter(file: Path) -> Adapter:
    """Read an adapter file.

    Raises:
        UserError: not there, pickled, damaged, no adapter, with a tensor that is not read or not finite, or with
            settings that are not read.
    """
    names = list(checked_shapes(file))
    places = places_of(names, file)
    from safetensors import safe_open

    try:
        with safe_open(file, "pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in names}
    except Exception as error:  # safetensors raises its own kinds
        raise UserError(f"{file}: not a readable safetensors file: damaged or cut short ({error})") from error
    for name, value in tensors.items():
        if not value.is_floating_point() and places[name].factor != "alpha":
            raise UserError(f"{file}: {name} holds {value.dtype}; expected floating-point numbers")
        if not bool(value.float().isfinite().all()):
            raise UserError(f"{file}: {name} holds values that are not finite (NaN or infinite); the file is damaged")
    header = header_of(file)
    settings, beside = settings_of_adapter(file, header)
    return Adapter(file, {n: t.float() for n, t in tensors.items()}, places, settings, header, beside)


def checked_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a file that may be an adapter.

    Raises:
        UserError: not there, pickled, or damaged.
    """
    if not file.is_file():
        raise UserError(f"no LoRA file at {file}")
    if file.suffix.lower() in PICKLES:
        raise UserError(
            f"{file}: pickled weights can run code when opened and are refused; convert them to safetensors first"
        )
    return shapes_of(file)[0]


def places_of(names: Iterable[str], file: Path) -> dict[str, TensorName]:
    """The place of every tensor.

    Raises:
        UserError: the file is no adapter, or holds a tensor that is not read.
    """
    names = list(names)
    if not is_adapter(names):
        first = f"; its first tensor is {names[0]}" if names else "; it is empty"
        raise UserError(f"{file}: no LoRA for any network in this file{first}")
    found = {name: read_name(name) for name in names}
    unread = [name for name, place in found.items() if place is None]
    if unread:
        kinds = sorted({kind_of_unread(name) for name in unread})
        raise UserError(
            f"{file}: {len(unread)} of its {len(names)} tensors are not read here ({', '.join(kinds)}), the first is "
            f"{unread[0]}; nothing of it is merged"
        )
    return {name: place for name, place in found.items() if place is not None}


def header_of(file: Path) -> dict[str, str]:
    """The metadata in a safetensors header."""
    import struct

    with open(file, "rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        found = json.loads(stream.read(length)).get("__metadata__") or {}
    return {str(k): str(v) for k, v in found.items()}


def settings_of_adapter(file: Path, header: Mapping[str, str]) -> tuple[dict[str, dict[str, Any]], Path | None]:
    """PEFT's settings of each model, from the header (diffusers writes them flat: "unet.lora_alpha") or from
    adapter_config.json beside PEFT's own file; and that file.

    Raises:
        UserError: unreadable, or a setting that changes numbers and is not read.
    """
    beside = file.parent / BESIDE
    out: dict[str, dict[str, Any]] = {}
    if HEADER in header:
        try:
            flat = json.loads(header[HEADER])
            pairs = [(str(key), value) for key, value in flat.items()]
        except (ValueError, AttributeError) as error:
            raise UserError(f"{file}: its {HEADER} cannot be read ({error})") from error
        for key, value in pairs:
            model, dot, name = key.partition(".")
            out.setdefault(model if dot else "", {})[name if dot else key] = value
        found = None
    elif file.name == PEFT_FILE and beside.is_file():
        out[""], found = read_mapping(beside), beside
    else:
        return {}, None
    for model, values in out.items():
        _check_settings(values, f"{file}: its metadata{f' of {model}' if model else ''}")
    return out, found


def _check_settings(values: Mapping[str, Any], where: str) -> None:
    for name in NOT_READ:
        if values.get(name):
            raise UserError(f"{where} says {name} {values[name]!r}, which is not read here")
    begin = str(values.get("init_lora_weights", "")).lower()
    if begin.startswith(CHANGES_THE_BASE):
        raise UserError(f"{where} says init_lora_weights {begin}: the model's own weights were changed, not given here")
    kind = values.get("peft_type")
    if kind not in (None, "LORA", "LOHA", "LOKR"):
        raise UserError(f"{where} says peft_type {kind}, which is not read here; LORA, LOHA and LOKR are")
    for name in ("lora_alpha", "alpha", "r"):
        if not isinstance(values.get(name, 1), int | float) or isinstance(values.get(name), bool):
            raise UserError(f"{where}: {name} is {values[name]!r}; expected a number")
    for name in ("rank_pattern", "alpha_pattern"):
        pattern = values.get(name) or {}
        if not isinstance(pattern, dict) or not all(isinstance(v, int | float) for v in pattern.values()):
            raise UserError(f"{where}: {name} is {pattern!r}; expected numbers by layer")


def strength_of(settings: Mapping[str, Any], layer: str) -> Strength:
    """What PEFT's settings say of a layer: its own alpha and rank by the first pattern that its name ends with."""
    from muybridge.models.weights.adapters.formulas import Strength

    alpha = settings.get("lora_alpha", settings.get("alpha"))
    rank = settings.get("r")
    layer = layer.replace(".processor.", ".")

    def own(patterns: Mapping[str, Any] | None, default: Any) -> Any:
        for pattern, value in (patterns or {}).items():
            try:
                matches = re.fullmatch(rf"(.*\.)?({pattern})", layer)
            except re.error:
                matches = None
            if matches:
                return value
        return default

    alpha, rank = own(settings.get("alpha_pattern"), alpha), own(settings.get("rank_pattern"), rank)
    return Strength(
        None if alpha is None else float(alpha), None if rank is None else int(rank), bool(settings.get("use_rslora"))
    )
