"""How a user's picture model is sampled unless told otherwise: Stable Diffusion's way, or that of the few-step model
that its scheduler gives away."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from muybridge.diffusion.scheduler_config import LCM, spacing_of

#: Schedulers of the models that were distilled adversarially (SD-Turbo, SDXL-Turbo, SDXL-Lightning) -> our sampler.
TURBO = {"EulerDiscreteScheduler": "euler", "EulerAncestralDiscreteScheduler": "ancestral"}


def preset_of(scheduler: Mapping[str, Any], told_guidance: bool, xl: bool) -> dict[str, Any]:
    """Steps, guidance and sampler of a diffusers folder of an image model.

    Latent consistency models keep their own scheduler (2310.04378). Turbo's kind (2311.17042) is known by Euler's
    scheduler with trailing spacing and epsilon at a table that keeps some signal: 4 steps without guidance.

    Args:
        scheduler: its config.
        told_guidance: the network is told the scale of guidance.
        xl: of Stable Diffusion XL's kind.
    """
    kind = str(scheduler.get("_class_name"))
    if kind == LCM:
        scale = 8.5 if told_guidance else 1.0
        return {"num_inference_steps": 4, "guidance_scale": scale, "sampler": "consistency"}
    if is_turbo(scheduler):
        return {"num_inference_steps": 4, "guidance_scale": 1.0, "sampler": TURBO[kind], "gamma": 0.0}
    return {"num_inference_steps": 50, "guidance_scale": 5.0 if xl else 7.5, "sampler": "ddim"}


def is_turbo(scheduler: Mapping[str, Any]) -> bool:
    """Whether a scheduler's config is that of an adversarially distilled model."""
    plain = scheduler.get("prediction_type", "epsilon") == "epsilon" and not scheduler.get("rescale_betas_zero_snr")
    return plain and scheduler.get("_class_name") in TURBO and spacing_of(scheduler) == "trailing"


def told_of_preset(scheduler: Mapping[str, Any]) -> str:
    """The kind of few-step model that a scheduler gives away, in words; "" for none."""
    if scheduler.get("_class_name") == LCM:
        return "a latent consistency model: 4 steps by the sampler `consistency`"
    return "a few-step model (turbo's kind): 4 steps without guidance" if is_turbo(scheduler) else ""


def told_of_channels(channels: int) -> str:
    """What a picture network of more input channels than latents have is, and what takes it."""
    if channels == 9:
        return (
            "it was made for inpainting, told a mask and a picture beside them, which is not read here: `inpaint` "
            "takes a plain model"
        )
    return "it is told a picture beside them, as InstructPix2Pix is; give it to `instruct`"
