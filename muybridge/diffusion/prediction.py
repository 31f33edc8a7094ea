"""What a network predicts - eps, x, v or the flow u - and the conversions between them.

v = α ε - σ x = dz/dφ on the circle z = cos φ x + sin φ ε; u = ε - x, the velocity of a rectified flow. What one
prediction says of another:

    have   x̂                         ε̂                         v̂
    ε̂      (z - σ ε̂) / α             ε̂                         (ε̂ - σ z) / α
    x̂      x̂                         (z - α x̂) / σ             (α z - x̂) / σ
    v̂      α z - σ v̂                 σ z + α v̂                 v̂
    û      (z - σ û) / (α + σ)       (z + α û) / (α + σ)       α ε̂ - σ x̂

ε divides by α (breaks as λ -> -inf), x by σ (breaks as λ -> +inf), v and u never divide by anything small. Source:
2202.00512 section 4; u from 2209.03003 eq. 1 with the change of scale at the end of this file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from muybridge.diffusion.schedule import alpha_of, expand, sigma_of

PredictionType = Literal["epsilon", "sample", "v_prediction", "flow"]

#: The contract of every sampler and guidance: (z [B, C, F, H, W], lam [B] or [B, F]) -> x_hat like z. lam is float64 on
#: the CPU (schedule.py says why); a network is given its float32 copy on its own device.
Denoise = Callable[[Tensor, Tensor], Tensor]


def check_prediction_type(name: str) -> None:
    if name not in get_args(PredictionType):
        raise ValueError(f"unknown prediction type {name!r}; expected one of {', '.join(get_args(PredictionType))}")


def to_x(output: Tensor, z: Tensor, lam: Tensor, kind: str) -> Tensor:
    """x_hat from a network's output of the given prediction type."""
    if kind == "sample":
        return output
    alpha, sigma = expand(alpha_of(lam), z), expand(sigma_of(lam), z)
    if kind == "v_prediction":
        return alpha * z - sigma * output
    if kind == "flow":
        return (z - sigma * output) / (alpha + sigma)
    check_prediction_type(kind)
    return (z - sigma * output) / alpha


def to_eps(output: Tensor, z: Tensor, lam: Tensor, kind: str) -> Tensor:
    """eps_hat from a network's output of the given prediction type."""
    if kind == "epsilon":
        return output
    alpha, sigma = expand(alpha_of(lam), z), expand(sigma_of(lam), z)
    if kind == "v_prediction":
        return sigma * z + alpha * output
    if kind == "flow":
        return (z + alpha * output) / (alpha + sigma)
    check_prediction_type(kind)
    return (z - alpha * output) / sigma


def to_v(output: Tensor, z: Tensor, lam: Tensor, kind: str) -> Tensor:
    """v_hat from a network's output of the given prediction type."""
    if kind == "v_prediction":
        return output
    alpha, sigma = expand(alpha_of(lam), z), expand(sigma_of(lam), z)
    if kind == "epsilon":
        return (output - sigma * z) / alpha
    if kind == "flow":
        return alpha * to_eps(output, z, lam, kind) - sigma * to_x(output, z, lam, kind)
    check_prediction_type(kind)
    return (alpha * z - output) / sigma


def target_of(x: Tensor, eps: Tensor, lam: Tensor, kind: str) -> Tensor:
    """What a network of this prediction type is trained towards."""
    check_prediction_type(kind)
    if kind == "flow":
        return eps - x
    if kind == "sample":
        return x
    if kind == "epsilon":
        return eps
    return expand(alpha_of(lam), x) * eps - expand(sigma_of(lam), x) * x


def to_flow(output: Tensor, z: Tensor, lam: Tensor, kind: str) -> Tensor:
    """û = ε̂ - x̂ from a network's output of the given prediction type."""
    return output if kind == "flow" else to_eps(output, z, lam, kind) - to_x(output, z, lam, kind)


#: The conversion into each type, by its name.
INTO: dict[str, Callable[[Tensor, Tensor, Tensor, str], Tensor]] = {
    "sample": to_x,
    "epsilon": to_eps,
    "v_prediction": to_v,
    "flow": to_flow,
}


# --- rectified flow, as a change of scale and clock -----------------------------------------------------------------


def lam_of_flow_time(t: Tensor) -> Tensor:
    """The log-SNR of a rectified flow z_f = (1 - t) x + t ε: λ = 2 log((1 - t) / t)."""
    return 2 * (torch.log1p(-t) - torch.log(t))


def flow_scale(t: Tensor) -> Tensor:
    """c = sqrt((1 - t)² + t²), so that z_f / c is variance preserving with α = (1 - t) / c, σ = t / c."""
    return ((1 - t) ** 2 + t**2).sqrt()


def flow_input(z: Tensor, lam: Tensor) -> Tensor:
    """What a flow's network is shown of z: z_f = c z = z / (α + σ)."""
    return z / expand(alpha_of(lam) + sigma_of(lam), z)


def flow_to_x(u: Tensor, z_f: Tensor, t: Tensor) -> Tensor:
    """x̂ = z_f - t u from the flow velocity u = ε - x (Open-Sora 1.2 predicts the opposite sign)."""
    return z_f - expand(t, z_f) * u


def flow_to_eps(u: Tensor, z_f: Tensor, t: Tensor) -> Tensor:
    """ε̂ = z_f + (1 - t) u from the flow velocity u = ε - x."""
    return z_f + expand(1 - t, z_f) * u


def shift_flow_time(t: Tensor, a: float) -> Tensor:
    """t' = a t / (1 + (a - 1) t), which lowers λ by 2 log a. Source: 2403.03206."""
    return a * t / (1 + (a - 1) * t)
