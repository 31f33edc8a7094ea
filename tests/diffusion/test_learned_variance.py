"""T14 of spec 04: a learned variance lies between β̃ and β, its bound teaches it alone, and the ancestral sampler takes
it; against the tables' own formulas, torch's distributions and diffusers' DDPM."""

import math

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.schedulers import scheduling_ddpm
from torch.distributions import Normal, kl_divergence

from muybridge.diffusion.learned_variance import LearnedVariance, learned_log_variance, variational_bits
from muybridge.diffusion.noise import Noise
from muybridge.diffusion.process import diffuse, posterior_log_variance, posterior_mean
from muybridge.diffusion.samplers import sample_ancestral
from muybridge.diffusion.tables import DiscreteSchedule, lam_of_betas, make_betas

F64 = torch.float64
BETAS = make_betas("linear")
TABLE = lam_of_betas(BETAS)
INF = torch.tensor(math.inf, dtype=F64)


def said_of(value, shape=(1, 2, 1, 2, 2)):
    return torch.full(shape, float(value), dtype=F64)


@pytest.mark.parametrize("index", [1, 7, 500, 999])
def test_t14_minus_one_is_the_posteriors_variance_and_one_is_beta(index):
    bar = torch.cumprod(1 - BETAS, 0)
    beta = BETAS[index]
    small = (1 - bar[index - 1]) / (1 - bar[index]) * beta
    levels = TABLE[index], TABLE[index - 1]
    for said, wanted in ((-1, small), (1, beta), (0, (small * beta).sqrt()), (3, beta * (beta / small))):  # no bounds
        assert torch.allclose(learned_log_variance(said_of(said), *levels).exp(), wanted.expand(1, 2, 1, 2, 2))


def test_t14_a_step_over_several_entries_has_the_variances_of_that_step():
    """As DiT's respaced 250 steps: β of the step is 1 - ᾱ_t / ᾱ_s."""
    bar, (t, s) = torch.cumprod(1 - BETAS, 0), (803, 799)
    assert torch.allclose(learned_log_variance(said_of(1), TABLE[t], TABLE[s]).exp(), 1 - bar[t] / bar[s])


def test_t14_at_pure_noise_at_clean_data_and_for_frames_that_stand_still():
    found = learned_log_variance(said_of(1.0), -INF, TABLE[998])
    assert torch.equal(found, torch.zeros_like(found))  # β of a step from pure noise is 1
    assert bool((learned_log_variance(said_of(0.3), TABLE[0], INF) == -math.inf).all())
    lam_t, lam_s = torch.tensor([[1.0, math.inf]], dtype=F64), torch.tensor([[2.0, math.inf]], dtype=F64)
    still = learned_log_variance(said_of(0.3, (1, 2, 2, 2, 2)), lam_t, lam_s)
    assert bool(still[:, :, 0].isfinite().all()) and bool((still[:, :, 1] == -math.inf).all())


def drawn(index):
    torch.manual_seed(index)
    x, eps, x_hat = (torch.randn(2, 3, 2, 4, 4, dtype=F64) * scale for scale in (0.5, 1.0, 0.4))
    said = 2 * torch.rand(2, 3, 2, 4, 4, dtype=F64) - 1
    return x, diffuse(x, eps, TABLE[index]), x_hat, said


def levels_at(index):
    return TABLE[min(index + 1, 999)], TABLE[index], TABLE[index - 1] if index else INF


@pytest.mark.parametrize("index", [1, 40, 999])
def test_t14_the_bound_is_the_divergence_from_the_true_posterior(index):
    x, z, x_hat, said = drawn(index)
    _, lam_t, lam_s = levels_at(index)
    q = Normal(posterior_mean(z, x, lam_t, lam_s), torch.exp(0.5 * posterior_log_variance(lam_t, lam_s)))
    std = learned_log_variance(said, lam_t, lam_s).mul(0.5).exp()
    nats = kl_divergence(q, Normal(posterior_mean(z, x_hat, lam_t, lam_s), std))
    got = variational_bits(x, z, x_hat, said, levels_at(index))
    assert torch.allclose(got, nats.flatten(1).mean(1) / math.log(2), rtol=1e-9)
    right = variational_bits(x, z, x, torch.full_like(x, -1.0), levels_at(index))
    assert torch.allclose(right, torch.zeros_like(right), atol=1e-12)


def test_t14_the_last_step_is_the_likelihood_of_grey_levels():
    levels = torch.linspace(-1, 1, 256, dtype=F64)
    x_hat, said = torch.tensor(0.31, dtype=F64), said_of(0.2, (1, 1, 1, 1, 1))
    bar = torch.cumprod(1 - BETAS, 0)
    small = (1 - bar[0]) / (1 - bar[1]) * BETAS[1]  # of the step before: the last has none
    std = (0.6 * BETAS[0].log() + 0.4 * small.log()).mul(0.5).exp()
    nearest = levels[(levels - x_hat).abs().argmin()]
    mass = Normal(x_hat, std).cdf(nearest + 1 / 255) - Normal(x_hat, std).cdf(nearest - 1 / 255)
    like = torch.ones(1, 1, 1, 1, 1, dtype=F64)
    got = variational_bits(nearest * like, like, x_hat * like, said, levels_at(0))
    assert float(got) == pytest.approx(-math.log2(float(mass)))
    every = [float(variational_bits(v * like, like, x_hat * like, said, levels_at(0))) for v in levels[100:200]]
    assert sum(2**-bits for bits in every) == pytest.approx(1.0, abs=1e-6)  # a distribution over levels
    for end in (-1.0, 1.0):  # the outermost levels hold all that lies beyond
        assert float(variational_bits(end * like, like, 3 * end * like, said, levels_at(0))) == pytest.approx(0.0)


@pytest.mark.parametrize("index", [0, 1, 600])
def test_t14_the_bound_does_not_move_the_mean(index):
    x, z, x_hat, said = drawn(index)
    x_hat.requires_grad_(True), said.requires_grad_(True)
    (variational_bits(x, z, x_hat, said, levels_at(index)).sum() + 0 * x_hat.sum()).backward()
    assert not x_hat.grad.any() and bool(said.grad.any())


def test_the_bound_is_least_where_the_variance_is_the_errors_own():
    """With a mean that is off by a known much, the best Σ is β̃ + the mean square of what is off."""
    index = 300
    x, z, x_hat, _ = drawn(index)
    _, lam_t, lam_s = levels_at(index)
    off = posterior_mean(z, x, lam_t, lam_s) - posterior_mean(z, x_hat, lam_t, lam_s)
    small, large = (posterior_log_variance(lam_t, lam_s, gamma) for gamma in (0.0, 1.0))
    best = 2 * ((small.exp() + off**2).log() - small) / (large - small) - 1
    least = variational_bits(x, z, x_hat, best, levels_at(index))
    for away in (-0.2, 0.2):
        assert bool((variational_bits(x, z, x_hat, best + away, levels_at(index)) > least).all())


def test_the_ancestral_sampler_is_diffusers_ddpm_of_a_learned_range(monkeypatch):
    theirs = DDPMScheduler(variance_type="learned_range", clip_sample=False, timestep_spacing="trailing")
    theirs.set_timesteps(5)
    lams = DiscreteSchedule.from_config({**theirs.config, "set_alpha_to_one": True}).inference_levels(5, "ancestral")
    torch.manual_seed(1)
    outputs = torch.randn(5, 1, 6, 2, 4, 4, dtype=F64) * 0.5
    start, noise, variance, calls = torch.randn(1, 3, 2, 4, 4, dtype=F64), Noise([3]), LearnedVariance(), iter(outputs)

    def denoise(z, lam):
        alpha, sigma = torch.sigmoid(lam).sqrt(), torch.sigmoid(-lam).sqrt()
        eps = variance.taken_from(next(calls))
        variance.taken_from(torch.randn(1, 6, 2, 4, 4, dtype=F64))  # guidance's other branch, which is not heard
        return (z - sigma * eps) / alpha

    expected = start
    for i, state in enumerate(sample_ancestral(denoise, start, lams, noise, variance)):
        monkeypatch.setattr(scheduling_ddpm, "randn_tensor", lambda *a, i=i, **k: noise.like(start, "sampler", i))
        expected = theirs.step(outputs[i], theirs.timesteps[i], expected)
        assert float(state.z.std()) > 0.1
        wanted = expected.prev_sample if i < 4 else expected.pred_original_sample  # ours ends on the estimate
        assert torch.allclose(state.z, wanted, rtol=1e-4, atol=1e-5), i
        expected = expected.prev_sample


def test_a_network_that_says_nothing_is_told():
    with pytest.raises(ValueError, match="said no variance"):
        list(
            sample_ancestral(lambda z, lam: z, torch.zeros(1, 1, 1, 1, 1), TABLE[[9, 5]], Noise([0]), LearnedVariance())
        )
