"""Convolutions over the frames at each position: a plain one, and the residual block of cascades' super-resolution
networks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from muybridge.nn.embeddings import init_after_silu
from muybridge.nn.factorised import add_frames, make_norm
from muybridge.nn.position import independent_frames

#: What frames before the first and behind the last are: nothing, those two again, or the clip in a circle.
PADDINGS = ("zeros", "replicate", "circular")
STARTS = ("identity", "random")


class FrameConvolution(nn.Conv1d):
    """A convolution over the frames at each position, C to C channels.

        weight[o, i, k] = 1 where o = i and k is the middle, else 0; bias 0      (the start "identity")

    Source: 2209.14792 section 3.1 (Conv_1D); 2401.12945 section 3.1 (resampling).

    Args:
        kernel: frames of its window, odd.
        padding: of PADDINGS. Zeros darken the ends once the layer has learned to smooth.
        stride: keep every so manyth frame of the result, from the first.
        start: "identity", or "random" (torch's own).

    Raises:
        ValueError: an even kernel, an unknown padding or start.
    """

    def __init__(
        self, channels: int, kernel: int = 3, padding: str = "zeros", stride: int = 1, start: str = "identity"
    ):
        if kernel % 2 == 0:
            raise ValueError(f"kernel: an odd number of frames, got {kernel}")
        if padding not in PADDINGS:
            raise ValueError(f"padding: unknown {padding!r}; expected one of {', '.join(PADDINGS)}")
        if start not in STARTS:
            raise ValueError(f"start: unknown {start!r}; expected one of {', '.join(STARTS)}")
        mode: Any = padding
        super().__init__(channels, channels, kernel, stride, padding=kernel // 2, padding_mode=mode)
        if start == "identity":
            nn.init.dirac_(self.weight)
            assert self.bias is not None
            nn.init.zeros_(self.bias)

    def along_frames(self, x: Tensor, batch: int) -> Tensor:
        """[B F, C, H, W] -> [B F / stride, C, H, W]; every position of every video alone."""
        video = x.unflatten(0, (batch, -1))
        rows = video.flatten(3).permute(0, 3, 2, 1)  # [B, H W, C, F]
        new = self(rows.flatten(0, 1)).unflatten(0, rows.shape[:2])
        return new.permute(0, 3, 2, 1).reshape(-1, *x.shape[1:])


class TemporalConvolution(nn.Module):
    """A residual block of two 3 x 1 x 1 convolutions, whose second is zero at the start.

        x + keep_f conv_2(silu(norm_2(conv_1(silu(norm_1(x)))) (1 + scale) + shift))

    with (scale, shift) linear in the embedding, and keep_f = 0 for independent images, which pass it by. No window
    reaches from one video into another or into an image. The operator is 2210.02303's (section 2.3); its kernel and its
    block are not published, and are a choice.

    Args:
        norm: of factorised.NORMS.
    """

    def __init__(self, channels: int, embedding_dim: int, groups: int, norm: str = "frame"):
        super().__init__()
        self.norm1 = make_norm(norm, channels, groups)
        self.conv1 = nn.Conv2d(channels, channels, (3, 1), padding=(1, 0))
        self.embed = init_after_silu(nn.Linear(embedding_dim, 2 * channels), 0.5)
        self.norm2 = make_norm(norm, channels, groups)
        self.conv2 = nn.Conv2d(channels, channels, (3, 1), padding=(1, 0))
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, embedding: Tensor, batch: int, mask: Tensor | None = None) -> Tensor:
        """x [B F, C, H, W], embedding [B, F or 1, D] (already through swish); mask bool [F, F] or [B, F, F], True where
        frame i may see frame j."""
        frames = x.shape[0] // batch
        keep = ~independent_frames(frames, mask)  # [1 or B, F]
        if not bool(keep.any()):  # asked where the mask lies: x may have sizes only (nn.live_bytes)
            return x
        h = self._over_time(self.conv1, silu(self.norm1(x)), batch, mask)
        scale, shift = add_frames(h, self.embed(embedding))[:, :, None, None].chunk(2, 1)
        h = torch.addcmul(shift, self.norm2(h), 1 + scale)
        h = self._over_time(self.conv2, silu(h), batch, mask)
        kept = keep.to(x.device).expand(batch, frames).reshape(-1, 1, 1, 1)
        return torch.where(kept, x + h, x)

    @staticmethod
    def _over_time(conv: nn.Conv2d, x: Tensor, batch: int, mask: Tensor | None) -> Tensor:
        """The convolution along F of [B F, C, H, W]; taps on frames that a frame may not see are zero."""
        frames, (height, width) = x.shape[0] // batch, x.shape[2:]
        folded = x.unflatten(0, (batch, frames)).transpose(1, 2).flatten(3)  # [B, C, F, H W]
        if mask is None:
            out = conv(folded)
        else:
            allowed = mask.to(x).expand(batch, frames, frames)
            padded = nn.functional.pad(folded, (0, 0, 1, 1))
            out = 0
            for tap, offset in enumerate((-1, 0, 1)):  # frame f reads frame f + offset
                seen = torch.diagonal(allowed, offset, 1, 2)  # [B, F - |offset|]
                seen = nn.functional.pad(seen, (max(0, -offset), max(0, offset)))[:, None, :, None]
                weight = conv.weight[:, :, tap, 0]
                out = out + torch.einsum("oc,bcfp->bofp", weight, padded[:, :, tap : tap + frames] * seen)
            assert conv.bias is not None
            out = out + conv.bias[:, None, None]
        return out.transpose(1, 2).flatten(0, 1).unflatten(2, (height, width))
