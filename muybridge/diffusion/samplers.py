"""Samplers: generators of (denoise, z, lams, noise) that yield a small state each step.

`lams` runs from noisy to clean (tables.level_grid): [N + 1], or [N + 1, B or 1, F] for a noise level a frame, where a
frame whose level does not change in a step stays as it is. All are written in the data-prediction form, which stays
finite at zero terminal SNR (λ_t = -inf) and at the clean end (λ_s = +inf, where every sampler returns x̂). Legend:
schedule.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from muybridge.diffusion.learned_variance import LearnedVariance
from muybridge.diffusion.noise import Noise
from muybridge.diffusion.prediction import Denoise, to_v
from muybridge.diffusion.process import posterior_log_variance, posterior_mean, renoise
from muybridge.diffusion.schedule import alpha_of, expand, gap, per_sample, phi_of, ratio_sigma, sigma_of
from muybridge.diffusion.states import Sampler, SamplerState
from muybridge.diffusion.unipc import sample_unipc


def ddim_step(
    z: Tensor, x: Tensor, lam_t: Tensor, lam_s: Tensor, eta: float = 0.0, noise: Tensor | None = None
) -> Tensor:
    """One DDIM step from λ_t to λ_s (which may also be noisier: then it is the Euler inversion step).

        z_s = k z + (α_s - k α_t) x̂ + η sqrt(1 - e^{λ_t - λ_s}) σ_s n
        k = (σ_s / σ_t) sqrt(1 - η² (1 - e^{λ_t - λ_s}))

    For η = 0 the second coefficient is α_s (1 - e^{(λ_t - λ_s) / 2}); η = 1 is the ancestral step with γ = 0.

    Args:
        eta: in 0..1.

    Source: 2010.02502 eq. 12.
    """
    ratio = ratio_sigma(lam_s, lam_t)
    if eta == 0:  # arranged to lose no digits
        on_x = -torch.expm1(0.5 * gap(lam_t, lam_s)) * alpha_of(lam_s)
        return expand(ratio, z) * z + expand(on_x, z) * x
    if noise is None:
        raise ValueError("DDIM with eta > 0 is stochastic and needs noise")
    shrink = torch.expm1(gap(lam_t, lam_s))  # in -1..0
    on_z = ratio * (1 + eta**2 * shrink).sqrt()
    on_x = alpha_of(lam_s) - on_z * alpha_of(lam_t)
    added = eta * (-shrink).sqrt() * sigma_of(lam_s)
    return expand(on_z, z) * z + expand(on_x, z) * x + expand(added, z) * noise


def sample_ddim(
    denoise: Denoise, z: Tensor, lams: Tensor, noise: Noise | None = None, eta: float = 0.0
) -> Iterator[SamplerState]:
    """DDIM: `ddim_step` from level to level; η = 0 is deterministic, η = 1 ancestral. Order 1.

    Source: 2010.02502 eq. 12.
    """
    for i in range(len(lams) - 1):
        x = denoise(z, per_sample(lams[i], z))
        draw = noise.like(z, "sampler", i) if noise is not None and eta > 0 else None
        z = ddim_step(z, x, lams[i], lams[i + 1], eta, draw)
        yield SamplerState(i, z, x, lams[i + 1])


def sample_ancestral(
    denoise: Denoise,
    z: Tensor,
    lams: Tensor,
    noise: Noise,
    gamma: float | LearnedVariance = 0.0,
    corrector_step_size: float = 0.0,
    resample_steps: int = 1,
) -> Iterator[SamplerState]:
    """The ancestral sampler of VDM, optionally with Langevin correction and RePaint's resampling.

        z_s = μ(z_t, x̂) + sqrt((σ̃²_{s|t})^(1 - γ) (σ²_{t|s})^γ) n,   and z_s = x̂ without noise at λ_s = +inf

    Args:
        gamma: γ, 0 lower, 1 upper variance bound; VDM uses 0.1 (UCF), 0.3 (text), 0 (BAIR, Kinetics). Or where the
            denoiser's network leaves what it says itself.
        corrector_step_size: δ of one Langevin step after each ancestral step (VDM: 0.1; 0 = off). Doubles the calls.
        resample_steps: U of RePaint: passes of (denoise, step, add the noise back) a level, 1 = plain.

    Source: 2204.03458 eqs. 4 and 5; resampling 2201.09865 algorithm 1.
    """
    for i in range(len(lams) - 1):
        lam_t, lam_s = lams[i], lams[i + 1]
        clean = torch.isinf(lam_s) & (lam_s > 0)
        passes = 1 if bool(clean.all()) else resample_steps
        for turn in range(passes):
            draw = i * resample_steps + turn
            if isinstance(gamma, LearnedVariance):
                gamma.forget()
            x = denoise(z, per_sample(lam_t, z))
            std = _ancestral_std(gamma, z, lam_t, lam_s, clean)
            z = posterior_mean(z, x, lam_t, lam_s) + std * noise.like(z, "sampler", draw)
            if turn < passes - 1:
                z = renoise(z, lam_s, lam_t, noise.like(z, "resample", draw))
        if corrector_step_size > 0 and not bool(clean.all()):
            z = langevin_step(denoise, z, lam_s, noise.like(z, "corrector", i), corrector_step_size)
        yield SamplerState(i, z, x, lam_s)


def _ancestral_std(gamma: float | LearnedVariance, z: Tensor, lam_t: Tensor, lam_s: Tensor, clean: Tensor) -> Tensor:
    """Standard deviation of an ancestral step, to be multiplied with noise like z; 0 where the target is clean."""
    if isinstance(gamma, LearnedVariance):
        return gamma.std(lam_t, lam_s)
    std = torch.exp(0.5 * posterior_log_variance(lam_t, lam_s, gamma))
    return expand(std.masked_fill(clean, 0.0), z)


def langevin_step(denoise: Denoise, z: Tensor, lam: Tensor, noise: Tensor, delta: float = 0.1) -> Tensor:
    """z - (δ / 2) σ ε̂(z) + sqrt(δ) σ n, with σ ε̂ = z - α x̂; clean frames stay. Source: 2204.03458 eq. 5."""
    x = denoise(z, per_sample(lam, z))
    alpha, sigma = expand(alpha_of(lam), z), expand(sigma_of(lam), z)
    return torch.where(sigma > 0, z - 0.5 * delta * (z - alpha * x) + delta**0.5 * sigma * noise, z)


def sample_dpmpp_2m(
    denoise: Denoise, z: Tensor, lams: Tensor, noise: Noise | None = None, stochastic: bool = False
) -> Iterator[SamplerState]:
    """DPM-Solver++ (2M), second order multistep in data prediction; `stochastic` gives its SDE form (midpoint).

        D_i = x̂_i + (x̂_i - x̂_{i-1}) / (2 r),   r = h_{i-1} / h_i,   h_i = (λ_s - λ_t) / 2
        z_s = (σ_s / σ_t) z_t + α_s (1 - e^{-h}) D                                                  (ODE)
        z_s = (σ_s / σ_t) e^{-h} z_t + α_s (1 - e^{-2h}) D + σ_s sqrt(1 - e^{-2h}) n                (SDE)

    First order (D = x̂) on the first and the last step: on a grid with long ends the weight 1 / (2 r) explodes at the
    last.
    Source: 2211.01095 algorithm 2 (its λ is half of ours); the SDE form as in k-diffusion's 2M-SDE.
    """
    if stochastic and noise is None:
        raise ValueError("the SDE form of DPM-Solver++ needs noise")
    previous, previous_h = z, torch.zeros_like(lams[0])
    for i in range(len(lams) - 1):
        lam_t, lam_s = lams[i], lams[i + 1]
        x = denoise(z, per_sample(lam_t, z))
        h = 0.5 * gap(lam_s, lam_t)
        direction = x
        # second order only between two finite steps: an end at infinity has no slope, nor has a frame that stood still
        second = torch.isfinite(h + previous_h) & (previous_h > 0)
        if i < len(lams) - 2 and bool(second.any()):
            weight = expand(torch.where(second, 0.5 * h / previous_h, 0.0), z)
            direction = x + weight * (x - previous)
        if noise is not None and stochastic:
            on_z = ratio_sigma(lam_s, lam_t) * torch.exp(-h)
            on_x = -torch.expm1(-2 * h) * alpha_of(lam_s)
            added = sigma_of(lam_s) * (-torch.expm1(-2 * h)).sqrt()
            z = expand(on_z, z) * z + expand(on_x, z) * direction + expand(added, z) * noise.like(z, "sampler", i)
        else:
            z = ddim_step(z, direction, lam_t, lam_s)
        previous, previous_h = x, h
        yield SamplerState(i, z, x, lam_s)


def sample_dpmpp_2m_sde(denoise: Denoise, z: Tensor, lams: Tensor, noise: Noise) -> Iterator[SamplerState]:
    """DPM-Solver++ 2M-SDE: the stochastic form of `sample_dpmpp_2m`.

    Source: k-diffusion's sample_dpmpp_2m_sde, midpoint.
    """
    return sample_dpmpp_2m(denoise, z, lams, noise, stochastic=True)


def sample_euler(denoise: Denoise, z: Tensor, lams: Tensor, noise: Noise | None = None) -> Iterator[SamplerState]:
    """Euler's method on the probability-flow ODE, which is DDIM without noise on a grid that ends at no noise at all.

    In z / α over σ / α (2206.00364), in z / (α + σ) over σ / (α + σ) (rectified flow) and in DDIM's variables alike a
    step holds x̂ and ε̂ fixed, so that all three are one formula; what differs between them is the grid. Order 1.
    """
    return sample_ddim(denoise, z, lams)


def sample_consistency(denoise: Denoise, z: Tensor, lams: Tensor, noise: Noise) -> Iterator[SamplerState]:
    """Multistep sampling of a consistency model: each estimate is noised to the next level, z_s = α_s x̂ + σ_s n.

    Source: 2303.01469 algorithm 1, 2310.04378 algorithm 3.
    """
    for i in range(len(lams) - 1):
        x = denoise(z, per_sample(lams[i], z))
        lam = lams[i + 1]
        noised = expand(alpha_of(lam), z) * x + expand(sigma_of(lam), z) * noise.like(z, "sampler", i)
        z = torch.where(expand((lam == lams[i]).double(), z) > 0, z, noised)  # a frame whose level does not change
        yield SamplerState(i, z, x, lam)


def sample_distilled(denoise: Denoise, z: Tensor, lams: Tensor, noise: Noise) -> Iterator[SamplerState]:
    """The stochastic sampler of a distilled model: one DDIM step of double length, then noise back by one level.

        z' = DDIM(z_i, λ_i -> λ_{i+2}),   z_{i+1} ~ q(z_{i+1} | z'),   and one plain DDIM step on the last level

    Net progress is one level a network call. Source: 2210.03142 section 4, as used by Imagen Video (2210.02303 section
    2.7).
    """
    n = len(lams) - 1
    for i in range(n):
        x = denoise(z, per_sample(lams[i], z))
        far = min(i + 2, n)
        z = ddim_step(z, x, lams[i], lams[far])
        if far > i + 1:
            z = renoise(z, lams[far], lams[i + 1], noise.like(z, "sampler", i))
        yield SamplerState(i, z, x, lams[i + 1])


def invert_ddim(denoise: Denoise, z: Tensor, lams: Tensor, iterations: int = 20) -> Iterator[SamplerState]:
    """Exact DDIM inversion: from clean to noise, each step the fixed point of the sampler's own step.

        solve z_s = cos δ z_t - sin δ v̂(z_t, λ_t) for z_t by z <- (z_s + sin δ v̂(z, λ_t)) / cos δ,   δ = φ_t - φ_s

    One iteration is the first fixed-point iterate. diffusers' inverse scheduler takes x̂ at the source level instead
    and agrees with it to first order only. Invert without guidance unless it is part of `denoise`.

    Args:
        lams: [N + 1], from clean to noisy (the reversed sampling grid); infinite ends are allowed.
        iterations: fixed-point iterations a step, at least 1. How many are needed follows the step's length: on a
            smooth denoiser and ten steps 5 reach about 1e-5 and 20 machine precision; on a table that ends at zero SNR
            the long first step leaves 9e-3 with 20 steps, 3e-4 with 50.

    Source: 2010.02502 eq. 14 run backwards; the fixed point 2309.04907.
    """
    if iterations < 1:
        raise ValueError(f"inversion needs at least 1 iteration a step, got {iterations}")
    for i in range(len(lams) - 1):
        lam_s, lam_t = lams[i], lams[i + 1]
        angle = phi_of(lam_t) - phi_of(lam_s)
        cos, sin = expand(angle.cos(), z), expand(angle.sin(), z)
        guess = z
        for _ in range(iterations):
            x = denoise(guess, per_sample(lam_t, z))
            turned = (z + sin * to_v(x, guess, lam_t, "sample")) / cos
            guess = torch.where(sin != 0, turned, z)  # a frame that does not move has no v at a clean level
        z = guess
        yield SamplerState(i, z, x, lam_t)


#: The names the command line and the pipelines know. ddpm is the ancestral sampler.
SAMPLERS: dict[str, Sampler] = {
    "ddim": sample_ddim,
    "ancestral": sample_ancestral,
    "dpmpp_2m": sample_dpmpp_2m,
    "dpmpp_2m_sde": sample_dpmpp_2m_sde,
    "distilled": sample_distilled,
    "euler": sample_euler,
    "unipc": sample_unipc,
    "consistency": sample_consistency,
}


def sampler_named(name: str) -> Sampler:
    """The sampler of this name.

    Raises:
        ValueError: there is none.
    """
    if name not in SAMPLERS:
        raise ValueError(f"unknown sampler {name!r}; expected one of {', '.join(SAMPLERS)}")
    return SAMPLERS[name]
