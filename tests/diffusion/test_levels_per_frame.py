"""The contract of `Denoise`: lam is [B], or [B, F] for a noise level a frame, through every function from denoiser to
denoiser.

Each is told levels that differ by frame and must give, at each frame, what it gives where all frames have that frame's
level. The levels are float64 on the CPU, and no device is ever given float64 (the meta device stands for one here:
mixing it in is an error).
"""

import pytest
import torch

from muybridge.diffusion.conditioning import Known, Measurement, frame_mask, reconstruction_guidance
from muybridge.diffusion.guidance import (
    classifier_free,
    classifier_free_two,
    content_and_time,
    guidance_interval,
    scale_on_grid,
    with_threshold,
)
from muybridge.diffusion.losses import WEIGHTINGS, weight_on
from muybridge.diffusion.noise import Noise
from muybridge.diffusion.prediction import INTO, to_x
from muybridge.diffusion.samplers import SAMPLERS, invert_ddim, langevin_step
from muybridge.diffusion.schedule import CosineSchedule, alpha_of, expand
from muybridge.diffusion.tables import level_grid
from muybridge.diffusion.windows import windowed

F64 = torch.float64
FRAMES = 4


def branch(factor):
    """A denoiser that looks at one frame and its level."""
    return lambda z, lam: (factor * z).sin() + expand(alpha_of(lam), z) * z


def rising(lam):
    return 3 + lam


COND, UNCOND, THIRD = branch(2.0), branch(0.5), branch(-1.0)
KNOWN = Known(torch.full((1, 2, FRAMES, 3, 3), 0.5, dtype=F64), frame_mask([1], FRAMES), 2.0, "posterior")
HALVES = Measurement(lambda x: x[..., ::2], torch.zeros((), dtype=F64), 1.5)
ON_GRID = scale_on_grid(level_grid(CosineSchedule(), 4), [1.0, 5.0, 2.0, 3.0])
DENOISERS = {
    "guidance": classifier_free(COND, UNCOND, 3.0),
    "guidance by level": classifier_free(COND, UNCOND, rising),
    "guidance by frame": classifier_free(COND, UNCOND, torch.linspace(1, 3, FRAMES)),
    "a tensor as scale": classifier_free(COND, UNCOND, torch.tensor(3.0)),
    "both in one call": classifier_free(
        COND,
        UNCOND,
        3.0,
        both=lambda z, lam: torch.cat(
            [f(a, b) for f, a, b in zip((COND, UNCOND), z.chunk(2), lam.chunk(2), strict=True)]
        ),
    ),
    "an interval": classifier_free(COND, UNCOND, guidance_interval(3.0, -1.0, 1.0)),
    "an interval by level": classifier_free(COND, UNCOND, guidance_interval(rising, -1.0, 1.0)),
    "an interval by frame": classifier_free(COND, UNCOND, guidance_interval(torch.linspace(1, 3, FRAMES), -1.0, 1.0)),
    "weights of a grid": classifier_free(COND, UNCOND, ON_GRID),
    "an interval of a grid": classifier_free(COND, UNCOND, guidance_interval(ON_GRID, -1.0, 1.0)),
    "two conditions": classifier_free_two(COND, UNCOND, THIRD, 2.0, 3.0),
    "content and time": content_and_time(COND, UNCOND, THIRD, 2.0, 1.5),
    "threshold": with_threshold(COND),
    "windows": windowed(lambda w: COND, FRAMES, 3, 1),
    "known frames": reconstruction_guidance(COND, KNOWN),
    "a measurement": reconstruction_guidance(COND, measurements=[HALVES]),
}
LEVELS = torch.tensor([[-3.0, -0.5, 0.3, 6.0], [0.0, 2.0, -6.0, 0.9]], dtype=F64)


@pytest.mark.parametrize("name", DENOISERS)
def test_denoisers(name):
    z = torch.randn(2, 2, FRAMES, 3, 3, dtype=F64)
    got = DENOISERS[name](z, LEVELS)
    for f in range(FRAMES):
        alone = DENOISERS[name](z, LEVELS[:, f])
        torch.testing.assert_close(got[:, :, f], alone[:, :, f], atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", [*SAMPLERS, "inversion", "langevin"])
def test_samplers(name):
    z, noise = torch.randn(2, 2, FRAMES, 3, 3, dtype=F64), Noise([3, 4], dtype=F64)
    lams = torch.linspace(-2, 2, 5, dtype=F64)[:, None, None] + LEVELS  # [5, B, F]

    def run(lams):
        if name == "inversion":
            return list(invert_ddim(COND, z, lams.flip(0), 3))[-1].z
        if name == "langevin":
            return langevin_step(COND, z, lams[0], noise.like(z, "x"))
        return list(SAMPLERS[name](COND, z, lams, noise))[-1].z

    got = run(lams)
    for f in range(FRAMES):
        torch.testing.assert_close(got[:, :, f], run(lams[:, :, f])[:, :, f], atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", [*SAMPLERS, "corrected", "inversion", "langevin"])
def test_clean_frames_stay_whatever_the_network_says_of_them(name):
    """At +inf there is no noise to take away: not even a denoiser that is wrong there moves a known frame."""
    z, noise = torch.randn(2, 2, FRAMES, 3, 3, dtype=F64), Noise([3, 4], dtype=F64)
    lams = torch.linspace(-2, 2, 5, dtype=F64)[:, None, None] + LEVELS
    lams[:, :, 1] = torch.inf
    if name == "inversion":
        out = list(invert_ddim(COND, z, lams.flip(0), 3))[-1].z
    elif name == "langevin":
        out = langevin_step(COND, z, lams[0], noise.like(z, "x"))
    elif name == "corrected":
        out = list(SAMPLERS["ancestral"](COND, z, lams, noise, corrector_step_size=0.1, resample_steps=2))[-1].z
    else:
        out = list(SAMPLERS[name](COND, z, lams, noise))[-1].z
    assert torch.isfinite(out).all()
    assert torch.equal(out[:, :, 1], z[:, :, 1])


def test_conversions_and_weights():
    z, output = torch.randn(2, 2, FRAMES, 3, 3, dtype=F64), torch.randn(2, 2, FRAMES, 3, 3, dtype=F64)
    for kind, convert in INTO.items():
        for f in range(FRAMES):
            there, back = convert(output, z, LEVELS, kind), to_x(output, z, LEVELS, kind)
            assert torch.equal(there[:, :, f], convert(output, z, LEVELS[:, f], kind)[:, :, f])
            assert torch.equal(back[:, :, f], to_x(output, z, LEVELS[:, f], kind)[:, :, f])
        for weighting in WEIGHTINGS:
            weight = weight_on(kind, LEVELS, weighting)
            assert torch.equal(weight[:, 1], weight_on(kind, LEVELS[:, 1], weighting))


@pytest.mark.parametrize("name", [*SAMPLERS, "inversion"])
@pytest.mark.parametrize("guidance", [3.0, torch.linspace(1, 3, FRAMES), guidance_interval(3.0, -1.0, 1.0)])
def test_levels_stay_on_the_cpu_and_no_float64_reaches_the_device(name, guidance):
    seen = []

    def denoise(z, lam):
        seen.append((lam.device.type, lam.dtype, z.dtype))
        return to_x(z, z, lam, "v_prediction")

    z = torch.empty(2, 3, FRAMES, 4, 4, device="meta")
    guided = with_threshold(classifier_free(denoise, denoise, guidance, rescale=0.7, kind="v_prediction"))
    lams = level_grid(CosineSchedule(), 4)
    if name == "inversion":
        states = invert_ddim(guided, z, lams.flip(0), 2)
    else:
        states = SAMPLERS[name](guided, z, lams, Noise([0, 1], "meta"))
    for state in states:
        assert state.z.device.type == "meta" and state.z.dtype == torch.float32
    assert set(seen) == {("cpu", F64, torch.float32)}
