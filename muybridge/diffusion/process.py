"""The forward process, its posterior, and noise augmentation of a condition.

Legend: schedule.py. λ_t is the current (noisier) level, λ_s ≥ λ_t the target; both are [], [B] or [B, F], and a frame
whose two levels are equal stays where it is, a clean one (λ = +inf) too.
"""

from __future__ import annotations

import torch
from torch import Tensor

from muybridge.diffusion.schedule import (
    alpha_of,
    expand,
    gap,
    log1mexp,
    log_sigma,
    ratio_alpha,
    ratio_sigma,
    sigma_of,
)


def diffuse(x: Tensor, eps: Tensor, lam: Tensor) -> Tensor:
    """Draw from q(z_t | x): z = α x + σ ε.

    Args:
        x, eps: [B, C, F, H, W].
        lam: log-SNR [], [B] or [B, F].
    """
    return expand(alpha_of(lam), x) * x + expand(sigma_of(lam), x) * eps


def renoise(z_s: Tensor, lam_s: Tensor, lam_t: Tensor, noise: Tensor) -> Tensor:
    """Draw from q(z_t | z_s), back to a noisier level: z_t = (α_t / α_s) z_s + σ_{t|s} n.

    σ²_{t|s} = (1 - e^{λ_t - λ_s}) σ_t². Source: 2204.03458 section 2.
    """
    variance = -torch.expm1(gap(lam_t, lam_s)) * torch.sigmoid(-lam_t)
    return expand(ratio_alpha(lam_t, lam_s), z_s) * z_s + expand(variance.sqrt(), z_s) * noise


def posterior_mean(z_t: Tensor, x: Tensor, lam_t: Tensor, lam_s: Tensor) -> Tensor:
    """Mean of q(z_s | z_t, x): μ = (α_t / α_s) (σ_s² / σ_t²) z_t + (1 - e^{λ_t - λ_s}) α_s x.

    Algebraically the paper's form, but finite at zero terminal SNR, where α_t = 0. Source: 2204.03458 eq. 3.
    """
    on_z = ratio_alpha(lam_t, lam_s) * ratio_sigma(lam_s, lam_t) ** 2
    on_x = -torch.expm1(gap(lam_t, lam_s)) * alpha_of(lam_s)
    return expand(on_z, z_t) * z_t + expand(on_x, z_t) * x


def posterior_log_variance(lam_t: Tensor, lam_s: Tensor, gamma: float = 0.0) -> Tensor:
    """log of (σ̃²_{s|t})^(1 - γ) (σ²_{t|s})^γ, between the two bounds of the reverse variance; -inf at a clean target
    for γ < 1.

    γ = 0 is q(z_s | z_t, x)'s own variance σ̃² = (1 - e^{λ_t - λ_s}) σ_s² ("fixed small"), γ = 1 the forward step's
    σ²_{t|s} = (1 - e^{λ_t - λ_s}) σ_t² ("fixed large"). Source: 2204.03458 eq. 4.

    Args:
        gamma: in 0..1.
    """
    # an end of the interpolation that has no share must not bring in 0 * inf
    lower = (1 - gamma) * log_sigma(lam_s) if gamma < 1 else 0.0
    upper = gamma * log_sigma(lam_t) if gamma > 0 else 0.0
    return log1mexp(gap(lam_s, lam_t)) + 2 * (lower + upper)


def augment_condition(condition: Tensor, noise: Tensor, lam: Tensor) -> Tensor:
    """Noise conditioning augmentation for cascades, c' = α_a c + σ_a n; the network is told λ_a.

    `noise` must be independent of the noise in z, or the target leaks. λ_a = +inf returns the condition unchanged.
    Imagen Video samples at SNR 3 or 5, λ_a = log 3 or log 5. Source: 2106.15282, 2210.02303.
    """
    return diffuse(condition, noise, lam)
