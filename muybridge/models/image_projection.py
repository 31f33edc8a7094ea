"""A picture's embedding in the words of a picture model: the token states that its text encoder has of a caption.

    [token_1 ... token_N] = f(e),   f an MLP

With it a picture model that reads captions is told an embedding in a language that it reads already. IP-Adapter
(2308.06721 section 3.2) calls such a network an image projection; it learns its own with the diffusion loss, from
nothing.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from muybridge.errors import UserError
from muybridge.files import read_mapping
from muybridge.models.weights.opening import open_network


class ImageProjection(ModelMixin, ConfigMixin):
    """Says the token states of a picture's caption; of no embedding, which is zero, those of the empty caption.

    Args:
        width: of the embedding.
        hidden: of the layers.
        tokens: how many it says.
        token_dim: of the text encoder's states.
        text_encoder: whose states they are; training writes it, "" where it is not known.
    """

    @register_to_config
    def __init__(
        self, width: int = 256, hidden: int = 512, tokens: int = 8, token_dim: int = 384, text_encoder: str = ""
    ):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(),
            nn.Linear(hidden, tokens * token_dim),
        )  # fmt: skip

    def forward(self, embedding: Tensor) -> Tensor:
        """Unit rows [B, width], or zero ones, to [B, tokens, token_dim]."""
        scaled = embedding * embedding.shape[1] ** 0.5  # of unit variance
        made: Tensor = self.layers(scaled).unflatten(1, (self.config.tokens, self.config.token_dim))
        return made


def first_and_last(states: Tensor, mask: Tensor, count: int) -> Tensor:
    """Of a caption's states [B, L, D], the first `count` - 1 and the last one, [B, count, D]: a text encoder keeps the
    whole sentence there. A shorter caption's last one is repeated.

    Args:
        mask: which are real, bool [B, L]; real ones come first.
    """
    last = mask.sum(1, keepdim=True) - 1
    place = torch.arange(count, device=mask.device).expand(len(mask), -1).minimum(last)
    place = torch.cat([place[:, :-1], last], 1)
    return states.gather(1, place[:, :, None].expand(-1, -1, states.shape[2]))


def open_projection(folder: Path) -> ImageProjection:
    """An image projection from its folder, frozen, float32.

    Raises:
        UserError: another model, or weights that are not whole.
    """
    kind = read_mapping(folder / "config.json").get("_class_name")
    if kind != ImageProjection.__name__:
        raise UserError(f"{folder}: a {kind}, expected an image projection (`system: image_projection`)")
    return open_network(ImageProjection, folder)
