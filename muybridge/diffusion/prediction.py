"""What a network predicts - eps, x or v - and the conversions between them.

v = alpha eps - sigma x = dz/dphi on the circle z = cos(phi) x + sin(phi) eps.
eps divides by alpha (breaks as lam -> -inf), x by sigma (breaks as lam -> +inf), v never divides. Source: 2202.00512.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from muybridge.diffusion.schedule import alpha_of, expand, sigma_of

PredictionType = Literal["epsilon", "sample", "v_prediction"]

#: The contract of every sampler and guidance: (z [B, C, F, H, W], lam [B] or [B, F]) -> x_hat.
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
    check_prediction_type(kind)
    return (z - sigma * output) / alpha


def to_eps(output: Tensor, z: Tensor, lam: Tensor, kind: str) -> Tensor:
    """eps_hat from a network's output of the given prediction type."""
    if kind == "epsilon":
        return output
    alpha, sigma = expand(alpha_of(lam), z), expand(sigma_of(lam), z)
    if kind == "v_prediction":
        return sigma * z + alpha * output
    check_prediction_type(kind)
    return (z - alpha * output) / sigma


def to_v(output: Tensor, z: Tensor, lam: Tensor, kind: str) -> Tensor:
    """v_hat from a network's output of the given prediction type."""
    if kind == "v_prediction":
        return output
    alpha, sigma = expand(alpha_of(lam), z), expand(sigma_of(lam), z)
    if kind == "epsilon":
        return (output - sigma * z) / alpha
    check_prediction_type(kind)
    return (alpha * z - output) / sigma


def target_of(x: Tensor, eps: Tensor, lam: Tensor, kind: str) -> Tensor:
    """What a network of this prediction type is trained towards."""
    check_prediction_type(kind)
    if kind == "sample":
        return x
    if kind == "epsilon":
        return eps
    return expand(alpha_of(lam), x) * eps - expand(sigma_of(lam), x) * x


def combine_both(x_output: Tensor, eps_output: Tensor, z: Tensor, lam: Tensor) -> Tensor:
    """x_hat of a network that outputs both: sigma^2 x' + alpha^2 (z - sigma eps') / alpha. Source: 2202.00512."""
    alpha, sigma = expand(alpha_of(lam), z), expand(sigma_of(lam), z)
    return sigma**2 * x_output + alpha * (z - sigma * eps_output)


# --- rectified flow, as a change of scale and clock -----------------------------------------------------------------


def lam_of_flow_time(t: Tensor) -> Tensor:
    """The log-SNR of a rectified flow z_f = (1 - t) x + t eps: 2 log((1 - t) / t)."""
    return 2 * (torch.log1p(-t) - torch.log(t))


def flow_scale(t: Tensor) -> Tensor:
    """c with z_f / c variance preserving: sqrt((1 - t)^2 + t^2)."""
    return ((1 - t) ** 2 + t**2).sqrt()


def flow_to_x(u: Tensor, z_f: Tensor, t: Tensor) -> Tensor:
    """x_hat from the flow velocity u = eps - x (Open-Sora 1.2 predicts the opposite sign)."""
    return z_f - expand(t, z_f) * u


def flow_to_eps(u: Tensor, z_f: Tensor, t: Tensor) -> Tensor:
    return z_f + expand(1 - t, z_f) * u


def shift_flow_time(t: Tensor, a: float) -> Tensor:
    """t' = a t / (1 + (a - 1) t), which lowers the log-SNR by 2 log a. Source: 2403.03206."""
    return a * t / (1 + (a - 1) * t)
