"""F1, F2, F3, F8, F10 (flow) and F19."""

import math

import pytest
import torch

from muybridge.diffusion.losses import WEIGHTINGS, mse_per_sample, weight_on
from muybridge.diffusion.prediction import (
    INTO,
    flow_scale,
    flow_to_eps,
    flow_to_x,
    lam_of_flow_time,
    shift_flow_time,
    target_of,
    to_eps,
    to_v,
    to_x,
)
from muybridge.diffusion.process import augment_condition, diffuse, posterior_log_variance, posterior_mean, renoise
from muybridge.diffusion.schedule import alpha_of, sigma_of

F64 = torch.float64
KINDS = ("epsilon", "sample", "v_prediction")


def pair(shape=(3, 2, 4, 5, 5)):
    return torch.randn(shape, dtype=F64), torch.randn(shape, dtype=F64)


def test_f1_posterior_is_gaussian_bayes():
    lam_t, lam_s = torch.tensor(-1.3, dtype=F64), torch.tensor(0.9, dtype=F64)
    x, z_t = pair()
    a_s, s_s, a_t, s_t = alpha_of(lam_s), sigma_of(lam_s), alpha_of(lam_t), sigma_of(lam_t)
    step, step_var = a_t / a_s, s_t**2 - (a_t / a_s) ** 2 * s_s**2
    precision = 1 / s_s**2 + step**2 / step_var
    mean = (a_s * x / s_s**2 + step * z_t / step_var) / precision
    assert torch.allclose(posterior_mean(z_t, x, lam_t, lam_s), mean, atol=1e-12)
    assert torch.allclose(posterior_log_variance(lam_t, lam_s).exp(), 1 / precision, atol=1e-12)
    assert torch.allclose(posterior_log_variance(lam_t, lam_s, 1.0).exp(), step_var, atol=1e-12)
    between = (step_var.log() * 0.3 - precision.log() * 0.7).exp()
    assert torch.allclose(posterior_log_variance(lam_t, lam_s, 0.3).exp(), between, atol=1e-12)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0])
def test_the_variance_has_its_limits_at_both_ends(gamma):
    clean, noisy, mid = (torch.tensor(v, dtype=F64) for v in (math.inf, -math.inf, 0.0))
    at_clean = posterior_log_variance(mid, clean, gamma).exp()
    assert float(at_clean) == pytest.approx(
        0.5 if gamma == 1 else 0.0
    )  # the upper bound is what the step adds, sigma_t^2
    assert float(posterior_log_variance(noisy, mid, gamma).exp()) == pytest.approx(0.5 ** (1 - gamma))
    assert float(posterior_log_variance(clean, clean, gamma).exp()) == 0


def test_f2_both_forms_of_the_mean_agree_and_ours_is_finite_at_zero_snr():
    x, z = pair()
    lam_t, lam_s = torch.tensor(-2.0, dtype=F64), torch.tensor(1.0, dtype=F64)
    paper = (
        torch.exp(lam_t - lam_s) * alpha_of(lam_s) / alpha_of(lam_t) * z
        - torch.expm1(lam_t - lam_s) * alpha_of(lam_s) * x
    )
    assert torch.allclose(posterior_mean(z, x, lam_t, lam_s), paper, atol=1e-12)
    at_zero = posterior_mean(z, x, torch.tensor(-math.inf, dtype=F64), lam_s)
    assert torch.allclose(at_zero, alpha_of(lam_s) * x, atol=1e-12)


def test_renoise_keeps_the_marginal():
    lam_t, lam_s = torch.tensor(-1.0, dtype=F64), torch.tensor(2.0, dtype=F64)
    x = torch.full((200_000, 1), 0.7, dtype=F64)
    z_s = diffuse(x, torch.randn_like(x), lam_s)
    z_t = renoise(z_s, lam_s, lam_t, torch.randn_like(x))
    assert abs(float(z_t.mean() - 0.7 * alpha_of(lam_t))) < 5e-3
    assert abs(float(z_t.std() - sigma_of(lam_t))) < 5e-3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lam", [-15.0, -4.0, 0.0, 4.0, 15.0])
def test_f3_conversions_round_trip(kind, lam):
    x, eps = pair()
    level = torch.full((3,), lam, dtype=F64)
    z = diffuse(x, eps, level)
    output = target_of(x, eps, level, kind)
    for name, value in (("sample", x), ("epsilon", eps), ("v_prediction", target_of(x, eps, level, "v_prediction"))):
        assert torch.allclose(INTO[name](output, z, level, kind), value, atol=1e-10)
    assert torch.allclose(INTO[kind](to_x(output, z, level, kind), z, level, "sample"), output, atol=1e-10)


def test_per_frame_levels():
    x, eps = pair()
    level = torch.randn(3, 4, dtype=F64)
    z = diffuse(x, eps, level)
    for f in range(4):
        assert torch.allclose(z[:, :, f], diffuse(x[:, :, f], eps[:, :, f], level[:, f]), atol=1e-14)


def test_f8_loss_identities():
    x, eps = pair()
    lam = torch.tensor([-5.0, 0.3, 6.0], dtype=F64)
    z = diffuse(x, eps, lam)
    x_hat = x + 0.1 * torch.randn_like(x)
    errors = {
        "sample": (x_hat - x).square().flatten(1).mean(1),
        "epsilon": (to_eps(x_hat, z, lam, "sample") - eps).square().flatten(1).mean(1),
        "v_prediction": (to_v(x_hat, z, lam, "sample") - target_of(x, eps, lam, "v_prediction"))
        .square()
        .flatten(1)
        .mean(1),
    }
    snr = lam.exp()
    assert torch.allclose(errors["epsilon"], snr * errors["sample"], rtol=1e-10)
    assert torch.allclose(errors["v_prediction"], (1 + snr) * errors["sample"], rtol=1e-10)
    for weighting in WEIGHTINGS:
        losses = [errors[k] * weight_on(k, lam, weighting) for k in KINDS]
        assert torch.allclose(losses[0], losses[1], rtol=1e-10), weighting
        assert torch.allclose(losses[0], losses[2], rtol=1e-10), weighting
    assert torch.allclose(
        errors["sample"] * weight_on("sample", lam, "truncated_snr"), torch.maximum(errors["sample"], errors["epsilon"])
    )


def test_weights_at_zero_snr():
    lam = torch.tensor([-math.inf], dtype=F64)
    assert weight_on("epsilon", lam, "min_snr").item() == 1.0
    assert weight_on("v_prediction", lam, "snr+1").item() == 1.0
    assert weight_on("v_prediction", lam, "min_snr").item() == 0.0


def test_unknown_weighting():
    with pytest.raises(ValueError, match="unknown loss weighting"):
        weight_on("epsilon", torch.zeros(1), "snr^2")


def test_mse_is_the_mean_of_each_sample():
    a, b = pair()
    assert torch.equal(mse_per_sample(a, b), (a - b).square().flatten(1).mean(1))  # float64 stays float64
    half = mse_per_sample((1e4 * a).half(), (-1e4 * a).half())  # the difference alone would overflow
    assert half.dtype == torch.float32 and torch.isfinite(half).all()


def test_t16_flow_is_a_variance_preserving_process():
    x, eps = pair()
    t = torch.tensor([0.1, 0.5, 0.95], dtype=F64)
    shape = (3, 1, 1, 1, 1)
    z_f = (1 - t.reshape(shape)) * x + t.reshape(shape) * eps
    lam = lam_of_flow_time(t)
    assert torch.allclose(z_f / flow_scale(t).reshape(shape), diffuse(x, eps, lam), atol=1e-12)
    u = eps - x
    assert torch.allclose(flow_to_x(u, z_f, t), x, atol=1e-12)
    assert torch.allclose(flow_to_eps(u, z_f, t), eps, atol=1e-12)


def test_f10_flow_time_shift_is_a_log_snr_shift():
    t = torch.linspace(0.01, 0.99, 25, dtype=F64)
    for a in (1.0, 1.7, 3.0):
        assert torch.allclose(
            lam_of_flow_time(shift_flow_time(t, a)), lam_of_flow_time(t) - 2 * math.log(a), atol=1e-12
        )


def test_f19_augmentation():
    c, n = pair()
    assert torch.equal(augment_condition(c, n, torch.tensor(math.inf, dtype=F64)), c)
    out = augment_condition(c, n, torch.tensor(math.log(3), dtype=F64))
    assert torch.allclose(out, 0.75**0.5 * c + 0.5 * n, atol=1e-12)
