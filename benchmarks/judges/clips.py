"""True scenes with what is known of them: what the judges are fitted on and measured with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np

from muybridge.data.sources.sprites import SpritesConfig
from muybridge.data.sprites.source import SpritesSource

Array = np.ndarray
#: Frames of a clip whose things are outlined; the others cost as much and look alike.
OUTLINED = 4
#: What the judges' own scenes are drawn with. No combination is kept out: a judge that had never seen a fox at sea
#: would be the worse judge of one.
SEED = 20_000


@dataclass(frozen=True)
class TrueClip:
    """A scene and the truth about it.

    Attributes:
        frames: uint8 [F, H, W, 3].
        told: `SpritesSource.describe`'s answer.
        outlined: int [K], the frames of which labels are known.
        labels: int8 [K, H, W], the actor seen at each pixel, -1 for the background.
        centres: float32 [K, N, 2], the actors' middles (x, y), pixels.
    """

    frames: Array
    told: dict[str, Any]
    outlined: Array
    labels: Array
    centres: Array


def scenes_for_judges(split: str = "train", seed: int = SEED, frames: int = 16, **changes: Any) -> SpritesSource:
    """The distribution that the judges know: mostly one thing, some in relations and several.

    Args:
        split: "train" to fit, "validation" to measure.
        changes: other settings of the source.
    """
    settings: dict[str, Any] = {
        "plain": 0.04, "counted": 0.04, "related": 0.2, "several": 0.1, "held_out": 0.0, "split": split,
        "seed": seed, "num_frames": frames, "num_clips": 1_000_000,
    }  # fmt: skip
    return SpritesSource(SpritesConfig(**{**settings, **changes}))


def true_clip(source: SpritesSource, index: int, outlined: int = OUTLINED) -> TrueClip:
    """The index'th scene; its outlines at frames drawn by the index."""
    scene, _ = source.scene(index)
    count = min(outlined, scene.num_frames)
    chosen = np.array(sorted(Random(index).sample(range(scene.num_frames), count)), dtype=np.int64)
    labels = np.full((count, scene.height, scene.width), -1, np.int8)
    for place, frame in enumerate(chosen):
        for i in scene.order:
            labels[place][scene.cover(i, int(frame)) >= 0.5] = i
    centres = np.stack([t.centres[chosen] for t in scene.things], 1).astype(np.float32)
    return TrueClip(scene.frames(), source.describe(index), chosen, labels, centres)


def true_clips(source: SpritesSource, indices: Iterable[int], outlined: int = OUTLINED) -> list[TrueClip]:
    return [true_clip(source, i, outlined) for i in indices]
