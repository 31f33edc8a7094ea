"""Log-SNR arithmetic and noise schedules.

Legend
    x      clean data                  z      noisy data, z = alpha x + sigma eps
    lam    log-SNR, log(alpha^2 / sigma^2); +inf is clean, -inf is pure noise
    t      time in [0, 1]; 0 is clean, 1 is noise; a step goes from t to s < t, so lam_s > lam_t
    phi    angle, alpha = cos(phi), sigma = sin(phi)

Everything is variance preserving, alpha^2 + sigma^2 = 1, and stable for lam in [-inf, inf].
Source: 2107.00630 and 2204.03458 (log-SNR form), 2202.00512 (cosine with a finite range), 2305.08891 (zero-terminal SNR).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import softplus


def log_alpha(lam: Tensor) -> Tensor:
    return -0.5 * softplus(-lam)


def log_sigma(lam: Tensor) -> Tensor:
    return -0.5 * softplus(lam)


def alpha_of(lam: Tensor) -> Tensor:
    return torch.sigmoid(lam).sqrt()


def sigma_of(lam: Tensor) -> Tensor:
    return torch.sigmoid(-lam).sqrt()


def phi_of(lam: Tensor) -> Tensor:
    """The angle with alpha = cos(phi), sigma = sin(phi); 0 is clean, pi/2 is noise."""
    return torch.atan(torch.exp(-0.5 * lam))


def lam_of_phi(phi: Tensor) -> Tensor:
    return 2 * (phi.cos().log() - phi.sin().log())


def ratio_alpha(lam_s: Tensor, lam_t: Tensor) -> Tensor:
    """alpha_s / alpha_t."""
    return torch.exp(log_alpha(lam_s) - log_alpha(lam_t))


def ratio_sigma(lam_s: Tensor, lam_t: Tensor) -> Tensor:
    """sigma_s / sigma_t."""
    return torch.exp(log_sigma(lam_s) - log_sigma(lam_t))


def log1mexp(a: Tensor) -> Tensor:
    """log(1 - exp(-a)) for a > 0, accurate at both ends."""
    return torch.where(a < math.log(2), torch.log(-torch.expm1(-a)), torch.log1p(-torch.exp(-a)))


def expand(coefficient: Tensor, like: Tensor) -> Tensor:
    """Shape a coefficient of [], [B] or [B, F] so that it multiplies z [B, C, F, ...], in z's dtype.

    Raises:
        ValueError: the coefficient has more than two axes, or two while z has no frame axis.
    """
    if coefficient.ndim == 0:
        shaped = coefficient
    elif coefficient.ndim == 1:
        shaped = coefficient.reshape(-1, *[1] * (like.ndim - 1))
    elif coefficient.ndim == 2 and like.ndim >= 3:
        batch, frames = coefficient.shape
        shaped = coefficient.reshape(batch, 1, frames, *[1] * (like.ndim - 3))
    else:
        raise ValueError(
            f"a log-SNR is [], [B] or [B, F]; got {tuple(coefficient.shape)} for data {tuple(like.shape)}"
        )
    return shaped.to(like)


class Schedule(Protocol):
    """A decreasing map from time t in [0, 1] to log-SNR."""

    def __call__(self, t: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class CosineSchedule:
    """lam(t) = -2 log tan(a t + b): phi is affine in t, the range is finite.

    Source: 2202.00512 section 2 (as in its code); VDM uses the range [-20, 20].
    """

    lam_min: float = -20.0
    lam_max: float = 20.0

    def _line(self) -> tuple[float, float]:
        offset = math.atan(math.exp(-0.5 * self.lam_max))
        return math.atan(math.exp(-0.5 * self.lam_min)) - offset, offset

    def __call__(self, t: Tensor) -> Tensor:
        slope, offset = self._line()
        return -2 * torch.tan(slope * t.double() + offset).log()

    def time_of(self, lam: Tensor) -> Tensor:
        """The inverse: the time at which the schedule has this log-SNR."""
        slope, offset = self._line()
        return (phi_of(lam.double()) - offset) / slope


@dataclass(frozen=True)
class LinearSchedule:
    """lam(t) = -log(expm1(1e-4 + 10 t^2)), imagen-pytorch's schedule for super-resolution and augmentation."""

    def __call__(self, t: Tensor) -> Tensor:
        return -torch.log(torch.expm1(1e-4 + 10 * t.double() ** 2))


@dataclass(frozen=True)
class UniformSchedule:
    """lam linear in t between two ends; the grid on which DPM-Solver++ converges best."""

    lam_min: float = -5.0
    lam_max: float = 7.0

    def __call__(self, t: Tensor) -> Tensor:
        return self.lam_max + (self.lam_min - self.lam_max) * t.double()


@dataclass(frozen=True)
class ShiftedSchedule:
    """lam'(t) = lam(t) - log(kappa): more noise for larger data.

    kappa is the number of latent elements over a reference number. simple diffusion uses (d / 64)^2, rectified-flow
    models a^2 for their time shift t' = a t / (1 + (a - 1) t), CogVideoX its k. Source: 2301.11093, 2403.03206, 2408.06072.
    """

    base: Schedule
    kappa: float

    def __call__(self, t: Tensor) -> Tensor:
        return self.base(t) - math.log(self.kappa)


@dataclass(frozen=True)
class InterpolatedSchedule:
    """lam(t) = t lam_low(t) + (1 - t) lam_high(t), simple diffusion's interpolation of two shifts (2301.11093)."""

    low: Schedule
    high: Schedule

    def __call__(self, t: Tensor) -> Tensor:
        return t * self.low(t) + (1 - t) * self.high(t)


# --- discrete tables ------------------------------------------------------------------------------------------------


def make_betas(name: str, beta_start: float = 1e-4, beta_end: float = 0.02, steps: int = 1000) -> Tensor:
    """The beta tables of diffusers' schedulers, float64 [T].

    Args:
        name: "linear", "scaled_linear" (Stable Diffusion; called "linear" in CompVis code) or "squaredcos_cap_v2".
    """
    if name == "linear":
        return torch.linspace(beta_start, beta_end, steps, dtype=torch.float64)
    if name == "scaled_linear":
        return torch.linspace(beta_start**0.5, beta_end**0.5, steps, dtype=torch.float64) ** 2
    if name == "squaredcos_cap_v2":
        time = torch.arange(steps + 1, dtype=torch.float64) / steps
        alpha_bar = ((time + 0.008) / 1.008 * math.pi / 2).cos() ** 2
        return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999)
    raise ValueError(f"unknown beta schedule {name!r}; expected linear, scaled_linear or squaredcos_cap_v2")


def lam_of_betas(betas: Tensor) -> Tensor:
    """log-SNR table [T] of a beta table: log(abar) - log(1 - abar), summed in float64."""
    log_alpha_bar = torch.log1p(-betas.double()).cumsum(0)
    return log_alpha_bar - torch.log(-torch.expm1(log_alpha_bar))


def rescale_zero_terminal(lam: Tensor) -> Tensor:
    """Rescale a log-SNR table so that its last entry is -inf and its first is unchanged.

    r'_i = (r_i - r_T) r_0 / (r_0 - r_T) with r = sqrt(abar). Source: 2305.08891 algorithm 1.
    """
    root = alpha_of(lam.double())
    scaled = (root - root[-1]) * root[0] / (root[0] - root[-1])
    alpha_bar = scaled**2
    return torch.log(alpha_bar) - torch.log1p(-alpha_bar)


def spaced_indices(num_steps: int, table_size: int, spacing: str, steps_offset: int = 0) -> Tensor:
    """The table indices visited by `num_steps` inference steps, from noisy to clean, int64 [N].

    "leading" never visits the last (noisiest) index; "linspace" and "trailing" do.
    """
    if not 1 <= num_steps <= table_size:
        raise ValueError(f"num_inference_steps must be in 1..{table_size}, got {num_steps}")
    if spacing == "leading":
        indices = torch.arange(num_steps, dtype=torch.float64) * (table_size // num_steps) + steps_offset
        return indices.round().long().flip(0)
    if spacing == "linspace":
        return torch.linspace(0, table_size - 1, num_steps, dtype=torch.float64).round().long().flip(0)
    if spacing == "trailing":
        # numpy's arange(T, 0, -T / N) without its float accumulation: exactly N entries
        steps = torch.arange(num_steps, dtype=torch.float64) * (table_size / num_steps)
        return (table_size - steps).round().long() - 1
    raise ValueError(f"unknown timestep spacing {spacing!r}; expected leading, linspace or trailing")


@dataclass(frozen=True)
class DiscreteSchedule:
    """A table of log-SNRs, used as a schedule by linear interpolation over its index.

    Args:
        table: strictly decreasing log-SNR [T], float64; the last entry may be -inf (zero-terminal SNR).
        final_lam: the level after the last inference step: +inf when the scheduler sets alpha to one, else table[0].
    """

    table: Tensor
    spacing: str = "leading"
    steps_offset: int = 0
    final_lam: float = math.inf

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> DiscreteSchedule:
        """Read any diffusers scheduler config (beta table, zero-terminal SNR, spacing, CogVideoX' SNR shift)."""
        steps = int(config.get("num_train_timesteps", 1000))
        trained = config.get("trained_betas")
        betas = (
            torch.as_tensor(trained, dtype=torch.float64)
            if trained is not None
            else make_betas(
                config.get("beta_schedule", "linear"),
                config.get("beta_start", 1e-4),
                config.get("beta_end", 0.02),
                steps,
            )
        )
        table = lam_of_betas(betas)
        shift = config.get("snr_shift_scale")
        if shift:
            table = table - math.log(shift)
        if config.get("rescale_betas_zero_snr", False):
            table = rescale_zero_terminal(table)
        final = math.inf if config.get("set_alpha_to_one", True) else float(table[0])
        return cls(table, config.get("timestep_spacing", "leading"), int(config.get("steps_offset", 0)), final)

    def __call__(self, t: Tensor) -> Tensor:
        return self.lam_of_index(t.double().clamp(0, 1) * (len(self.table) - 1))

    def lam_of_index(self, index: Tensor) -> Tensor:
        """Log-SNR at a (fractional) index."""
        low = index.double().floor().long().clamp(0, len(self.table) - 1)
        high = (low + 1).clamp(max=len(self.table) - 1)
        fraction = index.double() - low
        table = self.table.to(index.device)
        mixed = torch.lerp(table[low], table[high], fraction)
        return torch.where(fraction == 0, table[low], mixed)  # 0 * inf at a zero-SNR end

    def index_of(self, lam: Tensor) -> Tensor:
        """The fractional index of a log-SNR, clamped to the table: what an index-conditioned network is told."""
        ascending = self.table.flip(0).to(lam.device)
        position = torch.searchsorted(ascending, lam.double()).clamp(1, len(ascending) - 1)
        low, high = ascending[position - 1], ascending[position]
        fraction = ((lam.double() - low) / (high - low)).clamp(0, 1)
        # in a zero-SNR interval (low = -inf) only -inf itself is the last index
        fraction = torch.where(torch.isinf(low), (lam != low).double(), fraction)
        return len(ascending) - 1 - (position - 1 + fraction)

    def inference_levels(self, num_steps: int) -> Tensor:
        """Log-SNR [N + 1] of an inference run, noisy to clean, ending at `final_lam`."""
        indices = spaced_indices(num_steps, len(self.table), self.spacing, self.steps_offset)
        return torch.cat([self.table[indices], torch.tensor([self.final_lam], dtype=torch.float64)])


def time_grid(num_steps: int) -> Tensor:
    """Uniform times [N + 1] from 1 to 0, float64."""
    if num_steps < 1:
        raise ValueError(f"num_inference_steps must be at least 1, got {num_steps}")
    return torch.linspace(1, 0, num_steps + 1, dtype=torch.float64)


def level_grid(schedule: Schedule, num_steps: int) -> Tensor:
    """Log-SNR [N + 1] for a run of N steps: a table's own spacing, else uniform time."""
    if isinstance(schedule, DiscreteSchedule):
        return schedule.inference_levels(num_steps)
    return schedule(time_grid(num_steps))


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


def logit_normal_times(normal: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """t = sigmoid(mean + std n) for n ~ N(0, 1). Source: 2403.03206."""
    return torch.sigmoid(mean + std * normal)


SCHEDULES: dict[str, type] = {"cosine": CosineSchedule, "linear": LinearSchedule, "uniform": UniformSchedule}


def schedule_from_name(name: str, options: Mapping[str, Any] | None = None, known: Sequence[str] = ()) -> Schedule:
    """Build a continuous schedule by name ("cosine", "linear", "uniform"); `kappa` in the options shifts it."""
    if name not in SCHEDULES:
        raise ValueError(f"unknown schedule {name!r}; expected one of {', '.join(SCHEDULES)}")
    settings = dict(options or {})
    kappa = settings.pop("kappa", 1.0)
    base: Schedule = SCHEDULES[name](**settings)
    return base if kappa == 1.0 else ShiftedSchedule(base, kappa)
