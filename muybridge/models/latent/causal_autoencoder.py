"""A causal autoencoder of videos: a picture autoencoder whose convolutions also look at the frames before, and whose
levels also halve time.

The network inside is diffusers' AutoencoderKL on frames folded into the batch, so norms and attention see one frame
each: a clip in pieces, with what its convolutions last saw carried on, gives what it gives in one piece. With F = 1
it is a picture autoencoder.
Source: 2310.05737 (MAGVIT-v2: causal convolutions, the first frame coded alone), 2408.06072 section 2.1 (the layout),
2412.00131 (tail initialisation; norms without statistics over time).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import AutoencoderKL, ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from torch import Tensor, nn
from torch.nn.functional import conv3d, pad

from muybridge.errors import UserError
from muybridge.models.weights.opening import cast
from muybridge.nn.frames import batch_to_frames, frames_to_batch
from muybridge.nn.passes import PassesCalls

#: Convolutions of AutoencoderKL that get an extent in time; those that change the size, and 1 x 1 ones, do not
#: (2408.06072).
INFLATED = ("conv_in", "conv_out", "conv1", "conv2")


@dataclass
class Piece:
    """What the layers must know of the piece of a video that is under way.

    Attributes:
        batch: B.
        first: the piece has the video's first frame, which is coded alone.
        past: the last frames that each convolution saw, by its name; None where nothing is carried on.
    """

    batch: int
    first: bool = True
    past: dict[str, Tensor] | None = None


@dataclass
class Under:
    """Where layers find the piece."""

    way: Piece = field(default_factory=lambda: Piece(1))


class CausalConv(nn.Conv3d):
    """A convolution over space and over this frame and those before it; before the first frame lie copies of it.

        y_f = Σ_{k < K} W_k * x_{f - K + 1 + k},   x_f = x_0 for f < 0

    Zeros pad space. Source: 2310.05737 section 3.2; copies of the first frame as in 2408.06072.

    Args:
        like: the picture's convolution that it takes the place of; it starts as that ("tail" initialisation: all taps
            are zero but the last, the frame itself).
        frames: K.
        name: of its memory.
        under: what says which piece is under way.
    """

    def __init__(self, like: nn.Conv2d, frames: int, name: str, under: Under):
        kernel: Any = (frames, *like.kernel_size)
        padding: Any = (0, *like.padding)
        where: Any = {"device": like.weight.device, "dtype": like.weight.dtype}
        super().__init__(like.in_channels, like.out_channels, kernel, padding=padding, **where)
        self.name, self.under = name, under
        with torch.no_grad():
            self.weight.zero_()
            self.weight[:, :, -1] = like.weight
            assert self.bias is not None and like.bias is not None
            self.bias.copy_(like.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[B F, C, H, W] -> [B F, C', H, W]."""
        piece, before = self.under.way, self.kernel_size[0] - 1
        video = batch_to_frames(x, piece.batch)
        past = None if piece.past is None else piece.past.get(self.name)
        if past is None:
            past = video[:, :, :1].expand(-1, -1, before, -1, -1)
        video = torch.cat([past, video], 2)
        if piece.past is not None:
            piece.past[self.name] = video[:, :, video.shape[2] - before :]
        return frames_to_batch(conv3d(video, self.weight, self.bias, padding=self.padding))


class HalveTime:
    """In front of a layer that halves the sides: means of two frames; the video's first one stays by itself."""

    def __init__(self, under: Under):
        self.under = under

    def __call__(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        piece = self.under.way
        video = batch_to_frames(inputs[0], piece.batch)
        alone, pairs = video[:, :, : int(piece.first)], video[:, :, int(piece.first) :]
        halved = pairs.unflatten(2, (-1, 2)).mean(3) if pairs.shape[2] else pairs
        return (frames_to_batch(torch.cat([alone, halved], 2)), *inputs[1:])


class DoubleTime:
    """Behind a layer that doubles the sides: every frame twice; the video's first one once.

    Copies before the layer's convolution would give the same, at twice its price: it sees one frame at a time.
    """

    def __init__(self, under: Under):
        self.under = under

    def __call__(self, layer: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        piece = self.under.way
        video = batch_to_frames(output, piece.batch)
        alone, rest = video[:, :, : int(piece.first)], video[:, :, int(piece.first) :]
        return frames_to_batch(torch.cat([alone, rest.repeat_interleave(2, 2)], 2))


class CausalAutoencoder(PassesCalls, ModelMixin, ConfigMixin):
    """Videos of 1 + k T frames to 1 + k latent frames and back, T the compression in time.

    Args:
        image_config: arguments of AutoencoderKL; a level more halves the sides once more.
        time_compression: T: 1, 2, 4, ...; halvings of time sit in the first levels on the way down, and in the last on
            the way up. The published networks have 4.
        time_kernel: K, how many frames a convolution sees.
        scaling_factor: latents times this have about unit variance.
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self, image_config: dict[str, Any], time_compression: int = 4, time_kernel: int = 3, scaling_factor: float = 1.0
    ):
        super().__init__()
        self.image = AutoencoderKL(**{k: v for k, v in image_config.items() if not k.startswith("_")})
        self.under = Under()
        halvings = len(self.image.config.block_out_channels) - 1
        if time_compression not in [2**n for n in range(halvings + 1)]:
            raise UserError(
                f"time_compression must be 1, 2, 4, ... and at most {2**halvings} here, as the sides are "
                f"halved {halvings} times; got {time_compression}"
            )
        if time_kernel < 1:
            raise UserError(f"time_kernel must be at least 1, got {time_kernel}")
        for half in ("encoder", "decoder"):
            self._inflate(f"image.{half}", time_kernel)
        self._compress(time_compression.bit_length() - 1)

    def _inflate(self, half: str, kernel: int) -> None:
        for name, layer in list(self.get_submodule(half).named_modules(prefix=half)):
            owner, _, leaf = name.rpartition(".")
            if isinstance(layer, nn.Conv2d) and leaf in INFLATED:
                setattr(self.get_submodule(owner), leaf, CausalConv(layer, kernel, name, self.under))

    def _compress(self, halvings: int) -> None:
        down: Any = self.image.encoder.down_blocks
        up: Any = self.image.decoder.up_blocks
        for block in down[:halvings]:
            block.downsamplers[0].register_forward_pre_hook(HalveTime(self.under))
        for block in up[len(up) - 1 - halvings : len(up) - 1]:
            block.upsamplers[0].register_forward_hook(DoubleTime(self.under))

    @classmethod
    def from_image_model(cls, vae: AutoencoderKL, time_compression: int = 4, time_kernel: int = 3) -> CausalAutoencoder:
        """Give a picture autoencoder time by tail initialisation.

        Without compression in time it codes each frame as the picture autoencoder does, until it is trained; with it,
        pictures and still videos.
        """
        made = cls(dict(vae.config), time_compression, time_kernel, float(vae.config.scaling_factor))
        weights = {}
        for name, value in vae.state_dict().items():
            wanted = made.image.state_dict()[name].shape
            weights[name] = value if value.shape == wanted else pad(value[:, :, None], (0, 0, 0, 0, time_kernel - 1, 0))
        made.image.load_state_dict(weights)
        cast(made, vae.dtype)
        return made

    def _enter(self, call: Any) -> None:
        self.under.way = Piece(1) if call is None else call

    def enable_gradient_checkpointing(self) -> None:
        self.image.enable_gradient_checkpointing(self.checkpointed)

    @property
    def time(self) -> int:
        """Frames that a latent frame stands for, T."""
        return int(self.config.time_compression)

    def encode(self, video: Tensor, chunk: int = 0) -> AutoencoderKLOutput:
        """[B, 3, 1 + k T, H, W] -> an output whose `latent_dist` is over [B, C, 1 + k, h, w].

        Args:
            chunk: latent frames of one piece, what convolutions saw carried on; 0 is all at once. The same but for
                rounding.

        Raises:
            UserError: another number of frames.
        """
        frames = video.shape[2]
        if (frames - 1) % self.time:
            raise UserError(f"{frames} frames: this autoencoder takes {whole_lengths(frames, self.time)}")
        step = chunk * self.time
        first = 1 + step - self.time
        pieces = [video] if not chunk else [video[:, :, :first], *video[:, :, first:].split(step, 2)]
        moments = self._in_pieces(pieces, self._encode)
        return AutoencoderKLOutput(latent_dist=DiagonalGaussianDistribution(moments))

    def decode(self, latents: Tensor, chunk: int = 0) -> Tensor:
        """[B, C, 1 + k, h, w], unscaled -> [B, 3, 1 + k T, H, W]; `chunk` as of `encode`."""
        return self._in_pieces(latents.split(chunk, 2) if chunk else [latents], self._decode)

    def _in_pieces(self, pieces: Sequence[Tensor], function: Callable[[Tensor], Tensor]) -> Tensor:
        pieces = [piece for piece in pieces if piece.shape[2]]
        past: dict[str, Tensor] | None = {} if len(pieces) > 1 else None
        out = []
        for number, piece in enumerate(pieces):
            with self.passing(Piece(len(piece), number == 0, past)):  # type: ignore[arg-type]
                out.append(batch_to_frames(function(frames_to_batch(piece)), len(piece)))
        return torch.cat(out, 2)

    def _encode(self, pictures: Tensor) -> Tensor:
        h = self.image.encoder(pictures)
        return h if self.image.quant_conv is None else self.image.quant_conv(h)

    def _decode(self, latents: Tensor) -> Tensor:
        z = latents if self.image.post_quant_conv is None else self.image.post_quant_conv(latents)
        out: Tensor = self.image.decoder(z)
        return out


def whole_lengths(frames: int, time: int) -> str:
    """In words, the numbers of frames nearest to one that a compression in time takes: "1 + 4 k frames, such as 13 or
    17"."""
    below = 1 + max(0, (frames - 1) // time) * time
    return f"1 + {time} k frames, such as {below} or {below + time}"
