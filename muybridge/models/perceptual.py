"""The distance a picture's look is compared by: LPIPS features of an AlexNet that tolerates small shifts.

Source: 1801.03924 (LPIPS), 2207.13686 (ST-LPIPS); the published weights lie in the package stlpips-pytorch (BSD-2).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, max_pool2d, normalize, pad, relu

from muybridge.models.latents import frames_to_batch
from muybridge.models.packaged import packaged_weights

REQUIREMENT = "stlpips-pytorch==0.0.2"
WEIGHTS = "weights/vST0.0/alex_shift_tolerant.pth"
SHA256 = "b356b382f96010f77d085ee8343ecd9fd322d0a56e8de2b2d0549fafcad8b9ee"
#: Per slice: convolution's place in the file, padding, blur before it (with max pooling, from the second on), blur after.
SLICES = (("slice1.0", 2), ("slice2.5", 2), ("slice3.9", 1), ("slice4.11", 1), ("slice5.13", 1))
BLURS = {0: "slice1.1", 1: "slice2.4", 2: "slice3.8"}


def _halve(x: Tensor, kernel: Tensor) -> Tensor:
    """Blur each channel, keep every other pixel."""
    return conv2d(pad(x, (2, 2, 2, 2), mode="reflect"), kernel, stride=2, groups=x.shape[1])


class PerceptualDistance(nn.Module):
    """How different two pictures look; 0 for equal ones. Frozen, differentiable in both.

    Raises:
        UserError: the weights' package is not installed.
    """

    def __init__(self) -> None:
        super().__init__()
        weights = packaged_weights("stlpips_pytorch", WEIGHTS, SHA256, REQUIREMENT)
        for name, value in weights.items():
            self.register_buffer(name.replace(".", "_"), value, persistent=False)

    def _of(self, name: str) -> Tensor:
        return self.get_buffer(name.replace(".", "_"))

    def features(self, x: Tensor) -> list[Tensor]:
        """Five maps [B, C_k, H_k, W_k] of pictures [B, 3, H, W] in [-1, 1]."""
        x = (x - self._of("scaling_layer.shift")) / self._of("scaling_layer.scale")
        maps = []
        for i, (name, padding) in enumerate(SLICES):
            if i in (1, 2):
                x = _halve(max_pool2d(x, 3, 1), self._of(f"net.{BLURS[i]}.filt"))
            x = conv2d(x, self._of(f"net.{name}.weight"), self._of(f"net.{name}.bias"), padding=padding)
            if i == 0:
                x = _halve(x, self._of(f"net.{BLURS[0]}.filt"))
            x = relu(x)
            maps.append(x)
        return maps

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """[B, 3, H, W] twice, in [-1, 1], at least 16 pixels a side -> [B]."""
        return torch.stack([self._weighed(k, d) for k, d in enumerate(self._differences(a, b))]).sum(0)

    def of_videos(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """[B, 3, F, H, W] twice -> how different frames look, and how different their change from frame to frame looks, each [B].

        The second is 0 for an error that stays the same over time, and large for one that flickers; 0 for a single frame.
        """
        look = change = a.new_zeros(len(a))
        for k, difference in enumerate(self._differences(frames_to_batch(a), frames_to_batch(b))):
            look = look + self._weighed(k, difference).unflatten(0, (len(a), -1)).mean(1)
            moved = difference.unflatten(0, (len(a), -1)).diff(dim=1)
            if moved.shape[1]:
                change = change + self._weighed(k, moved.flatten(0, 1)).unflatten(0, (len(a), -1)).mean(1)
        return look, change

    def _differences(self, a: Tensor, b: Tensor) -> list[Tensor]:
        """Five maps, of features of unit length."""
        pairs = zip(self.features(a), self.features(b), strict=True)
        return [normalize(left, dim=1) - normalize(right, dim=1) for left, right in pairs]

    def _weighed(self, k: int, difference: Tensor) -> Tensor:
        """[B, C, H, W] -> [B], the mean of its squares, channels weighed as the package learned them."""
        return conv2d(difference.square(), self._of(f"lin{k}.model.1.weight")).mean((1, 2, 3))


def perceptual_distance() -> PerceptualDistance:
    """The distance, frozen and in evaluation mode."""
    return PerceptualDistance().eval().requires_grad_(False)
