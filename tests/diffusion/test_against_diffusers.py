"""The numbers of diffusers' schedulers, to 1e-5."""

import math

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

from muybridge.diffusion.guidance import dynamic_threshold
from muybridge.diffusion.prediction import target_of, to_x
from muybridge.diffusion.process import diffuse
from muybridge.diffusion.samplers import ddim_step, sample_dpmpp_2m
from muybridge.diffusion.schedule import alpha_of, sigma_of
from muybridge.diffusion.tables import DiscreteSchedule

F64 = torch.float64
BASE = dict(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False)
SHAPE = (2, 3, 4, 6, 6)


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("spacing,steps", [("leading", 10), ("trailing", 50), ("linspace", 30), ("trailing", 30)])
def test_ddim_steps(spacing, steps, kind, eta, zero):
    if zero and (kind == "epsilon" or spacing == "leading"):
        return  # not defined: zero-terminal SNR needs v or x and a spacing that visits it
    theirs = DDIMScheduler(
        **BASE,
        prediction_type=kind,
        timestep_spacing=spacing,
        rescale_betas_zero_snr=zero,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    theirs.set_timesteps(steps)
    ours = DiscreteSchedule.from_config(theirs.config)
    # their table in double precision: in float32, 1 - abar at t = 1 has lost five digits before any formula is compared
    theirs.alphas_cumprod = torch.sigmoid(ours.table)
    theirs.final_alpha_cumprod = torch.sigmoid(torch.tensor(ours.final_lam, dtype=F64))
    z = torch.randn(SHAPE, dtype=F64)
    for t in theirs.timesteps.tolist():
        output = torch.randn(SHAPE, dtype=F64)
        generator = torch.Generator().manual_seed(t)
        noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(t), dtype=F64)
        expected = theirs.step(output, t, z, eta=eta, generator=generator).prev_sample
        previous = t - 1000 // steps  # diffusers' rule, also where the next visited index differs
        lam_t = ours.table[t]
        lam_s = ours.table[previous] if previous >= 0 else torch.tensor(ours.final_lam, dtype=F64)
        x = to_x(output, z, lam_t, kind)
        got = ddim_step(z, x, lam_t, lam_s, eta, noise)
        if zero and eta == 1 and t == 999:
            # diffusers takes the root of 1 - abar - std^2 = -1e-17 here and may return NaN; ours is the new noise plus x
            assert torch.allclose(got, alpha_of(lam_s) * x + sigma_of(lam_s) * noise, atol=1e-12)
            continue
        scale = max(1.0, float(expected.abs().max()))
        assert float((got - expected).abs().max()) / scale < 1e-5, t
        z = torch.randn(SHAPE, dtype=F64)


def test_v_prediction_and_noising():
    theirs = DDIMScheduler(**BASE, prediction_type="v_prediction")
    ours = DiscreteSchedule.from_config(theirs.config)
    x, eps = torch.randn(SHAPE), torch.randn(SHAPE)
    for t in (0, 10, 500, 999):
        index = torch.tensor([t, t])
        lam = ours.table[index]
        assert torch.allclose(diffuse(x, eps, lam), theirs.add_noise(x, eps, index), atol=1e-5)
        assert torch.allclose(target_of(x, eps, lam, "v_prediction"), theirs.get_velocity(x, eps, index), atol=1e-5)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_dpm_solver_2m(kind):
    theirs = DPMSolverMultistepScheduler(
        **{k: v for k, v in BASE.items() if k != "clip_sample"},
        prediction_type=kind,
        algorithm_type="dpmsolver++",
        solver_order=2,
        timestep_spacing="linspace",
        final_sigmas_type="zero",
        lower_order_final=False,
        euler_at_final=True,
    )
    theirs.set_timesteps(12)
    z = torch.randn(SHAPE)
    outputs = torch.randn(12, *SHAPE)
    expected = z.clone()
    for i, t in enumerate(theirs.timesteps):
        expected = theirs.step(outputs[i], t, expected).prev_sample
    lams = torch.cat([-2 * theirs.sigmas[:12].double().log(), torch.tensor([math.inf], dtype=F64)])
    count = iter(range(12))

    def denoise(z, lam):
        return to_x(outputs[next(count)].double(), z, lam.double(), kind)

    state = list(sample_dpmpp_2m(denoise, z.double(), lams))[-1]
    assert float((state.z - expected).abs().max()) / max(1.0, float(expected.abs().max())) < 1e-5


def test_dynamic_threshold_equals_diffusers():
    scheduler = DDIMScheduler(thresholding=True, dynamic_thresholding_ratio=0.9, sample_max_value=4.0)
    x = 3 * torch.randn(SHAPE)
    assert torch.allclose(dynamic_threshold(x, 0.9, 4.0), scheduler._threshold_sample(x), atol=1e-5)
