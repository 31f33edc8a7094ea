"""Ideal denoisers, for which every sampler has a known answer: the test oracles of this project.

E[x | z] is available in closed form for Gaussian data and for a finite data set.
"""

from __future__ import annotations

import torch
from torch import Tensor

from muybridge.diffusion.prediction import Denoise
from muybridge.diffusion.schedule import alpha_of, expand


def finite_denoiser(data: Tensor) -> Denoise:
    """E[x | z] when x is uniform over a finite set: a softmax over the squared distances.

    Args:
        data: [N, ...], the whole data set.
    """
    flat = data.flatten(1)

    def denoise(z: Tensor, lam: Tensor) -> Tensor:
        # log q(z | x) = -|z - alpha x|^2 / (2 sigma^2), expanded so that lam = -inf is finite
        snr_over_alpha = torch.exp(0.5 * (lam + torch.nn.functional.softplus(lam)))  # alpha / sigma^2
        logits = snr_over_alpha[:, None] * (z.flatten(1).to(flat) @ flat.T) - 0.5 * lam.exp()[
            :, None
        ] * flat.square().sum(1)
        return (logits.softmax(1) @ flat).reshape(z.shape).to(z)

    return denoise


def gaussian_denoiser(mean: Tensor, covariance: Tensor) -> Denoise:
    """E[x | z] for x ~ N(mean, covariance): mean + alpha S (alpha^2 S + sigma^2 I)^-1 (z - alpha mean).

    Args:
        mean: [D].
        covariance: [D, D], float64 for the sharpest tests. z is flattened to [B, D] and shaped back.
    """
    values, vectors = torch.linalg.eigh(covariance)

    def denoise(z: Tensor, lam: Tensor) -> Tensor:
        alpha = expand(alpha_of(lam.to(values)), values.expand(z.shape[0], -1))
        gain = alpha * values / (alpha**2 * values + torch.sigmoid(-lam.to(values))[:, None])
        centred = (z.flatten(1).to(values) - alpha * mean) @ vectors
        return (mean + (gain * centred) @ vectors.T).reshape(z.shape).to(z)

    return denoise
