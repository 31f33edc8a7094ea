"""The learned interpolator against its formula with blocks whose answer is known, and the warp it stands on."""

import torch
from torch import nn

from muybridge.models.vision.frame_interpolation import FrameInterpolation
from muybridge.models.vision.optical_flow import warp


class Told(nn.Module):
    """In a block's place: a constant flow, and a mask from what it is shown of both frames."""

    def __init__(self, flow, mask=0.0):
        super().__init__()
        self.flow, self.mask = torch.tensor(flow).reshape(1, 4, 1, 1), mask

    def forward(self, x, flow, scale):
        return self.flow.expand_as(flow), self.mask * (x[:, :1] - 0.5 * x[:, 3:4] + 0.1 * x[:, 6:])


def test_a_warp_looks_where_the_flow_points():
    picture = torch.randn(1, 3, 6, 8)
    right = warp(picture, torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1).expand(1, 2, 6, 8))
    torch.testing.assert_close(right[..., :-1], picture[..., 1:], atol=1e-5, rtol=0)
    torch.testing.assert_close(right[..., -1], picture[..., -1], atol=1e-5, rtol=0)  # edges repeat
    down = warp(picture, torch.tensor([0.0, 0.5]).reshape(1, 2, 1, 1).expand(1, 2, 6, 8))
    torch.testing.assert_close(down[..., :-1, :], (picture[..., :-1, :] + picture[..., 1:, :]) / 2, atol=1e-5, rtol=0)


def test_flows_masks_and_the_blend():
    """flow += (f(a, b) + f(b, a) turned) / 2, mask += (m(a, b) - m(b, a)) / 2, then sigmoid(mask) of a and the rest of
    b."""
    net = FrameInterpolation(width=4)
    net.block0, net.block1, net.block2 = Told([2.0, 0.0, 0.0, 1.0]), Told([0.0] * 4, 3.0), Told([0.0] * 4, 2.0)
    a, b = torch.rand(2, 3, 32, 64), torch.rand(2, 3, 32, 64)
    flow = torch.tensor([1.0, 0.5, 1.0, 0.5]).reshape(1, 4, 1, 1).expand(2, 4, 32, 64)
    seen_a, seen_b = warp(a, flow[:, :2]), warp(b, flow[:, 2:])
    mask = torch.zeros(2, 1, 32, 64)
    for factor in (3.0, 2.0):
        there = factor * (seen_a[:, :1] - 0.5 * seen_b[:, :1] + 0.1 * mask)
        back = factor * (seen_b[:, :1] - 0.5 * seen_a[:, :1] - 0.1 * mask)
        mask = mask + (there - back) / 2
    share = torch.sigmoid(mask)
    torch.testing.assert_close(net(a, b), share * seen_a + (1 - share) * seen_b, atol=1e-5, rtol=0)
    torch.testing.assert_close(net(a, b), net(b, a), atol=1e-5, rtol=0)
