"""The super-resolver against its formula: bicubic at the start, crops, chunks, stills, words."""

import json

import numpy as np
import pytest
import torch
from torch.nn.functional import conv2d, silu

from muybridge.errors import UserError
from muybridge.models.latent.critics import PatchCritic
from muybridge.models.vision.upscaler import (
    UpscalerBlock,
    UpscalerWithCritic,
    VideoUpscaler,
    beside,
    bicubic,
    box_averaged,
    open_upscaler,
    upscaled_chunks,
)
from tests.conftest import randomise

TINY = dict(width=12, layers=4, temporal_every=2, text_pooled_dim=6, embedding_dim=5)


@pytest.fixture
def network():
    """Perturbed, float64: two temporal convolutions."""
    return randomise(VideoUpscaler(**TINY), 0.05).double().eval()


def clip(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1


def test_bicubic_is_keys_kernel_on_pixels_areas():
    """W(x) of a = -0.75 at the four phases of a factor of four, (k + 1/2) / 4 - 1/2 from the left pixel's centre."""
    a = -0.75

    def kernel(x):
        x = abs(x)
        near, far = (a + 2) * x**3 - (a + 3) * x**2 + 1, a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
        return near if x <= 1 else far if x < 2 else 0.0

    row = clip(8)
    made = bicubic(row.expand(1, 1, 8, 8))[0, 0, 13]
    for place in range(8, 24):  # away from the rim
        middle = (place + 0.5) / 4 - 0.5
        wanted = sum(float(row[i]) * kernel(middle - i) for i in range(8))
        assert abs(float(made[place]) - wanted) < 1e-12
    assert torch.equal(box_averaged(torch.arange(32.0).reshape(1, 4, 8)), torch.tensor([[[13.5, 17.5]]]))


def test_fresh_weights_are_bicubic_and_all_of_them_learn():
    network, video = VideoUpscaler(**TINY), clip(2, 3, 3, 8, 8).float()
    text = torch.randn(2, 6)
    smooth = bicubic(video.transpose(1, 2).flatten(0, 1)).unflatten(0, (2, 3)).transpose(1, 2)
    assert torch.equal(network(video, text), smooth)
    assert network.context == 2 and network.reach == 12
    randomise(network, 0.02)(video, text).square().sum().backward()
    assert not [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum()]


def test_a_block_is_its_formula():
    """x + conv2(silu(conv1(x) (1 + scale) + shift)), then the same frame, the one before and the one behind, each by
    its own matrix."""
    block = randomise(UpscalerBlock(4, 3, True)).double()
    x, text = clip(6, 4, 5, 5), clip(2, 3, seed=1)
    scale, shift = (text @ block.film.weight.T).chunk(2, 1)
    h = conv2d(x, block.conv1.weight, block.conv1.bias, padding=1)
    per_frame = [0, 0, 0, 1, 1, 1]  # two clips of three frames
    h = h * (1 + scale[per_frame][..., None, None]) + shift[per_frame][..., None, None]
    y = x + conv2d(silu(h), block.conv2.weight, block.conv2.bias, padding=1)
    before, own, behind = block.time.weight[..., 0, 0].chunk(3, 1)
    z = silu(y)
    for frame in range(6):
        first, last = frame // 3 * 3, frame // 3 * 3 + 2
        mixed = [
            torch.einsum("oc,chw->ohw", matrix, z[at])
            for matrix, at in ((before, max(first, frame - 1)), (own, frame), (behind, min(last, frame + 1)))
        ]
        wanted = y[frame] + sum(mixed) + block.time.bias[:, None, None]
        torch.testing.assert_close(block(x, text, 3)[frame], wanted, atol=1e-12, rtol=0)
    torch.testing.assert_close(beside(x, 3)[3], torch.cat([x[3], x[3], x[4]]), atol=0, rtol=0)


def test_a_crop_is_the_crop_of_the_whole_away_from_its_rim(network):
    video = clip(1, 3, 2, 40, 36)
    whole, part = network(video), network(video[..., 4:38, 3:33])
    assert whole.shape == (1, 3, 2, 160, 144)
    reach = 4 * network.reach
    inside = part[..., reach:-reach, reach:-reach]
    assert inside.shape[-2:] == (40, 24)
    wanted = whole[..., 16 + reach : 152 - reach, 12 + reach : 132 - reach]
    torch.testing.assert_close(inside, wanted, atol=1e-12, rtol=0)
    assert (part - whole[..., 16:152, 12:132]).abs().max() > 1e-3  # the rim does differ


def test_a_still_clip_is_its_picture_and_time_is_seen(network):
    picture = clip(1, 3, 1, 8, 8)
    alone, still = network(picture), network(picture.expand(-1, -1, 5, -1, -1))
    torch.testing.assert_close(still, alone.expand(-1, -1, 5, -1, -1), atol=1e-12, rtol=0)
    video = clip(1, 3, 7, 8, 8)
    changed = video.clone()
    changed[:, :, 6] = -changed[:, :, 6]
    difference = (network(video) - network(changed)).abs().amax((0, 1, 3, 4))
    assert bool((difference[:4] == 0).all()) and bool((difference[4:] > 1e-6).all())  # context: two frames


def test_words_change_what_is_drawn_and_left_out_ones_do_not(network):
    video, text = clip(2, 3, 2, 8, 8), clip(2, 6, seed=3)
    bare, told = network(video), network(video, text)
    assert (bare - told).abs().amax((1, 2, 3, 4)).min() > 1e-4
    mixed = network(video, text, torch.tensor([True, False]))
    torch.testing.assert_close(mixed, torch.stack([told[0], bare[1]]), atol=1e-12, rtol=0)
    without = VideoUpscaler(**{**TINY, "text_pooled_dim": 0})
    assert without.text is None and not [n for n, _ in without.named_parameters() if "film" in n]


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 9])
def test_chunks_make_the_frames_of_the_whole(chunk):
    network = randomise(VideoUpscaler(**TINY), 0.05).eval()
    frames = np.random.default_rng(0).integers(0, 256, (9, 8, 12, 3), dtype=np.uint8)
    text = torch.randn(1, 6)
    whole = network(torch.from_numpy(frames).permute(3, 0, 1, 2)[None] / 127.5 - 1, text)
    wanted = ((whole[0].clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 3, 0).numpy()
    parts = list(upscaled_chunks(network, frames, text, chunk))
    assert [len(p) for p in parts] == [min(chunk, 9 - i) for i in range(0, 9, chunk)]
    made = np.concatenate(parts)
    assert made.shape == (9, 32, 48, 3) and made.dtype == np.uint8
    apart = np.abs(made.astype(int) - wanted)
    assert apart.max() <= 1 and (apart > 0).mean() < 1e-3  # rounding at a half
    assert np.ptp(wanted) > 200


def test_critic_and_maker_get_the_losses_of_what_is_made():
    from muybridge.models.latent.critics import critic_losses

    model = UpscalerWithCritic(randomise(VideoUpscaler(**TINY), 0.05), PatchCritic(width=4, frames=3))
    low, high = clip(2, 3, 3, 8, 8).float(), clip(2, 3, 3, 32, 32, seed=2).float()
    made, maker, judge = model(low, high, None, None)
    assert torch.equal(made, model.network(low))
    wanted = critic_losses(model.critic, high, made)
    assert torch.equal(maker, wanted[0]) and torch.equal(judge, wanted[1])
    (maker + 0 * judge).sum().backward()
    assert not [p for p in model.critic.parameters() if p.grad is not None and p.grad.abs().sum()]


def test_a_saved_one_opens_and_others_are_refused(tmp_path, network):
    network.float().save_pretrained(tmp_path / "saved")
    opened, video = open_upscaler(tmp_path / "saved"), clip(1, 3, 2, 8, 8).float()
    torch.testing.assert_close(opened(video), network.float()(video))
    assert not any(p.requires_grad for p in opened.parameters())
    model = UpscalerWithCritic(VideoUpscaler(**TINY), PatchCritic(width=4))
    model.start_from(tmp_path / "saved")
    torch.testing.assert_close(model.network(video), network(video))
    wider = UpscalerWithCritic(VideoUpscaler(**{**TINY, "width": 16}), PatchCritic(width=4))
    with pytest.raises(UserError, match="do not fit"):
        wider.start_from(tmp_path / "saved")
    config = tmp_path / "saved" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"_class_name": "DepthNet"}))
    with pytest.raises(UserError, match="a DepthNet, no upscaler"):
        open_upscaler(tmp_path / "saved")
