"""AnimateDiff's motion modules as a temporal plug-in, and the reading of its files (spec 14, section 7.3)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from torch import Tensor, nn

from muybridge.errors import UserError
from muybridge.nn.factorised import zero_init
from muybridge.nn.sites import Site, layer_ends
from muybridge.nn.temporal import Call, TemporalPlugin


class MotionModules(TemporalPlugin):
    """Two attentions over frames with sinusoidal positions, behind every layer of every block. Source: 2307.04725.

    Args:
        image: the picture network's config.
        sites: from `choose`.
        heads: of each attention.
        max_frames: length of the position table.
        middle: a module in the middle block as well (v2).
        groups: of the group normalisation.
    """

    def __init__(
        self,
        image: Mapping[str, Any],
        sites: Sequence[Site],
        heads: int = 8,
        max_frames: int = 32,
        middle: bool = True,
        groups: int = 32,
    ):
        super().__init__()
        self.max_frames = max_frames
        self.places = {s.key: f"{s.block}.motion_modules.{s.number}" for s in sites}
        self.modules_at = nn.ModuleDict()
        for site in sites:
            if site.path.startswith("mid_block") and not middle:
                continue
            made = AnimateDiffTransformer3D(
                num_attention_heads=heads,
                attention_head_dim=site.channels // heads,
                in_channels=site.channels,
                norm_num_groups=groups,
                positional_embeddings="sinusoidal",
                num_positional_embeddings=max_frames,
            )
            zero_init(made.proj_out)
            self.modules_at[site.key] = made

    @classmethod
    def choose(cls, sites: list[Site]) -> list[Site]:
        """The last part of every layer: its transformer where it has one, else its residual block."""
        ends = layer_ends([s for s in sites if s.kind != "attention"])
        return [s for s in ends if s.kind == "transformer" or s.block != "mid_block"]

    def named_in_files(self) -> list[tuple[str, str]]:
        return [(f"modules_at.{key}", self.places[key]) for key in self.modules_at]

    def begin(self, z: Tensor, call: Call) -> None:
        if call.frames > self.max_frames and not call.images_only:
            raise UserError(f"these motion modules take at most {self.max_frames} frames at once, got {call.frames}")

    def follow(self, key: str, x: Tensor, call: Call, time: Tensor | None, text: Tensor | None) -> Tensor:
        if key not in self.modules_at:
            return x
        out: Tensor = self.modules_at[key](x, num_frames=call.frames)
        return out


# --- files ----------------------------------------------------------------------------------------------------------

_RENAMED = (("norms.0.", "norm1."), ("norms.1.", "norm2."), ("ff_norm.", "norm3."))
_ATTENTION = re.compile(r"attention_blocks\.([01])\.")


def read_motion_file(weights: Mapping[str, Tensor], sites: Sequence[Site]) -> dict[str, Tensor]:
    """The plug-in's state dict from an AnimateDiff file or a diffusers MotionAdapter; position tables are recomputed.

    Args:
        weights: tensors by name, as in the file.
        sites: of the picture network (`MotionModules.choose`).

    Raises:
        UserError: a tensor whose place in the picture network is not known.
    """
    places = {(s.block, s.number): s.key for s in sites}
    out: dict[str, Tensor] = {}
    for name, value in weights.items():
        plain = name.removeprefix("module.").replace("temporal_transformer.", "")
        found = re.match(r"(down_blocks\.\d+|up_blocks\.\d+|mid_block)\.motion_modules\.(\d+)\.(.+)", plain)
        if found is None or "pos_encoder" in plain or "pos_embed" in plain:
            if found is None and "motion_modules" in plain:
                raise UserError(f"motion module file: {name} has no place in an AnimateDiff network")
            continue
        block, layer, rest = found.groups()
        if (block, layer) not in places:
            raise UserError(f"motion module file: {block}, layer {layer} does not exist in this picture network")
        for old, new in _RENAMED:
            rest = rest.replace(old, new)
        rest = _ATTENTION.sub(lambda m: f"attn{int(m.group(1)) + 1}.", rest)
        out[f"modules_at.{places[block, layer]}.{rest}"] = value
    return out
