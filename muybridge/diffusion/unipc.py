"""UniPC: a multistep predictor whose every step is corrected by the estimate that the next one makes anyway."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from muybridge.diffusion.noise import Noise
from muybridge.diffusion.prediction import Denoise
from muybridge.diffusion.schedule import alpha_of, expand, gap, per_sample, ratio_sigma
from muybridge.diffusion.states import SamplerState


@dataclass(frozen=True)
class _Step:
    """A step that was predicted: from where, its estimate, and the one before it.

    Attributes:
        z, x, lam: the data, x̂ and λ_t at its start.
        before: x̂ of the step before.
        ratio: r = h_{i-1} / h_i of the two; 0 where the step is of first order.
    """

    z: Tensor
    x: Tensor
    lam: Tensor
    before: Tensor
    ratio: Tensor


def sample_unipc(denoise: Denoise, z: Tensor, lams: Tensor, noise: Noise | None = None) -> Iterator[SamplerState]:
    """UniPC-2 in data prediction with B(h) = e^h - 1: second order predictor, corrected to third, one call a step.

        predictor   z_s = (σ_s / σ_t) z_t + α_s (1 - e^{-h}) (x̂_t - (x̂_{t-1} - x̂_t) / (2 r))
        corrector   z_s = (σ_s / σ_t) z_t + α_s (1 - e^{-h}) (x̂_t - ρ_1 (x̂_{t-1} - x̂_t) / r + ρ_2 (x̂_s - x̂_t))
        ρ           solves [[1, 1], [-r, 1]] ρ = [b_1, b_2], the moments of e^{-h} over the step

    with h = (λ_s - λ_t) / 2 and r = h_{i-1} / h_i. The first and the last step are of first order, and so is one whose
    level is infinite or does not change at an end; what reaches λ_s = +inf is x̂ and is not corrected.

    Source: 2302.04867 algorithms 5 to 8, as diffusers' UniPCMultistepScheduler has them (bh2, predict_x0).
    """
    last: _Step | None = None
    for i in range(len(lams) - 1):
        lam_t, lam_s = lams[i], lams[i + 1]
        x = denoise(z, per_sample(lam_t, z))
        if last is not None:
            z = _corrected(last, x, lam_t)
        ratio = torch.zeros_like(lam_t)
        if last is not None and i < len(lams) - 2:
            before, now = gap(lam_t, last.lam), gap(lam_s, lam_t)
            ratio = torch.where(torch.isfinite(before + now) & (before > 0) & (now > 0), before / now, 0.0)
        last = _Step(z, x, lam_t, x if last is None else last.x, ratio)
        slope = expand(torch.where(ratio > 0, 0.5 / ratio, 0.0), z)
        z = _towards(z, x - slope * (last.before - x), lam_t, lam_s)
        yield SamplerState(i, z, x, lam_s)


def _towards(z: Tensor, x: Tensor, lam_t: Tensor, lam_s: Tensor) -> Tensor:
    """The exact step from λ_t to λ_s for an estimate that stays x."""
    on_x = -torch.expm1(-0.5 * gap(lam_s, lam_t)) * alpha_of(lam_s)
    return expand(ratio_sigma(lam_s, lam_t), z) * z + expand(on_x, z) * x


def _corrected(step: _Step, x: Tensor, lam_s: Tensor) -> Tensor:
    """The same step again, knowing the estimate at its end."""
    h, r = 0.5 * gap(lam_s, step.lam), step.ratio
    shrink = torch.expm1(-h)
    # b_k = k! φ_{k+1}(-h) / (e^{-h} - 1), φ_1(u) = (e^u - 1) / u, φ_{k+1}(u) = (φ_k(u) - 1 / k!) / u
    once = shrink / -h - 1
    b_1, b_2 = once / shrink, 2 * (once / -h - 0.5) / shrink
    on_before = torch.where(r > 0, (b_1 - b_2) / (1 + r), 0.0)
    on_next = torch.where(r > 0, b_1 - on_before, torch.where(torch.isfinite(h), 0.5, 0.0))
    along = expand(torch.where(r > 0, on_before / r, 0.0), step.z)
    change = expand(on_next, step.z) * (x - step.x) - along * (step.before - step.x)
    return _towards(step.z, step.x + change, step.lam, lam_s)
