"""The numbers of diffusers' schedulers, to 1e-5."""

import inspect
import math

import diffusers
import pytest
import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    UniPCMultistepScheduler,
)

from muybridge.diffusion.guidance import dynamic_threshold
from muybridge.diffusion.oracle import gaussian_denoiser
from muybridge.diffusion.prediction import INTO, target_of, to_x
from muybridge.diffusion.process import diffuse
from muybridge.diffusion.samplers import ddim_step, sampler_named
from muybridge.diffusion.schedule import alpha_of, sigma_of
from muybridge.diffusion.scheduler_config import DEFAULT_SPACING, spacing_of
from muybridge.diffusion.tables import DiscreteSchedule
from muybridge.errors import UserError

F64 = torch.float64
BASE = dict(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False)
SHAPE = (2, 3, 4, 6, 6)


#: zero terminal SNR needs v or x and a spacing that visits it
DDIM_CASES = [
    (spacing, steps, kind, zero)
    for spacing, steps in (("leading", 10), ("trailing", 50), ("linspace", 30), ("trailing", 30))
    for kind in ("epsilon", "sample", "v_prediction")
    for zero in (False, True)
    if not (zero and (kind == "epsilon" or spacing == "leading"))
]


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("spacing,steps,kind,zero", DDIM_CASES)
def test_ddim_steps(spacing, steps, kind, eta, zero):
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
            # diffusers takes the root of 1 - abar - std^2 = -1e-17 here and may return NaN; ours is the new noise plus
            # x
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


# --- whole runs: their scheduler walks its own grid, our sampler ours, of the config they would save
# ---------------------

SMALL, LARGE = ({"variance_type": f"fixed_{size}", "clip_sample": False} for size in ("small", "large"))
EPS, V = {"prediction_type": "epsilon"}, {"prediction_type": "v_prediction"}
ZERO = {**V, "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
UNCLIPPED = {"clip_sample": False}
SD15 = {**EPS, "timestep_spacing": "leading", "steps_offset": 1}
TRAILING = {"timestep_spacing": "trailing"}
SDE = {"algorithm_type": "sde-dpmsolver++"}
#: scheduler, its settings, our sampler, steps, our sampler's options
WALKS = {
    "DDIM, Stable Diffusion 1.5": (DDIMScheduler, {**SD15, **UNCLIPPED, "set_alpha_to_one": False}, "ddim", 10, {}),
    "DDIM, steps that do not divide 1000": (DDIMScheduler, {**SD15, **UNCLIPPED}, "ddim", 7, {}),
    "DDIM, one step": (DDIMScheduler, {**SD15, **UNCLIPPED}, "ddim", 1, {}),
    "DDIM, sample": (DDIMScheduler, {"prediction_type": "sample", **UNCLIPPED}, "ddim", 10, {}),
    "DDIM, zero SNR": (DDIMScheduler, {**ZERO, **UNCLIPPED}, "ddim", 8, {}),
    "DDIM, stochastic": (DDIMScheduler, {**SD15, **UNCLIPPED}, "ddim", 10, {"eta": 0.7}),
    "DDPM, small variance": (DDPMScheduler, {**EPS, **SMALL}, "ancestral", 20, {"gamma": 0.0}),
    "DDPM, large variance": (DDPMScheduler, {**EPS, **LARGE}, "ancestral", 1000, {"gamma": 1.0}),
    "CogVideoX": (CogVideoXDDIMScheduler, {**ZERO, "snr_shift_scale": 3.0, **UNCLIPPED}, "ddim", 10, {}),
    "Euler": (EulerDiscreteScheduler, SD15, "ddim", 10, {}),
    "Euler, its own spacing": (EulerDiscreteScheduler, EPS, "ddim", 10, {}),
    "2M, trailing": (DPMSolverMultistepScheduler, {**EPS, **TRAILING}, "dpmpp_2m", 10, {}),
    "2M, trailing, few steps": (DPMSolverMultistepScheduler, {**V, **TRAILING}, "dpmpp_2m", 3, {}),
    "2M, leading, Stable Diffusion 1.5": (DPMSolverMultistepScheduler, SD15, "dpmpp_2m", 10, {}),
    "2M, its own spacing": (DPMSolverMultistepScheduler, EPS, "dpmpp_2m", 10, {}),
    "2M, Karras": (DPMSolverMultistepScheduler, {**EPS, "use_karras_sigmas": True}, "dpmpp_2m", 10, {}),
    "2M-SDE": (DPMSolverMultistepScheduler, {**EPS, **TRAILING, **SDE}, "dpmpp_2m_sde", 10, {}),
    "Euler, as euler": (EulerDiscreteScheduler, SD15, "euler", 10, {}),
    "UniPC": (UniPCMultistepScheduler, EPS, "unipc", 10, {}),
    "UniPC, trailing, v": (UniPCMultistepScheduler, {**V, **TRAILING}, "unipc", 7, {}),
    "UniPC, leading, Stable Diffusion 1.5": (UniPCMultistepScheduler, SD15, "unipc", 10, {}),
    "UniPC, two steps": (UniPCMultistepScheduler, EPS, "unipc", 2, {}),
    "consistency": (LCMScheduler, UNCLIPPED | EPS, "consistency", 4, {}),
    "consistency, steps that do not divide 50": (LCMScheduler, UNCLIPPED | EPS, "consistency", 7, {}),
    "2M-SDE, zero SNR": (DPMSolverMultistepScheduler, {**ZERO, **SDE}, "dpmpp_2m_sde", 10, {}),
}  # fmt: skip


class OneStream:
    """The draws of one generator in order, as diffusers takes them (its DPM-Solvers always in float32)."""

    def __init__(self, seed, dtype):
        self.generator, self.dtype = torch.Generator().manual_seed(seed), dtype

    def like(self, z, purpose, step=0):
        return torch.randn(z.shape, generator=self.generator, dtype=self.dtype).to(z)


@pytest.mark.parametrize("case", WALKS)
def test_the_schedulers_own_walk(case):
    """Gaussian data, whose ideal denoiser stands for the network, told each side's own level."""
    scheduler, settings, sampler, steps, options = WALKS[case]
    theirs = scheduler(**{**{k: v for k, v in BASE.items() if k != "clip_sample"}, **settings})
    theirs.set_timesteps(steps)
    ours = DiscreteSchedule.from_config({**theirs.config, "_class_name": scheduler.__name__})
    if sampler == "dpmpp_2m_sde" and torch.isinf(ours.table[-1]):
        ours.table[-1] = -math.log(2**24 - 1)  # their solvers stop at abar = 2^-24 for want of our limits
    root = torch.randn(12, 12, dtype=F64, generator=torch.Generator().manual_seed(0))
    oracle = gaussian_denoiser(0.3 * torch.ones(12, dtype=F64), root @ root.T / 12 + 0.02 * torch.eye(12, dtype=F64))
    start = torch.randn(3, 12, dtype=F64)

    z = start * (theirs.init_noise_sigma if scheduler is EulerDiscreteScheduler else 1)
    generator = torch.Generator().manual_seed(1)
    extra = {"generator": generator} if "generator" in inspect.signature(theirs.step).parameters else {}
    for i, t in enumerate(theirs.timesteps):
        table = ours.table[int(t)] if ours.karras is None else -2 * theirs.sigmas[i].double().log()
        scaled = theirs.scale_model_input(z, t)
        output = INTO[settings["prediction_type"]](oracle(scaled, table.reshape(1)), scaled, table.reshape(1), "sample")
        eta = {"eta": options["eta"]} if "eta" in options else {}
        z = theirs.step(output, t, z, **extra, **eta, return_dict=False)[0].double()

    lams = ours.inference_levels(steps, sampler)
    if scheduler is EulerDiscreteScheduler:  # it starts at sigma_max noise, ours at that over sqrt(1 + sigma_max^2)
        start = z.new_tensor(float(theirs.init_noise_sigma)) * start * alpha_of(lams[0])
    *_, last = sampler_named(sampler)(
        oracle, start, lams, OneStream(1, torch.float32 if sampler.startswith("dpmpp") else F64), **options
    )
    assert float((last.z - z).abs().max()) < 2e-5 * max(1.0, float(z.abs().max()))


@pytest.mark.parametrize("name", DEFAULT_SPACING)
def test_default_spacings_are_the_classes_own(name):
    parameters = inspect.signature(getattr(diffusers, name).__init__).parameters
    assert spacing_of({"_class_name": name}) == parameters["timestep_spacing"].default
    assert spacing_of({"_class_name": name, "timestep_spacing": "trailing"}) == "trailing"


@pytest.mark.parametrize(
    "config,message",
    [
        ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, "no beta table"),
        ({"_class_name": "EDMEulerScheduler"}, "no beta table"),
        ({"_class_name": "DPMSolverMultistepScheduler", "use_beta_sigmas": True}, "use_beta_sigmas"),
        ({"use_lu_lambdas": True}, "use_lu_lambdas"),
        ({"final_sigmas_type": "sigma_min"}, "final_sigmas_type"),
        ({"prediction_type": "flow_prediction"}, "flow_prediction"),
        (
            {"prediction_type": "epsilon", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"},
            "eps says nothing",
        ),
        ({**V, "rescale_betas_zero_snr": True}, "never visits"),
        ({**ZERO, "use_karras_sigmas": True}, "sigma_max"),
        ({**SD15, "_class_name": "EulerDiscreteScheduler", "use_karras_sigmas": True}, "linspace only"),
    ],
)
def test_what_is_not_a_table_is_refused(config, message):
    with pytest.raises(UserError, match=message):
        DiscreteSchedule.from_config(config)


def test_solvers_end_on_their_estimate_where_ddim_keeps_the_tables_noise():
    schedule = DiscreteSchedule.from_config({**BASE, **SD15, "set_alpha_to_one": False})
    assert float(schedule.inference_levels(10)[-1]) == float(schedule.table[0])
    for sampler in ("dpmpp_2m", "dpmpp_2m_sde", "ancestral", "distilled"):
        assert float(schedule.inference_levels(10, sampler)[-1]) == math.inf


def test_dynamic_threshold_equals_diffusers():
    scheduler = DDIMScheduler(thresholding=True, dynamic_thresholding_ratio=0.9, sample_max_value=4.0)
    x = 3 * torch.randn(SHAPE)
    assert torch.allclose(dynamic_threshold(x, 0.9, 4.0), scheduler._threshold_sample(x), atol=1e-5)
