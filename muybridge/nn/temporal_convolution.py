"""Convolution over the frames at each position: the temporal operator of cascades' super-resolution networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from muybridge.nn.embeddings import init_after_silu
from muybridge.nn.factorised import add_frames, make_norm
from muybridge.nn.position import independent_frames


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
        keep = ~independent_frames(frames, mask).to(x.device)  # [1 or B, F]
        if not bool(keep.any()):
            return x
        h = self._over_time(self.conv1, silu(self.norm1(x)), batch, mask)
        scale, shift = add_frames(h, self.embed(embedding))[:, :, None, None].chunk(2, 1)
        h = torch.addcmul(shift, self.norm2(h), 1 + scale)
        h = self._over_time(self.conv2, silu(h), batch, mask)
        kept = keep.expand(batch, frames).reshape(-1, 1, 1, 1)
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
