"""One video that becomes another: its ends are the given ones, each frame is drawn by its own share of the steps."""

import pytest
import torch

from muybridge.errors import UserError
from muybridge.models import build_network
from muybridge.pipelines.blending import blend, freed_at, held
from muybridge.pipelines.pixels import TextToVideoPipeline
from tests.conftest import TINY_MODEL

SAMPLING = {"num_frames": 5, "height": 16, "width": 16, "num_inference_steps": 10, "guidance_scale": 1.0}


@pytest.fixture
def pipeline():
    return TextToVideoPipeline(build_network(TINY_MODEL), text_encoder="all-MiniLM-L6-v2", sampling=SAMPLING)


def videos():
    torch.manual_seed(0)
    return torch.rand(1, 3, 5, 16, 16) * 2 - 1, torch.rand(1, 3, 5, 16, 16) * 2 - 1


def test_the_middle_is_drawn_in_most_of_the_steps_and_the_ends_in_none():
    lams = torch.linspace(-5, 5, 11)
    freed = freed_at(5, 0.8, lams)  # 0, 4, 8, 4, 0 of ten steps
    assert freed.tolist() == [torch.inf, lams[6], lams[2], lams[6], torch.inf]
    assert freed_at(3, 0.0, lams).isinf().all()


def test_a_frame_is_that_of_the_base_until_it_is_freed():
    base, drawn = torch.zeros(1, 1, 3, 1, 1), torch.ones(1, 1, 3, 1, 1)
    denoise = held(lambda z, lam: drawn, base, torch.tensor([torch.inf, -2.0, 1.0]))
    for lam, wanted in ((-3.0, [0, 0, 0]), (-2.0, [0, 1, 0]), (0.9, [0, 1, 0]), (1.0, [0, 1, 1]), (9.0, [0, 1, 1])):
        assert denoise(base, torch.tensor([lam])).flatten().tolist() == wanted, lam


@pytest.mark.parametrize("sampler", ["ddim", "dpmpp_2m", "ancestral"])
def test_it_begins_as_the_first_and_ends_as_the_second(pipeline, monkeypatch, sampler):
    a, b = videos()
    grey = lambda *told: lambda z, lam: torch.full_like(z, 0.25)  # noqa: E731
    monkeypatch.setattr(pipeline, "denoiser", grey)
    made = blend(pipeline, a, b, None, 0.8, sampler=sampler).samples
    assert torch.allclose(made[:, :, 0], a[:, :, 0]) and torch.allclose(made[:, :, -1], b[:, :, -1])
    # what the network draws takes the place of the cross-fade wherever it has a step
    assert (made[:, :, 1:-1] - 0.25).abs().max() < 0.02


def test_without_strength_it_is_a_cross_fade(pipeline):
    a, b = videos()
    made = blend(pipeline, a, b, None, 0.0).samples
    assert torch.allclose(made[:, :, 1], 0.75 * a[:, :, 1] + 0.25 * b[:, :, 1], atol=1e-6)


def test_what_cannot_be_blended_is_refused(pipeline):
    a, b = videos()
    with pytest.raises(UserError, match="two videos of the same size"):
        blend(pipeline, a, b[:, :, :4], None)
    with pytest.raises(UserError, match=r"strength must be in 0\.\.1"):
        blend(pipeline, a, b, None, 1.5)
