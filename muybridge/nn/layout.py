"""How weights lie in memory and which kernels multiply them: what makes networks fast on CPUs, and changes no result
beyond rounding."""

from __future__ import annotations

import ctypes
import platform
import sys
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear

from muybridge.nn.resting import Resting, RestingLinear

#: Below so many multiplications a call's overhead decides, and a linear layer stays one.
WORTH_IT = 2**20
#: With one thread torch convolves 1 x 1 by oneDNN only where there are so many pictures.
ONEDNN_IMAGES = 16


def suit_cpu(model: nn.Module, only_trainable: bool = False) -> None:
    """Lay a network out for the CPU: channels-last convolutions, linear layers by the faster library, and diffusers'
    feed-forward layers part by part.

    Args:
        only_trainable: frozen convolutions are laid out plainly, whatever they were: torch 2.13 crashes in the backward
            pass of a GroupNorm that trains on channels-last input without a gradient, as the first one behind frozen
            convolutions does.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            last = not only_trainable or module.weight.requires_grad
            module.to(memory_format=torch.channels_last if last else torch.contiguous_format)  # type: ignore[call-overload]
        elif type(module) in BY_CONVOLUTION and linears_by_convolution():
            module.__class__ = BY_CONVOLUTION[type(module)]
    if "diffusers.models.attention" in sys.modules:  # else no network has its layers, and it takes long to import
        from muybridge.nn.pieces import within_cache

        within_cache(model)


class ConvolvedLinear(nn.Linear):
    """A linear layer computed as a 1 x 1 convolution: the same parameters and the same function.

    torch multiplies float32 matrices with MKL, which leaves half of an AMD processor's speed unused, but convolves with
    oneDNN, which does not (on Zen 5 a step of one layer, loss included, is 1.4 times as fast: `python -m benchmarks.run
    linear`).
    """

    def forward(self, input: Tensor) -> Tensor:  # some of diffusers' layers name it
        if input.device.type != "cpu" or input.dtype == torch.float64 or input.numel() * self.out_features < WORTH_IT:
            return linear(input, self.weight, self.bias)
        tokens = input.numel() // self.in_features
        images = 1 if torch.get_num_threads() > 1 else ONEDNN_IMAGES
        if tokens % images:
            return linear(input, self.weight, self.bias)
        rows = input.reshape(images, -1, 1, self.in_features).permute(0, 3, 1, 2)
        out = conv2d(rows, self.weight[:, :, None, None], self.bias)
        return out.permute(0, 2, 3, 1).reshape(*input.shape[:-1], self.out_features)


class RestingConvolvedLinear(Resting, ConvolvedLinear):  # type: ignore[override]
    awake = ConvolvedLinear


BY_CONVOLUTION: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: ConvolvedLinear,
    RestingLinear: RestingConvolvedLinear,
}


@lru_cache(maxsize=1)
def linears_by_convolution() -> bool:
    """Whether this machine's linear layers are better convolved: torch with MKL and oneDNN on an AMD processor with
    AVX-512.

    On one without, convolving takes 1.36 times as long.
    """
    if not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()):
        return False
    return all(word in _processor() for word in ("AuthenticAMD", "avx512f"))


@lru_cache(maxsize=1)
def emulates_bf16() -> bool:
    """Whether this is an x86 processor without instructions for bf16: torch then computes it many times slower than
    float32."""
    known = Path("/proc/cpuinfo").is_file() and platform.machine() in ("x86_64", "AMD64")
    return known and not any(flag in _processor() for flag in ("avx512_bf16", "amx_bf16"))


def _processor() -> str:
    """What the system tells of the processor."""
    info = Path("/proc/cpuinfo")
    return info.read_text(encoding="utf-8", errors="replace") if info.is_file() else platform.processor()


#: What is said where bf16 is chosen on such a processor.
SLOW_BF16 = "this processor has no bf16 instructions: bf16 takes less memory here, but up to ten times as long as fp32"


def keep_freed_memory() -> None:
    """Let the C library keep what is freed instead of returning it to the system after every step, only to ask for it
    again.

    A training step frees and takes the same gigabytes; zeroing their pages anew took an eighth of its time. Does
    nothing where the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        trim_threshold, mmap_threshold = -1, -3  # malloc.h
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(mmap_threshold, 32 * 2**20)  # the largest it takes
