"""From the factors of one layer to its new weights: LoRA, LoCon, DoRA, LoHa, LoKr, full differences.

Sources: LoRA 2106.09685; rank-stabilised scaling 2312.03732; DoRA 2402.09353, as PEFT merges it; LoCon, LoHa and LoKr
2309.14859, as LyCORIS writes them. All is computed in float32 on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from muybridge.errors import UserError

#: Factors of each kind that must be there, and those that may be.
FORMS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "LoRA": (frozenset({"down", "up"}), frozenset({"mid", "alpha", "magnitude", "dora_scale", "up_bias"})),
    "LoRA of an embedding": (frozenset({"embedding_down", "embedding_up"}), frozenset({"alpha"})),
    "LoHa": (
        frozenset({"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"}),
        frozenset({"hada_t1", "hada_t2", "alpha", "dora_scale"}),
    ),
    "LoKr": (
        frozenset(),
        frozenset({"lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2", "alpha",
                   "dora_scale"}),
    ),
    "full difference": (frozenset({"diff"}), frozenset()),
    "difference of a bias": (frozenset({"diff_b"}), frozenset()),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Strength:
    """What an adapter's header says of a layer's scale; alpha None where it says nothing.

    Attributes:
        alpha, rank: of the layer, by the header.
        stabilised: whether the scale is alpha / sqrt(rank).
    """

    alpha: float | None = None
    rank: int | None = None
    stabilised: bool = False


def form_of_layer(factors: Mapping[str, object], where: str) -> str:
    """Which of FORMS a layer's factors are.

    Raises:
        UserError: factors missing, or of two kinds.
    """
    names = set(factors) - {"diff_b"} or {"diff_b"}  # a bias may change beside any of them
    kinds = {n.partition("_")[0] for n in names if n.startswith(("hada", "lokr"))}
    kinds |= {"lora"} if names & {"down", "up", "mid", "up_bias"} else set()
    kinds |= {n for n in names if n in ("diff", "diff_b")} | ({"embedding"} if "embedding_down" in names else set())
    chosen = {"lora": "LoRA", "hada": "LoHa", "lokr": "LoKr", "diff": "full difference", "embedding": "LoRA of an "
              "embedding", "diff_b": "difference of a bias"}  # fmt: skip
    if len(kinds) != 1:
        what = "its factors are of several kinds" if kinds else "the matrices that they belong to are not there"
        raise UserError(f"{where}: holds {', '.join(sorted(factors))}, and {what}")
    form = chosen[kinds.pop()]
    needed, allowed = FORMS[form]
    missing, strange = needed - names, names - needed - allowed
    if form == "LoKr":
        missing |= {n for n in ("lokr_w1", "lokr_w2") if n not in names and not {f"{n}_a", f"{n}_b"} <= names}
        doubled = [n for n in ("lokr_w1", "lokr_w2") if n in names and names & {f"{n}_a", f"{n}_b"}]
        strange |= set(doubled) | ({"lokr_t2"} if "lokr_w2" in names and "lokr_t2" in names else set())
    if form == "LoHa" and len(names & {"hada_t1", "hada_t2"}) == 1:
        missing |= {"hada_t1", "hada_t2"} - names
    if missing:
        raise UserError(f"{where}: its {', '.join(sorted(missing))} is missing; the file is damaged or incomplete")
    if strange:
        raise UserError(f"{where}: a {form} with {', '.join(sorted(strange))}, which is not read")
    return form


def rank_of(factors: Mapping[str, tuple[int, ...]]) -> int | None:
    """The rank of a layer, from the shapes of its factors; None where all are whole matrices."""
    for name in ("down", "embedding_down", "hada_w1_b", "lokr_w2_b", "lokr_w1_b"):
        shape = factors.get(name, ())
        if len(shape) >= 2:
            return shape[0]
    return None


def factor_of(factors: Mapping[str, Tensor], strength: Strength, where: str) -> float:
    """What the product of a layer's factors is multiplied by: alpha / rank, alpha / sqrt(rank), or 1 without an alpha.

    Raises:
        UserError: the header's rank is not that of the tensors, or an alpha that is no number.
    """
    rank = rank_of({n: tuple(f.shape) for n, f in factors.items()})
    if rank == 0 or (rank is None and strength.rank == 0):
        raise UserError(f"{where}: its factors have rank 0; the file is damaged")
    if "alpha" in factors:
        alpha = factors["alpha"]
        if alpha.numel() != 1:
            raise UserError(f"{where}: its alpha has the shape {tuple(alpha.shape)}; expected one number")
        return 1.0 if rank is None else float(alpha) / rank  # LyCORIS: whole matrices have no scale
    if strength.alpha is None:
        return 1.0
    if rank is not None and strength.rank not in (None, rank):
        raise UserError(f"{where}: its tensors have rank {rank}, the file's metadata says {strength.rank}")
    rank = strength.rank if rank is None else rank
    if rank is None:
        return 1.0
    return strength.alpha / (math.sqrt(rank) if strength.stabilised else rank)


def product_of(form: str, f: Mapping[str, Tensor]) -> Tensor:
    """What the factors of a layer multiply to, of the weight's own shape where the formula gives it.

    LoRA: up down; with a core (LoCon's Tucker form) sum_ij up_pi mid_ij down_jr. LoHa: (a1 b1) o (a2 b2), each with its
    core t. LoKr: w1 kron w2. Embeddings: (up down)^T.
    """
    if form == "LoRA":
        if "mid" in f:
            return tucker(f["mid"], f["up"].flatten(1).T, f["down"].flatten(1))
        return f["up"].flatten(1) @ f["down"].flatten(1)
    if form == "LoRA of an embedding":
        return (f["embedding_up"] @ f["embedding_down"]).T
    if form == "LoHa":
        halves = []
        for i in "12":
            a, b = f[f"hada_w{i}_a"], f[f"hada_w{i}_b"]
            halves.append(tucker(f[f"hada_t{i}"], a, b) if f"hada_t{i}" in f else a @ b)
        return halves[0] * halves[1]
    if form == "LoKr":
        first = f["lokr_w1"] if "lokr_w1" in f else f["lokr_w1_a"] @ f["lokr_w1_b"]
        if "lokr_w2" in f:
            second = f["lokr_w2"]
        elif "lokr_t2" in f:
            second = tucker(f["lokr_t2"], f["lokr_w2_a"], f["lokr_w2_b"])
        else:
            second = f["lokr_w2_a"] @ f["lokr_w2_b"]
        return torch.kron(first.reshape(*first.shape, *[1] * (second.ndim - first.ndim)), second.contiguous())
    return f["diff"]


def tucker(core: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """sum_ij core_ij... a_ip b_jr: core [r, r, k, k], a [r, out], b [r, in] -> [out, in, k, k]."""
    return torch.einsum("ij...,ip,jr->pr...", core, a, b)


def difference(
    form: str, factors: Mapping[str, Tensor], weight: Tensor, strength: Strength, where: str
) -> tuple[Tensor, float]:
    """What is to be added to a weight [out, in, ...] at scale 1, without magnitudes, and its factor.

    Raises:
        UserError: shapes that do not fit each other or the weight.
    """
    factor = 1.0 if form == "full difference" else factor_of(factors, strength, where)
    try:
        delta = product_of(form, factors)
    except (RuntimeError, ValueError, IndexError) as error:
        shapes = ", ".join(f"{n} {tuple(t.shape)}" for n, t in sorted(factors.items()))
        raise UserError(f"{where}: its factors do not fit each other: {shapes}") from error
    if not fits(tuple(delta.shape), tuple(weight.shape)) or not _kernels_fit(factors, weight):
        shape = _told_shape(factors, delta)
        raise UserError(f"this LoRA changes {where} by {shape}, the network's is {tuple(weight.shape)}")
    return factor * delta.reshape(weight.shape), factor


def fits(delta: tuple[int, ...], weight: tuple[int, ...]) -> bool:
    """Whether a product of factors is a weight's, as it is or laid out flat: [out, in k k] of [out, in, k, k]."""
    if delta == weight:
        return True
    if not weight or not delta or delta[0] != weight[0] or math.prod(delta) != math.prod(weight):
        return False
    flat = len(delta) == 2 or len(weight) <= 2
    return flat and (len(delta) == 2 or set(delta[2:]) == {1})


def _kernels_fit(factors: Mapping[str, Tensor], weight: Tensor) -> bool:
    """Whether a down matrix that is a kernel is of the weight's own size."""
    down = factors.get("down")
    if down is None or down.ndim < 4 or weight.ndim < 4 or "mid" in factors:
        return True
    return tuple(down.shape[1:]) == tuple(weight.shape[1:])


def _told_shape(factors: Mapping[str, Tensor], delta: Tensor) -> tuple[int, ...]:
    down = factors.get("down")
    if down is not None and down.ndim >= 4 and "mid" not in factors:
        return (delta.shape[0], *down.shape[1:])
    return tuple(delta.shape)


def merged(weight: Tensor, delta: Tensor, factors: Mapping[str, Tensor], scale: float, where: str) -> Tensor:
    """W + scale delta; with magnitudes m (DoRA), m (W + scale delta) / |W + scale delta|.

    The norm is over all but the outputs (PEFT's m is [out], of a kernel [1, out, 1, 1]; LyCORIS' [out, 1, ...]), or,
    where LyCORIS' m is [1, in, ...], over all but the inputs.

    Raises:
        UserError: magnitudes of another number.
    """
    out = weight + scale * delta
    magnitude = factors.get("magnitude", factors.get("dora_scale"))
    if magnitude is None:
        return out
    axis = 1 if "dora_scale" in factors and magnitude.ndim > 1 and len(magnitude) != len(weight) else 0
    if weight.ndim < 2 or magnitude.numel() != weight.shape[axis]:
        raise UserError(
            f"this LoRA has {magnitude.numel()} magnitudes for {where}, of shape {tuple(magnitude.shape)}; the "
            f"network's weight is {tuple(weight.shape)}"
        )
    others = [a for a in range(weight.ndim) if a != axis]
    norm = torch.linalg.vector_norm(out, dim=others, keepdim=True)
    return out * (magnitude.reshape(norm.shape) / norm.clamp(min=torch.finfo(norm.dtype).tiny))
