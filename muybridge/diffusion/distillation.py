"""Targets for distillation: fewer steps (progressive distillation) and one pass instead of two (guidance).

Legend: schedule.py; λ_t < λ_mid < λ_s at the times t, t' = t - 1 / (2N), t'' = t - 1 / N.
Source: 2202.00512 algorithm 2, 2210.03142.
"""

from __future__ import annotations

import torch
from torch import Tensor

from muybridge.diffusion.guidance import guide
from muybridge.diffusion.prediction import Denoise
from muybridge.diffusion.samplers import ddim_step
from muybridge.diffusion.schedule import alpha_of, expand, phi_of, ratio_sigma


def two_teacher_steps(
    teacher: Denoise, z_t: Tensor, lam_t: Tensor, lam_mid: Tensor, lam_s: Tensor
) -> tuple[Tensor, Tensor]:
    """Two DDIM steps of the teacher, without clipping: returns (z_s, the teacher's last x_hat). lam are [B]."""
    x_first = teacher(z_t, lam_t)
    z_mid = ddim_step(z_t, x_first, lam_t, lam_mid)
    x_second = teacher(z_mid, lam_mid)
    return ddim_step(z_mid, x_second, lam_mid, lam_s), x_second


def x_target(z_t: Tensor, z_s: Tensor, lam_t: Tensor, lam_s: Tensor) -> Tensor:
    """The x̃ whose single DDIM step leads from z_t to z_s: (z_s - (σ_s / σ_t) z_t) / (α_s (1 - e^{(λ_t - λ_s) / 2})).

    Source: 2202.00512 algorithm 2.
    """
    ratio = ratio_sigma(lam_s, lam_t)
    denominator = -alpha_of(lam_s) * torch.expm1(0.5 * (lam_t - lam_s))
    return (z_s - expand(ratio, z_t) * z_t) / expand(denominator, z_t)


def v_target(z_t: Tensor, z_s: Tensor, lam_t: Tensor, lam_s: Tensor) -> Tensor:
    """The ṽ whose single rotation leads from z_t to z_s: (cos δ z_t - z_s) / sin δ with δ = φ_t - φ_s."""
    angle = phi_of(lam_t) - phi_of(lam_s)
    return (expand(angle.cos(), z_t) * z_t - z_s) / expand(angle.sin(), z_t)


def progressive_target(
    teacher: Denoise, z_t: Tensor, lam_t: Tensor, lam_mid: Tensor, lam_s: Tensor, is_last: Tensor
) -> Tensor:
    """x̃ for a student that must do in one step what the teacher does in two.

    Args:
        is_last: [B] bool, True where t'' = 0 (i = 1): there the target is the teacher's own last x_hat.

    Returns:
        The x-target; convert with prediction.to_v for a v-loss. Train with max(SNR, 1) on x, without dropout.
    """
    z_s, x_second = two_teacher_steps(teacher, z_t, lam_t, lam_mid, lam_s)
    last = is_last.reshape(-1, *[1] * (z_t.ndim - 1))
    return torch.where(last, x_second, x_target(z_t, z_s, lam_t, lam_s))


def guidance_target(cond: Denoise, uncond: Denoise, z: Tensor, lam: Tensor, scale: Tensor) -> Tensor:
    """x̂ of the guided teacher, the target of a student that takes g [B] as an input. Source: 2210.03142 eq. 4."""
    return guide(cond(z, lam), uncond(z, lam), expand(scale, z))
