"""The spacetime diffusion transformer: DiT on patches of a video. Source: 2212.09748; the design space of open
Sora-like systems (spec 04): joint or factorised attention, 3D rotary or sin-cos positions, qk-norm, pooled and token
text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import silu

from muybridge.errors import UserError
from muybridge.nn.embeddings import GuidanceEmbedding, NoiseLevelEmbedding, sinusoid
from muybridge.nn.network_inputs import (
    NetworkInputs,
    VideoNetwork,
    check_condition,
    check_text,
    check_told,
    level_for_embedding,
    one_per_patch,
)
from muybridge.nn.position import grid_positions, rotary_angles
from muybridge.nn.text_conditioning import TextCondition, TextPooling, Words
from muybridge.nn.transformer_blocks import TransformerBlock, init_transformer, modulate

#: layers, width, heads of the published sizes (2212.09748 table 1).
SIZES = {"S": (12, 384, 6), "B": (12, 768, 12), "L": (24, 1024, 16), "XL": (28, 1152, 16)}


def transformer_size(name: str, patch: int = 2) -> dict[str, Any]:
    """Arguments of SpacetimeTransformer for a published size and spatial patch, e.g. ("XL", 2) for DiT-XL/2."""
    layers, width, heads = SIZES[name]
    return {"layers": layers, "width": width, "heads": heads, "patch_size": (1, patch, patch)}


def patchify(z: Tensor, patch: Sequence[int]) -> Tensor:
    """[B, C, F, H, W] -> tokens [B, N, pt ph pw C], order (t, h, w), w fastest."""
    t, h, w = patch
    return rearrange(z, "b c (f t) (y h) (x w) -> b (f y x) (t h w c)", t=t, h=h, w=w)


def unpatchify(tokens: Tensor, patch: Sequence[int], grid: Sequence[int]) -> Tensor:
    """The inverse of `patchify` for a grid of (frames, rows, columns) of patches."""
    (t, h, w), (f, y, x) = patch, grid
    return rearrange(tokens, "b (f y x) (t h w c) -> b c (f t) (y h) (x w)", t=t, h=h, w=w, f=f, y=y, x=x)


class SpacetimeTransformer(VideoNetwork, ModelMixin, ConfigMixin):
    """Predicts eps, x or v of a video (or latent video) from patches of it.

    Args:
        in_channels, out_channels: data channels. DiT's published weights have out_channels = 2 in_channels, the second
            half a learned variance, which the network computes but no system here trains or samples.
        condition_channels: further input channels, zero-initialised; no system here trains or samples them yet.
        layers, width, heads: see `transformer_size`.
        patch_size: (t, h, w). With t > 1 the frames of a patch are one token: masks, captions and noise levels must
            agree in it.
        attention: "joint" over space and time, or "factorised" (each frame, then along time).
        position: "rotary" (3D, any size) or "sincos" (DiT's fixed table, for squares of `sample_size` only).
        sample_size: height and width of the data for the sin-cos table.
        qk_norm: RMS-normalise queries and keys.
        mlp_ratio: hidden width of the MLP over its width.
        num_classes: class labels (plus one null class); 0 for none.
        text_pooled_dim, text_token_dim: widths of text embeddings, 0 where not used. Pooled text is added to the noise
            level's embedding; token embeddings are read by cross-attention. A dropped caption, or none, reads one null
            word.
        guidance_embedding: the network is told a guidance scale, as one that was distilled from a guided one is.
        prediction_type: "epsilon", "sample" or "v_prediction".
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ["TransformerBlock"]

    @register_to_config
    def __init__(
        self,
        in_channels: int = 4,
        out_channels: int = 4,
        condition_channels: int = 0,
        layers: int = 12,
        width: int = 384,
        heads: int = 6,
        patch_size: Sequence[int] = (1, 2, 2),
        attention: str = "joint",
        position: str = "rotary",
        sample_size: int = 32,
        qk_norm: bool = True,
        mlp_ratio: float = 4.0,
        num_classes: int = 0,
        text_pooled_dim: int = 0,
        text_token_dim: int = 0,
        guidance_embedding: bool = False,
        prediction_type: str = "v_prediction",
    ):
        super().__init__()
        _check_choices(attention, position, width, heads)
        self.gradient_checkpointing = False
        volume = math.prod(patch_size)
        self.patch_in = nn.Linear(in_channels * volume, width)
        self.condition_in = nn.Linear(condition_channels * volume, width, bias=False) if condition_channels else None
        self.noise_embedding = NoiseLevelEmbedding(256, width, layers=2, layout="cos_sin")
        self.classes = nn.Embedding(num_classes + 1, width) if num_classes else None
        self.text = TextPooling(text_pooled_dim, 0, width) if text_pooled_dim else None
        self.guidance = GuidanceEmbedding(width) if guidance_embedding else None
        self.null_words = nn.Parameter(torch.randn(1, 1, text_token_dim) * 0.02) if text_token_dim else None
        self.blocks = nn.ModuleList(
            TransformerBlock(width, heads, mlp_ratio, qk_norm, attention == "factorised", text_token_dim)
            for _ in range(layers)
        )
        self.norm_out = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.modulation_out = nn.Linear(width, 2 * width)
        self.patch_out = nn.Linear(width, out_channels * volume)
        table = None
        if position == "sincos":
            table = nn.Parameter(_sincos_table(sample_size // patch_size[1], width), requires_grad=False)
        self.position_table = table
        self._initialise()

    def _initialise(self) -> None:
        zeros = ("modulation", "modulation_out", "patch_out", "condition_in")
        branches = ("time_attention.proj", "cross.proj", "guidance.proj")
        init_transformer(self, lambda name: name.endswith(branches) or name.rpartition(".")[2] in zeros)
        for layer in (self.noise_embedding.first, *self.noise_embedding.rest):
            nn.init.normal_(layer.weight, std=0.02)
        if self.classes is not None:
            nn.init.normal_(self.classes.weight, std=0.02)

    def predict(self, inputs: NetworkInputs) -> Tensor:
        """Predict from whole patches.

        Raises:
            UserError: the data cannot be cut into whole patches, does not fit a sin-cos table or the condition
                channels, or something differs between the frames of one patch.
        """
        sample, text, condition = inputs.sample, inputs.text, inputs.condition
        check_told(inputs.condition_log_snr, False, "condition_log_snr", "unet3d's condition_level")
        check_told(inputs.guidance, self.guidance is not None, "guidance", "guidance_embedding")
        patch = tuple(self.config.patch_size)
        grid = self._grid(sample, patch)
        check_condition(condition, self.config.condition_channels, "transformer")
        check_text(text, self.config.text_pooled_dim, self.config.text_token_dim)
        # sizes of 2 latent videos of 8 frames of 32x32 at the default width: z [2, 4, 8, 32, 32]
        x = self.patch_in(patchify(sample, patch))  # [B, N, D] [2, 8 16 16 = 2048, 384]
        if self.condition_in is not None and condition is not None:
            x = x + self.condition_in(patchify(condition, patch))
        angles = None
        if self.position_table is not None:
            x = x + self._sincos(grid)
        else:
            angles = rotary_angles(grid_positions(*grid, device=x.device), self.config.width // self.config.heads)
        lam = level_for_embedding(inputs.log_snr, sample)
        if lam.shape[1] > 1:
            lam = one_per_patch(lam, patch[0], 1, "noise levels")
        mask, captions = inputs.temporal_mask, inputs.frame_to_caption
        if mask is not None:
            mask = mask.expand(1 if mask.ndim == 2 else -1, -1, -1)  # [1 or B, F, F]
            mask = one_per_patch(one_per_patch(mask, patch[0], 1, "a mask"), patch[0], 2, "a mask")
        if captions is not None:
            captions = one_per_patch(captions, patch[0], 0, "captions")
        vector = self._vector(lam, text, captions, inputs.class_labels, grid[1] * grid[2])  # [2, 1 or 2048, 384]
        if self.guidance is not None and inputs.guidance is not None:
            vector = vector + self.guidance(inputs.guidance)[:, None]
        words = self._words(text, captions, len(x), grid[1] * grid[2])
        x = self._through_blocks(x, vector, grid[0], angles, mask, words)
        shift, scale = self.modulation_out(silu(vector)).chunk(2, -1)
        return unpatchify(self.patch_out(modulate(self.norm_out(x), shift, scale)), patch, grid)

    def _through_blocks(self, x: Tensor, *arguments: Any) -> Tensor:
        for block in self.blocks:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x = self._gradient_checkpointing_func(block, x, *arguments)
            else:
                x = block(x, *arguments)
        return x

    def _grid(self, sample: Tensor, patch: tuple[int, ...]) -> tuple[int, int, int]:
        size = sample.shape[2:]
        if any(n % p for n, p in zip(size, patch, strict=True)):
            raise UserError(f"frames x height x width {tuple(size)} must be divisible by the patch {patch}")
        frames, rows, columns = (n // p for n, p in zip(size, patch, strict=True))
        side = self.config.sample_size // patch[1]
        if self.position_table is not None and (rows, columns) != (side, side):
            raise UserError(
                f"the sin-cos table is for squares of {self.config.sample_size} pixels, got {tuple(size[1:])}"
            )
        return frames, rows, columns

    def _sincos(self, grid: tuple[int, int, int]) -> Tensor:
        """DiT's table for each frame, plus a sin-cos of time relative to frame 0, so that one frame is an image: [N,
        D]."""
        assert self.position_table is not None
        time = sinusoid(torch.arange(grid[0], device=self.position_table.device), self.config.width, "cos_sin")
        return (self.position_table + (time - time[:1])[:, None].to(self.position_table)).flatten(0, 1)

    def _vector(
        self, lam: Tensor, text: TextCondition | None, captions: Tensor | None, labels: Tensor | None, positions: int
    ) -> Tensor:
        """What modulates the blocks: [B, 1, D], or [B, N, D] where noise level or caption differ by frame."""
        vector = self.noise_embedding(lam)
        if self.classes is not None:
            null = torch.full(lam.shape[:1], self.config.num_classes, device=lam.device)
            vector = vector + self.classes(null if labels is None else labels)[:, None]
        if self.text is not None and text is not None:
            pooled = self.text(text)
            vector = vector + (pooled[:, None] if captions is None else pooled[:, captions])
        return vector if vector.shape[1] == 1 else vector.repeat_interleave(positions, 1)

    def _words(self, text: TextCondition | None, captions: Tensor | None, batch: int, positions: int) -> Words | None:
        if self.null_words is None:
            return None
        words = Words.none(self.null_words, batch) if text is None else Words.of(text, captions, self.null_words)
        return words.per_token(positions)


def _check_choices(attention: str, position: str, width: int, heads: int) -> None:
    if attention not in ("joint", "factorised"):
        raise ValueError(f"unknown attention {attention!r}; expected joint or factorised")
    if position not in ("rotary", "sincos"):
        raise ValueError(f"unknown position {position!r}; expected rotary or sincos")
    if width % heads:
        raise ValueError(f"{heads} heads do not divide a width of {width}")


def _sincos_table(side: int, width: int) -> Tensor:
    """DiT's fixed table [side^2, width]: the first half of the channels encodes the column, the second the row."""
    axis = torch.arange(side, dtype=torch.float32)
    k = torch.arange(width // 4, dtype=torch.float64)
    angles = (axis.double()[:, None] * 10000.0 ** (-k / (width / 4))).float()
    one = torch.cat([angles.sin(), angles.cos()], 1)
    columns, rows = one[None].expand(side, -1, -1), one[:, None].expand(-1, side, -1)
    return torch.cat([columns, rows], -1).reshape(side * side, width)
