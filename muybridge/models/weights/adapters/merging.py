"""Merging an adapter into a network: everything is checked before a weight changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from muybridge.errors import UserError
from muybridge.models.inflated_unet import InflatedUNet
from muybridge.models.told_sizes import is_xl
from muybridge.models.weights.adapters.formulas import Strength, difference, factor_of, form_of_layer, merged
from muybridge.models.weights.adapters.names import TEXT, TEXT_2, TEXT_3, TRANSFORMER, UNET, TensorName
from muybridge.models.weights.adapters.places import flat, network_places, text_places
from muybridge.models.weights.adapters.reading import Adapter
from muybridge.nn.resting import wake

#: Width of a picture network's cross-attention -> the family that it is of.
FAMILIES = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x", 2048: "Stable Diffusion XL"}


@dataclass(frozen=True, eq=False)
class LayerChange:
    """What changes one layer.

    Attributes:
        module: its name in the network.
        told: its name in the file.
        factors: by kind, without the bias' difference.
        bias: what is added to the bias at scale 1 but for the layer's factor; None for nothing.
        strength: what the file's settings say of it.
        form: one of formulas.FORMS.
    """

    module: str
    told: str
    factors: Mapping[str, Tensor]
    bias: Tensor | None
    strength: Strength
    form: str


def changes_of(adapter: Adapter, network: nn.Module, model: str) -> list[LayerChange]:
    """What an adapter changes of a picture network (model UNET) or of a text encoder (TEXT), checked against it.

    Raises:
        UserError: layers that the network lacks, factors missing, or shapes that do not fit.
    """
    places = adapter.of(model)
    table = text_places(network) if model in (TEXT, TEXT_2) else network_places(network)
    grouped: dict[str, dict[str, str]] = {}
    strange = []
    for name, place in places.items():
        module = table.get(flat(place.layer))
        if module is None:
            strange.append(name)
            continue
        factors = grouped.setdefault(module, {})
        if place.factor in factors:
            raise UserError(f"{adapter.file}: {name} and {factors[place.factor]} are the same part of one layer")
        factors[place.factor] = name
    if strange:
        raise UserError(
            f"{adapter.file}: this LoRA is for another network: {len(strange)} of its tensors belong to layers that "
            f"are not in this one, such as {strange[0]}{_made_for(adapter, network)}"
        )
    try:
        return [_change(adapter, network, module, names, model) for module, names in grouped.items()]
    except UserError as error:
        raise UserError(f"{adapter.file}: {error}{_made_for(adapter, network)}") from error


def _change(adapter: Adapter, network: nn.Module, module: str, names: Mapping[str, str], model: str) -> LayerChange:
    factors = {factor: adapter.tensors[name] for factor, name in names.items()}
    told = adapter.places[next(iter(names.values()))].layer
    strength = adapter.strength(model, told)
    form = form_of_layer(factors, module)
    owner = network.get_submodule(module)
    bias = factors.pop("diff_b", None)
    if form == "difference of a bias":
        factors = {}
    elif form != "full difference":
        factor_of(factors, strength, module)
    for own in (factors.get("up_bias"), bias):
        if own is None:
            continue
        there = getattr(owner, "bias", None)
        if there is None or there.shape != own.shape:
            what = "none" if there is None else str(tuple(there.shape))
            raise UserError(f"this LoRA changes the bias of {module} by {tuple(own.shape)}, the network's is {what}")
    if factors:
        like = torch.empty_like(cast(Tensor, owner.weight), dtype=torch.float32, device="meta")
        empty = {n: f if n == "alpha" else f.to("meta") for n, f in factors.items()}
        delta, _ = difference(form, empty, like, strength, module)
        merged(like, delta, empty, 1.0, module)
    return LayerChange(module, told, factors, bias, strength, form)


@torch.no_grad()
def merge(changes: Sequence[LayerChange], network: nn.Module, scale: float) -> None:
    """Add an adapter's differences to the weights, at a scale; in float32 on the CPU, then in the weights' own type.

    Raises:
        UserError: weights that are not finite afterwards.
    """
    for change in changes:
        owner: Any = network.get_submodule(change.module)
        wake(owner)
        factor = 1.0
        if change.factors:
            weight = owner.weight.detach().to("cpu", torch.float32)
            delta, factor = difference(change.form, change.factors, weight, change.strength, change.module)
            _write(owner.weight, merged(weight, delta, change.factors, scale, change.module), change.module)
        for own, times in ((change.bias, 1.0), (change.factors.get("up_bias"), factor)):
            if own is not None:
                bias = owner.bias.detach().to("cpu", torch.float32)
                _write(owner.bias, bias + scale * (times * own), change.module)


def _write(parameter: Tensor, value: Tensor, where: str) -> None:
    new = value.to(parameter.dtype)
    if not bool(new.isfinite().all()):
        raise UserError(f"merging this LoRA makes {where} infinite in {parameter.dtype}; take a smaller scale or fp32")
    parameter.copy_(new)


def check_family(adapter: Adapter, network: nn.Module) -> None:
    """Refuse an adapter of another family of models, as far as its names give it away.

    Raises:
        UserError: for a model with a transformer, or with more text encoders than this one.
    """
    several, transformer = adapter.of(TEXT_2), [*adapter.of(TRANSFORMER), *adapter.of(TEXT_3)]
    if transformer:
        raise UserError(
            f"{adapter.file}: this LoRA is for a model with a transformer or a third text encoder (such as Flux or "
            f"Stable Diffusion 3), which this one is not: {transformer[0]}"
        )
    if several and not is_xl(network):
        raise UserError(
            f"{adapter.file}: this LoRA is for Stable Diffusion XL (it changes a second text encoder, such as "
            f"{next(iter(several))}); {_is_of(network)}"
        )


def context_of_network(network: nn.Module) -> int | None:
    """The width of a picture network's cross-attention."""
    inner: Any = network.image if isinstance(network, InflatedUNet) else network
    width = getattr(getattr(inner, "config", None), "cross_attention_dim", None)
    return width if isinstance(width, int) else None


def context_of_places(places: Mapping[str, TensorName], shapes: Mapping[str, tuple[int, ...]]) -> set[int]:
    """The widths of cross-attention that an adapter's layers expect, from their shapes."""
    wanted = ("attn2_to_k", "attn2_to_v")
    return {
        shapes[name][1]
        for name, place in places.items()
        if place.model == UNET and flat(place.layer).endswith(wanted) and place.factor in ("down", "hada_w1_b")
        and len(shapes[name]) == 2
    }  # fmt: skip


def _made_for(adapter: Adapter, network: nn.Module) -> str:
    """What the file was made for, where it is known and not this network; a half sentence."""
    contexts = context_of_places(adapter.places, {n: tuple(t.shape) for n, t in adapter.tensors.items()})
    own = context_of_network(network)
    if any("motion_modules" in name for name in adapter.places):
        return "; it is a LoRA of AnimateDiff's motion modules, which this model has not"
    names = [FAMILIES.get(c, f"cross-attention {c}") for c in sorted(contexts) if own is not None and c != own]
    said = adapter.header.get("ss_base_model_version") or adapter.header.get("modelspec.architecture", "")
    if names:
        return f"; it was made for a model of {', '.join(names)}; {_is_of(network)}"
    if any(n.startswith(("lora_unet_label_emb", "unet.add_embedding")) for n in adapter.places):
        return f"; it was made for Stable Diffusion XL; {_is_of(network)}"
    return f"; by its metadata it was made for {said}" if said else ""


def _is_of(network: nn.Module) -> str:
    own = context_of_network(network)
    if own is None:
        return "this model is of another kind"
    return f"this model is {f'of {FAMILIES[own]}' if own in FAMILIES else f'one of cross-attention {own}'}"
