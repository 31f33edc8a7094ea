"""What the conditional form is given: known pixels C = M * video and their mask M, 1 where a pixel is given.

Source: 2401.12945 section 3.3. Unknown pixels are 0, mid-grey; which value fills them is a choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from muybridge.learning.draws import Draws

#: Of training: nothing given, the first frame, all but a box, a box alone, the first frame and all but a box of others.
TASKS = ("text", "image", "inpaint", "outpaint", "cinemagraph")
#: Sides of drawn boxes, as shares of the picture's.
SMALLEST, LARGEST = 0.25, 0.75


def image_mask(frames: int, height: int, width: int) -> Tensor:
    """[1, F, H, W]: the first frame is given."""
    mask = torch.zeros(1, frames, height, width)
    mask[:, 0] = 1
    return mask


def cinemagraph_mask(region: Tensor) -> Tensor:
    """[1, F, H, W]: all of the first frame is given, of others what lies outside a region, bool [F, H, W], that shall
    move."""
    mask = (~region).float()[None]
    mask[:, 0] = 1
    return mask


def box_mask(frames: int, height: int, width: int, box: tuple[int, int, int, int]) -> Tensor:
    """[1, F, H, W]: 1 inside (left, top, right, bottom), in pixels."""
    left, top, right, bottom = box
    mask = torch.zeros(1, frames, height, width)
    mask[..., top:bottom, left:right] = 1
    return mask


def shrunk(mask: Tensor, factor: int) -> Tensor:
    """A mask [B, 1, F, H, W] for latents that stand for factor x factor pixels: given where all of them are."""
    if factor == 1:
        return mask
    hidden = max_pool2d((1 - mask).flatten(0, 2)[:, None], factor)
    return 1 - hidden[:, 0].unflatten(0, mask.shape[:3])


def known_of(space: Any, video: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """What the network is told of pixels [B, 3, F, H, W] under a mask [B, 1, F, H, W].

    Hidden pixels are blanked before they are encoded, so that no latent knows of them.
    """
    known = space.encode(torch.where(mask > 0, video, 0.0))[0]
    small = shrunk(mask, space.shrink).to(known)
    return {"known": known * small, "known_mask": small}


def drawn_masks(draws: Draws, shape: tuple[int, int, int], tasks: Mapping[str, float]) -> Tensor:
    """A mask a sample, [B, 1, F, H, W]; boxes stay where they are throughout a clip.

    Args:
        shape: (F, H, W).
        tasks: how often each is, by name; shares that need not add up to 1.
    """
    frames, height, width = shape
    kinds = draws.choices(torch.tensor([float(tasks.get(name, 0.0)) for name in TASKS]))
    rows = []
    for kind, shares in zip(kinds, draws.shares(4).tolist(), strict=True):
        task = TASKS[kind]
        if task == "text":
            rows.append(torch.zeros(1, frames, height, width))
        elif task == "image":
            rows.append(image_mask(frames, height, width))
        else:
            sides = [SMALLEST + (LARGEST - SMALLEST) * s for s in shares[:2]]
            high, wide = (max(1, round(s * side)) for s, side in zip(sides, (height, width), strict=True))
            top, left = (
                int(s * (side - n + 1)) for s, side, n in zip(shares[2:], (height, width), (high, wide), strict=True)
            )
            inside = box_mask(frames, height, width, (left, top, left + wide, top + high))
            masks = {"inpaint": 1 - inside, "outpaint": inside, "cinemagraph": cinemagraph_mask(inside[0] > 0)}
            rows.append(masks[task])
    return torch.stack(rows)
