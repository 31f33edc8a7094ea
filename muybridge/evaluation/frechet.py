"""How far a set of videos is from another: Frechet distances of how pictures look and of how they change.

Two numbers from one feature network, in place of FID and FVD (neither sees the arrow of time): the mean feature of a
clip's frames ("appearance"), and the mean absolute difference of consecutive frames' features ("motion"). Only numbers
from the same reference set can be compared; give the floor (two halves of real data) beside them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from muybridge.models.vision.picture_features import PictureFeatures
from muybridge.nn.frames import from_uint8

#: Principal directions of the reference set that are compared; covariances of more need thousands of clips.
DIRECTIONS = 48


@dataclass(frozen=True)
class ClipFeatures:
    """One row a clip.

    Attributes:
        appearance: [N, 1280], mean over frames.
        motion: [N, 1280], mean absolute change from frame to frame.
    """

    appearance: np.ndarray
    motion: np.ndarray


@torch.no_grad()
def clip_features(network: PictureFeatures, clips: list[np.ndarray]) -> ClipFeatures:
    """Features of clips, each uint8 [F, H, W, 3] with at least two frames."""
    appearance, motion = [], []
    for frames in clips:
        features = network(from_uint8(frames).transpose(0, 1)).numpy()
        appearance.append(features.mean(0))
        motion.append(np.abs(np.diff(features, axis=0)).mean(0))
    return ClipFeatures(np.stack(appearance), np.stack(motion))


def frechet_distance(reference: np.ndarray, other: np.ndarray, directions: int = DIRECTIONS) -> float:
    """|mu - mu'|^2 + tr(S + S' - 2 (S S')^(1/2)) in the reference's principal directions; rows are samples [N, D]."""
    centre = reference.mean(0)
    _, _, axes = np.linalg.svd(reference - centre, full_matrices=False)
    axes = axes[: min(directions, len(reference) - 1)]
    a, b = (reference - centre) @ axes.T, (other - centre) @ axes.T
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    # tr (S S')^(1/2) from the symmetric S^(1/2) S' S^(1/2)
    values, vectors = np.linalg.eigh(first)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    middle = np.linalg.eigvalsh(root @ second @ root)
    means = np.square(a.mean(0) - b.mean(0)).sum()
    return float(means + np.trace(first) + np.trace(second) - 2 * np.sqrt(middle.clip(0)).sum())
