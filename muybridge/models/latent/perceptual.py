"""The distance a picture's look is compared by: LPIPS features of an AlexNet that tolerates small shifts.

Source: 1801.03924 (LPIPS), 2207.13686 (ST-LPIPS); the published weights lie in the package stlpips-pytorch (BSD-2).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import conv2d, max_pool2d, normalize, pad, relu

from muybridge.models.weights.packaged import packaged_weights

REQUIREMENT = "stlpips-pytorch==0.0.2"
WEIGHTS = "weights/vST0.0/alex_shift_tolerant.pth"
SHA256 = "b356b382f96010f77d085ee8343ecd9fd322d0a56e8de2b2d0549fafcad8b9ee"
#: Per slice: convolution's place in the file, padding, blur before it (with max pooling, from the second on), blur
#: after.
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
        total = a.new_zeros(len(a))
        for k, (left, right) in enumerate(zip(self.features(a), self.features(b), strict=True)):
            difference = (normalize(left, dim=1) - normalize(right, dim=1)).square()
            total = total + conv2d(difference, self._of(f"lin{k}.model.1.weight")).mean((1, 2, 3))
        return total


def perceptual_distance() -> PerceptualDistance:
    """The distance, frozen and in evaluation mode."""
    return PerceptualDistance().eval().requires_grad_(False)
