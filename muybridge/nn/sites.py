"""Sites of a picture network: the layers behind which temporal layers may sit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from diffusers.models.attention_processor import Attention
from torch import nn


@dataclass(frozen=True)
class Site:
    """A layer of the picture network behind which temporal layers may sit.

    Attributes:
        path: its name, "down_blocks.0.resnets.1".
        kind: "resnet" (a residual block, [B F, C, H, W]), "convolution" (each of its two, the same), "outer" (any other
            convolution: the first, the last, shortcuts, those of resamplers), "block" (one transformer block,
            [B F, H W, C]), "transformer" (a whole spatial transformer, [B F, C, H, W]), "attention" (an attention that
            stands alone, the same; unCLIP's decoders have these), "downsampler" or "upsampler" (what changes the
            picture's size, the same).
        channels, heads: of its output, and of its attention (0 for those without one).
    """

    path: str
    kind: str
    channels: int
    heads: int = 0

    @property
    def key(self) -> str:
        """The path as a module name."""
        return self.path.replace(".", "_")

    @property
    def block(self) -> str:
        """The block of the U-Net that a layer of it is in, "down_blocks.0" or "mid_block"."""
        return self.path.rpartition(".")[0].rpartition(".")[0]

    @property
    def number(self) -> str:
        """Of the layer within its block."""
        return self.path.rpartition(".")[2]


#: Lists of a block's resamplers, and the kind of site that they are.
RESAMPLERS = {"downsamplers": "downsampler", "upsamplers": "upsampler"}


def spatial_sites(unet: nn.Module) -> Iterator[Site]:
    """Every site of a diffusers UNet2DConditionModel, in the order in which they run within a block."""
    from diffusers.models.attention import BasicTransformerBlock
    from diffusers.models.resnet import ResnetBlock2D
    from diffusers.models.transformers.transformer_2d import Transformer2DModel

    for path, module in unet.named_modules():
        parent, _, leaf = path.rpartition(".")
        place = parent.rpartition(".")[2]
        if place in RESAMPLERS:
            yield Site(path, RESAMPLERS[place], int(module.out_channels))
        if isinstance(module, ResnetBlock2D):
            yield Site(path, "resnet", int(module.out_channels))
            yield Site(f"{path}.conv1", "convolution", int(module.out_channels))
            yield Site(f"{path}.conv2", "convolution", int(module.out_channels))
        elif isinstance(module, BasicTransformerBlock):
            yield Site(path, "block", int(module.norm1.normalized_shape[0]), int(module.attn1.heads))
        elif isinstance(module, Transformer2DModel):
            heads = int(module.transformer_blocks[0].attn1.heads)
            yield Site(path, "transformer", int(module.in_channels), heads)
        elif isinstance(module, Attention) and place == "attentions":
            yield Site(path, "attention", int(module.out_dim), int(module.heads))
        elif isinstance(module, nn.Conv2d) and leaf not in ("conv1", "conv2") and ".attentions." not in path:
            yield Site(path, "outer", int(module.out_channels))


def layer_ends(sites: Sequence[Site]) -> list[Site]:
    """The last part of every layer of a picture network: its attention where it has one, else its residual block.

    In the middle block, its attention alone (its residual blocks where it has none).
    """
    attending = [s for s in sites if s.kind in ("transformer", "attention")]
    layers = {(s.block, s.number) for s in attending}
    middle = any(s.block == "mid_block" for s in attending)
    plain = [s for s in sites if s.kind == "resnet" and s.path.split(".")[-2] == "resnets"]
    plain = [s for s in plain if (s.block, s.number) not in layers and not (middle and s.block == "mid_block")]
    return [s for s in sites if s in attending or s in plain]


def level_of(site: Site, levels: int) -> int:
    """How often the picture is halved at a site of a U-Net of so many levels, from 0; behind a resampler, as before
    it."""
    where, _, number = site.path.partition("_blocks.")
    if where not in ("down", "up"):
        return levels - 1
    block = int(number.partition(".")[0])
    return block if where == "down" else levels - 1 - block
