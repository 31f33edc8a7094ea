"""The clips that the lessons work with, and denoisers that know them exactly: no network, so that a slider answers at
once and what it shows is the equation itself."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from muybridge.diffusion.noise import Noise
from muybridge.diffusion.oracle import finite_denoiser
from muybridge.diffusion.prediction import Denoise

#: Of the clips: how many, their frames, their sides.
CLIPS, FRAMES, SIDE = 64, 12, 32
WORDS = "circle"


@functools.cache
def clips() -> tuple[Tensor, tuple[str, ...]]:
    """([N, 3, F, H, W] in [-1, 1], captions) of generated scenes with true captions."""
    from muybridge.data.registry import make_source
    from muybridge.nn.frames import from_uint8

    source = make_source(
        {
            "source": "world", "height": SIDE, "width": SIDE, "num_frames": FRAMES, "fps": 8.0, "num_clips": 4 * CLIPS,
            "seed": 1, "backgrounds": ["dark"], "pans": ["none"], "two_things": 0.0, "plain_captions": 1.0,
        },
        "train",
    )  # fmt: skip
    found = [source.clip(i) for i in range(CLIPS)]
    return torch.stack([from_uint8(c.frames) for c in found]), tuple(c.caption for c in found)


def example() -> Tensor:
    """One of them, [1, 3, F, H, W]."""
    return clips()[0][:1]


@functools.cache
def of_words(word: str = WORDS) -> Tensor:
    """Those whose caption has a word."""
    data, captions = clips()
    return data[[i for i, caption in enumerate(captions) if word in caption.split()]]


@functools.cache
def knows_all() -> Denoise:
    """E[x | z] where x is any of the clips."""
    return finite_denoiser(clips()[0])


@functools.cache
def knows_words() -> Denoise:
    """E[x | z] where x is one of those with the word."""
    return finite_denoiser(of_words())


def noise_like(video: Tensor, purpose: str = "learn") -> Tensor:
    """The same noise at every call, so that only the slider changes what is seen."""
    return Noise([0])(tuple(video.shape[1:]), purpose)
