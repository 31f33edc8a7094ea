"""How Tune-A-Video tunes; light, so that options are made from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from muybridge.files import sha256_of

#: The paper's tuning: AdamW, one video a step, constant rate.
TUNING: dict[str, Any] = {
    "batch_size": 1,
    "optimizer": "adamw",
    "betas": (0.9, 0.999),
    "weight_decay": 1e-2,
    "warmup_steps": 0,
    "decay": "constant",
    "clip_norm": 1.0,
    "ema": 0.0,
    "checkpoint_every": 50,
    "validate_every": 100,
    "validation_clips": 1,
    "sample_every": 0,
}


def tuning_data(
    video: Path, caption: str, num_frames: int, first: int, stride: int, size: Mapping[str, int]
) -> dict[str, Any]:
    """The data section of a tuning's recipe."""
    frames = {"num_frames": num_frames, "first": first, "stride": stride}
    named = {"path": str(video), "sha256": sha256_of(video)}
    return {"source": "one_video", **named, "caption": caption, **frames, **size}
