"""Temporal layers for inflated picture networks, and the plug-in interface that puts them in place.

A picture network sees frames folded into its batch, [B F, ...]. A plug-in names *sites* (layers of the picture network)
and is called with each site's output; what it returns goes on in its place. It also says what it adds to the
conditioning and which of all parameters train. Source: 2304.08818 section 3.1; layer content as in Stable Video
Diffusion's code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from diffusers.models.attention import FeedForward
from diffusers.models.attention_processor import Attention
from diffusers.models.embeddings import TimestepEmbedding, get_timestep_embedding
from torch import Tensor, nn
from torch.nn.functional import silu

from muybridge.nn.factorised import zero_init
from muybridge.nn.frame_attention import single_read
from muybridge.nn.sites import Site


@dataclass
class Call:
    """What temporal layers may read during one pass of the network.

    Attributes:
        frames: F, of the input.
        images_only: every frame stands alone: temporal layers pass their input on.
        one_text: all frames are told the same words.
        conditions: of the plug-in, by name.
        prepared: what the plug-in made of them at the start of the pass.
        videos: B. Where time is resampled, a layer has as many frames as it has rows for each video.
    """

    frames: int
    images_only: bool = False
    one_text: bool = True
    conditions: Mapping[str, Tensor] = field(default_factory=dict)
    prepared: dict[str, Any] = field(default_factory=dict)
    videos: int = 1


class TemporalPlugin(nn.Module):
    """Base of all plug-ins.

    Subclasses are built from the sites they chose and the widths they need, start as the identity (or say why not), and
    override what they use of the methods.
    """

    #: identity at the start: a fresh plug-in leaves the picture network's output as it is
    starts_as_identity = True
    #: conditions that a pass cannot do without, by name
    needs: Sequence[str] = ()
    #: whether frames can be told as conditions ("known", "known_mask")
    takes_known_frames = False
    #: whether layers see fewer frames than the network is given
    resamples_time = False
    #: of the number of frames that the network takes
    frames_multiple = 1

    @classmethod
    def choose(cls, sites: list[Site]) -> list[Site]:
        """The sites behind which it sits."""
        raise NotImplementedError

    def prepare_image(self, image: nn.Module) -> None:
        """Change settings of the picture network that are not parameters, once, when it is built."""

    def enter(self, call: Call | None) -> None:
        """Set what lies on layers of the picture network for a pass; None sets it back."""

    def named_in_files(self) -> Sequence[tuple[str, str]]:
        """(own name, name in files of others) of the parts that have one there."""
        return ()

    def begin(self, z: Tensor, call: Call) -> None:
        """Look at the noisy input [B, C, F, H, W] and the conditions, before the pass."""

    def inputs(self, z: Tensor, call: Call) -> Tensor:
        """What the picture network is given, [B, C or more, F, H, W], for the noisy input z."""
        return z

    def embed(self, embedding: Tensor, call: Call) -> Tensor:
        """What the time embedding [B F, E] becomes for the whole network."""
        return embedding

    def follow(self, key: str, x: Tensor, call: Call, time: Tensor | None, text: Tensor | None) -> Tensor:
        """What a site's output becomes. time [B F, E] at resnets; text [B F, L, D] at transformer blocks."""
        raise NotImplementedError

    def trainable(self, name: str) -> bool:
        """Whether a parameter trains, by its name in the inflated network ("image..." or "temporal...")."""
        return name.startswith("temporal.")


class Inflated(Protocol):
    """A picture network with a plug-in, and the pass that is under way."""

    temporal: TemporalPlugin
    call: Call | None


class SiteHook:
    """Called with a layer's output; an object rather than a closure, so that copies of the network point at
    themselves."""

    def __init__(self, owner: Inflated, site: Site):
        self.owner, self.site = owner, site

    def __call__(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        owner, call = self.owner, self.owner.call
        if call is None or call.images_only:
            return output
        time = text = None
        if self.site.kind == "resnet":
            time = args[1] if len(args) > 1 else kwargs.get("temb")
        elif self.site.kind == "block":
            text = kwargs.get("encoder_hidden_states", args[2] if len(args) > 2 else None)
        x = output if isinstance(output, Tensor) else output[0]
        new = owner.temporal.follow(self.site.key, x, call, time, text)
        if isinstance(output, Tensor):
            return new
        return (new, *output[1:]) if isinstance(output, tuple) else type(output)(sample=new)


class BlockHook:
    """Called before a block of the picture network: what it is told has one row for each frame that goes through it.

    A picture network makes embeddings and text for all rows at its start; where time is resampled, blocks see fewer.
    """

    def __init__(self, owner: Inflated):
        self.owner = owner

    def __call__(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        call = self.owner.call
        if call is None:
            return None
        x = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
        step = call.videos * call.frames // len(x)
        if step == 1:
            return None

        def taken(value: Any) -> Any:
            full = isinstance(value, Tensor) and len(value) == call.videos * call.frames
            return value.unflatten(0, (call.videos, -1))[:, ::step].flatten(0, 1) if full else value

        return tuple(map(taken, args)), {name: taken(value) for name, value in kwargs.items()}


class AlphaBlender(nn.Module):
    """alpha spatial + (1 - alpha) temporal with alpha = sigmoid(a); alpha is 1 for frames that stand alone.

    Written as z + (1 - alpha)(z' - z), so that alpha = 1 gives z exactly. Source: 2304.08818 section 3.1.

    Args:
        start: of a.
        reverse: alpha weights the temporal branch instead, as in Stable Video Diffusion's decoder.
    """

    def __init__(self, start: float = 0.5, reverse: bool = False):
        super().__init__()
        self.mix_factor = nn.Parameter(torch.tensor([start]))
        self.sign = 1.0 if reverse else -1.0

    def forward(self, spatial: Tensor, temporal: Tensor) -> Tensor:
        share = torch.sigmoid(self.sign * self.mix_factor).to(spatial.dtype)
        return spatial + share * (temporal - spatial)


class TemporalResBlock(nn.Module):
    """GroupNorm, SiLU, conv 3x1x1, + time embedding, GroupNorm, SiLU, conv 3x1x1 (zero at start), residual.

    Statistics run over all frames of a clip, as in Stable Video Diffusion.
    """

    def __init__(self, channels: int, time_channels: int | None, groups: int, eps: float = 1e-5):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels, eps=eps)
        self.conv1 = nn.Conv3d(channels, channels, (3, 1, 1), padding=(1, 0, 0))
        self.time_emb_proj = nn.Linear(time_channels, channels) if time_channels else None
        self.norm2 = nn.GroupNorm(groups, channels, eps=eps)
        self.conv2 = nn.Conv3d(channels, channels, (3, 1, 1), padding=(1, 0, 0))
        nn.init.zeros_(self.conv2.weight)
        assert self.conv2.bias is not None
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        """x [B, C, F, H, W], time [B, F, E] -> like x."""
        h = self.conv1(silu(self.norm1(x)))
        if self.time_emb_proj is not None:
            assert time is not None
            h = h + self.time_emb_proj(silu(time)).transpose(1, 2)[..., None, None]
        return x + self.conv2(silu(self.norm2(h)))


class TemporalTransformerBlock(nn.Module):
    """Frame positions, then feed-forward, attention over frames, cross-attention to the text, feed-forward; all
    residual.

    Args:
        channels, heads: widths.
        text_channels: of the text tokens; 0 for no cross-attention.
        zero: all output projections start at zero, so that the block starts as the identity.
    """

    def __init__(self, channels: int, heads: int, text_channels: int, zero: bool):
        super().__init__()
        self.norm_in = nn.LayerNorm(channels)
        self.ff_in = FeedForward(channels, activation_fn="geglu")
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = Attention(channels, heads=heads, dim_head=channels // heads)
        if text_channels:
            self.norm2 = nn.LayerNorm(channels)
            self.attn2 = Attention(channels, cross_attention_dim=text_channels, heads=heads, dim_head=channels // heads)
        self.norm3 = nn.LayerNorm(channels)
        self.ff = FeedForward(channels, activation_fn="geglu")
        self.time_pos_embed = TimestepEmbedding(channels, 4 * channels, out_dim=channels)
        self.text_channels = text_channels
        if zero:
            outputs = [self.ff_in.net[2], self.attn1.to_out[0], self.ff.net[2], self.time_pos_embed.linear_2]
            for module in outputs + ([self.attn2.to_out[0]] if text_channels else []):
                zero_init(module)

    def forward(self, x: Tensor, text: Tensor | None, mask: Tensor | None = None) -> Tensor:
        """x [B, F, N, C], text [B, L, D], mask [F, F] True where a frame may look -> like x."""
        batch, frames, positions, channels = x.shape
        index = get_timestep_embedding(torch.arange(frames, device=x.device), channels, True, 0)
        x = x + self.time_pos_embed(index.to(x.dtype))[:, None]
        h = x.transpose(1, 2).reshape(batch * positions, frames, channels)
        h = h + self.ff_in(self.norm_in(h))
        bias = None
        if mask is not None:
            bias = torch.zeros_like(mask, dtype=h.dtype).masked_fill_(~mask, -torch.inf).expand(len(h), -1, -1)
        h = h + self.attn1(self.norm1(h), attention_mask=bias)
        if self.text_channels:
            assert text is not None
            read = single_read(self.attn2, text)
            if read is None:  # every position reads the same text: all queries of a video in one call
                read = self.attn2(self.norm2(h).reshape(batch, -1, channels), encoder_hidden_states=text)
            h = (h.reshape(batch, -1, channels) + read).reshape(h.shape)
        h = h + self.ff(self.norm3(h))
        return h.reshape(batch, positions, frames, channels).transpose(1, 2)


def window_mask(frames: int, window: int, device: torch.device) -> Tensor | None:
    """[F, F], True where |i - j| < window; None for a window of 0 or one that reaches everywhere."""
    if window == 0 or window >= frames:
        return None
    frame = torch.arange(frames, device=device)
    return (frame[:, None] - frame[None]).abs() < window
