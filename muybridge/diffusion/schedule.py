"""Log-SNR arithmetic and noise schedules.

Legend
    x      clean data                  z      noisy data, z = α x + σ ε
    lam    log-SNR, λ = log(α² / σ²); +inf is clean, -inf is pure noise
    t      time in [0, 1]; 0 is clean, 1 is noise; a step goes from t to s < t, so λ_s > λ_t
    phi    angle, α = cos φ, σ = sin φ

Everything is variance preserving, α² + σ² = 1, and stable for λ in [-inf, inf].

Where a log-SNR lives. A grid of levels is float64 on the CPU, and so is the lam that a sampler hands to a denoiser:
[B], or [B, F] for a noise level a frame. A device is given only what is made of it: coefficients in the data's own
dtype (`expand`) and the float32 copy that a network embeds. So no digit is lost, nothing waits for the device, and MPS,
which has no float64, is never asked for it.

Source: 2107.00630 and 2204.03458 (log-SNR form), 2202.00512 (cosine with a finite range), 2305.08891 (zero-terminal
SNR).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor
from torch.nn.functional import softplus

from muybridge.configuration import Settings, from_mapping, setting
from muybridge.errors import UserError, nearest


def log_alpha(lam: Tensor) -> Tensor:
    """log α = -softplus(-λ) / 2."""
    return -0.5 * softplus(-lam)


def log_sigma(lam: Tensor) -> Tensor:
    """log σ = -softplus(λ) / 2."""
    return -0.5 * softplus(lam)


def alpha_of(lam: Tensor) -> Tensor:
    """α = sqrt(sigmoid(λ)); 0 at λ = -inf, 1 at +inf."""
    return torch.sigmoid(lam).sqrt()


def sigma_of(lam: Tensor) -> Tensor:
    """σ = sqrt(sigmoid(-λ)); 1 at λ = -inf, 0 at +inf."""
    return torch.sigmoid(-lam).sqrt()


def phi_of(lam: Tensor) -> Tensor:
    """The angle φ = atan(exp(-λ/2)) with α = cos φ, σ = sin φ; 0 is clean, π/2 is noise."""
    return torch.atan(torch.exp(-0.5 * lam))


def gap(lam_s: Tensor, lam_t: Tensor) -> Tensor:
    """λ_s - λ_t, and 0 where both are the same infinity: a frame that is clean stays where it is."""
    return torch.where(lam_s == lam_t, 0.0, lam_s - lam_t)


def ratio_alpha(lam_s: Tensor, lam_t: Tensor) -> Tensor:
    """α_s / α_t; 1 where the levels are equal, infinite ones included."""
    return torch.exp(gap(log_alpha(lam_s), log_alpha(lam_t)))


def ratio_sigma(lam_s: Tensor, lam_t: Tensor) -> Tensor:
    """σ_s / σ_t; 1 where the levels are equal, infinite ones included."""
    return torch.exp(gap(log_sigma(lam_s), log_sigma(lam_t)))


def log1mexp(a: Tensor) -> Tensor:
    """log(1 - exp(-a)) for a > 0, accurate at both ends (-inf at 0)."""
    return torch.where(a < math.log(2), torch.log(-torch.expm1(-a)), torch.log1p(-torch.exp(-a)))


def expand(coefficient: Tensor, like: Tensor) -> Tensor:
    """Shape a coefficient of [], [B] or [B, F] so that it multiplies z [B, C, F, ...], in z's dtype and on its device.

    Raises:
        ValueError: the coefficient has more than two axes, or two while z has no frame axis.
    """
    if coefficient.ndim == 0:
        shaped = coefficient
    elif coefficient.ndim == 1:
        shaped = coefficient.reshape(-1, *[1] * (like.ndim - 1))  # [B, 1, 1, 1, 1]
    elif coefficient.ndim == 2 and like.ndim >= 3:
        batch, frames = coefficient.shape
        shaped = coefficient.reshape(batch, 1, frames, *[1] * (like.ndim - 3))  # [B, 1, F, 1, 1]
    else:
        raise ValueError(f"a log-SNR is [], [B] or [B, F]; got {tuple(coefficient.shape)} for data {tuple(like.shape)}")
    return shaped.to(device=like.device, dtype=like.dtype)


def per_sample(lam: Tensor, z: Tensor) -> Tensor:
    """What a denoiser is told of one level: [] or [1] becomes [B], [1, F] becomes [B, F]; the rest stays as it is."""
    return lam.expand(len(z), *lam.shape[1:])


class Schedule(Protocol):
    """A decreasing map from time t in [0, 1] to log-SNR."""

    def __call__(self, t: Tensor) -> Tensor: ...


#: Log-SNRs beyond this are clean, or noise, to the last digit of float64.
WIDEST = 80.0


@dataclass(frozen=True)
class FiniteRange(Settings):
    """What schedules between two log-SNRs are told."""

    where: ClassVar[str] = "schedule_options"

    lam_min: float = setting(-20.0, "log-SNR at the noisy end", low=-WIDEST, high=WIDEST)
    lam_max: float = setting(20.0, "log-SNR at the clean end", low=-WIDEST, high=WIDEST)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.lam_min < self.lam_max:
            raise UserError(
                f"schedule_options.lam_min {self.lam_min:g} must be below lam_max {self.lam_max:g}: noise is at lam_min"
            )


@dataclass(frozen=True)
class CosineSchedule(FiniteRange):
    """λ(t) = -2 log tan(a t + b) with b = atan(e^{-λ_max/2}), a = atan(e^{-λ_min/2}) - b: φ is affine in t, the range
    is finite.

    Source: 2202.00512 section 2 (as in its code); VDM uses the range [-20, 20].
    """

    def _line(self) -> tuple[float, float]:
        offset = math.atan(math.exp(-0.5 * self.lam_max))
        return math.atan(math.exp(-0.5 * self.lam_min)) - offset, offset

    def __call__(self, t: Tensor) -> Tensor:
        slope, offset = self._line()
        return -2 * torch.tan(slope * t.double() + offset).log()


@dataclass(frozen=True)
class LinearSchedule(Settings):
    """λ(t) = -log(expm1(10⁻⁴ + 10 t²)), imagen-pytorch's schedule for super-resolution and augmentation; from 9.2 to
    -10."""

    def __call__(self, t: Tensor) -> Tensor:
        return -torch.log(torch.expm1(1e-4 + 10 * t.double() ** 2))


@dataclass(frozen=True)
class UniformSchedule(FiniteRange):
    """λ(t) = λ_max + (λ_min - λ_max) t: the grid on which DPM-Solver++ converges best."""

    lam_min: float = setting(-5.0, "log-SNR at the noisy end", low=-WIDEST, high=WIDEST)
    lam_max: float = setting(7.0, "log-SNR at the clean end", low=-WIDEST, high=WIDEST)

    def __call__(self, t: Tensor) -> Tensor:
        return self.lam_max + (self.lam_min - self.lam_max) * t.double()


@dataclass(frozen=True)
class FlowSchedule(Settings):
    """λ(t) = 2 log((1 - t) / t), from +inf to -inf: uniform time of a rectified flow z_f = (1 - t) x + t ε.

    Source: 2209.03003 eq. 1, 2403.03206 section 2.
    """

    def __call__(self, t: Tensor) -> Tensor:
        return 2 * (torch.log1p(-t.double()) - torch.log(t.double()))


@dataclass(frozen=True)
class ShiftedSchedule(Settings):
    """λ'(t) = λ(t) - log κ: more noise for larger data.

    κ is the number of latent elements over a reference number. simple diffusion uses (d / 64)², rectified-flow
    models a² for their time shift t' = a t / (1 + (a - 1) t), CogVideoX its k.

    Source: 2301.11093, 2403.03206, 2408.06072.
    """

    where: ClassVar[str] = "schedule_options"

    base: Any = setting(..., "the schedule that is shifted")
    kappa: float = setting(1.0, "shifts the log-SNR by -log(kappa): above 1 is more noise", above=0, high=1e6)

    def __call__(self, t: Tensor) -> Tensor:
        return self.base(t) - math.log(self.kappa)


# --- which times training sees --------------------------------------------------------------------------------------


def stratified_times(uniform: Tensor, offset: int = 0, total: int | None = None) -> Tensor:
    """t_k = (k + u_k) / total: one draw in each of `total` intervals, so that every batch covers [0, 1).

    Args:
        uniform: independent draws from U[0, 1), [B].
        offset: the first interval of this shard (rank * B when a batch is split over processes).
        total: the number of intervals, B unless the batch is split.
    """
    size = uniform.shape[0] if total is None else total
    place = torch.arange(offset, offset + uniform.shape[0], dtype=uniform.dtype, device=uniform.device)
    return (place + uniform) / size


def size_shift(positions: int, base: int) -> float:
    """2 log a with a = sqrt(n / n_0), by how much a sample of n latent positions is given a lower log-SNR than one of
    n_0: more of them show the same content less noisily. Of a flow's time it is t' = a t / (1 + (a - 1) t).

    Source: 2403.03206 section 5.3.2; frames counted as in Open-Sora 1.2 (2412.20404). Base 0 shifts nothing.
    """
    return math.log(positions / base) if base else 0.0


def logit_normal_times(normal: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """t = sigmoid(mean + std n) for n ~ N(0, 1). Source: 2403.03206."""
    return torch.sigmoid(mean + std * normal)


SCHEDULES: dict[str, type] = {
    "cosine": CosineSchedule,
    "linear": LinearSchedule,
    "uniform": UniformSchedule,
    "flow": FlowSchedule,
}


def schedule_from_name(name: str, options: Mapping[str, Any] | None = None) -> Schedule:
    """Build a continuous schedule by name ("cosine", "linear", "uniform", "flow"); `kappa` in the options shifts it."""
    if name not in SCHEDULES:
        raise UserError(f"unknown schedule {name!r}; {nearest(name, SCHEDULES)}")
    settings = dict(options or {})
    kappa = settings.pop("kappa", 1.0)
    base: Schedule = from_mapping(SCHEDULES[name], settings, "schedule_options")
    return base if kappa == 1.0 else from_mapping(ShiftedSchedule, {"base": base, "kappa": kappa}, "schedule_options")
