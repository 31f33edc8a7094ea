"""What a LoRA file or one of its kin is, in words: kinds of its layers, ranks, alphas, what it changes and needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from muybridge.models.text.inversions import HALVES, NAMELESS
from muybridge.models.weights.adapters.formulas import FORMS, factor_of, form_of_layer, rank_of
from muybridge.models.weights.adapters.merging import FAMILIES, context_of_places
from muybridge.models.weights.adapters.names import TEXT, TEXT_2, TEXT_3, TRANSFORMER, UNET, form_of
from muybridge.models.weights.adapters.places import flat
from muybridge.models.weights.adapters.reading import Adapter, read_adapter
from muybridge.opening.identity import Identity

#: The models of names.py, in words.
MODELS = {
    UNET: "the U-Net", TEXT: "the text encoder", TEXT_2: "a second text encoder", TEXT_3: "a third text encoder",
    TRANSFORMER: "a transformer",
}  # fmt: skip
#: What kohya's and others' trainers note of the model that a file was trained on.
SAID = ("ss_base_model_version", "modelspec.architecture", "ss_sd_model_name")
USED_BY = "--lora FILE[:scale] of every command that samples, and of tune"
Layers = Mapping[tuple[str, str], Mapping[str, str]]


def identify_adapter(file: Path) -> Identity:
    """Say what an adapter file is; it is read as it will be for use.

    Raises:
        UserError: it could not be used: damaged, or with tensors that are not read.
    """
    adapter = read_adapter(file)
    layers: dict[tuple[str, str], dict[str, str]] = {}
    for name, place in adapter.places.items():
        layers.setdefault((place.model, flat(place.layer)), {})[place.factor] = name
    kinds = Counter(_kind(adapter, names, layer) for (_, layer), names in layers.items())
    ordered = sorted(kinds, key=lambda kind: (-kinds[kind], kind))
    found = Identity(f"{' and '.join(ordered)}, {form_of(list(adapter.places))}", USED_BY)
    if any("motion_modules" in name for name in adapter.places):
        found.kind, found.used_by = (
            f"AnimateDiff motion {found.kind}",
            "--lora FILE[:scale] beside --motion-module",
        )
    found.notes.append(f"{_ranks(adapter, layers)}; {len(layers)} layers{_counts(kinds)}")
    found.notes.append(_alphas(adapter, layers))
    models = Counter(model for model, _ in layers)
    found.notes.append(f"changes {' and '.join(f'{MODELS[m]} ({n} layers)' for m, n in _ordered(models))}")
    found.notes += [f"by its metadata trained on {adapter.header[key]}" for key in SAID if adapter.header.get(key)][:1]
    _say_needs(found, adapter, models)
    return found


def _ordered(models: Counter[str]) -> list[tuple[str, int]]:
    return [(model, models[model]) for model in MODELS if model in models]


def _kind(adapter: Adapter, names: Mapping[str, str], layer: str) -> str:
    form = form_of_layer(names, layer)
    if form == "LoRA":
        down = adapter.tensors[names["down"]]
        kernel = "mid" in names or (down.ndim == 4 and max(down.shape[2:]) > 1)
        form = "LoCon" if kernel else "LoRA"
    return f"{form} with magnitudes (DoRA)" if {"magnitude", "dora_scale"} & set(names) else form


def _counts(kinds: Counter[str]) -> str:
    return f" ({', '.join(f'{n} {kind}' for kind, n in kinds.items())})" if len(kinds) > 1 else ""


def _ranks(adapter: Adapter, layers: Layers) -> str:
    found = {rank_of({f: tuple(adapter.tensors[n].shape) for f, n in names.items()}) for names in layers.values()}
    ranks = sorted(rank for rank in found if rank is not None)
    if not ranks:
        return "whole matrices"
    return f"rank {', '.join(map(str, ranks))}{' and whole matrices' if None in found else ''}"


def _alphas(adapter: Adapter, layers: Layers) -> str:
    """The alphas, where they stand, and the scales that follow from them."""
    alphas, scales, stands = set(), set(), set()
    for (model, layer), names in layers.items():
        factors = {f: adapter.tensors[n] for f, n in names.items()}
        form = form_of_layer(factors, layer)
        if form not in FORMS or "difference" in form:
            continue
        strength = adapter.strength(model, adapter.places[next(iter(names.values()))].layer)
        scales.add(factor_of(factors, strength, layer))
        if "alpha" in factors:
            alphas.add(float(factors["alpha"]))
            stands.add("tensors")
        elif strength.alpha is not None:
            alphas.add(strength.alpha)
            stands.add("metadata, alpha / sqrt(rank)" if strength.stabilised else "metadata")
    shown = ", ".join(f"{s:g}" for s in sorted(scales)) or "1"
    if not alphas:
        return f"no alpha: scale {shown}"
    return f"alpha {', '.join(f'{a:g}' for a in sorted(alphas))} (in its {' and '.join(sorted(stands))}): scale {shown}"


def _say_needs(found: Identity, adapter: Adapter, models: Counter[str]) -> None:
    contexts = context_of_places(adapter.places, {n: tuple(t.shape) for n, t in adapter.tensors.items()})
    if TRANSFORMER in models or TEXT_3 in models:
        found.needs.append("a model with a transformer or a third text encoder, which muybridge does not sample with")
    if TEXT_2 in models and not contexts:
        found.needs.append(f"a {FAMILIES[2048]} model")
    found.needs += [
        f"a picture model with cross-attention {c}{f' ({FAMILIES[c]})' if c in FAMILIES else ''}"
        for c in sorted(contexts)
    ]
    if TEXT in models:
        found.needs.append("a model with a CLIP text encoder; with another, what changes it is left out")


def is_inversion(shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether a file holds a word's vectors and nothing else: of two encoders, or one tensor [D] or [n, D]."""
    if set(shapes) == set(HALVES):
        return True
    shape = next(iter(shapes.values()), ())
    return len(shapes) == 1 and len(shape) in (1, 2) and (set(shapes) <= set(NAMELESS) or shape[-1] % 16 == 0)


def identify_inversion(shapes: Mapping[str, tuple[int, ...]]) -> Identity:
    """What a textual inversion is."""
    found = Identity("textual inversion", "--embedding FILE[:WORD]")
    rows, width = next((1, *s)[-2:] for s in shapes.values())
    found.notes.append(f"{rows} vector{'s' if rows > 1 else ''} of {width}")
    found.needs.append(f"a Stable Diffusion {'XL' if len(shapes) > 1 else '1.x or 2.x'} model of that width")
    return found
