"""Discrete noise tables, as in diffusers' schedulers and their config files, and the grids samplers walk on.

Everything here is float64 on the CPU (schedule.py says why). Source: 2305.08891 for zero-terminal SNR; diffusers'
schedulers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from muybridge.diffusion.schedule import Schedule, alpha_of
from muybridge.diffusion.scheduler_config import LCM, check_scheduler, spacing_of

#: How the names of samplers begin that walk as diffusers' multistep solvers do (`solver_indices`).
SOLVERS = ("dpmpp", "unipc")
BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")


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
    raise ValueError(f"unknown beta schedule {name!r}; expected one of {', '.join(BETA_SCHEDULES)}")


def lam_of_betas(betas: Tensor) -> Tensor:
    """log-SNR table [T] of a beta table: λ_i = log ᾱ_i - log(1 - ᾱ_i), log ᾱ_i = Σ_{j ≤ i} log(1 - β_j), summed in
    float64."""
    log_alpha_bar = torch.log1p(-betas.double()).cumsum(0)
    return log_alpha_bar - torch.log(-torch.expm1(log_alpha_bar))


def rescale_zero_terminal(lam: Tensor) -> Tensor:
    """Rescale a log-SNR table so that its last entry is -inf and its first is unchanged.

    r'_i = (r_i - r_T) r_0 / (r_0 - r_T) with r = sqrt(ᾱ). Source: 2305.08891 algorithm 1.
    """
    root = alpha_of(lam.double())
    scaled = (root - root[-1]) * root[0] / (root[0] - root[-1])
    alpha_bar = scaled**2
    return torch.log(alpha_bar) - torch.log1p(-alpha_bar)


def spaced_indices(num_steps: int, table_size: int, spacing: str, steps_offset: int = 0) -> Tensor:
    """The table indices visited by `num_steps` inference steps, from noisy to clean, int64 [N].

    "leading" never visits the last (noisiest) index; "linspace" and "trailing" do.

    Raises:
        ValueError: an unknown spacing, or more steps than the table has places for.
    """
    if not 1 <= num_steps <= table_size:
        raise ValueError(f"num_inference_steps must be in 1..{table_size}, got {num_steps}")
    if spacing == "leading":
        indices = torch.arange(num_steps) * (table_size // num_steps) + steps_offset
        if int(indices[-1]) >= table_size:
            last = f"index {int(indices[-1])} of a table of {table_size}"
            raise ValueError(
                f"{num_steps} steps of leading spacing, offset {steps_offset}, visit {last}: take fewer steps"
            )
        return indices.flip(0)
    if spacing == "linspace":
        return torch.linspace(0, table_size - 1, num_steps, dtype=torch.float64).round().long().flip(0)
    if spacing == "trailing":
        # numpy's arange(T, 0, -T / N) without its float accumulation: exactly N entries
        steps = torch.arange(num_steps, dtype=torch.float64) * (table_size / num_steps)
        return (table_size - steps).round().long() - 1
    raise ValueError(f"unknown timestep spacing {spacing!r}; expected leading, linspace or trailing")


def solver_indices(num_steps: int, table_size: int, spacing: str, steps_offset: int = 0) -> Tensor:
    """The same as diffusers' DPM-Solvers visit them: "leading" and "linspace" space N + 1 places and leave out the
    cleanest.

    A solver's last step goes to no noise at all, so it need not visit the table's own clean end.
    """
    if spacing == "trailing" or num_steps == table_size:
        return spaced_indices(num_steps, table_size, spacing, steps_offset)
    return spaced_indices(num_steps + 1, table_size, spacing, steps_offset)[:-1]


def distilled_indices(num_steps: int, table_size: int, original_steps: int) -> Tensor:
    """The table indices of a latent consistency model, int64 [N]: as evenly spread as they can be among those of the
    `original_steps` that it was distilled on.

    Raises:
        ValueError: more steps than those.

    Source: 2310.04378; diffusers' LCMScheduler.
    """
    if not 1 <= num_steps <= original_steps:
        raise ValueError(f"a model distilled on {original_steps} steps takes 1 to {original_steps}, got {num_steps}")
    own = torch.arange(1, original_steps + 1) * (table_size // original_steps) - 1
    places = torch.linspace(0, original_steps, num_steps + 1, dtype=torch.float64)[:-1].floor().long()
    return own.flip(0)[places]


@dataclass(frozen=True)
class DiscreteSchedule:
    """A table of log-SNRs, used as a schedule by linear interpolation over its index.

    Args:
        table: strictly decreasing log-SNR [T], float64; the last entry may be -inf (zero-terminal SNR).
        spacing, steps_offset: which indices an inference run visits, see `spaced_indices`.
        final_lam: the level after DDIM's last step: +inf when the scheduler sets alpha to one, else table[0].
        original_steps: of the run that a latent consistency model was distilled on; 0 for others.
        karras: inference walks Karras' grid between these sigmas (smallest, largest) instead of the table's indices.
    """

    table: Tensor
    spacing: str = "leading"
    steps_offset: int = 0
    final_lam: float = math.inf
    karras: tuple[float, float] | None = None
    original_steps: int = 0

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> DiscreteSchedule:
        """Read a diffusers scheduler's config: beta table, CogVideoX' SNR shift, zero-terminal SNR, spacing, Karras'
        grid.

        Raises:
            UserError: a scheduler of another noise process, a grid that is not read here, or settings that cannot be
                sampled.
        """
        check_scheduler(config)
        trained = config.get("trained_betas")
        ends = config.get("beta_start", 1e-4), config.get("beta_end", 0.02)
        if trained is not None:
            betas = torch.as_tensor(trained, dtype=torch.float64)
        else:
            steps = int(config.get("num_train_timesteps", 1000))
            betas = make_betas(config.get("beta_schedule", "linear"), *ends, steps)
        table = lam_of_betas(betas)
        if config.get("snr_shift_scale"):
            table = table - math.log(config["snr_shift_scale"])
        if config.get("rescale_betas_zero_snr", False):
            table = rescale_zero_terminal(table)
        return cls(
            table,
            spacing_of(config),
            int(config.get("steps_offset", 0)),
            math.inf if config.get("set_alpha_to_one", True) else float(table[0]),
            _karras_ends(config, table) if config.get("use_karras_sigmas", False) else None,
            int(config.get("original_inference_steps", 50)) if config.get("_class_name") == LCM else 0,
        )

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
        """The fractional index of a log-SNR, clamped to the table: what an index-conditioned network is told. On the
        CPU."""
        lam = lam.cpu().double().contiguous()
        ascending = self.table.flip(0)
        position = torch.searchsorted(ascending, lam).clamp(1, len(ascending) - 1)
        low, high = ascending[position - 1], ascending[position]
        fraction = ((lam - low) / (high - low)).clamp(0, 1)
        # in a zero-SNR interval (low = -inf) only -inf itself is the last index
        fraction = torch.where(torch.isinf(low), (lam != low).double(), fraction)
        return len(ascending) - 1 - (position - 1 + fraction)

    def inference_levels(self, num_steps: int, sampler: str = "ddim") -> Tensor:
        """Log-SNR [N + 1] of an inference run, noisy to clean, as diffusers' scheduler of this sampler walks.

        DDIM ends at `final_lam`, which may keep a little noise; every other sampler at +inf, on x̂ itself.
        """
        end = torch.tensor([self.final_lam if sampler == "ddim" else math.inf], dtype=torch.float64)
        if self.karras is not None:
            return torch.cat([karras_levels(num_steps, *self.karras)[:-1], end])
        if self.original_steps and sampler == "consistency":
            indices = distilled_indices(num_steps, len(self.table), self.original_steps)
            return torch.cat([self.table[indices], end])
        indices_of = solver_indices if sampler.startswith(SOLVERS) else spaced_indices
        return torch.cat([self.table[indices_of(num_steps, len(self.table), self.spacing, self.steps_offset)], end])


def _karras_ends(config: Mapping[str, Any], table: Tensor) -> tuple[float, float]:
    """The smallest and the largest sigma = σ / α = e^{-λ / 2} of Karras' grid: the config's own, else the table's."""
    ends = torch.exp(-0.5 * table[[0, -1]]).tolist()
    given = config.get("sigma_min"), config.get("sigma_max")
    smallest, largest = (ends[i] if g is None else float(g) for i, g in enumerate(given))
    return smallest, largest


def karras_levels(num_steps: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Tensor:
    """Log-SNR [N + 1] of Karras' grid, -2 ln sigma_i, then +inf: N levels from sigma_max to sigma_min, then no noise.

        sigma_i = (sigma_max^(1/ρ) + i / (N - 1) (sigma_min^(1/ρ) - sigma_max^(1/ρ)))^ρ

    Source: 2206.00364 eq. 5.
    """
    if num_steps < 1 or not 0 < sigma_min < sigma_max:
        raise ValueError(
            f"needs at least one step and 0 < sigma_min < sigma_max, got {num_steps}, {sigma_min}, {sigma_max}"
        )
    ramp = torch.linspace(0, 1, num_steps, dtype=torch.float64)
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    sigma = (high + ramp * (low - high)) ** rho
    return torch.cat([-2 * sigma.log(), torch.tensor([math.inf], dtype=torch.float64)])


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


def sampling_grid(schedule: Schedule, num_steps: int) -> Tensor:
    """`level_grid` ended at +inf: the last step lands on x̂."""
    lams = level_grid(schedule, num_steps)
    lams[-1] = torch.inf
    return lams
