"""A variance of the reverse step that the network says itself, between the two that are known (improved DDPM, DiT).

    log Σ = f log β + (1 - f) log β̃,   f = (o + 1) / 2,   β = σ²_{t|s} = (1 - e^{λ_t - λ_s}) σ_t²,   β̃ = its σ_s²
    L = L_simple + w KL(q(z_s | z_t, x) ‖ N(μ(z_t, x̂), Σ)),   x̂ under stop-gradient

o is the second half of the network's channels, one value for each of the data's. It has no bounds: o = -1 is β̃ and
o = 1 is β. The bound teaches the variance and the plain error teaches the mean.

Source: 2102.09672 eqs. 15 and 16; 2212.09748 (DiT), whose code weighs the KL of one step, in bits, by w = 1, which is
the 0.001 of 2102.09672 on the sum of a table's 1000 steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from muybridge.diffusion.process import posterior_log_variance, posterior_mean
from muybridge.diffusion.schedule import expand

#: Between the grey levels of 8-bit data in [-1, 1], halved.
HALF_A_LEVEL = 1 / 255


def learned_log_variance(said: Tensor, lam_t: Tensor, lam_s: Tensor) -> Tensor:
    """log Σ of the step from λ_t to λ_s; -inf where the target is clean.

    Args:
        said: o, like the data, [B, C, F, H, W].
        lam_t, lam_s: log-SNR [], [B] or [B, F].
    """
    small, large = (expand(posterior_log_variance(lam_t, lam_s, gamma), said) for gamma in (0.0, 1.0))
    return torch.where(small.isinf(), small, small + 0.5 * (said + 1) * (large - small))


def variational_bits(x: Tensor, z: Tensor, x_hat: Tensor, said: Tensor, levels: Sequence[Tensor]) -> Tensor:
    """One step's term of the variational bound in bits a value, [B]: the KL, or in the step to clean data the negative
    log-likelihood of 8-bit data. Its gradient reaches `said` alone.

    Args:
        x, z: clean and noisy data [B, C, F, H, W].
        x_hat: the network's estimate.
        said: o, like x.
        levels: log-SNR [] each, of the table: one step noisier than z, of z, one step cleaner (+inf behind its last).
            The noisier one is read where the cleaner is +inf: that step has no β̃ and takes the one before it.

    Source: 2102.09672 section 3.1; the likelihood 2006.11239 eq. 13.
    """
    noisier, lam_t, lam_s = levels
    x_hat = x_hat.detach()
    if bool(torch.isinf(lam_s)):
        small, large = posterior_log_variance(noisier, lam_t), posterior_log_variance(lam_t, lam_s, 1.0)
        log_variance = expand(small, said) + 0.5 * (said + 1) * expand(large - small, said)
        nats = -_log_likelihood(x, x_hat, 0.5 * log_variance)
    else:
        true, log_variance = posterior_log_variance(lam_t, lam_s), learned_log_variance(said, lam_t, lam_s)
        apart = posterior_mean(z, x, lam_t, lam_s) - posterior_mean(z, x_hat, lam_t, lam_s)
        more = log_variance - expand(true, said)
        nats = 0.5 * (more - 1 + torch.exp(-more) + apart**2 * torch.exp(-log_variance))
    return nats.flatten(1).mean(1) / math.log(2)


def _log_likelihood(x: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """log of the mass that N(mean, std²) gives the grey level around x; the outermost levels reach to infinity."""
    above, below = ((x - mean + side * HALF_A_LEVEL) * torch.exp(-log_std) for side in (1, -1))
    upper = torch.where(x > 0.999, 1.0, torch.special.ndtr(above))
    lower = torch.where(x < -0.999, 0.0, torch.special.ndtr(below))
    return (upper - lower).clamp(min=1e-12).log()


@dataclass
class LearnedVariance:
    """What a network says of its variance, on its way from the denoiser to the sampler.

    The sampler forgets before each call; of guidance's branches the first one, with the condition, is kept, as DiT
    samples: guidance is of the mean alone.

    Attributes:
        said: o of the step, like the data; None before a network has said it.
    """

    said: Tensor | None = None

    def forget(self) -> None:
        self.said = None

    def taken_from(self, output: Tensor) -> Tensor:
        """The half of a network's output that predicts the data."""
        prediction, said = output.chunk(2, 1)
        self.said = said.detach() if self.said is None else self.said
        return prediction

    def std(self, lam_t: Tensor, lam_s: Tensor) -> Tensor:
        """Standard deviation of the step, like the data."""
        if self.said is None:
            raise ValueError("the network said no variance in this step")
        return torch.exp(0.5 * learned_log_variance(self.said, lam_t, lam_s))
