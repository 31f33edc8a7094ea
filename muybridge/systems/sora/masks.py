"""Which latent frames are given in training, so that one model goes on, goes back, joins and brings pictures to life.

Given frames are clean, and the network is told so by their noise level; the loss is of the others.
Source: 2412.20404 section 3.1.3 (masks and a time of 0 at given frames); Sora's report names the tasks and not how.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: What is given: the first frames, the last ones, some at both ends, or any.
KINDS = ("head", "tail", "both", "any")


def given_frames(frames: int, share: float, generator: torch.Generator) -> Tensor:
    """Which latent frames of a clip are given, bool [F]; at least one is not.

    Args:
        frames: F.
        share: how often any are.
        generator: of the clip.
    """
    mask = torch.zeros(frames, dtype=torch.bool)
    chance, kind, head, tail = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
    anywhere = torch.rand(frames, generator=generator)
    if frames < 2 or chance >= share:
        return mask
    most = max(1, frames // 2)
    counts = [1 + min(int(part * most), most - 1) for part in (head, tail)]
    name = KINDS[min(int(kind * len(KINDS)), len(KINDS) - 1)]
    if name == "any":
        mask[anywhere.argsort()[: counts[0]]] = True
    if name in ("head", "both"):
        mask[: counts[0]] = True
    if name == "tail" or (name == "both" and counts[0] + 1 < frames):
        mask[frames - min(counts[1], frames - 1 - int(mask.sum())) :] = True
    return mask
