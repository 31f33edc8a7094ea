"""The forward process, its posterior, and noise augmentation of a condition.

Legend: schedule.py. lam_t is the current (noisier) level, lam_s > lam_t the target.
"""

from __future__ import annotations

import torch
from torch import Tensor

from muybridge.diffusion.schedule import alpha_of, expand, log1mexp, log_sigma, ratio_alpha, ratio_sigma, sigma_of


def diffuse(x: Tensor, eps: Tensor, lam: Tensor) -> Tensor:
    """Draw from q(z_t | x): z = alpha x + sigma eps.

    Args:
        x, eps: [B, C, F, H, W].
        lam: log-SNR [], [B] or [B, F].
    """
    return expand(alpha_of(lam), x) * x + expand(sigma_of(lam), x) * eps


def renoise(z_s: Tensor, lam_s: Tensor, lam_t: Tensor, noise: Tensor) -> Tensor:
    """Draw from q(z_t | z_s), back to a noisier level: (alpha_t / alpha_s) z_s + sigma_{t|s} n."""
    variance = -torch.expm1(lam_t - lam_s) * torch.sigmoid(-lam_t)
    return expand(ratio_alpha(lam_t, lam_s), z_s) * z_s + expand(variance.sqrt(), z_s) * noise


def posterior_mean(z_t: Tensor, x: Tensor, lam_t: Tensor, lam_s: Tensor) -> Tensor:
    """Mean of q(z_s | z_t, x): (alpha_t/alpha_s)(sigma_s^2/sigma_t^2) z_t - expm1(lam_t - lam_s) alpha_s x.

    Algebraically the paper's form, but finite at zero terminal SNR, where alpha_t = 0. Source: 2204.03458 eq. 3.
    """
    on_z = ratio_alpha(lam_t, lam_s) * ratio_sigma(lam_s, lam_t) ** 2
    on_x = -torch.expm1(lam_t - lam_s) * alpha_of(lam_s)
    return expand(on_z, z_t) * z_t + expand(on_x, z_t) * x


def posterior_log_variance(lam_t: Tensor, lam_s: Tensor, gamma: float = 0.0) -> Tensor:
    """Log of (lower bound)^(1 - gamma) (upper bound)^gamma of the reverse variance.

    gamma = 0 is q(z_s | z_t, x)'s own variance ("fixed small"), gamma = 1 is sigma_{t|s}^2 ("fixed large").
    Source: 2204.03458 eq. 4.
    """
    return log1mexp(lam_s - lam_t) + 2 * ((1 - gamma) * log_sigma(lam_s) + gamma * log_sigma(lam_t))


def augment_condition(condition: Tensor, noise: Tensor, lam: Tensor) -> Tensor:
    """Noise conditioning augmentation for cascades: alpha_a c + sigma_a n; the network is told lam_a.

    `noise` must be independent of the noise in z, or the target leaks. lam = +inf returns the condition unchanged.
    Imagen Video samples at SNR 3 or 5, lam = log 3 or log 5. Source: 2106.15282, 2210.02303.
    """
    return diffuse(condition, noise, lam)
