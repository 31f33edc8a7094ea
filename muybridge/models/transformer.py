"""The spacetime diffusion transformer: DiT on patches of a video. Source: 2212.09748; the design space of open
Sora-like systems (spec 04): full or factorised attention, 3D rotary or sin-cos positions, qk-norm, pooled and token
text, packs of videos and pictures of any size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
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
from muybridge.nn.patches import patchify as patchify
from muybridge.nn.patches import sincos_table
from muybridge.nn.patches import unpatchify as unpatchify
from muybridge.nn.position import rotary_angles
from muybridge.nn.text_conditioning import TextCondition, TextPooling, Words
from muybridge.nn.token_rows import Grid, TokenRow
from muybridge.nn.transformer_blocks import ATTENTIONS, TransformerBlock, init_transformer, modulate, patterns_of

#: layers, width, heads of the published sizes (2212.09748 table 1).
SIZES = {"S": (12, 384, 6), "B": (12, 768, 12), "L": (24, 1024, 16), "XL": (28, 1152, 16)}


#: What is told of a batch of one pattern, and not of a pack.
PER_ROW = ("temporal_mask", "frame_to_caption", "condition", "class_labels", "guidance")


def transformer_size(name: str, patch: int = 2) -> dict[str, Any]:
    """Arguments of SpacetimeTransformer for a published size and spatial patch, e.g. ("XL", 2) for DiT-XL/2."""
    layers, width, heads = SIZES[name]
    return {"layers": layers, "width": width, "heads": heads, "patch_size": (1, patch, patch)}


class SpacetimeTransformer(VideoNetwork, ModelMixin, ConfigMixin):
    """Predicts eps, x or v of a video (or latent video) from patches of it.

    Args:
        in_channels, out_channels: data channels.
        learned_variance: as many channels again behind them say the variance of a step (diffusion.learned_variance), as
            in DiT's published weights.
        condition_channels: further input channels, zero-initialised; no system here trains or samples them yet.
        layers, width, heads: see `transformer_size`.
        patch_size: (t, h, w). With t > 1 the frames of a patch are one token: masks, captions and noise levels must
            agree in it.
        attention: "joint" over space and time; "factorised" (each frame, then along time, in every block);
            "alternating" (a block of each in turn); or "skiparse" (every fourth token, the first and last two blocks
            joint).
        modulation: "block", a linear map from the condition in every block; or "single", one for all blocks and a table
            in each, which saves a third of the parameters and does not start as the identity.
        position: "rotary" (3D, any size: larger grids go on where smaller ones end) or "sincos" (DiT's fixed table, for
            squares of `sample_size` only).
        sample_size: height and width of the data for the sin-cos table.
        qk_norm: RMS-normalise queries and keys.
        mlp_ratio: hidden width of the MLP over its width.
        num_classes: class labels (plus one null class); 0 for none.
        text_pooled_dim, text_token_dim: widths of text embeddings, 0 where not used. Pooled text is added to the noise
            level's embedding; token embeddings are read as `text_mode` says. A dropped caption, or none, reads one null
            word.
        text_mode: "cross", by cross-attention; or "joint", words and patches in one sequence, each with modulations of
            their own.
        guidance_embedding: the network is told a guidance scale, as one that was distilled from a guided one is.
        prediction_type: "epsilon", "sample", "v_prediction" or "flow".
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
        text_mode: str = "cross",
        modulation: str = "block",
        learned_variance: bool = False,
    ):
        super().__init__()
        _check_choices(attention, position, text_mode, modulation)
        if width % heads:
            raise ValueError(f"{heads} heads do not divide a width of {width}")
        in_sequence = bool(text_token_dim) and text_mode == "joint"
        if in_sequence and attention != "joint":
            raise ValueError(f"text_mode joint needs attention joint, got {attention}: its sequence is seen whole")
        self.gradient_checkpointing = False
        volume = math.prod(patch_size)
        self.patch_in = nn.Linear(in_channels * volume, width)
        self.condition_in = nn.Linear(condition_channels * volume, width, bias=False) if condition_channels else None
        self.noise_embedding = NoiseLevelEmbedding(256, width, layers=2, layout="cos_sin")
        self.classes = nn.Embedding(num_classes + 1, width) if num_classes else None
        self.text = TextPooling(text_pooled_dim, 0, width) if text_pooled_dim else None
        self.guidance = GuidanceEmbedding(width) if guidance_embedding else None
        self.null_words = nn.Parameter(torch.randn(1, 1, text_token_dim) * 0.02) if text_token_dim else None
        self.word_in = nn.Linear(text_token_dim, width) if in_sequence else None
        single = modulation == "single"
        read = 0 if in_sequence else text_token_dim
        self.blocks = nn.ModuleList(
            TransformerBlock(width, heads, mlp_ratio, qk_norm, pattern, read, in_sequence, single)
            for pattern in patterns_of(attention, layers)
        )
        self.shared_modulation = nn.Linear(width, 6 * width) if single else None
        self.shared_word_modulation = nn.Linear(width, 6 * width) if single and in_sequence else None
        self.norm_out = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.modulation_out = nn.Linear(width, 2 * width)
        self.patch_out = nn.Linear(width, (1 + learned_variance) * out_channels * volume)
        table = None
        if position == "sincos":
            table = nn.Parameter(sincos_table(sample_size // patch_size[1], width), requires_grad=False)
        self.position_table = table
        self._initialise()

    def _initialise(self) -> None:
        zeros = ("modulation_out", "patch_out", "condition_in")
        branches = ("time_attention.proj", "cross.proj", "guidance.proj", "modulation")
        init_transformer(self, lambda name: name.endswith(branches) or name.rpartition(".")[2] in zeros)
        for layer in (self.noise_embedding.first, *self.noise_embedding.rest):
            nn.init.normal_(layer.weight, std=0.02)
        if self.classes is not None:
            nn.init.normal_(self.classes.weight, std=0.02)

    def predict(self, inputs: NetworkInputs) -> Any:
        """Predict from whole patches; a list of samples [C, F, H, W] is a pack and gives a list.

        Raises:
            UserError: the data cannot be cut into whole patches, does not fit a sin-cos table or the condition
                channels, or something differs between the frames of one patch.
        """
        text, patch = inputs.text, tuple(self.config.patch_size)
        packed = not isinstance(inputs.sample, Tensor)
        samples = [z[None] for z in inputs.sample] if packed else [inputs.sample]
        self._check(inputs, packed)
        grids = [self._grid(z, patch) for z in samples]
        # sizes of 2 latent videos of 8 frames of 32x32 at the default width: z [2, 4, 8, 32, 32]
        x = self.patch_in(torch.cat([patchify(z, patch) for z in samples], 1))  # [B, N, D] [2, 8 16 16 = 2048, 384]
        if self.condition_in is not None and inputs.condition is not None:
            x = x + self.condition_in(patchify(inputs.condition, patch))
        if self.position_table is not None:
            x = x + torch.cat([self._sincos(grid) for grid in grids])
        captions = inputs.frame_to_caption
        if captions is not None:
            captions = one_per_patch(captions, patch[0], 0, "captions")
        levels = [lam[None] for lam in inputs.log_snr] if packed else [inputs.log_snr]
        lams = [self._levels(lam, z, patch) for lam, z in zip(levels, samples, strict=True)]
        texts = [None if text is None else text.rows(slice(s, s + 1)) for s in range(len(grids))] if packed else [text]
        vectors = [
            self._vector(lam, told, captions, inputs.class_labels) for lam, told in zip(lams, texts, strict=True)
        ]
        if self.guidance is not None and inputs.guidance is not None:
            vectors = [vector + self.guidance(inputs.guidance)[:, None] for vector in vectors]
        words = self._words(text, captions, len(grids) if packed else len(x), grids[0])
        readable = words.allowed[:, 0] if self.word_in is not None and words is not None else None
        row = TokenRow.of(grids, [v.shape[1] for v in vectors], self._mask(inputs, patch), readable, x.device)
        if self.position_table is None:  # words are at (0, 0, 0): they are not turned
            row = replace(row, angles=rotary_angles(row.positions(x.device), self.config.width // self.config.heads))
        means = [v.mean(1, keepdim=True) for v in vectors] if row.words else []
        condition = torch.cat([*vectors, *means], 1)  # [B, K, D]: the patches' first, then the words'
        if self.word_in is not None and words is not None:
            x, words = self._with_words(x, row, words), None
        x = self._through_blocks(x, self._modulated(condition, row), row, words)
        x = x if row.patches is None else x[:, row.patches]
        which = row.which if row.patches is None or row.which is None else row.which[row.patches]
        six = self.modulation_out(silu(condition[:, : row.video_conditions]))
        shift, scale = (six if which is None else six[:, which]).chunk(2, -1)
        out = self.patch_out(modulate(self.norm_out(x), shift, scale))
        parts = out.split([math.prod(grid) for grid in grids], 1)
        made = [unpatchify(part, patch, grid) for part, grid in zip(parts, grids, strict=True)]
        return [sample[0] for sample in made] if packed else made[0]

    def _check(self, inputs: NetworkInputs, packed: bool) -> None:
        check_told(inputs.condition_log_snr, False, "condition_log_snr", "unet3d's condition_level")
        check_told(inputs.guidance, self.guidance is not None, "guidance", "guidance_embedding")
        check_condition(inputs.condition, self.config.condition_channels, "transformer")
        check_text(inputs.text, self.config.text_pooled_dim, self.config.text_token_dim)
        refused = {
            "a pack of samples": PER_ROW if packed else (),
            "text_mode joint": ("frame_to_caption",) if self.word_in is not None else (),
            "attention skiparse": ("temporal_mask",) if self.config.attention == "skiparse" else (),
        }
        for what, names in refused.items():
            for name in names:
                if getattr(inputs, name) is not None:
                    raise UserError(f"{name}: {what} takes none; leave it out")

    def _levels(self, log_snr: Tensor, sample: Tensor, patch: Sequence[int]) -> Tensor:
        """Log-SNR [B, 1 or frames of the grid]."""
        lam = level_for_embedding(log_snr, sample)
        return one_per_patch(lam, patch[0], 1, "noise levels") if lam.shape[1] > 1 else lam

    def _mask(self, inputs: NetworkInputs, patch: Sequence[int]) -> Tensor | None:
        if inputs.temporal_mask is None:
            return None
        mask = inputs.temporal_mask.expand(1 if inputs.temporal_mask.ndim == 2 else -1, -1, -1)  # [1 or B, F, F]
        return one_per_patch(one_per_patch(mask, patch[0], 1, "a mask"), patch[0], 2, "a mask")

    def _with_words(self, x: Tensor, row: TokenRow, words: Words) -> Tensor:
        """Words in front of each sample's patches."""
        assert self.word_in is not None
        told, parts, start = self.word_in(words.tokens.to(x.dtype)), [], 0
        for sample, grid in enumerate(row.grids):
            own = told if len(row.grids) == 1 else told[sample : sample + 1]
            parts += [own, x[:, start : start + math.prod(grid)]]
            start += math.prod(grid)
        return torch.cat(parts, 1)

    def _modulated(self, condition: Tensor, row: TokenRow) -> Tensor:
        """What the blocks take of the conditions."""
        if self.shared_modulation is None:
            return condition
        six = self.shared_modulation(silu(condition[:, : row.video_conditions]))
        if self.shared_word_modulation is None:
            return six
        return torch.cat([six, self.shared_word_modulation(silu(condition[:, row.video_conditions :]))], 1)

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
        self, lam: Tensor, text: TextCondition | None, captions: Tensor | None, labels: Tensor | None
    ) -> Tensor:
        """What modulates the blocks: [B, 1, D], or [B, F, D] where noise level or caption differ by frame."""
        vector = self.noise_embedding(lam)
        if self.classes is not None:
            null = torch.full(lam.shape[:1], self.config.num_classes, device=lam.device)
            vector = vector + self.classes(null if labels is None else labels)[:, None]
        if self.text is not None and text is not None:
            pooled = self.text(text)
            vector = vector + (pooled[:, None] if captions is None else pooled[:, captions])
        return vector

    def _words(self, text: TextCondition | None, captions: Tensor | None, batch: int, grid: Grid) -> Words | None:
        if self.null_words is None:
            return None
        words = Words.none(self.null_words, batch) if text is None else Words.of(text, captions, self.null_words)
        return words.per_token(grid[1] * grid[2])


def _check_choices(attention: str, position: str, text_mode: str, modulation: str) -> None:
    known = {
        "attention": (attention, tuple(ATTENTIONS)), "position": (position, ("rotary", "sincos")),
        "text_mode": (text_mode, ("cross", "joint")), "modulation": (modulation, ("block", "single")),
    }  # fmt: skip
    for name, (value, choices) in known.items():
        if value not in choices:
            raise ValueError(f"unknown {name} {value!r}; expected {', '.join(choices[:-1])} or {choices[-1]}")
