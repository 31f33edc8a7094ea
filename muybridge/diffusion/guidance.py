"""Guidance: functions from denoise to denoise, which compose.

The order in a step is: network output -> classifier-free guidance -> x_hat -> reconstruction guidance (conditioning.py)
-> threshold. Samplers recompute eps from the thresholded x_hat, because they see only x_hat.
Scales are g with g = 1 for no guidance; papers that print (1 + w) mean g = 1 + w. Source: 2207.12598.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextvars import ContextVar

import torch
from torch import Tensor

from muybridge.diffusion.prediction import INTO, Denoise, to_x
from muybridge.diffusion.schedule import expand, per_sample

#: A guidance scale: a number, a tensor [] or [F] (one a frame), or a function of the log-SNR ([B] or [B, F]) giving
#: either.
Scale = float | Tensor | Callable[[Tensor], Tensor]
#: Positions (rows x frames x height x width) up to which both branches go through the network in one call. Measured on
#: a CPU, where twice the rows of a small network cost less than starting it twice; above, memory decides.
JOINED_UP_TO = 2048
#: Which of guidance's branches the network is called for, from the outermost guidance inwards: what one of them left
#: behind is not the other's (nn.reuse).
BRANCH: ContextVar[tuple[str, ...]] = ContextVar("branch", default=())


def _in_branch(name: str, denoise: Denoise) -> Denoise:
    """A denoiser whose calls are known as a branch's."""

    def named(z: Tensor, lam: Tensor) -> Tensor:
        outside = BRANCH.set((*BRANCH.get(), name))
        try:
            return denoise(z, lam)
        finally:
            BRANCH.reset(outside)

    return named


def guide(d_cond: Tensor, d_uncond: Tensor, scale: Tensor | float) -> Tensor:
    """d(∅) + g (d(c) - d(∅)); the same in x, ε and v, which are affine in each other.

    Source: 2207.12598 eq. 6, g = 1 + w.
    """
    return guide_in_steps([d_uncond, d_cond], [scale])


def guide_in_steps(branches: Sequence[Tensor], scales: Sequence[Tensor | float]) -> Tensor:
    """d_0 + Σ_i g_i (d_i - d_{i-1}): each branch knows one thing more than the one before, and has a scale for it.

    All scales 1 give the last branch. Source: 2211.09800 eq. 3 for two conditions.

    Args:
        branches: n + 1 outputs like z, from what knows least.
        scales: n.
    """
    guided = branches[0]
    for less, more, scale in zip(branches, branches[1:], scales, strict=False):
        guided = guided + scale * (more - less)
    return guided


def _scale_at(scale: Scale, lam: Tensor, z: Tensor) -> Tensor | float:
    """The scale of this call as a number, or shaped to multiply z; 1.0 where it is 1 throughout."""
    value = scale(lam) if callable(scale) else scale
    if not isinstance(value, Tensor):
        return value
    if bool((value == 1).all()):
        return 1.0
    one_a_frame = value.ndim == 1 and not callable(scale)
    return expand(value[None] if one_a_frame else value, z)


def classifier_free(
    cond: Denoise,
    uncond: Denoise,
    scale: Scale,
    rescale: float = 0.0,
    kind: str = "sample",
    both: Denoise | None = None,
) -> Denoise:
    """Classifier-free guidance, x̂ = x̂(∅) + g (x̂(c) - x̂(∅)).

    Args:
        cond, uncond: the denoiser with and without its condition.
        scale: g; exactly 1 calls only `cond`, exactly 0 only `uncond`. Where one that changes over the run is 1
            throughout, `cond` alone is called too.
        rescale: φ of 2305.08891 (0.7 there) in 0..1: pulls the guided output's std back to the conditional's.
        kind: the network's prediction type, in whose space the rescale is done.
        both: denoises with the condition in the first half of its rows and without in the second. Small networks spend
            their time on starting operations: up to JOINED_UP_TO positions one call of twice the rows, which is faster,
            takes the place of two.

    Source: 2207.12598 eq. 6; the rescale 2305.08891 section 3.4.
    """
    if not callable(scale) and not isinstance(scale, Tensor):
        if scale == 1.0:
            return cond
        if scale == 0.0:
            return uncond
    cond, uncond = _in_branch("condition", cond), _in_branch("null", uncond)

    def denoise(z: Tensor, lam: Tensor) -> Tensor:
        lam = per_sample(lam, z)
        here = _scale_at(scale, lam, z)
        if not isinstance(here, Tensor) and here == 1.0:
            return cond(z, lam)
        if both is not None and z.numel() // z.shape[1] <= JOINED_UP_TO:
            conditional, unconditional = both(torch.cat([z, z]), torch.cat([lam, lam])).chunk(2)
        else:
            conditional, unconditional = cond(z, lam), uncond(z, lam)
        guided = guide(conditional, unconditional, here)
        return _rescaled(guided, conditional, z, lam, rescale, kind) if rescale > 0 else guided

    return denoise


def _rescaled(guided: Tensor, conditional: Tensor, z: Tensor, lam: Tensor, phi: float, kind: str) -> Tensor:
    """Clean frames, of which an estimate says no output, stay as they are and count in no spread."""
    if lam.ndim == 2 and bool(torch.isposinf(lam).any()):
        out = guided.clone()
        for row, noisy in enumerate(~torch.isposinf(lam)):
            of = slice(row, row + 1)
            if bool(noisy.any()):
                here = noisy.to(z.device)
                a, b, c = (data[of][:, :, here] for data in (guided, conditional, z))
                out[of, :, here] = _rescaled(a, b, c, lam[of][:, noisy], phi, kind)
        return out
    output, reference = INTO[kind](guided, z, lam, "sample"), INTO[kind](conditional, z, lam, "sample")
    return to_x(rescale_guided(output, reference, phi), z, lam, kind)


def rescale_guided(guided: Tensor, conditional: Tensor, phi: float = 0.7) -> Tensor:
    """φ d std(d(c)) / std(d) + (1 - φ) d, std over all but the batch axis.

    Source: 2305.08891 section 3.4, eqs. 15, 16.
    """
    axes = tuple(range(1, guided.ndim))
    ratio = conditional.std(axes, keepdim=True) / guided.std(axes, keepdim=True)  # [B, 1, 1, 1, 1]
    return phi * guided * ratio + (1 - phi) * guided


def classifier_free_two(
    both: Denoise, only_image: Denoise, neither: Denoise, text_scale: float, image_scale: float
) -> Denoise:
    """Two conditions, three passes: d(∅, ∅) + g_img (d(∅, img) - d(∅, ∅)) + g_txt (d(txt, img) - d(∅, img)).

    Source: 2211.09800 eq. 3, as used by Open-Sora 2.0.
    """

    def denoise(z: Tensor, lam: Tensor) -> Tensor:
        return guide_in_steps([neither(z, lam), only_image(z, lam), both(z, lam)], [image_scale, text_scale])

    return denoise


def content_and_time(
    cond: Denoise, uncond: Denoise, images_only: Denoise, scale: float, temporal_scale: float = 1.0
) -> Denoise:
    """f_image(∅) + ω_t (f(∅) - f_image(∅)) + ω (f(c) - f(∅)): how much of the content, and how much of time.

    Args:
        cond, uncond: the video model with and without its content.
        images_only: the same weights without the temporal layers, without content: each frame by itself.
        scale: ω.
        temporal_scale: ω_t; above 1 is smoother, 1 is plain guidance in two calls instead of three.

    Source: 2302.03011 section 3.3.
    """
    if temporal_scale == 1.0:
        return classifier_free(cond, uncond, scale)

    def denoise(z: Tensor, lam: Tensor) -> Tensor:
        return guide_in_steps([images_only(z, lam), uncond(z, lam), cond(z, lam)], [temporal_scale, scale])

    return denoise


# --- scales that change over the run --------------------------------------------------------------------------------


def scale_on_grid(lams: Tensor, weights: Sequence[float]) -> Callable[[Tensor], Tensor]:
    """Turn one weight a step into a function of the log-SNR, by the nearest level of the grid.

    Args:
        lams: the sampler's grid [N + 1], or its first N levels.
        weights: N weights, in step order.
    """
    levels = lams[: len(weights)].clamp(-1e4, 1e4).cpu()
    table = torch.as_tensor(weights, dtype=torch.float64)

    def scale(lam: Tensor) -> Tensor:
        distance = (lam.cpu().double().clamp(-1e4, 1e4)[..., None] - levels).abs()  # [..., N]
        return table[distance.argmin(-1)]

    return scale


def guidance_interval(scale: Scale, low: float, high: float) -> Callable[[Tensor], Tensor]:
    """A scale from log-SNR `low` to `high`, both included, and 1 outside: there guidance costs no second pass of the
    network.

    Source: 2404.07724, which finds guidance at high noise harmful, at low noise useless.
    """

    def limited(lam: Tensor) -> Tensor:
        value = scale(lam) if callable(scale) else torch.as_tensor(scale, dtype=lam.dtype)
        value = value.to(lam.device)
        if not callable(scale) and value.ndim == 1:  # one a frame: the same for each sample
            value = value.expand(len(lam), -1)
        inside = (lam >= low) & (lam <= high)
        if value.ndim == 2 and inside.ndim == 1:
            inside = inside[:, None]
        elif value.ndim == 1 and inside.ndim == 2:
            value = value[:, None]
        return torch.where(inside, value, torch.ones_like(value))

    return limited


def oscillating_weights(num_steps: int, high: float, low: float = 1.0, constant_steps: int = 10) -> list[float]:
    """g_i = high for i < K or i even, low for i odd. Source: 2210.02303 section 2.5.

    The paper does not publish the number K of constant steps; Open-Sora's code uses 10.
    """
    return [high if i < constant_steps or i % 2 == 0 else low for i in range(num_steps)]


def linear_frame_scale(num_frames: int, first: float = 1.0, last: float = 3.0) -> Tensor:
    """g_f = first + (last - first) f / (F - 1): one scale a frame, as in Stable Video Diffusion, [F].

    Source: 2311.15127 appendix D.
    """
    return torch.linspace(first, last, num_frames)


# --- thresholds -----------------------------------------------------------------------------------------------------


def dynamic_threshold(x: Tensor, quantile: float = 0.995, limit: float = math.inf) -> Tensor:
    """clip(x, -s, s) / s with s = clamp(quantile_p(|x|), 1, limit): each sample is clipped to its own quantile.

    One s per VIDEO: one per frame would flicker. For pixels only. Source: 2205.11487 section 2.3.
    diffusers' default limit of 1 turns this into a plain clip.
    """
    flat = x.flatten(1).abs().float()
    place = quantile * (flat.shape[1] - 1)  # torch.quantile refuses more than 2^24 values
    low = int(place)
    ranked = flat.sort(1).values
    high = ranked[:, min(low + 1, flat.shape[1] - 1)]
    s = torch.lerp(ranked[:, low], high, place - low).clamp(1, limit).to(x)
    s = s.reshape(-1, *[1] * (x.ndim - 1))
    return torch.minimum(torch.maximum(x, -s), s) / s


def with_threshold(denoise: Denoise, mode: str = "static", quantile: float = 0.995) -> Denoise:
    """Clip x_hat to [-1, 1]: "static", "dynamic" (by quantile) or "none" (latents). Goes outermost."""
    if mode == "none":
        return denoise
    if mode == "static":
        return lambda z, lam: denoise(z, lam).clamp(-1, 1)
    if mode == "dynamic":
        return lambda z, lam: dynamic_threshold(denoise(z, lam), quantile)
    raise ValueError(f"unknown threshold {mode!r}; expected static, dynamic or none")
