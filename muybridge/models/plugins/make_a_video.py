"""Make-A-Video's pseudo-3D layers as a plug-in: a convolution over time behind each spatial one, attention over time
behind each spatial attention, and the frame rate in the time embedding.

    Conv_P3D(h) = Conv_1D(Conv_2D(h) T) T,   ATTN_P3D(h) = ATTN_1D(ATTN_2D(h) T) T

Source: 2209.14792 section 3.1. All start as the identity: Conv_1D as a Dirac kernel, ATTN_1D with a zero output
projection (weight and bias), the rate's embedding with a zero last layer. No time is resampled: F is constant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from muybridge.models.plugins.known import KnownFrames
from muybridge.nn.factorised import TemporalAttention, zero_init
from muybridge.nn.scalars import ScalarConditions
from muybridge.nn.sites import Site
from muybridge.nn.temporal import Call
from muybridge.nn.temporal_convolution import FrameConvolution

#: Sites behind which a convolution over time sits. A transformer's projections in and out are linear layers, whether
#: written as 1 x 1 convolutions (Stable Diffusion 1.5) or not (2.1), and have none.
CONVOLVED = ("convolution", "outer")
ATTENDED = ("block", "attention")


class MakeAVideoLayers(KnownFrames):
    """Temporal layers of Make-A-Video.

    The paper does not say which positions attention over time has, and how the rate is told; relative positions and a
    sinusoid through an MLP into the time embedding are choices.

    Args:
        position: of attention over frames: "t5" (relative), "shaw" (relative), "sinusoidal" or "none".
        padding: of convolutions over time: "zeros", "replicate" or "circular".
        kernel: of convolutions over time, frames, odd.
        max_frames: the distance at which relative positions saturate; any number of frames runs.
        fps: the network is told the clip's frame rate.
        train_spatial: the picture network's layers train too; the paper's wording allows both readings.
        known_channels: of frames that the network is told, 0 for none (frame interpolation: those of the data).
    """

    def __init__(
        self,
        image: Mapping[str, Any],
        sites: Sequence[Site],
        position: str = "t5",
        padding: str = "zeros",
        kernel: int = 3,
        max_frames: int = 32,
        fps: bool = True,
        train_spatial: bool = False,
        known_channels: int = 0,
    ):
        super().__init__()
        self.train_spatial, self.known_channels = train_spatial, known_channels
        self.needs = ("fps",) if fps else ()
        self.convolutions = nn.ModuleDict(
            {s.key: FrameConvolution(s.channels, kernel, padding) for s in sites if s.kind in CONVOLVED}
        )
        groups = int(image["norm_num_groups"] or 1)
        self.attentions = nn.ModuleDict(
            {
                s.key: TemporalAttention(s.channels, s.channels // s.heads, groups, position, max_frames)
                for s in sites
                if s.kind in ATTENDED
            }
        )
        self.rate = ScalarConditions(self.needs, 4 * int(image["block_out_channels"][0])) if fps else None
        if self.rate is not None:
            zero_init(self.rate.add_embedding.linear_2)

    @classmethod
    def choose(cls, sites: list[Site]) -> list[Site]:
        return [s for s in sites if s.kind in (*CONVOLVED, *ATTENDED)]

    def begin(self, z: Tensor, call: Call) -> None:
        if self.rate is not None and not call.images_only:
            call.prepared["rate"] = self.rate(call.conditions, z).repeat_interleave(call.frames, 0)

    def embed(self, embedding: Tensor, call: Call) -> Tensor:
        return embedding + call.prepared["rate"] if "rate" in call.prepared else embedding

    def follow(self, key: str, x: Tensor, call: Call, time: Tensor | None, text: Tensor | None) -> Tensor:
        """x [B F, C, H, W], or of a transformer block [B F, N, C] -> the same."""
        if key in self.convolutions:
            convolved: Tensor = self.convolutions[key].along_frames(x, call.videos)  # type: ignore[operator]
            return convolved
        tokens = x.ndim == 3
        pictures = x.transpose(1, 2)[..., None] if tokens else x  # [B F, C, N, 1]
        out: Tensor = self.attentions[key](pictures, call.videos)
        return out[..., 0].transpose(1, 2) if tokens else out

    def trainable(self, name: str) -> bool:
        return self.train_spatial or name.startswith("temporal.") or self.trains_inputs(name)
