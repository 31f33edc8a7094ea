"""Ideal denoisers, for which every sampler has a known answer: the test oracles of this project.

E[x | z] is available in closed form for Gaussian data and for a finite data set, with one noise level a sample or one a
frame.
"""

from __future__ import annotations

import torch
from torch import Tensor

from muybridge.diffusion.prediction import Denoise
from muybridge.diffusion.schedule import alpha_of, expand, per_sample


def _by_value(coefficient: Tensor, z: Tensor) -> Tensor:
    """A coefficient of [B] or [B, F] at every value of z, flattened: [B, D]."""
    return expand(coefficient, z.to(coefficient)).expand(z.shape).flatten(1)


def finite_denoiser(data: Tensor) -> Denoise:
    """E[x | z] when x is uniform over a finite set: a softmax over the squared distances.

    log q(z | x) = Σ_d -(z_d - α_d x_d)² / (2 σ_d²), expanded so that λ = -inf is finite.

    Args:
        data: [N, ...], the whole data set.
    """
    flat = data.flatten(1)

    def denoise(z: Tensor, lam: Tensor) -> Tensor:
        lam = per_sample(lam, z).to(flat)
        alpha_over_variance = torch.exp(0.5 * (lam + torch.nn.functional.softplus(lam)))
        logits = (_by_value(alpha_over_variance, z) * z.flatten(1).to(flat)) @ flat.T
        logits = logits - 0.5 * _by_value(lam.exp(), z) @ flat.square().T  # [B, N]
        return (logits.softmax(1) @ flat).reshape(z.shape).to(z)

    return denoise


def gaussian_denoiser(mean: Tensor, covariance: Tensor) -> Denoise:
    """E[x | z] for x ~ N(m, S): m + S A (A S A + Σ)⁻¹ (z - A m) with A = diag(α), Σ = diag(σ²).

    Args:
        mean: [D].
        covariance: [D, D], float64 for the sharpest tests. z is flattened to [B, D] and shaped back.
    """
    values, vectors = torch.linalg.eigh(covariance)

    def one_level(z: Tensor, lam: Tensor) -> Tensor:
        # all α equal: in the eigenbasis of S the inverse is a division
        alpha = expand(alpha_of(lam), values.expand(len(z), -1))
        gain = alpha * values / (alpha**2 * values + torch.sigmoid(-lam)[:, None])
        centred = (z.flatten(1).to(values) - alpha * mean) @ vectors
        return mean + (gain * centred) @ vectors.T

    def level_a_frame(z: Tensor, lam: Tensor) -> Tensor:
        alpha, variance = _by_value(alpha_of(lam), z), _by_value(torch.sigmoid(-lam), z)  # [B, D] each
        inner = alpha[:, :, None] * covariance * alpha[:, None] + torch.diag_embed(variance)
        centred = z.flatten(1).to(values) - alpha * mean
        return mean + (alpha * torch.linalg.solve(inner, centred)) @ covariance

    def denoise(z: Tensor, lam: Tensor) -> Tensor:
        lam = per_sample(lam, z).to(values)
        return (one_level if lam.ndim == 1 else level_a_frame)(z, lam).reshape(z.shape).to(z)

    return denoise
