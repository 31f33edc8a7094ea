"""The factorised 3D U-Net of Video Diffusion Models. Source: 2204.03458 section 3 and appendix A."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle, silu

from muybridge.errors import UserError
from muybridge.models.unet3d_stages import Stage, Stages
from muybridge.nn.embeddings import FrameEmbedding, GuidanceEmbedding, NoiseLevelEmbedding
from muybridge.nn.factorised import make_norm, zero_init
from muybridge.nn.network_inputs import (
    NetworkInputs,
    VideoNetwork,
    check_condition,
    check_text,
    check_told,
    level_for_embedding,
)  # fmt: skip
from muybridge.nn.position import independent_frames
from muybridge.nn.text_conditioning import TextCondition, TextPooling, Words


class UNet3DModel(VideoNetwork, ModelMixin, ConfigMixin):
    """Predicts eps, x or v of a video from its noisy version, its noise level and a caption.

    Args:
        sample_size: height and width it is built for, in pixels (or latent pixels); any size divisible by
            `patch_size * 2^(levels - 1)` runs.
        in_channels, out_channels: data channels.
        condition_channels: further input channels (a low-resolution video, masks), zero-initialised at the input
            convolution.
        condition_level: the network is told how noisy the condition was made (`condition_log_snr`); what it is told
            counts for nothing at the start.
        base_channels, channel_multipliers, blocks_per_level: the U-Net's shape.
        attention_resolutions: sizes (not factors) at which attention follows each residual block.
        joint_resolutions: those of the attention resolutions at which one attention over frames, positions and words
            takes the place of the two over space and over time. Not in the paper, which factorises to save memory.
        spatial_attention: over the picture at the attention resolutions.
        temporal: what mixes frames: "attention" at the attention resolutions, or "convolution" after every residual
            block (2210.02303: attention in the base of a cascade, convolution in its super-resolution networks).
        attention_head_dim: width of a head; must divide the channels of every attention level.
        embedding_dim, embedding_layers: the MLP on the noise level and the caption.
        patch_size: pixels of p x p folded into channels before the first level (1 = the paper's network).
        position: over time: relative, "t5" or "shaw", of the frame's index, "sinusoidal", or "none".
        max_frames: distance at which relative positions saturate; any number of frames runs.
        frame_embedding: add the frame's index, gated by the caption, to the embedding (`FrameEmbedding`). The paper has
            no absolute time; with it "moving left" and a frame's index meet before the first block instead of only
            after temporal attention. Independent images have no index.
        sloped_shift: let the embedding's shift grow linearly across the picture (`ResBlock`). With `frame_embedding`
            small networks learn directions of motion many times sooner.
        embedding_mode: "scale_shift" or "add".
        norm: "frame" (groups of channels over one frame), or "channel" (a position's channels alone): then, without
            attention, the network gives on a crop what it gives on the whole.
        norm_groups: of the group normalisations.
        dropout: share of channels dropped in residual blocks while training.
        text_pooled_dim, text_token_dim: widths of the text embeddings, 0 where not used.
        guidance_embedding: the network is told a guidance scale, as one that was distilled from a guided one is.
        prediction_type: "epsilon", "sample" or "v_prediction"; stored so that a checkpoint says what it predicts.

    Differs from the paper: the exact residual block is not printed there and follows the same authors' image U-Net;
    normalisation is per frame (statistics across frames would leak between independent images); relative positions are
    T5 buckets by default (the paper cites Shaw et al., here `position="shaw"`).
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ["Stage"]

    @register_to_config
    def __init__(
        self,
        sample_size: int = 64,
        in_channels: int = 3,
        out_channels: int = 3,
        condition_channels: int = 0,
        condition_level: bool = False,
        base_channels: int = 128,
        channel_multipliers: Sequence[int] = (1, 2, 4, 8),
        blocks_per_level: int = 2,
        attention_resolutions: Sequence[int] = (8, 16, 32),
        joint_resolutions: Sequence[int] = (),
        spatial_attention: bool = True,
        temporal: str = "attention",
        attention_head_dim: int = 64,
        embedding_dim: int = 1024,
        embedding_layers: int = 4,
        patch_size: int = 1,
        position: str = "t5",
        max_frames: int = 32,
        frame_embedding: bool = False,
        sloped_shift: bool = False,
        embedding_mode: str = "scale_shift",
        norm: str = "frame",
        norm_groups: int = 32,
        dropout: float = 0.0,
        text_pooled_dim: int = 0,
        text_token_dim: int = 0,
        guidance_embedding: bool = False,
        prediction_type: str = "v_prediction",
    ):
        super().__init__()
        self.gradient_checkpointing = False
        area = patch_size**2
        self.noise_embedding = NoiseLevelEmbedding(base_channels, embedding_dim, embedding_layers)
        self.frame_index = FrameEmbedding(base_channels, embedding_dim) if frame_embedding else None
        self.text = (
            TextPooling(text_pooled_dim, text_token_dim, embedding_dim) if text_pooled_dim or text_token_dim else None
        )
        self.condition_embedding: nn.ModuleList | None = None
        if condition_level:
            last = zero_init(nn.Linear(embedding_dim, embedding_dim))
            self.condition_embedding = nn.ModuleList([NoiseLevelEmbedding(base_channels, embedding_dim), last])
        self.guidance = GuidanceEmbedding(embedding_dim) if guidance_embedding else None
        self.conv_in = nn.Conv2d((in_channels + condition_channels) * area, base_channels, 3, padding=1)
        if condition_channels:
            nn.init.zeros_(self.conv_in.weight[:, in_channels * area :])
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        self._build_levels(Stages(self.config))
        self.norm_out = make_norm(norm, base_channels * channel_multipliers[0], norm_groups)
        self.conv_out = zero_init(nn.Conv2d(base_channels * channel_multipliers[0], out_channels * area, 3, padding=1))

    def _build_levels(self, stages: Stages) -> None:
        """The way down, whose outputs are kept as skips, the middle, and the way up, which takes them from the last."""
        blocks, levels = self.config.blocks_per_level, len(stages.widths)
        channels, skips = self.config.base_channels, [self.config.base_channels]
        for level, width in enumerate(stages.widths):
            down = nn.ModuleDict({"stages": nn.ModuleList()})
            for _ in range(blocks):
                cast(nn.ModuleList, down["stages"]).append(stages.at(level, channels))
                channels = width
                skips.append(channels)
            if level < levels - 1:
                down["downsample"] = stages.block(channels, channels, "down")
                skips.append(channels)
            self.down.append(down)
        last = levels - 1
        self.middle = nn.ModuleList([stages.attending(last, channels), Stage(stages.block(channels, channels))])
        for level in reversed(range(levels)):
            up = nn.ModuleDict({"stages": nn.ModuleList()})
            for _ in range(blocks + 1):
                cast(nn.ModuleList, up["stages"]).append(stages.at(level, channels + skips.pop()))
                channels = stages.widths[level]
            if level > 0:
                up["upsample"] = stages.block(channels, channels, "up")
            self.up.append(up)

    def predict(self, inputs: NetworkInputs) -> Tensor:
        """Predict through the U.

        Raises:
            UserError: the size cannot be halved as often as the network does, a condition is missing, or class labels
                are given: it has no classes.
        """
        sample, text, condition, temporal_mask = inputs.sample, inputs.text, inputs.condition, inputs.temporal_mask
        if inputs.class_labels is not None:
            raise UserError("this U-Net has no classes; leave class_labels out")
        batch, _, frames, height, width = sample.shape
        self._check(sample, condition)
        check_text(text, self.config.text_pooled_dim, self.config.text_token_dim)
        x = sample if condition is None else torch.cat([sample, condition], 1)
        patch = self.config.patch_size
        # sizes of 2 videos of 16 frames of 64x64 in the default network: z [2, 3, 16, 64, 64]
        h = x.transpose(1, 2).flatten(0, 1)  # [B F, C, H, W] [32, 3, 64, 64]
        h = h.contiguous(memory_format=torch.channels_last)
        h = self.conv_in(pixel_unshuffle(h, patch) if patch > 1 else h)  # [32, 128, 64, 64]
        lam = level_for_embedding(inputs.log_snr, sample)
        told = self._embed(lam, text, inputs.frame_to_caption, frames, temporal_mask, inputs.condition_log_snr)
        check_told(inputs.guidance, self.guidance is not None, "guidance", "guidance_embedding")
        if self.guidance is not None and inputs.guidance is not None:
            told = told + self.guidance(inputs.guidance)[:, None]
        embedding = silu(told)  # [B, F or 1, E] [2, 1, 1024]
        words = None
        if text is not None and self.config.text_token_dim and self.config.joint_resolutions:
            words = Words.of(text, inputs.frame_to_caption)
        h = self._down_and_up(h, embedding, batch, temporal_mask, words)  # [32, 128, 64, 64]
        h = self.conv_out(silu(self.norm_out(h)))  # [32, 3, 64, 64]
        h = pixel_shuffle(h, patch) if patch > 1 else h
        return h.reshape(batch, frames, -1, height, width).transpose(1, 2)

    def _down_and_up(
        self, h: Tensor, embedding: Tensor, batch: int, mask: Tensor | None, words: Words | None
    ) -> Tensor:
        skips = [h]
        for level in cast(Any, self.down):
            for stage in level["stages"]:
                h = self._run(stage, h, embedding, batch, mask, words)
                skips.append(h)
            if "downsample" in level:
                h = self._run(level["downsample"], h, embedding)
                skips.append(h)
        for stage in self.middle:
            h = self._run(stage, h, embedding, batch, mask, words)
        for level in cast(Any, self.up):
            for stage in level["stages"]:
                h = self._run(stage, torch.cat([h, skips.pop()], 1), embedding, batch, mask, words)
            if "upsample" in level:
                h = self._run(level["upsample"], h, embedding)
        return h

    def _run(self, module: nn.Module, *args: Any) -> Tensor:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return self._gradient_checkpointing_func(module, *args)
        return module(*args)

    def _embed(
        self,
        lam: Tensor,
        text: TextCondition | None,
        frame_to_caption: Tensor | None,
        frames: int,
        mask: Tensor | None,
        condition_lam: Tensor | None,
    ) -> Tensor:
        """Noise level [B, F or 1], caption, frame index and the condition's noise as one vector, [B, F or 1,
        embedding_dim]."""
        condition = None
        if text is not None and self.text is not None:
            condition = self.text(text)
            if frame_to_caption is not None:
                condition = condition[:, frame_to_caption]
            elif condition.ndim == 2:
                condition = condition[:, None]
        if self.frame_index is not None:
            index = self.frame_index(frames, independent_frames(frames, mask).to(lam.device), condition)
            condition = index if condition is None else condition + index
        check_told(condition_lam, self.condition_embedding is not None, "condition_log_snr", "condition_level")
        if self.condition_embedding is not None and condition_lam is not None:
            embed, last = self.condition_embedding
            level = last(silu(embed(condition_lam.to(lam).reshape(-1, 1))))  # [B, 1, E]
            condition = level if condition is None else condition + level
        return self.noise_embedding(lam, condition)

    def _check(self, sample: Tensor, condition: Tensor | None) -> None:
        factor = self.config.patch_size * 2 ** (len(self.config.channel_multipliers) - 1)
        if sample.shape[-1] % factor or sample.shape[-2] % factor:
            raise UserError(
                f"this U-Net needs height and width divisible by {factor}, got {sample.shape[-2]}x{sample.shape[-1]}"
            )
        check_condition(condition, self.config.condition_channels, "U-Net")


def joint_mask(num_video: int, num_images: int, device: torch.device | str = "cpu") -> Tensor:
    """The temporal mask of a video of F frames followed by M independent images, bool [F + M, F + M]."""
    mask = torch.eye(num_video + num_images, dtype=torch.bool, device=device)
    mask[:num_video, :num_video] = True
    return mask


#: Table of appendix A of 2204.03458: arguments of UNet3DModel where they differ from its defaults (128 channels,
#: 1-2-4-8).
PUBLISHED: dict[str, dict[str, Any]] = {
    "ucf101": {"base_channels": 256, "dropout": 0.1, "prediction_type": "epsilon"},
    "bair": {"channel_multipliers": (1, 2, 3, 4), "blocks_per_level": 3, "embedding_layers": 2, "dropout": 0.1},
    "kinetics600": {"base_channels": 256, "embedding_layers": 2, "dropout": 0.1},
    "text_small": {"text_token_dim": 1024, "prediction_type": "epsilon"},
    "text_large": {"base_channels": 256, "text_token_dim": 1024, "prediction_type": "epsilon"},
    "text_9x128": {
        "channel_multipliers": (1, 2, 4, 8, 16),
        "sample_size": 128,
        "attention_head_dim": 128,
        "text_token_dim": 1024,
        "prediction_type": "epsilon",
    },
}
