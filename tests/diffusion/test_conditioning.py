"""F13, F14, D1 and super-resolution guidance (V10)."""

import pytest
import torch

from muybridge.diffusion.conditioning import Known, Measurement, frame_mask, reconstruction_guidance
from muybridge.diffusion.guidance import with_threshold
from muybridge.diffusion.noise import Noise
from muybridge.diffusion.oracle import gaussian_denoiser
from muybridge.diffusion.samplers import sample_ancestral, sample_ddim
from muybridge.diffusion.schedule import CosineSchedule, alpha_of, sigma_of
from muybridge.diffusion.tables import level_grid
from muybridge.models.transformer import SpacetimeTransformer
from muybridge.models.unet3d import UNet3DModel
from tests.conftest import TOY, randomise
from tests.diffusion.affine import Draws, affine, ar1

F64 = torch.float64
FRAMES = 8


def last(generator):
    return list(generator)[-1].z


def linear_denoiser(matrix):
    def denoise(z, lam):
        return (z.flatten(1) @ matrix.T).reshape(z.shape)

    return denoise


def shape(batch):
    return (batch, 1, FRAMES, 1, 1)


def test_f13_gradient_of_a_linear_denoiser():
    matrix = torch.randn(FRAMES, FRAMES, dtype=F64)
    z, value = torch.randn(shape(2), dtype=F64), torch.randn(shape(2), dtype=F64)
    lam = torch.tensor([-1.0, 2.0], dtype=F64)
    mask = frame_mask(range(3), FRAMES)
    known = Known(value, mask, weight=1.7, replace="posterior")
    got = reconstruction_guidance(linear_denoiser(matrix), known)(z, lam).flatten(1)
    x = z.flatten(1) @ matrix.T
    residual = (value.flatten(1) - x)[:, :3]
    expected = x + 1.7 * alpha_of(lam)[:, None] * (residual @ matrix[:3, :])
    assert torch.allclose(got[:, 3:], expected[:, 3:], atol=1e-8)
    assert torch.equal(got[:, :3], value.flatten(1)[:, :3])


def test_f13_zero_weight_is_replacement_bitwise_and_batches_are_independent():
    matrix = torch.randn(FRAMES, FRAMES, dtype=F64) / 4
    value, mask = torch.randn(shape(2), dtype=F64), frame_mask(range(4), FRAMES)
    lams = level_grid(CosineSchedule(), 12)

    def run(weight, seeds, rows):
        noise = Noise(seeds, dtype=F64)
        denoise = reconstruction_guidance(linear_denoiser(matrix), Known(value[rows], mask, weight), noise=noise)
        return last(sample_ancestral(denoise, noise(shape(1)[1:], "start"), lams, noise))

    def replacement(seeds):
        noise, count = Noise(seeds, dtype=F64), iter(range(1000))

        def denoise(z, lam):
            fresh = noise.like(z, "replacement", next(count))
            a, s = alpha_of(lam).reshape(-1, 1, 1, 1, 1), sigma_of(lam).reshape(-1, 1, 1, 1, 1)
            z = torch.where(mask, a * value + s * fresh, z)
            return torch.where(mask, value, linear_denoiser(matrix)(z, lam))

        return last(sample_ancestral(denoise, noise(shape(1)[1:], "start"), lams, noise))

    both = slice(0, 2)
    assert torch.equal(run(0.0, [5, 6], both), replacement([5, 6]))
    together = run(2.0, [5, 6], both)
    alone = torch.cat([run(2.0, [5], slice(0, 1)), run(2.0, [6], slice(1, 2))])
    assert torch.allclose(together, alone, atol=1e-12)


@pytest.mark.parametrize("replace", ["fresh", "posterior"])
@pytest.mark.parametrize("weight", [0.0, 3.0])
def test_f14_known_frames_come_back_exactly(replace, weight):
    matrix = torch.randn(FRAMES, FRAMES, dtype=F64) / 4
    value, mask = torch.rand(shape(2), dtype=F64), frame_mask([0, 3, 7], FRAMES)
    noise = Noise([1, 2], dtype=F64)
    denoise = reconstruction_guidance(linear_denoiser(matrix), Known(value, mask, weight, replace), noise=noise)
    for sampler in (sample_ancestral, sample_ddim):
        lams = level_grid(CosineSchedule(), 8)
        lams[-1] = torch.inf
        out = last(sampler(with_threshold(denoise), noise(shape(1)[1:], "start"), lams, noise))
        assert torch.equal(out[:, :, [0, 3, 7]], value[:, :, [0, 3, 7]])


def test_gradient_flows_through_inference_mode():
    value, mask = torch.zeros(shape(1)), frame_mask([0], FRAMES)
    weight = torch.nn.Parameter(torch.eye(FRAMES))
    with torch.inference_mode():
        denoise = reconstruction_guidance(linear_denoiser(weight), Known(value, mask, 1.0, "posterior"))
        out = denoise(torch.ones(shape(1)), torch.zeros(1))
    assert weight.grad is None and not out.requires_grad


@pytest.mark.parametrize("network", ["unet3d", "transformer"])
def test_guidance_of_a_network_under_inference_mode(network):
    """What a caller makes within inference mode - the known values, the noise, the levels - cannot be saved for a
    backward pass."""
    if network == "unet3d":
        net = UNet3DModel(**TOY)
    else:
        net = SpacetimeTransformer(in_channels=3, out_channels=3, width=32, layers=1, heads=2)
    net = randomise(net).eval()

    def run():
        torch.manual_seed(3)
        known = Known(torch.rand(1, 3, 2, 16, 16), frame_mask([0], 2).clone(), 2.0)
        guided = reconstruction_guidance(lambda z, lam: net(z, lam), known, noise=Noise([1]))
        return last(sample_ancestral(guided, torch.randn(1, 3, 2, 16, 16), level_grid(CosineSchedule(), 2), Noise([1])))

    expected = run()
    with torch.inference_mode():
        assert torch.equal(run(), expected)


def test_fresh_replacement_needs_noise_and_names_are_checked():
    value, mask = torch.zeros(shape(1)), frame_mask([0], FRAMES)
    with pytest.raises(ValueError, match="needs a noise source"):
        reconstruction_guidance(linear_denoiser(torch.eye(FRAMES)), Known(value, mask))
    with pytest.raises(ValueError, match="unknown replacement"):
        Known(value, mask, replace="often")


def test_v10_super_resolution_gradient_is_the_finite_difference_and_vanishes():
    net = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(32, 32), torch.nn.Tanh(), torch.nn.Linear(32, 32)
    ).double()

    def denoise(z, lam):
        return net(z).reshape(z.shape)

    def down(x):
        return torch.nn.functional.interpolate(x[:, :, 0], scale_factor=0.5, mode="bilinear", antialias=True)

    z, target = torch.randn(1, 1, 2, 4, 4, dtype=F64), torch.randn(1, 1, 2, 2, dtype=F64)
    lam = torch.tensor([0.7], dtype=F64)
    got = reconstruction_guidance(denoise, measurements=[Measurement(down, target, 3.0)])(z, lam)

    def loss(z):
        return 3.0 * (target - down(denoise(z, lam))).square().sum()

    step, gradient = 1e-5, torch.zeros_like(z)
    with torch.no_grad():
        for i in range(z.numel()):
            e = torch.zeros(z.numel(), dtype=F64)
            e[i] = step
            gradient.view(-1)[i] = (loss(z + e.view_as(z)) - loss(z - e.view_as(z))) / (2 * step)
        expected = denoise(z, lam) - 0.5 * alpha_of(lam) * gradient
        assert torch.allclose(got, expected, atol=1e-4)
        satisfied = Measurement(down, down(denoise(z, lam)), 3.0)
    assert torch.allclose(
        reconstruction_guidance(denoise, measurements=[satisfied])(z, lam), denoise(z, lam), atol=1e-12
    )


class D1:
    """Spec 20: an 8-frame AR(1) process with rho = .95, frames 0-3 known, VDM's sampler of 256 steps, without sampling
    noise.

    All of it is linear, so what one step of our own code does to every input (z, the known values, each draw) is its
    matrix, and the joint covariance of (z, x^a) goes through it.
    """

    covariance = ar1(FRAMES)
    mask = frame_mask(range(4), FRAMES)

    def __init__(self, weight, corrector=0.0):
        denoise = gaussian_denoiser(torch.zeros(FRAMES, dtype=F64), self.covariance)
        lams = level_grid(CosineSchedule(), 256)
        eye, none = torch.eye(FRAMES, dtype=F64), torch.zeros(FRAMES, FRAMES, dtype=F64)
        state = torch.block_diag(eye, self.covariance)  # z is noise, independent of what is known
        for i in range(256):
            draws = Draws((1, FRAMES, 1, 1), 4, inputs=2)
            guided = reconstruction_guidance(denoise, Known(draws.block(1), self.mask, weight), noise=draws)
            *_, last = sample_ancestral(guided, draws.block(0), lams[i : i + 2], draws, corrector_step_size=corrector)
            step = torch.cat([affine(last.z if i < 255 else last.x)[1], torch.cat([none, eye, *[none] * 4], 1)])
            state = step @ torch.block_diag(state, *[eye] * 4) @ step.T
        joint = state.clone()
        known = slice(FRAMES, FRAMES + 4)
        joint[:4], joint[:, :4] = state[known], state[:, known]  # what comes out at known frames is x^a
        joint[:4, :4] = state[known, known]
        self.joint = joint[:FRAMES, :FRAMES]

    def correlation(self):
        return float(self.joint[3, 4] / (self.joint[3, 3] * self.joint[4, 4]).sqrt())

    def error(self):
        """Of the covariance of x^b given x^a, relative to the true one's norm."""
        a, b = slice(0, 4), slice(4, 8)
        exact, got = (c[b, b] - c[b, a] @ torch.linalg.inv(c[a, a]) @ c[a, b] for c in (self.covariance, self.joint))
        return float(torch.linalg.norm(got - exact) / torch.linalg.norm(exact))


@pytest.mark.parametrize(
    "weight,corrector,correlation,error",
    [
        (0, 0, 0.8526, 0.802),
        (1, 0, 0.9116, None),
        (2, 0, 0.9410, 0.086),
        (5, 0, 0.9728, None),
        (1, 0.1, 0.9364, None),
        (2, 0.1, 0.9509, 0.013),
        (5, 0.1, 0.9691, None),
    ],
)
def test_d1_coherence(weight, corrector, correlation, error):
    run = D1(weight, corrector)
    assert run.correlation() == pytest.approx(correlation, abs=2e-4)
    assert error is None or run.error() == pytest.approx(error, abs=1e-3)
