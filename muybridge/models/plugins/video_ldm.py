"""Video LDM's temporal layers as a plug-in; Stable Video Diffusion's are the same, all trained."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, silu

from muybridge.nn.factorised import zero_init
from muybridge.nn.frames import frames_to_batch
from muybridge.nn.scalars import SCALAR_CHANNELS, ScalarConditions
from muybridge.nn.sites import Site, level_of
from muybridge.nn.spacetime_attention import SpacetimeAttention
from muybridge.nn.temporal import (
    AlphaBlender,
    Call,
    TemporalPlugin,
    TemporalResBlock,
    TemporalTransformerBlock,
    window_mask,
)

#: Channels of what known frames become before they join the layers.
CONTEXT_CHANNELS = 32


class ContextFrames(nn.Module):
    """Known frames and their mask, brought into the temporal layers at every resolution.

    A frozen picture network has no input for them. Source: 2304.08818 section 3.2 (a learned downsampling into the
    layers).
    """

    def __init__(self, channels: int, sites: Sequence[Site]):
        super().__init__()
        self.stem = nn.Conv2d(channels + 1, CONTEXT_CHANNELS, 3, padding=1)
        self.deep = nn.Conv2d(CONTEXT_CHANNELS, CONTEXT_CHANNELS, 3, padding=1)
        self.out = nn.ModuleDict({s.key: zero_init(nn.Conv2d(CONTEXT_CHANNELS, s.channels, 1)) for s in sites})

    def features(self, known: Tensor, mask: Tensor) -> Tensor:
        """known [B, C, F, H, W] (zero where unknown), mask [B, 1, F, 1 or H, 1 or W] -> [B F, K, H, W]."""
        mask = mask.to(known).expand(-1, 1, -1, *known.shape[3:])
        h = self.stem(frames_to_batch(torch.cat([known * mask, mask], 1)))
        return h + self.deep(silu(h))

    def at(self, key: str, features: Tensor, size: tuple[int, int]) -> Tensor:
        """What is added to a site's temporal branch, [B F, C, *size]."""
        out: Tensor = self.out[key](silu(adaptive_avg_pool2d(features, size)))
        return out


class VideoLDMLayers(TemporalPlugin):
    """Temporal convolution after every residual block, temporal attention after every transformer block, each with its
    mix.

    Video LDM trains these alone behind a frozen picture network; Stable Video Diffusion trains everything.
    Source: 2304.08818 section 3.1 and Stable Video Diffusion's code, which follows it.

    Args:
        image: the picture network's config.
        sites: from `choose`.
        mix: start of each mix factor a; alpha = sigmoid(a).
        zero: output projections start at zero, so that the network starts as the picture model. Differs from the paper,
            whose fresh temporal transformer is not the identity.
        train_image: the picture network trains as well (Stable Video Diffusion).
        scalars: conditions a clip, such as fps.
        scalars_everywhere: they join the time embedding of the whole network; else of the temporal layers alone, so
            that a frozen picture network does not hear of them.
        scalar_channels: of the sinusoid that each scalar is told by.
        context_channels: channels of known frames (0 for none): conditions "known" [B, C, F, H, W] and "known_mask".
        given_channels: channels of given frames, the same conditions, that stand beside the noisy ones at the picture
            network's input, where it trains too (Stable Video's interpolation): a learned embedding at the frames
            that are not given, and the mask. 0 for none.
        attention: False leaves the temporal attention out: convolutions alone see 2 frames to each side a block, enough
            for the five frames of interpolation, at a quarter of the parameters.
        window: frames attend only to frames nearer than this; 0 for all.
        spacetime_levels: of so many of the coarsest levels, at whose transformer blocks one attention over all frames
            and positions joins the temporal one, which loses a thing that moves to another place. Not in the paper.
        eps: of the temporal group normalisation.
        outer_eps: the same, and of the picture network's, for residual blocks beside down-going attention and of the
            way up (as diffusers builds Stable Video Diffusion); 0 makes no difference between them.
    """

    def __init__(
        self,
        image: Mapping[str, Any],
        sites: Sequence[Site],
        mix: float = 0.5,
        zero: bool = True,
        train_image: bool = False,
        scalars: Sequence[str] = (),
        scalars_everywhere: bool = False,
        scalar_channels: int = SCALAR_CHANNELS,
        context_channels: int = 0,
        attention: bool = True,
        window: int = 0,
        spacetime_levels: int = 0,
        eps: float = 1e-5,
        outer_eps: float = 0.0,
        given_channels: int = 0,
    ):
        super().__init__()
        time = 4 * int(image["block_out_channels"][0])
        text = image["cross_attention_dim"]
        width = int(text if isinstance(text, int) else max(text))
        self.starts_as_identity, self.train_image, self.window = zero, train_image, window
        self.scalars_everywhere = scalars_everywhere
        self.needs = tuple(scalars)
        self.special_eps = {s.path: outer_eps for s in _outer_resnets(sites)} if outer_eps else {}
        sites = sites if attention else [s for s in sites if s.kind == "resnet"]
        convolved, attended = ([s for s in sites if s.kind == k] for k in ("resnet", "block"))

        def convolution(site: Site) -> TemporalResBlock:
            groups = math.gcd(int(image["norm_num_groups"]), site.channels)
            return TemporalResBlock(site.channels, time, groups, self.special_eps.get(site.path, eps))

        self.convolutions = nn.ModuleDict({s.key: convolution(s) for s in convolved})
        self.attentions = nn.ModuleDict(
            {s.key: TemporalTransformerBlock(s.channels, s.heads, width, zero) for s in attended}
        )
        deep = len(image["block_out_channels"]) - spacetime_levels
        groups = int(image["norm_num_groups"])
        self.spacetime = nn.ModuleDict(
            {
                s.key: SpacetimeAttention(s.channels, s.channels // s.heads, groups)
                for s in attended
                if level_of(s, len(image["block_out_channels"])) >= deep
            }
        )
        self.mixes = nn.ModuleDict({s.key: AlphaBlender(mix) for s in sites})
        self.scalars = ScalarConditions(scalars, time, scalar_channels) if scalars else None
        if self.scalars is not None and not scalars_everywhere and zero:
            zero_init(self.scalars.add_embedding.linear_2)
        self.context = ContextFrames(context_channels, convolved) if context_channels else None
        self.takes_known_frames = self.context is not None
        self.paths = {s.key: s.path for s in sites}
        self.hidden = nn.Parameter(torch.zeros(given_channels)) if given_channels else None

    @classmethod
    def choose(cls, sites: list[Site]) -> list[Site]:
        return [s for s in sites if s.kind in ("resnet", "block")]

    def prepare_image(self, image: nn.Module) -> None:
        for path, eps in self.special_eps.items():
            block = image.get_submodule(path)
            block.norm1.eps = block.norm2.eps = eps  # type: ignore[union-attr, assignment]

    def named_in_files(self) -> Sequence[tuple[str, str]]:
        """As diffusers' Stable Video U-Net has them."""
        theirs = {key: self.paths[key].replace(".transformer", ".temporal_transformer") for key in self.attentions}
        shared = {key: self.paths[key].rpartition(".transformer_blocks")[0] for key in self.attentions}
        return [
            *((f"attentions.{key}", path) for key, path in theirs.items()),
            *((f"attentions.{key}.time_pos_embed", f"{path}.time_pos_embed") for key, path in shared.items()),
            *((f"convolutions.{key}", f"{self.paths[key]}.temporal_res_block") for key in self.convolutions),
            *([("scalars.add_embedding", "add_embedding")] if self.scalars is not None else []),
        ]

    def trainable(self, name: str) -> bool:
        return self.train_image or name.startswith("temporal.")

    def begin(self, z: Tensor, call: Call) -> None:
        if call.images_only:
            return
        if self.scalars is not None:
            call.prepared["scalars"] = self.scalars(call.conditions, z).repeat_interleave(call.frames, 0)
        if self.context is not None:
            known, mask = call.conditions.get("known"), call.conditions.get("known_mask")
            if known is None or mask is None:  # nothing is known: the unconditional branch of context guidance
                channels = self.context.stem.in_channels - 1
                known = z.new_zeros(len(z), channels, *z.shape[2:])
                mask = z.new_zeros(len(z), 1, call.frames, 1, 1)
            call.prepared["context"] = self.context.features(known.to(z), mask)
        call.prepared["size"] = (z.shape[-2], z.shape[-1])
        call.prepared["mask"] = window_mask(call.frames, self.window, z.device)

    def inputs(self, z: Tensor, call: Call) -> Tensor:
        if self.hidden is None:
            return z
        mask = call.conditions["known_mask"].to(z).expand(-1, 1, -1, *z.shape[3:])
        hidden = self.hidden.to(z)[:, None, None, None]
        return torch.cat([z, call.conditions["known"].to(z) * mask + hidden * (1 - mask), mask], 1)

    def embed(self, embedding: Tensor, call: Call) -> Tensor:
        if self.scalars_everywhere and "scalars" in call.prepared:
            return embedding + call.prepared["scalars"]
        return embedding

    def _over_everything(self, key: str, rows: Tensor, call: Call) -> Tensor:
        """What attention over all frames and positions adds to a block's tokens, [B, F, N, C]."""
        height, width = call.prepared["size"]
        halved = round(math.sqrt(height * width / rows.shape[2]))
        x = rows.flatten(0, 1).transpose(1, 2).unflatten(2, (-(-height // halved), -1))  # [B F, C, h, w]
        added: Tensor = self.spacetime[key](x, len(rows), call.prepared["mask"]) - x
        return added.flatten(2).transpose(1, 2).unflatten(0, rows.shape[:2])

    def follow(self, key: str, x: Tensor, call: Call, time: Tensor | None, text: Tensor | None) -> Tensor:
        if key not in self.mixes:
            return x
        rows = x.unflatten(0, (-1, call.frames))
        if key in self.convolutions:
            assert time is not None
            if not self.scalars_everywhere and "scalars" in call.prepared:
                time = time + call.prepared["scalars"]
            branch = x
            if self.context is not None:
                branch = x + self.context.at(key, call.prepared["context"], (x.shape[-2], x.shape[-1]))
            video = branch.unflatten(0, (-1, call.frames)).transpose(1, 2)
            new = self.convolutions[key](video, time.unflatten(0, (-1, call.frames))).transpose(1, 2)
        else:
            # the first frame's text speaks for the clip
            first = None if text is None else text.unflatten(0, (-1, call.frames))[:, 0]
            new = self.attentions[key](rows, first, call.prepared["mask"])
            if key in self.spacetime:
                new = new + self._over_everything(key, rows, call)
        mixed: Tensor = self.mixes[key](rows, new)
        return mixed.flatten(0, 1)


def _outer_resnets(sites: Sequence[Site]) -> list[Site]:
    """Residual blocks beside down-going attention and of the way up, where diffusers builds Stable Video Diffusion with
    another eps."""
    attending = {s.path.split(".attentions.")[0] for s in sites if ".attentions." in s.path}
    return [
        s
        for s in sites
        if s.kind == "resnet"
        and (s.path.startswith("up") or (s.path.startswith("down") and s.path.split(".resnets.")[0] in attending))
    ]
