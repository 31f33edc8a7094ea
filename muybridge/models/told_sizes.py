"""What Stable Diffusion XL's network is told beside words: a pooled caption, and sizes (spec 14, 2.1)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

#: Sizes that its network is told: of the picture before and after it was made smaller, (height, width) each, and
#: between them where it was cropped, (top, left).
SIZES = 6


def is_xl(network: Any) -> bool:
    """Whether a picture network, or an inflated one, is told a pooled caption and sizes."""
    image = getattr(network, "image", network)
    return str(getattr(getattr(image, "config", None), "addition_embed_type", None)) == "text_time"


def told_beside_words(network: Any, pooled: Tensor, z: Tensor, shrink: int) -> dict[str, Any]:
    """`added_cond_kwargs` of Stable Diffusion XL's network, one row a video; nothing for other networks.

    Pictures are told to have been made at the size of the video, and not cropped.

    Args:
        pooled: [B, E].
        z: noisy latents [B, C, F, h, w].
        shrink: pixels a side of one latent.
    """
    if not is_xl(network):
        return {}
    height, width = z.shape[-2] * shrink, z.shape[-1] * shrink
    sizes = torch.tensor([height, width, 0, 0, height, width], device=z.device, dtype=z.dtype)
    return {"added_cond_kwargs": {"text_embeds": pooled.to(z), "time_ids": sizes.expand(len(z), SIZES)}}
