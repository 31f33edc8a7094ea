"""Any model as a super-resolver (2204.03458 eq. 8): what is known is kept, at every block, in space and time."""

import numpy as np
import pytest
import torch

from muybridge.errors import UserError
from muybridge.models import build_network
from muybridge.nn.frames import from_uint8, resized
from muybridge.opening.sampling import load_pipeline
from muybridge.pipelines.guided_super_resolution import _blocks, blocks_of, super_resolve
from muybridge.pipelines.pixels import TextToVideoPipeline
from tests.conftest import TINY_MODEL, randomise

SAMPLING = {"num_frames": 4, "height": 16, "width": 16, "num_inference_steps": 4}


@pytest.fixture
def pipeline():
    network = randomise(build_network({**TINY_MODEL, "text_pooled_dim": 0, "text_token_dim": 0}), 0.05)
    return TextToVideoPipeline(network, sampling=SAMPLING)


@pytest.mark.parametrize("count,block,time", [(4, 4, 1), (10, 4, 1), (12, 4, 2), (9, 6, 3), (16, 16, 4), (5, 5, 5)])
def test_blocks_reach_the_end_and_know_half_of_the_one_before(count, block, time):
    end = 0
    for start, known in _blocks(count, block, time):
        assert start % time == 0 and start + known == end and 0 <= known < block
        end = start + block
    assert end == count
    assert blocks_of(count // time, time, block) == len(list(_blocks(count, block, time)))


@pytest.mark.parametrize("space,time", [(4, 1), (1, 2), (2, 2)])
def test_what_is_drawn_agrees_with_what_was_given(pipeline, space, time):
    rng = np.random.default_rng(0)
    own = pipeline.settings()
    small = rng.integers(0, 256, (6 // time, own.height // space, own.width // space, 3), dtype=np.uint8)

    def missed(weight):
        out = super_resolve(pipeline, small, None, space, time, seed=1, weight=weight, num_inference_steps=6)
        assert out.shape == (len(small) * time, own.height, own.width, 3)
        seen = resized(from_uint8(out[::time])[None], *small.shape[1:3])
        return float((seen - from_uint8(small)[None]).square().mean())

    assert missed(space**2) < 0.6 * missed(1e-6)


def test_the_gradient_goes_through_a_decoder(picture_model):
    pipeline = load_pipeline(str(picture_model))
    small = np.full((1, 8, 8, 3), 250, np.uint8)
    settings = {"num_inference_steps": 6, "guidance_scale": 1.0, "seed": 3}

    def mean(weight):
        return float(super_resolve(pipeline, small, "a star", 2, weight=weight, **settings).mean())

    assert mean(40.0) > mean(1e-6) + 5


def test_other_sizes_are_refused(pipeline):
    with pytest.raises(UserError, match="give a video of 4x4"):
        super_resolve(pipeline, np.zeros((2, 5, 5, 3), np.uint8), None, 4)
    with pytest.raises(UserError, match="cannot draw 8"):
        super_resolve(pipeline, np.zeros((2, 16, 16, 3), np.uint8), None, 1, 8)
    assert torch.is_grad_enabled()
