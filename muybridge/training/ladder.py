"""The rungs of a distillation side by side: the same noise, drawn in fewer and fewer steps."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from muybridge.data.clips import FirstClips
from muybridge.data.registry import make_source
from muybridge.data.video_io import write_strip
from muybridge.files import write_json
from muybridge.learning.diffusion import DiffusionSystem
from muybridge.learning.distillation import saved_network
from muybridge.models.guided import takes_guidance
from muybridge.nn.devices import device_named
from muybridge.nn.frames import from_uint8
from muybridge.nn.layout import suit_cpu
from muybridge.training.recipe import Recipe

#: Prompts, or held-out clips, that are drawn; frames of each in the picture.
SHOWN, COLUMNS = 2, 6


def write_ladder(
    folder: Path,
    recipe: Recipe,
    system: DiffusionSystem,
    teacher: str,
    first_steps: int,
    students: Sequence[tuple[str, int, Path]],
    device: str,
) -> Path:
    """Draw the same seeds with the teacher and its students; write ladder.json and ladder.png.

    Each rung says its network calls for a video, seconds, and the distance to the teacher at `first_steps`: the root
    mean square over pixels, grey levels. Students are drawn at the guidance scale of the recipe's `sampling`.

    Args:
        students: (name, sampling steps or 0, folder), in their order.
    """
    where, clips = device_named(device), _clips(recipe, system).to(device_named(device))
    prompts = list(recipe.training.sample_prompts)[:SHOWN]
    networks: list[tuple[str, int, nn.Module]] = []
    steps, whole = first_steps, saved_network(system, teacher)
    while steps >= 1:
        networks.append(("teacher", steps, whole))
        steps //= 2
    for name, count, path in students:
        networks.append((name, count or first_steps, saved_network(system, str(path))))
    rows: list[dict[str, Any]] = []
    pictures: list[np.ndarray] = []
    for name, count, network in networks:
        suit_cpu(network.eval().requires_grad_(False))
        sampling = {**recipe.sampling, "num_inference_steps": count, "sampler": "ddim"}
        began = time.perf_counter()
        with torch.no_grad():
            frames = system.preview(network.to(where), prompts, sampling, clips)
        seconds = (time.perf_counter() - began) / len(frames)
        first = pictures[0] if pictures else frames
        distance = float(np.sqrt(np.square(frames.astype(float) - first.astype(float)).mean()))
        guided = not takes_guidance(network) and float(sampling.get("guidance_scale", 1.0)) != 1 and bool(system.text)
        rows.append(
            {"model": name, "steps": count, "calls": count * (1 + guided), "seconds": seconds, "distance": distance}
        )
        pictures.append(frames)
    write_json(folder / "ladder.json", {"prompts": prompts, "rungs": rows})
    # one row a rung: the frames of the first video, or of pictures the first few
    shown = [p[0] if p.shape[1] > 1 else p[:COLUMNS, 0] for p in pictures]
    return write_strip(np.stack(shown), folder / "ladder.png", columns=COLUMNS)


def _clips(recipe: Recipe, system: DiffusionSystem) -> Tensor:
    """A few held-out clips as a training batch has them, [SHOWN, C, F, H, W]."""
    source = FirstClips(make_source(recipe.data, "validation"), SHOWN)
    pixels = [from_uint8(source.clip(i).frames) for i in range(len(source))]
    pixels = [p for p in pixels if p.shape == pixels[0].shape]
    clips = torch.stack(pixels)
    if system.space is None:
        return clips
    encoded: Tensor = system.space.encode(clips)[0]
    return encoded
