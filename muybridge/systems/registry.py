"""The systems that can be trained, by name."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from muybridge.errors import UserError, nearest
from muybridge.models.text_encoder import TextConfig
from muybridge.systems.contract import System

#: Where each lives, and which section of a recipe holds its settings beside `model`.
SYSTEMS = {
    "vdm": ("muybridge.systems.vdm", "VDM", "diffusion"),
    "image_ldm": ("muybridge.systems.image_ldm", "ImageLDM", "diffusion"),
    "video_ldm": ("muybridge.systems.video_ldm", "VideoLDM", "diffusion"),
    "image_text": ("muybridge.systems.image_text", "ImageText", "objective"),
    "stable_video": ("muybridge.systems.stable_video", "StableVideo", "diffusion"),
    "camera_lora": ("muybridge.systems.stable_video", "CameraLoRA", "diffusion"),
    "tune_a_video": ("muybridge.systems.tune_a_video", "TuneAVideo", "diffusion"),
    "gen1": ("muybridge.systems.gen1", "Gen1", "diffusion"),
    "content_prior": ("muybridge.systems.content_prior", "ContentPriorTraining", "objective"),
    "control_net": ("muybridge.systems.control_net", "ControlNetTraining", "diffusion"),
    "depth": ("muybridge.systems.depth", "DepthTraining", "objective"),
    "interpolator": ("muybridge.systems.interpolator", "InterpolatorTraining", "objective"),
    "autoencoder": ("muybridge.systems.autoencoder", "Autoencoder", "objective"),
}


def build_system(
    name: str,
    model: Mapping[str, Any],
    diffusion: Mapping[str, Any],
    objective: Mapping[str, Any],
    text: TextConfig | None,
) -> System:
    """A system from the sections of a recipe.

    Raises:
        UserError: an unknown system, or a section that it does not read.
    """
    if name not in SYSTEMS:
        raise UserError(f"system: unknown {name!r}; {nearest(name, SYSTEMS)}")
    module, cls, section = SYSTEMS[name]
    sections = {"diffusion": diffusion, "objective": objective}
    for other, settings in sections.items():
        if other != section and settings:
            raise UserError(f"{other}: the system {name} has no such settings; it reads `{section}`")
    made: System = getattr(importlib.import_module(module), cls)(model, sections[section], text)
    return made
