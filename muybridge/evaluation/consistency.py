"""How well the frames of a video belong together: by features, and along a known motion."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor

from muybridge.models.text.scorers import ImageTextScorer
from muybridge.models.vision.optical_flow import flow_between, warp
from muybridge.nn.frames import from_uint8


def frame_consistency(scorer: ImageTextScorer, frames: np.ndarray) -> float:
    """Mean cosine of consecutive frames' embeddings; frames uint8 [F, H, W, 3]. Source: 2302.03011 section 4."""
    return consistency_of(scorer.embed_pictures(from_uint8(frames).transpose(0, 1)))


def consistency_of(rows: Tensor) -> float:
    """The same of embeddings that are there already, [F, D]; 1 for a still."""
    return float((rows[:-1] * rows[1:]).sum(1).mean()) if len(rows) > 1 else 1.0


def warped_difference(frames: np.ndarray) -> float:
    """Flicker: root mean square difference, grey levels, of each frame and the next brought back along the flow that
    DIS sees between them - what moves counts little, what changes its shape or colour counts.

    Args:
        frames: uint8 [F, H, W, 3], F of at least 2.
    """
    import cv2

    grey = [cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in frames]
    flow = np.stack([flow_between(a, b) for a, b in itertools.pairwise(grey)])
    return float(255 * warped_error(frames, flow) ** 0.5)


def warped_error(frames: np.ndarray, flow: np.ndarray) -> float:
    """Mean squared error, of 1, between each frame and the next one brought back along the flow.

    Pixels whose way leads out of the picture are left out. Source: 1808.00449 (with estimated flow and occlusion
    masks).

    Args:
        frames: uint8 [F, H, W, 3].
        flow: forward, pixels, [F - 1, H, W, 2]: a pixel of frame f is at p + flow in frame f + 1.
    """
    video = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 255
    way: Tensor = torch.from_numpy(np.ascontiguousarray(flow)).permute(0, 3, 1, 2).float()
    back = warp(video[1:], way)
    height, width = frames.shape[1:3]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    place = torch.stack([x, y])[None] + way
    inside = (place[:, 0] >= 0) & (place[:, 0] <= width - 1) & (place[:, 1] >= 0) & (place[:, 1] <= height - 1)
    error = (back - video[:-1]).square().mean(1)
    return float(error[inside].mean())
