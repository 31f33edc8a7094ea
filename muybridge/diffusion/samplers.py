"""Samplers: generators of (denoise, z, lams, noise) that yield a small state each step.

`lams` is [N + 1] from noisy to clean (schedule.level_grid). All are written in the data-prediction form, which stays
finite at zero terminal SNR (lam_t = -inf) and at the clean end (lam_s = +inf). Legend: schedule.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from muybridge.diffusion.noise import Noise
from muybridge.diffusion.prediction import Denoise, to_eps, to_v
from muybridge.diffusion.process import posterior_log_variance, posterior_mean, renoise
from muybridge.diffusion.schedule import (
    alpha_of,
    expand,
    phi_of,
    ratio_alpha,
    ratio_sigma,
    sigma_of,
)


@dataclass
class SamplerState:
    """What a sampler yields after each step.

    Attributes:
        step: index of the finished step, 0..N-1.
        z: the data at the level reached, lam_s; after the last step the sample.
        x: the denoised estimate of this step.
        lam: the level reached.
    """

    step: int
    z: Tensor
    x: Tensor
    lam: Tensor


Sampler = Callable[..., Iterator[SamplerState]]


def _levels(lam: Tensor, z: Tensor) -> Tensor:
    return lam.to(z.device).expand(z.shape[0])


def ddim_step(
    z: Tensor, x: Tensor, lam_t: Tensor, lam_s: Tensor, eta: float = 0.0, noise: Tensor | None = None
) -> Tensor:
    """One DDIM step from lam_t to lam_s (which may also be noisier: then it is the Euler inversion step).

    z_s = k/sigma_t z + (alpha_s - k alpha_t/sigma_t) x + eta sqrt(1 - e^{lam_t - lam_s}) sigma_s n, with
    k = sigma_s sqrt(1 + eta^2 expm1(lam_t - lam_s)); eta = 1 is the ancestral step with gamma = 0. Source: 2010.02502 eq. 12.
    """
    if eta == 0:
        # the same with k = sigma_s, arranged to lose no digits: alpha_s - sigma_s alpha_t / sigma_t
        on_x = -torch.expm1(0.5 * (lam_t - lam_s)) * alpha_of(lam_s)
        return expand(ratio_sigma(lam_s, lam_t), z) * z + expand(on_x, z) * x
    if noise is None:
        raise ValueError("DDIM with eta > 0 is stochastic and needs noise")
    shrink = torch.expm1(lam_t - lam_s)
    kept = sigma_of(lam_s) * (1 + eta**2 * shrink).sqrt()
    on_z = kept / sigma_of(lam_t)
    on_x = alpha_of(lam_s) - on_z * alpha_of(lam_t)
    added = eta * (-shrink).sqrt() * sigma_of(lam_s)
    return expand(on_z, z) * z + expand(on_x, z) * x + expand(added, z) * noise


def ddim_step_eps(z: Tensor, eps: Tensor, lam_t: Tensor, lam_s: Tensor) -> Tensor:
    """The same deterministic step from eps: (alpha_s/alpha_t) z - sigma_s expm1((lam_s - lam_t)/2) eps."""
    on_eps = -sigma_of(lam_s) * torch.expm1(0.5 * (lam_s - lam_t))
    return expand(ratio_alpha(lam_s, lam_t), z) * z + expand(on_eps, z) * eps


def ddim_step_v(z: Tensor, v: Tensor, lam_t: Tensor, lam_s: Tensor) -> Tensor:
    """The same deterministic step as a rotation: cos(d) z - sin(d) v with d = phi_t - phi_s."""
    angle = phi_of(lam_t) - phi_of(lam_s)
    return expand(angle.cos(), z) * z - expand(angle.sin(), z) * v


def sample_ddim(
    denoise: Denoise, z: Tensor, lams: Tensor, noise: Noise | None = None, eta: float = 0.0
) -> Iterator[SamplerState]:
    """DDIM; eta = 0 is deterministic, eta = 1 ancestral. Source: 2010.02502."""
    for i in range(len(lams) - 1):
        x = denoise(z, _levels(lams[i], z))
        draw = noise.like(z, "sampler", i) if noise is not None and eta > 0 else None
        z = ddim_step(z, x, lams[i], lams[i + 1], eta, draw)
        yield SamplerState(i, z, x, lams[i + 1])


def sample_ancestral(
    denoise: Denoise,
    z: Tensor,
    lams: Tensor,
    noise: Noise,
    gamma: float = 0.0,
    corrector: float = 0.0,
    harmonise: int = 1,
) -> Iterator[SamplerState]:
    """The ancestral sampler of VDM, optionally with Langevin correction and RePaint harmonisation.

    Args:
        gamma: 0 lower, 1 upper variance bound; VDM uses 0.1 (UCF), 0.3 (text), 0 (BAIR, Kinetics).
        corrector: step size delta of one Langevin step after each ancestral step (VDM: 0.1; 0 = off). Doubles the calls.
        harmonise: passes of (denoise, step, add the noise back) a level, 1 = plain. Source: 2201.09865.

    Source: 2204.03458 eqs. 4 and 5. The last step returns x_hat without noise.
    """
    for i in range(len(lams) - 1):
        lam_t, lam_s = lams[i], lams[i + 1]
        last = i == len(lams) - 2
        for turn in range(harmonise):
            place = i * harmonise + turn
            x = denoise(z, _levels(lam_t, z))
            if last:
                z = x
                break
            std = torch.exp(0.5 * posterior_log_variance(lam_t, lam_s, gamma))
            z = posterior_mean(z, x, lam_t, lam_s) + expand(std, z) * noise.like(z, "sampler", place)
            if turn < harmonise - 1:
                z = renoise(z, lam_s, lam_t, noise.like(z, "harmonise", place))
        if corrector > 0 and not last:
            z = langevin_step(denoise, z, lam_s, noise.like(z, "corrector", i), corrector)
        yield SamplerState(i, z, x, lam_s)


def langevin_step(denoise: Denoise, z: Tensor, lam: Tensor, noise: Tensor, delta: float = 0.1) -> Tensor:
    """z - delta/2 sigma eps_hat(z) + sqrt(delta) sigma n. Source: 2204.03458 eq. 5."""
    x = denoise(z, _levels(lam, z))
    eps = to_eps(x, z, lam, "sample")
    sigma = expand(sigma_of(lam), z)
    return z - 0.5 * delta * sigma * eps + delta**0.5 * sigma * noise


def sample_dpmpp_2m(
    denoise: Denoise,
    z: Tensor,
    lams: Tensor,
    noise: Noise | None = None,
    stochastic: bool = False,
    lower_order_final: bool = True,
) -> Iterator[SamplerState]:
    """DPM-Solver++ (2M), second order multistep in data prediction; `stochastic` gives its SDE form (midpoint).

    First order on the first step, and with `lower_order_final` on the last: on a grid with long ends the extrapolation
    weight 1/(2r) explodes there. On an even grid the last step may be second order too.
    Source: 2211.01095 algorithm 2 (its lambda is half of ours); the SDE form as in k-diffusion's 2M-SDE.
    """
    previous: Tensor | None = None
    previous_h = torch.tensor(0.0, dtype=lams.dtype)
    for i in range(len(lams) - 1):
        lam_t, lam_s = lams[i], lams[i + 1]
        x = denoise(z, _levels(lam_t, z))
        h = 0.5 * (lam_s - lam_t)
        direction = x
        first_order = (lower_order_final and i == len(lams) - 2) or not bool(torch.isfinite(h + previous_h))
        if previous is not None and not first_order:
            weight = expand(0.5 * h / previous_h, z)
            direction = x + weight * (x - previous)
        if stochastic:
            if noise is None:
                raise ValueError("the SDE form of DPM-Solver++ needs noise")
            on_z = ratio_sigma(lam_s, lam_t) * torch.exp(-h)
            on_x = -torch.expm1(-2 * h) * alpha_of(lam_s)
            added = sigma_of(lam_s) * (-torch.expm1(-2 * h)).sqrt()
            z = expand(on_z, z) * z + expand(on_x, z) * direction + expand(added, z) * noise.like(z, "sampler", i)
        else:
            z = ddim_step(z, direction, lam_t, lam_s)
        previous, previous_h = x, h
        yield SamplerState(i, z, x, lam_s)


def sample_dpmpp_2m_sde(denoise: Denoise, z: Tensor, lams: Tensor, noise: Noise) -> Iterator[SamplerState]:
    """DPM-Solver++ 2M-SDE: the stochastic form of `sample_dpmpp_2m`."""
    return sample_dpmpp_2m(denoise, z, lams, noise, stochastic=True)


def sample_distilled(denoise: Denoise, z: Tensor, lams: Tensor, noise: Noise) -> Iterator[SamplerState]:
    """The stochastic sampler of a distilled model: one DDIM step of double length, then noise back by one level.

    Net progress is one level a network call. Source: 2210.03142, as used by Imagen Video (8 steps a model).
    """
    n = len(lams) - 1
    for i in range(n):
        x = denoise(z, _levels(lams[i], z))
        if i == n - 1:
            z = x
        else:
            far = ddim_step(z, x, lams[i], lams[i + 2])
            z = renoise(far, lams[i + 2], lams[i + 1], noise.like(z, "sampler", i))
        yield SamplerState(i, z, x, lams[i + 1])


def invert_ddim(denoise: Denoise, z: Tensor, lams: Tensor, iterations: int = 20) -> Iterator[SamplerState]:
    """Exact DDIM inversion: from clean to noise, each step the fixed point of the sampler's own step.

    Solves z_s = cos(d) z_t - sin(d) v(z_t, lam_t) for z_t by iterating z <- (z_s + sin(d) v(z, lam_t)) / cos(d).
    One iteration is what diffusers' inverse scheduler does. Invert without guidance unless it is part of `denoise`.

    Args:
        lams: [N + 1], from clean to noisy (the reversed sampling grid), finite.
        iterations: fixed-point iterations a step; 5 reach about 1e-5, 20 machine precision on smooth denoisers.
    """
    for i in range(len(lams) - 1):
        lam_s, lam_t = lams[i], lams[i + 1]
        angle = phi_of(lam_t) - phi_of(lam_s)
        cos, sin = expand(angle.cos(), z), expand(angle.sin(), z)
        guess = z
        for _ in range(iterations):
            x = denoise(guess, _levels(lam_t, z))
            guess = (z + sin * to_v(x, guess, lam_t, "sample")) / cos
        z = guess
        yield SamplerState(i, z, x, lam_t)


#: The names the command line and the pipelines know. ddpm is the ancestral sampler.
SAMPLERS: dict[str, Sampler] = {
    "ddim": sample_ddim,
    "ancestral": sample_ancestral,
    "dpmpp_2m": sample_dpmpp_2m,
    "dpmpp_2m_sde": sample_dpmpp_2m_sde,
    "distilled": sample_distilled,
}


def sampler_named(name: str) -> Sampler:
    if name not in SAMPLERS:
        raise ValueError(f"unknown sampler {name!r}; expected one of {', '.join(SAMPLERS)}")
    return SAMPLERS[name]
