"""A super-resolver of videos, 4 times each side in one step: bicubic interpolation plus a learned residual.

    y = bicubic(x) + shuffle(shuffle(blocks(x, text)))

Residual blocks at the input's own size without statistics over space (EDSR, 1707.02921), sub-pixel convolutions behind
them (1609.05158), convolutions over three frames inside (factorised, as in 2204.03458), and a pooled text embedding
that scales and shifts each block's channels (FiLM, 1709.07871).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn.functional import interpolate, pixel_shuffle, silu

from muybridge.errors import UserError
from muybridge.files import read_mapping
from muybridge.models.latent.critics import critic_losses
from muybridge.models.weights.opening import open_network
from muybridge.nn.factorised import zero_init
from muybridge.nn.frames import batch_to_frames, frames_to_batch, from_uint8, to_uint8

#: How many times as high and as wide the result is.
SCALE = 4
#: Pixels of the input that pass through the blocks together (16 frames of 64 x 64), and that are enlarged together,
#: where each is sixteen.
CHUNK_PIXELS, ENLARGED_PIXELS = 16 * 64 * 64, 4 * 64 * 64


class UpscalerBlock(nn.Module):
    """Two convolutions of each frame, between which the text speaks, and one over three frames if asked for; added to
    what comes in.

    Args:
        width: channels C.
        text: width of the text's vector E, 0 for none.
        temporal: mix neighbouring frames, by weights that start at zero.
    """

    def __init__(self, width: int, text: int, temporal: bool):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.film = zero_init(nn.Linear(text, 2 * width, bias=False)) if text else None
        self.time = zero_init(nn.Conv2d(3 * width, width, 1)) if temporal else None

    def forward(self, x: Tensor, text: Tensor | None, frames: int) -> Tensor:
        """x [B F, C, H, W]; text [B, E] or None -> [B F, C, H, W]."""
        h = self.conv1(x)
        if self.film is not None and text is not None:
            scale, shift = self.film(text).repeat_interleave(frames, 0)[..., None, None].chunk(2, 1)
            h = h * (1 + scale) + shift
        x = x + self.conv2(silu(h))
        return x if self.time is None else x + self.time(beside(silu(x), frames))


def beside(x: Tensor, frames: int) -> Tensor:
    """The frame before, the frame and the one behind it, the ends repeated: [B F, C, H, W] -> [B F, 3 C, H, W]."""
    video = x.unflatten(0, (-1, frames))
    before = torch.cat([video[:, :1], video[:, :-1]], 1).flatten(0, 1)
    behind = torch.cat([video[:, 1:], video[:, -1:]], 1).flatten(0, 1)
    return torch.cat([before, x, behind], 1)


class VideoUpscaler(ModelMixin, ConfigMixin):
    """Enlarges a video 4 times; fresh weights give bicubic interpolation.

    Fully convolutional: any height and width, and any number of frames, each of which depends on `context` frames
    before and behind it and on `reach` pixels around. A still clip of any length has the frames of its picture
    enlarged alone.

    Args:
        width: channels at the input's size; fewer follow at the larger ones.
        layers: residual blocks.
        temporal_every: every which block mixes neighbouring frames; 0 for none.
        text_pooled_dim: width of the captions' pooled embedding, 0 for a network without text.
        embedding_dim: of what the blocks read of it.
    """

    _no_split_modules = ["UpscalerBlock"]

    @register_to_config
    def __init__(
        self,
        width: int = 72,
        layers: int = 9,
        temporal_every: int = 3,
        text_pooled_dim: int = 384,
        embedding_dim: int = 64,
    ):
        super().__init__()
        every, text = temporal_every, embedding_dim if text_pooled_dim else 0
        self.text = nn.Linear(text_pooled_dim, embedding_dim) if text_pooled_dim else None
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            UpscalerBlock(width, text, bool(every) and i % every == every - 1) for i in range(layers)
        )
        middle, last = max(4, 2 * width // 3), max(4, width // 3)
        self.up1 = nn.Conv2d(width, 4 * middle, 3, padding=1)
        self.middle = nn.Conv2d(middle, middle, 3, padding=1)
        self.up2 = nn.Conv2d(middle, 4 * last, 3, padding=1)
        self.last = nn.Conv2d(last, last, 3, padding=1)
        self.out = zero_init(nn.Conv2d(last, 3, 3, padding=1))

    @property
    def context(self) -> int:
        """How many frames, to each side, a frame depends on."""
        return len(self.blocks) // self.config.temporal_every if self.config.temporal_every else 0

    @property
    def reach(self) -> int:
        """How many pixels of the input, to each side, a pixel depends on at most."""
        return 2 * len(self.blocks) + 4

    def forward(self, video: Tensor, text: Tensor | None = None, told: Tensor | None = None) -> Tensor:
        """Enlarge whole clips.

        Args:
            video: [B, 3, F, H, W] in [-1, 1].
            text: pooled embeddings of the captions [B, E]; None for no caption.
            told: bool [B], False where a caption is left out, which is the same as none.

        Returns:
            [B, 3, F, 4 H, 4 W], in [-1, 1] or a little beyond.
        """
        enlarged = self.enlarged(frames_to_batch(video), self.features(video, text, told))
        return batch_to_frames(enlarged, len(video))

    def features(self, video: Tensor, text: Tensor | None = None, told: Tensor | None = None) -> Tensor:
        """What the blocks see of clips [B, 3, F, H, W]: [B F, C, H, W]."""
        words = None
        if self.text is not None and text is not None:
            words = silu(self.text(text.to(self.text.weight.dtype)))
            words = words if told is None else words * told[:, None].to(words)
        first = h = self.first(frames_to_batch(video))
        for block in self.blocks:
            h = block(h, words, video.shape[2])
        return h + first

    def enlarged(self, pictures: Tensor, features: Tensor) -> Tensor:
        """Pictures [N, 3, H, W] and their features [N, C, H, W] -> [N, 3, 4 H, 4 W]."""
        h = pixel_shuffle(self.up1(features), 2)
        h = h + self.middle(silu(h))
        h = pixel_shuffle(self.up2(silu(h)), 2)
        h = h + self.last(silu(h))
        return bicubic(pictures) + self.out(silu(h))


def bicubic(pictures: Tensor) -> Tensor:
    """[B, C, H, W] -> [B, C, 4 H, 4 W]; each pixel becomes the square that it covers."""
    return interpolate(pictures, scale_factor=float(SCALE), mode="bicubic", align_corners=False)


def box_averaged(video: Tensor) -> Tensor:
    """The mean of each 4 x 4 pixels: [..., 4 H, 4 W] -> [..., H, W]."""
    return video.unflatten(-2, (-1, SCALE)).mean(-2).unflatten(-1, (-1, SCALE)).mean(-1)


class UpscalerWithCritic(nn.Module):
    """Enlarges and judges in one call, so that one optimizer and any number of processes can train it.

    Args:
        network: enlarges.
        critic: judges what is made.
    """

    def __init__(self, network: VideoUpscaler, critic: nn.Module):
        super().__init__()
        self.network, self.critic = network, critic

    def forward(
        self, low: Tensor, high: Tensor, text: Tensor | None, told: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """low [B, 3, F, H, W] and high [B, 3, F, 4 H, 4 W] in [-1, 1], text and told as the network takes them -> what
        is made of low [B, 3, F, 4 H, 4 W], and the losses of maker and critic [B] (critics.critic_losses)."""
        made = self.network(low, text, told)
        return (made, *critic_losses(self.critic, high, made))

    def start_from(self, folder: Path) -> None:
        """Take a saved upscaler's weights; the critic stays as it is.

        Raises:
            UserError: none is there, or its weights do not fit.
        """
        saved = open_upscaler(folder)
        try:
            self.network.load_state_dict(saved.state_dict())
        except RuntimeError as error:
            raise UserError(f"{folder}: its weights do not fit this recipe's upscaler: {str(error)[:500]}") from error


def open_upscaler(folder: Path) -> VideoUpscaler:
    """A saved upscaler, frozen, float32.

    Raises:
        UserError: another network's folder, or damaged.
    """
    kind = read_mapping(folder / "config.json").get("_class_name")
    if kind != "VideoUpscaler":
        raise UserError(f"{folder}: a {kind}, no upscaler of muybridge (VideoUpscaler)")
    return open_network(VideoUpscaler, folder)


@torch.no_grad()
def upscaled_chunks(
    network: VideoUpscaler, frames: np.ndarray, text: Tensor | None = None, chunk: int = 0
) -> Iterator[np.ndarray]:
    """Enlarge a video of any length in bounded memory.

    Args:
        frames: uint8 [F, H, W, 3].
        text: the caption's pooled embedding [1, E]; None for no caption.
        chunk: frames of one result, by default as many as have CHUNK_PIXELS; results do not depend on it beyond
            rounding, because each chunk sees the `context` frames around it.

    Yields:
        uint8 [n, 4 H, 4 W, 3], one chunk after another.
    """
    pixels, device = frames.shape[1] * frames.shape[2], next(network.parameters()).device
    size, together = chunk or max(1, CHUNK_PIXELS // pixels), max(1, ENLARGED_PIXELS // pixels)
    text = None if text is None else text.to(device)
    for start in range(0, len(frames), size):
        end, first = min(start + size, len(frames)), max(0, start - network.context)
        seen = from_uint8(frames[first : end + network.context])[None].to(device)
        kept = slice(start - first, end - first)
        features, low = network.features(seen, text)[kept], frames_to_batch(seen)[kept]
        pairs = zip(low.split(together), features.split(together), strict=True)
        yield np.concatenate([to_uint8(network.enlarged(x, h)[:, :, None])[:, 0] for x, h in pairs])
