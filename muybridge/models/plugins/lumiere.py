"""Lumiere's space-time U-Net as a plug-in: a picture U-Net that is also halved and doubled in time.

    down(h)_i = D(h)_2i,   up(h) = U(dup(h)),   dup(h)_2i = dup(h)_2i+1 = h_i

behind the deepest L spatial resamplers of either path; factorised convolutions behind every layer of every level but
the coarsest, stacked attention over time there, where the fewest frames are. Source: 2401.12945 section 3.1.

Skips are what the picture network stores: the output of a downsampler is stored behind this plug-in's hook, and so
after its frames were halved; the matching block of the way up finds as many. At the start the output equals the picture
network's on frames 0, 2^L, 2 2^L, ..., and on all frames of a video whose frames are the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import silu

from muybridge.errors import UserError
from muybridge.models.plugins.known import KnownFrames
from muybridge.nn.factorised import TemporalAttention, per_frame_norm, zero_init
from muybridge.nn.sites import Site, layer_ends, level_of
from muybridge.nn.temporal import Call
from muybridge.nn.temporal_convolution import FrameConvolution


class ConvolutionInflation(nn.Module):
    """A factorised space-time convolution behind a layer; the identity at the start.

        r = silu(norm(Conv_3x3(h))),   r = silu(norm(Conv_time(r))),   h + P(r),   P zero at the start

    Statistics of the norms are of one frame alone: with others the start would not be the picture network.

    Source: 2401.12945 fig. 4 (b); the kind of norm is a choice.
    """

    def __init__(self, channels: int, groups: int, kernel: int, padding: str):
        super().__init__()
        self.space = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm1, self.norm2 = per_frame_norm(channels, groups), per_frame_norm(channels, groups)
        self.time = FrameConvolution(channels, kernel, padding, start="random")
        self.proj = zero_init(nn.Conv2d(channels, channels, 1))

    def forward(self, h: Tensor, batch: int) -> Tensor:
        """[B F, C, H, W] -> the same."""
        r = silu(self.norm1(self.space(h)))
        r = silu(self.norm2(self.time.along_frames(r, batch)))
        out: Tensor = h + self.proj(r)
        return out


class AttentionInflation(nn.Module):
    """Attention over time, several times, behind a layer of the coarsest level; the identity at the start.

        r = h;   repeat: r = r + MHA(norm(r));   h + P(r),   P zero at the start

    Source: 2401.12945 fig. 4 (c); depth, heads and positions are choices.
    """

    def __init__(self, channels: int, groups: int, depth: int, head_dim: int, position: str):
        super().__init__()
        head = math.gcd(head_dim, channels)
        self.attentions = nn.ModuleList(TemporalAttention(channels, head, groups, position) for _ in range(depth))
        for layer in self.attentions:
            layer.proj.reset_parameters()  # type: ignore[operator, union-attr]
        self.proj = zero_init(nn.Conv2d(channels, channels, 1))

    def forward(self, h: Tensor, batch: int) -> Tensor:
        """[B F, C, H, W] -> the same."""
        r = h
        for layer in self.attentions:
            r = layer(r, batch)
        out: Tensor = h + self.proj(r)
        return out


class LumiereLayers(KnownFrames):
    """Temporal layers of Lumiere; the picture network stays frozen.

    Args:
        levels: L, how often time is halved, behind the deepest so many spatial halvings; frames are multiples of 2^L.
        kernel: of convolutions over time, frames, odd.
        padding: of convolutions over time: "zeros", "replicate" or "circular".
        layers: attentions one behind another at the coarsest level.
        attention_head_dim: width of their heads; the largest divisor of the channels that divides it.
        position: of attention over time: "sinusoidal" (of the frame's index there), "t5", "shaw" or "none".
        resampling: how the convolutions of the resampling start: "identity" (striding and repetition), or "random"
            to compare with.
        known_channels: of frames that the network is told (the conditional form), 0 for none.

    Raises:
        ValueError: more levels than the picture network halves.
    """

    resamples_time = True

    def __init__(
        self,
        image: Mapping[str, Any],
        sites: Sequence[Site],
        levels: int = 2,
        kernel: int = 3,
        padding: str = "zeros",
        layers: int = 4,
        attention_head_dim: int = 64,
        position: str = "sinusoidal",
        resampling: str = "identity",
        known_channels: int = 0,
    ):
        super().__init__()
        self.levels, self.known_channels = levels, known_channels
        depth, groups = len(image["block_out_channels"]), int(image["norm_num_groups"] or 1)
        downs, ups = ([s for s in sites if s.kind == kind] for kind in ("downsampler", "upsampler"))
        if levels > min(len(downs), len(ups)):
            raise ValueError(
                f"levels: time is halved at most as often as the picture, {min(len(downs), len(ups))} times, "
                f"got {levels}"
            )

        def halves(site: Site) -> bool:  # the deepest: those behind levels depth - 1 - L .. depth - 2
            level = level_of(site, depth)
            return level - (site.kind == "upsampler") >= depth - 1 - levels

        def resamplers(found: Sequence[Site], stride: int) -> nn.ModuleDict:
            made = {s.key: FrameConvolution(s.channels, kernel, padding, stride, resampling) for s in found}
            return nn.ModuleDict(made)

        self.downs = resamplers([s for s in downs if halves(s)], 2)
        self.ups = resamplers([s for s in ups if halves(s)], 1)

        def inflation(site: Site) -> nn.Module:
            if level_of(site, depth) == depth - 1:
                return AttentionInflation(site.channels, groups, layers, attention_head_dim, position)
            return ConvolutionInflation(site.channels, groups, kernel, padding)

        self.inflations = nn.ModuleDict({s.key: inflation(s) for s in layer_ends(sites)})

    @classmethod
    def choose(cls, sites: list[Site]) -> list[Site]:
        return [*layer_ends(sites), *(s for s in sites if s.kind in ("downsampler", "upsampler"))]

    @property
    def frames_multiple(self) -> int:  # type: ignore[override]
        return int(2**self.levels)

    def begin(self, z: Tensor, call: Call) -> None:
        if call.frames % self.frames_multiple and not call.images_only:
            near = max(1, round(call.frames / self.frames_multiple)) * self.frames_multiple
            raise UserError(
                f"{call.frames} frames: time is halved {self.levels} times (levels), so their number must be a "
                f"multiple of {self.frames_multiple}, such as {near}"
            )

    def follow(self, key: str, x: Tensor, call: Call, time: Tensor | None, text: Tensor | None) -> Tensor:
        """x [B F, C, H, W] with as many frames as its level has -> the same, or half or twice as many frames."""
        if key in self.inflations:
            inflated: Tensor = self.inflations[key](x, call.videos)
            return inflated
        if key in self.downs:
            halved: Tensor = self.downs[key].along_frames(x, call.videos)  # type: ignore[operator]
            return halved
        if key in self.ups:
            twice = x.unflatten(0, (call.videos, -1)).repeat_interleave(2, 1).flatten(0, 1)
            doubled: Tensor = self.ups[key].along_frames(twice, call.videos)  # type: ignore[operator]
            return doubled
        return x

    def trainable(self, name: str) -> bool:
        return name.startswith("temporal.") or self.trains_inputs(name)
