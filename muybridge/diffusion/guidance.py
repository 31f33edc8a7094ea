"""Guidance: functions from denoise to denoise, which compose.

The order in a step is: network output -> classifier-free guidance -> x_hat -> reconstruction guidance (conditioning.py)
-> threshold. Samplers recompute eps from the thresholded x_hat, because they see only x_hat.
Scales are g with g = 1 for no guidance; papers that print (1 + w) mean g = 1 + w. Source: 2207.12598.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from muybridge.diffusion.prediction import Denoise, to_eps, to_v, to_x

#: A guidance scale: a number, a tensor [F] (one a frame), or a function of the log-SNR [B] giving [B] or [B, F].
Scale = float | Tensor | Callable[[Tensor], Tensor]
#: Positions (rows x frames x height x width) up to which both branches go through the network in one call.
JOINED_UP_TO = 2048


def guide(d_cond: Tensor, d_uncond: Tensor, scale: Tensor | float) -> Tensor:
    """d(0) + g (d(c) - d(0)); the same in x, eps and v, which are affine in each other."""
    return d_uncond + scale * (d_cond - d_uncond)


def _shape_scale(scale: Scale, lam: Tensor, z: Tensor) -> Tensor | float:
    value = scale(lam) if callable(scale) else scale
    if not isinstance(value, Tensor):
        return value
    value = value.to(z)
    if callable(scale) and value.ndim == 1:  # one a sample
        return value.reshape(-1, *[1] * (z.ndim - 1))
    frames = value if value.ndim == 2 else value[None]
    return frames.reshape(frames.shape[0], 1, frames.shape[1], *[1] * (z.ndim - 3))


def classifier_free(
    cond: Denoise,
    uncond: Denoise,
    scale: Scale,
    rescale: float = 0.0,
    kind: str = "sample",
    both: Denoise | None = None,
) -> Denoise:
    """Classifier-free guidance.

    Args:
        cond, uncond: the denoiser with and without its condition.
        scale: g; exactly 1.0 calls only `cond`, exactly 0.0 only `uncond`. Where one that changes over the run is 1 throughout, `cond`
            alone is called too.
        rescale: phi of 2305.08891 (0.7 there): pulls the guided output's std back to the conditional's.
        kind: the network's prediction type, in whose space the rescale is done.
        both: told the condition in the first half of its rows and none in the second. Small networks spend their time on starting
            operations: up to JOINED_UP_TO positions one call of twice the rows, which is faster, takes the place of two.
    """
    if not callable(scale) and not isinstance(scale, Tensor):
        if scale == 1.0:
            return cond
        if scale == 0.0:
            return uncond

    def denoise(z: Tensor, lam: Tensor) -> Tensor:
        lam = lam.expand(len(z))
        here = _shape_scale(scale, lam, z)
        if isinstance(here, Tensor) and bool((here == 1).all()):
            return cond(z, lam)
        if both is not None and z.numel() // z.shape[1] <= JOINED_UP_TO:
            conditional, unconditional = both(torch.cat([z, z]), torch.cat([lam, lam])).chunk(2)
        else:
            conditional, unconditional = cond(z, lam), uncond(z, lam)
        guided = guide(conditional, unconditional, here)
        return _rescaled(guided, conditional, z, lam, rescale, kind) if rescale > 0 else guided

    return denoise


def _rescaled(guided: Tensor, conditional: Tensor, z: Tensor, lam: Tensor, phi: float, kind: str) -> Tensor:
    into = {"sample": to_x, "epsilon": to_eps, "v_prediction": to_v}[kind]
    output, reference = into(guided, z, lam, "sample"), into(conditional, z, lam, "sample")
    return to_x(rescale_guided(output, reference, phi), z, lam, kind)


def rescale_guided(guided: Tensor, conditional: Tensor, phi: float = 0.7) -> Tensor:
    """phi d std(d(c)) / std(d) + (1 - phi) d, std over all but the batch axis. Source: 2305.08891 section 3.4."""
    axes = tuple(range(1, guided.ndim))
    ratio = conditional.std(axes, keepdim=True) / guided.std(axes, keepdim=True)
    return phi * guided * ratio + (1 - phi) * guided


def classifier_free_two(
    both: Denoise, only_image: Denoise, neither: Denoise, text_scale: float, image_scale: float
) -> Denoise:
    """Two conditions, three passes: d(0,0) + g_img (d(0,img) - d(0,0)) + g_txt (d(txt,img) - d(0,img)).

    Source: 2211.09800 eq. 3, as used by Open-Sora 2.0.
    """

    def denoise(z: Tensor, lam: Tensor) -> Tensor:
        none, image, all_ = neither(z, lam), only_image(z, lam), both(z, lam)
        return none + image_scale * (image - none) + text_scale * (all_ - image)

    return denoise


def content_and_time(
    cond: Denoise, uncond: Denoise, frames_alone: Denoise, scale: float, temporal_scale: float = 1.0
) -> Denoise:
    """f_alone(0) + w_t (f(0) - f_alone(0)) + w (f(c) - f(0)): how much of the content, and how much of time.

    Args:
        cond, uncond: the video model with and without its content.
        frames_alone: the same weights without the temporal layers, without content: each frame by itself.
        scale: w.
        temporal_scale: w_t; above 1 is smoother, 1 is plain guidance in two calls instead of three.

    Source: 2302.03011 section 3.3.
    """
    if temporal_scale == 1.0:
        return classifier_free(cond, uncond, scale)

    def denoise(z: Tensor, lam: Tensor) -> Tensor:
        alone, video, with_content = frames_alone(z, lam), uncond(z, lam), cond(z, lam)
        return alone + temporal_scale * (video - alone) + scale * (with_content - video)

    return denoise


# --- scales that change over the run --------------------------------------------------------------------------------


def scale_on_grid(lams: Tensor, weights: Sequence[float]) -> Callable[[Tensor], Tensor]:
    """Turn one weight a step into a function of the log-SNR, by the nearest level of the grid.

    Args:
        lams: the sampler's grid [N + 1], or its first N levels.
        weights: N weights, in step order.
    """
    levels = lams[: len(weights)].clamp(-1e4, 1e4)
    table = torch.as_tensor(weights, dtype=torch.float64)

    def scale(lam: Tensor) -> Tensor:
        distance = (lam.double().clamp(-1e4, 1e4).cpu()[:, None] - levels.cpu()[None]).abs()
        return table[distance.argmin(1)].to(lam.device)

    return scale


def within(scale: Scale, low: float, high: float) -> Callable[[Tensor], Tensor]:
    """A scale from log-SNR `low` to `high`, both included, and 1 outside: there guidance costs no second pass of the network.

    Source: 2404.07724, which finds guidance at high noise harmful, at low noise useless.
    """

    def limited(lam: Tensor) -> Tensor:
        value = scale(lam) if callable(scale) else torch.as_tensor(scale, dtype=lam.dtype, device=lam.device)
        if not callable(scale):  # a number, or one a frame: the same for each sample
            value = value.expand(len(lam), *value.shape)
        inside = ((lam >= low) & (lam <= high)).reshape(-1, *[1] * (value.ndim - 1))
        return torch.where(inside, value, torch.ones_like(value))

    return limited


def oscillating_weights(num_steps: int, high: float, low: float = 1.0, constant_steps: int = 10) -> list[float]:
    """`constant_steps` of `high`, then high on even steps and low on odd ones. Source: 2210.02303 section 2.5.

    The paper does not publish the number of constant steps; Open-Sora's code uses 10.
    """
    return [high if i < constant_steps or i % 2 == 0 else low for i in range(num_steps)]


def cosine_ramp_weights(num_steps: int, scale: float, power: float = 5.0) -> list[float]:
    """g_i = 1 + g (1 - cos(pi (i/N)^power)) / 2 with i the step INDEX. Source: CogVideoX's dynamic guidance."""
    return [1 + scale * (1 - math.cos(math.pi * (i / num_steps) ** power)) / 2 for i in range(num_steps)]


def cogvideox_weights(num_steps: int, scale: float, table_size: int = 1000, power: float = 5.0) -> list[float]:
    """CogVideoX's ramp as its code computes it: fed N - t with t in 0..T-1 where a step index was meant.

    Reproduces published samples; the weights come out pseudo-random in [1, 1 + g]. Prefer `cosine_ramp_weights`.
    """
    times = [table_size - round(i * table_size / num_steps) - 1 for i in range(num_steps)]
    return [1 + scale * (1 - math.cos(math.pi * ((num_steps - t) / num_steps) ** power)) / 2 for t in times]


def linear_frame_scale(num_frames: int, first: float = 1.0, last: float = 3.0) -> Tensor:
    """One scale a frame, growing linearly, as in Stable Video Diffusion. [F]."""
    return torch.linspace(first, last, num_frames)


# --- thresholds -----------------------------------------------------------------------------------------------------


def dynamic_threshold(x: Tensor, quantile: float = 0.995, limit: float = math.inf) -> Tensor:
    """Clip each sample to its own quantile s = clamp(quantile(|x|), 1, limit) and divide by it.

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


def thresholded(denoise: Denoise, mode: str = "static", quantile: float = 0.995) -> Denoise:
    """Clip x_hat to [-1, 1]: "static", "dynamic" (by quantile) or "none" (latents). Goes outermost."""
    if mode == "none":
        return denoise
    if mode == "static":
        return lambda z, lam: denoise(z, lam).clamp(-1, 1)
    if mode == "dynamic":
        return lambda z, lam: dynamic_threshold(denoise(z, lam), quantile)
    raise ValueError(f"unknown threshold {mode!r}; expected static, dynamic or none")
