"""Conditional sampling of an unconditional model: replacement and reconstruction guidance.

Split x into known x^a and wanted x^b. The exact score needs (σ_t² / α_t) ∇ log q(x^a | z_t); replacement drops it
(marginals right, coherence wrong), reconstruction guidance approximates q(x^a | z_t) by N(x̂^a(z_t), (σ_t² / α_t²) I):

    x̃^b = x̂^b - (w_r α_t / 2) ∇_{z^b} ‖x^a - x̂^a(z_t)‖²        (a SUM over one sample's elements)

Source: 2204.03458 section 3.1, eq. 7 (extension, interpolation) and eq. 8 (super-resolution).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from muybridge.diffusion.noise import Noise
from muybridge.diffusion.prediction import Denoise
from muybridge.diffusion.process import diffuse
from muybridge.diffusion.schedule import alpha_of, expand


@dataclass(frozen=True)
class Known:
    """The known part of a sample.

    Args:
        value: [B, C, F, H, W]; only entries under the mask matter.
        mask: broadcastable to value, True where known.
        weight: w_r; 0 is plain replacement. VDM publishes 50 (BAIR, 1 known frame) and 9 (Kinetics, 5); 2 to 5 is a
            good start for half of the frames.
        replace: "fresh" overwrites z^a with a new draw of q(z^a | x^a) at every call; "posterior" only sets
            x^a_hat := x^a and leaves z^a to the sampler (q(z^a_s | z^a_t, x^a) for an ancestral sampler, fixed noise
            for DDIM; z^a must then start as a draw of q(z^a | x^a)). "clean" keeps z^a := x^a and tells the network so
            by a noise level a frame, for whole frames and networks that were trained with them (`given_frames`).
    """

    value: Tensor
    mask: Tensor
    weight: float = 2.0
    replace: str = "fresh"

    def __post_init__(self) -> None:
        if self.replace not in ("fresh", "posterior", "clean"):
            raise ValueError(f"unknown replacement {self.replace!r}; expected fresh, posterior or clean")


@dataclass(frozen=True)
class Measurement:
    """A differentiable view of the sample that is known: `measure(x)` should equal `target`.

    For super-resolution `measure` downsamples; it must be the operator that made the target.
    """

    measure: Callable[[Tensor], Tensor]
    target: Tensor
    weight: float = 2.0


def reconstruction_guidance(
    denoise: Denoise, known: Known | None = None, measurements: Sequence[Measurement] = (), noise: Noise | None = None
) -> Denoise:
    """A denoiser whose samples agree with what is known.

    The gradient goes through the network; nothing but z requires grad. Memory is about that of a training step.
    Put thresholds outside of this function: the gradient is taken before clipping.

    Args:
        denoise: the (guided) denoiser of the joint model.
        known: entries that are given; they come back unchanged in x_hat.
        measurements: further terms, each with its own weight, added up.
        noise: for `replace="fresh"`; keyed by the sample's seed and the number of the call.
    """
    calls = itertools.count()
    if known is not None and known.replace == "fresh" and noise is None:
        raise ValueError("replacement with fresh noise needs a noise source")
    guided = (known is not None and known.weight > 0) or any(m.weight > 0 for m in measurements)

    def wrapped(z: Tensor, lam: Tensor) -> Tensor:
        if known is not None and known.replace == "fresh":
            assert noise is not None
            draw = diffuse(known.value, noise.like(z, "replacement", next(calls)), lam)
            z = torch.where(known.mask, draw, z)
        if guided:
            x = _with_gradient(denoise, z, lam, known, measurements)
        else:
            x = denoise(z, lam)
        return x if known is None else torch.where(known.mask, known.value, x)

    return wrapped


def _with_gradient(
    denoise: Denoise, z: Tensor, lam: Tensor, known: Known | None, measurements: Sequence[Measurement]
) -> Tensor:
    with torch.inference_mode(False), torch.enable_grad():
        # copies: tensors that a caller made within inference mode cannot be saved for a backward pass
        z, lam = z.detach().clone().requires_grad_(True), lam.clone()
        x = denoise(z, lam)
        loss = x.new_zeros(())
        if known is not None and known.weight > 0:
            missed = torch.where(known.mask.clone(), known.value.clone() - x, 0)
            loss = loss + known.weight * missed.square().sum()
        for term in measurements:
            loss = loss + term.weight * (term.target.clone() - term.measure(x)).square().sum()
        (gradient,) = torch.autograd.grad(loss, z)
    return x.detach() - 0.5 * expand(alpha_of(lam), z) * gradient


def given_frames(denoise: Denoise, known: Known) -> Denoise:
    """A denoiser of a network that was trained with given frames: they are clean, and their noise level says so.

        z_f := x_f,   λ_f := +inf   for f given

    Raises:
        ValueError: a mask of parts of frames.

    Source: 2412.20404 section 3.1.3.
    """
    whole = known.mask.flatten(3).all(-1).all(1)  # [B or 1, F]
    if not torch.equal(whole[:, None, :, None, None].expand_as(known.mask), known.mask):
        raise ValueError("a network's given frames are whole frames, got a mask of parts of them")

    def wrapped(z: Tensor, lam: Tensor) -> Tensor:
        frames = lam if lam.ndim == 2 else lam[:, None]
        told = torch.where(whole.to(lam.device), torch.inf, frames)
        x = denoise(torch.where(known.mask, known.value.to(z), z), told)
        return torch.where(known.mask, known.value.to(x), x)

    return wrapped


def frame_mask(known_frames: Sequence[int], num_frames: int, device: torch.device | str = "cpu") -> Tensor:
    """A mask [1, 1, F, 1, 1], True at the given frames."""
    mask = torch.zeros(num_frames, dtype=torch.bool, device=device)
    mask[list(known_frames)] = True
    return mask.reshape(1, 1, -1, 1, 1)
