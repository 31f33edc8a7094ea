"""An autoencoder's levels: one block each, by itself or as given; what diffusers would fail on later is refused."""

import pytest
import torch

from muybridge.errors import UserError
from muybridge.parts.autoencoder import Autoencoder


@pytest.mark.parametrize("widths", [[32], [32, 64], [32, 64, 64]])
def test_blocks_follow_from_the_widths(widths):
    model = Autoencoder({"block_out_channels": widths, "latent_channels": 4}, {}).build()
    pictures = torch.zeros(1, 3, 16, 16)
    latents = model.vae.encode(pictures).latent_dist.mean
    assert latents.shape[2] == 16 // 2 ** (len(widths) - 1)
    assert model.vae.decode(latents).sample.shape == pictures.shape


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"down_block_types": ["DownEncoderBlock2D"]}, "down_block_types"), ({"up_block_types": []}, "up_block_types"),
     ({"in_channels": 4}, "in_channels"), ({"out_channels": 1}, "out_channels"),
     ({"block_out_channels": []}, "block_out"), ({"block_out_channels": 32}, "block_out")],
)  # fmt: skip
def test_levels_that_do_not_match_are_refused(wrong, said):
    with pytest.raises(UserError, match=said):
        Autoencoder({"block_out_channels": [32, 64], **wrong}, {})
