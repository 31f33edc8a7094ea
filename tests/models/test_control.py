"""What ControlNets add: by their scales, by their pictures' frames, several at once."""

import pytest
import torch
from diffusers import ControlNetModel

from muybridge.models.vision.control import Control, residuals_of
from tests.conftest import randomise

FRAMES = 3


def control_net():
    return randomise(
        ControlNetModel(
            in_channels=4, block_out_channels=(8, 16), layers_per_block=1, cross_attention_dim=8, attention_head_dim=4,
            norm_num_groups=4, conditioning_embedding_out_channels=(4, 8),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        )
    ).eval()  # fmt: skip


@torch.no_grad()
def test_residuals_follow_scales_frames_and_sums():
    first, second = control_net(), control_net()
    with torch.no_grad():
        second.controlnet_mid_block.weight.mul_(3)
    pictures, others = torch.rand(FRAMES, 3, 16, 16), torch.rand(FRAMES, 3, 16, 16)
    z, index, tokens = torch.randn(2 * FRAMES, 4, 8, 8), torch.arange(2 * FRAMES), torch.randn(2 * FRAMES, 5, 8)

    def close(a, b):
        for x, y in zip((*a[0], a[1]), (*b[0], b[1]), strict=True):
            torch.testing.assert_close(x, y, atol=1e-5, rtol=1e-4)

    # both videos of the batch see the same pictures, frame by frame
    down, middle = first(z, index, tokens, torch.cat([pictures, pictures]), return_dict=False)
    alone = residuals_of([Control(first, pictures)], z, index, tokens)
    close(alone, (down, middle))
    scaled = residuals_of([Control(first, pictures, 0.25)], z, index, tokens)
    close(scaled, ([0.25 * d for d in down], 0.25 * middle))
    other = residuals_of([Control(second, others, 2.0)], z, index, tokens)
    both = residuals_of([Control(first, pictures, 0.25), Control(second, others, 2.0)], z, index, tokens)
    close(both, ([a + b for a, b in zip(scaled[0], other[0], strict=True)], scaled[1] + other[1]))
    assert residuals_of([Control(first, pictures, 0.0)], z, index, tokens) is None

    rows = torch.tensor([2, 0])  # a window of the video, in its own order
    some = residuals_of([Control(first, pictures)], z[:2], index[:2], tokens[:2], rows)
    down, middle = first(z[:2], index[:2], tokens[:2], pictures[rows], return_dict=False)
    close(some, (down, middle))


def test_pictures_must_divide_the_batch():
    with pytest.raises((RuntimeError, ValueError)):
        residuals_of(
            [Control(control_net(), torch.rand(3, 3, 16, 16))],
            torch.randn(4, 4, 8, 8),
            torch.arange(4),
            torch.randn(4, 5, 8),
        )
