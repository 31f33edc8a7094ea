"""A latent space: a frozen autoencoder of pictures, applied to each frame, with its scaling factor inside."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Protocol

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from muybridge.errors import UserError
from muybridge.models.weights.found import variant_of
from muybridge.models.weights.opening import check_filled
from muybridge.nn.devices import FAST, LOW
from muybridge.nn.frames import batch_to_frames, frames_to_batch

#: Pixels of one call: 16 frames of 64 x 64, one of 256 x 256. What an autoencoder makes of them on the way is hundreds
#: of times as much.
CHUNK_PIXELS = 16 * 64 * 64
#: How many times as many an accelerator encodes at once: small calls leave it idle (2**20 pixels are four frames of 512
#: x 512).
ON_ACCELERATOR = 16
#: Frames that a decoder with time sees together, and how many of them two neighbouring pieces share. With none shared
#: the error of frame differences is 3 % higher across the joins of emoji-video's decoder, so 0.6 %; seeing 32 together
#: gains 0.2 % throughout.
DECODED_TOGETHER, SHARED = 8, 2
#: The same where memory is short.
DECODED_IN_LOW = 4


def shrink_of(vae: AutoencoderKL) -> int:
    """How many pixels a side one latent stands for."""
    return 2 ** (len(vae.config.block_out_channels) - 1)


def open_whole(kind: Any, folder: Path) -> Any:
    """A network's folder as a class of diffusers' kind, tables that it computes included.

    Raises:
        UserError: incomplete or damaged.
    """
    try:
        vae = kind.from_pretrained(
            str(folder),
            local_files_only=True,
            use_safetensors=True,
            torch_dtype=torch.float32,
            variant=variant_of(folder),
        )
    except UserError:
        raise
    except Exception as error:  # diffusers and safetensors raise many kinds for damaged files
        raise UserError(f"{folder}: it cannot be opened: {error}") from error
    check_filled(folder, vae)
    for parameter in vae.parameters():  # memory of its own: a mapped file stays as long as one tensor of it
        parameter.data = parameter.data.clone()
    return vae


def pieces_of(frames: int, size: int, shared: int) -> list[slice]:
    """Frames in as few near-equal pieces of at most `size` as it takes, each sharing `shared` frames with the next (no
    more than half of it).

    diffusion.windows.windows_of keeps every window at `size` instead, the length a network was trained on, and lets the
    last share more.
    """
    if frames <= size:
        return [slice(0, frames)]
    shared = min(shared, size // 2)
    count = -(-(frames - shared) // (size - shared))
    starts = [i * (frames - shared) // count for i in range(count)]
    return [slice(a, b + shared) for a, b in zip(starts, [*starts[1:], frames - shared], strict=True)]


class VideoDecoder(Protocol):
    """A decoder that sees several frames at once (video_autoencoder.VideoAutoencoder)."""

    def decode(self, latents: Tensor) -> Tensor:
        """[B, C, F, h, w], unscaled -> [B, 3, F, H, W]."""
        ...

    def to(self, device: torch.device) -> Any: ...


def stand_by(network: Any, tensor: Tensor) -> None:
    """Move a network to where a tensor lies; for one that has sizes only (nn.live_bytes) it stays where it is."""
    if not tensor.is_meta:
        network.to(tensor.device)


def nearest_sides(height: int, width: int, multiple: int) -> str:
    """In words, the next smaller size whose sides are multiples: "48x32"."""
    return "x".join(str(max(multiple, side - side % multiple)) for side in (height, width))


class LatentSpace:
    """Encodes videos frame by frame; decodes them frame by frame, or in pieces with a decoder that knows time.

    Latents are multiplied by the autoencoder's scaling factor, so that they have about unit variance.

    Args:
        vae: diffusers' autoencoder; frozen here.
        chunk: frames of one call, by default as many as have CHUNK_PIXELS; memory grows with it. Results do not depend
            on it beyond rounding, but for a decoder that knows time: its frames see the others of their piece
            (DECODED_TOGETHER by default), and what two pieces share is faded from one into the other.
        decoder: takes the place of the picture decoder.
    """

    #: frames that a latent frame stands for
    time = 1
    #: times CHUNK_PIXELS that a call may have on the CPU, and frames that a decoder with time sees together
    share, decoded_together = 1, DECODED_TOGETHER

    def __init__(self, vae: AutoencoderKL, chunk: int = 0, decoder: VideoDecoder | None = None):
        self.vae, self.chunk = vae.eval().requires_grad_(False), chunk
        self.decoder = decoder
        self.scale = float(vae.config.scaling_factor)
        self.shrink = shrink_of(vae)
        self.channels = int(vae.config.latent_channels)

    @classmethod
    def open(cls, folder: Path) -> LatentSpace:
        """Load an autoencoder's folder (config.json and safetensors).

        Raises:
            UserError: incomplete or damaged.
        """
        return cls(open_whole(AutoencoderKL, folder))

    def identity(self) -> str:
        """Changes with anything that changes the latents."""
        digest = hashlib.sha256((repr(self.scale) + (f"/{self.time}" if self.time > 1 else "")).encode())
        for name, value in sorted(self.vae.state_dict().items()):
            if name.removeprefix("image.").startswith(("encoder.", "quant_conv.")):
                digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:20]

    def shape(self, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """[C, F, h, w] of the latents of [3, F, height, width].

        Raises:
            UserError: a size that is no multiple of the shrink factor.
        """
        if height % self.shrink or width % self.shrink:
            raise UserError(
                f"{height}x{width} pixels: this model takes multiples of {self.shrink}, such as "
                f"{nearest_sides(height, width, self.shrink)}"
            )
        return (self.channels, frames, height // self.shrink, width // self.shrink)

    def _chunk(self, height: int, width: int) -> int:
        return self.chunk or max(1, CHUNK_PIXELS * self.share // (height * width))

    def use_memory(self, memory: str) -> None:
        """Decode in larger calls ("fast"), or in tiles and with fewer frames together ("low"), which changes pictures a
        little where tiles meet and where a decoder with time joins its pieces."""
        self.share = ON_ACCELERATOR if memory == FAST else 1
        if memory == LOW:
            self.decoded_together = DECODED_IN_LOW
            tile = getattr(self.vae, "enable_tiling", None)
            if tile is not None:
                tile()

    def to(self, device: torch.device) -> None:
        """Move the autoencoder."""
        for network in (self.vae, self.decoder):
            if network is not None:
                network.to(device)

    @torch.no_grad()
    def encode(self, video: Tensor) -> tuple[Tensor, Tensor]:
        """[B, 3, F, H, W] in [-1, 1], wherever it lies -> mean and standard deviation of the latents, [B, C, F, h, w]
        each.

        The autoencoder stays where it is, and the latents are there.
        """
        pictures = frames_to_batch(video.to(self.vae.device))
        together = self._chunk(*pictures.shape[2:]) * (1 if pictures.device.type == "cpu" else ON_ACCELERATOR)
        parts = [self.vae.encode(p).latent_dist for p in pictures.split(together)]
        mean, std = (torch.cat([getattr(p, n) for p in parts]) * self.scale for n in ("mean", "std"))
        return batch_to_frames(mean, len(video)), batch_to_frames(std, len(video))

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """[B, C, F, h, w] -> [B, 3, F, H, W] in [-1, 1] or a little beyond."""
        return self.decoded(latents)

    def decoded(self, latents: Tensor) -> Tensor:
        """As `decode`, with a gradient."""
        if self.decoder is not None:
            stand_by(self.decoder, latents)
            return torch.cat([self._decode_pieces(z[None] / self.scale) for z in latents])
        stand_by(self.vae, latents)
        chunk = self._chunk(latents.shape[-2] * self.shrink, latents.shape[-1] * self.shrink)
        pictures: Any = [self.vae.decode(p).sample for p in frames_to_batch(latents / self.scale).split(chunk)]
        return batch_to_frames(torch.cat(pictures), len(latents))

    def _decode_pieces(self, latents: Tensor) -> Tensor:
        """[1, C, F, h, w], unscaled -> [1, 3, F, H, W], by the decoder that knows time, piece by piece."""
        assert self.decoder is not None
        frames, *sides = latents.shape[2:]
        out, end = latents.new_empty(1, 3, frames, *(side * self.shrink for side in sides)), 0
        for place in pieces_of(frames, self.chunk or self.decoded_together, SHARED):
            made = self.decoder.decode(latents[:, :, place])
            shared = end - place.start
            share = torch.arange(1, shared + 1, device=made.device, dtype=made.dtype) / (shared + 1)
            out[:, :, place.start : end].lerp_(made[:, :, :shared], share[:, None, None])
            out[:, :, end : place.stop] = made[:, :, shared:]
            end = place.stop
        return out
