"""T9 to T12 and T21 of spec 04: causality, tail initialisation, pieces, lengths, still videos; and CogVideoX's
numbers."""

import copy

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderKLCogVideoX

from muybridge.errors import UserError
from muybridge.models.latent.autoencoder import AutoencoderWithCritic
from muybridge.models.latent.causal_autoencoder import CausalAutoencoder, CausalConv, Piece, Under
from muybridge.models.latent.critics import PatchCritic
from muybridge.models.latent.space import CHUNK_PIXELS, LatentSpace
from muybridge.models.latent.video_space import CogVideoXSpace, VideoSpace, open_space
from muybridge.models.weights.compact import pack_file
from muybridge.nn.frames import batch_to_frames, frames_to_batch
from muybridge.parts.autoencoder import Autoencoder
from tests.conftest import TINY_VAE, randomise

F64 = torch.float64
LEVELS = {
    **TINY_VAE, "block_out_channels": (8, 8, 16), "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3, "scaling_factor": 0.5,
}  # fmt: skip


def picture(std=0.05):
    return randomise(AutoencoderKL(**LEVELS), std).double().eval()


def causal(time=4, kernel=3, std=0.05):
    """Weights of every tap, so that frames do look back."""
    return randomise(CausalAutoencoder.from_image_model(picture(), time, kernel), std).double().eval()


def mean_of(model, video, chunk=0):
    return model.encode(video, chunk).latent_dist.mean


def test_the_convolution_is_the_sum_over_earlier_frames():
    """Against a loop over output places, in float64."""
    under = Under(Piece(2))
    conv = randomise(CausalConv(torch.nn.Conv2d(3, 2, 3, padding=1).double(), 3, "name", under), 0.5)
    x = torch.randn(2, 3, 4, 5, 6, dtype=F64)
    got = batch_to_frames(conv(frames_to_batch(x)), 2)
    expected = torch.zeros(2, 2, 4, 5, 6, dtype=F64)
    for f in range(4):
        for row in range(5):
            for column in range(6):
                total = conv.bias.detach().clone().expand(2, -1).clone()
                for k in range(3):
                    frame = x[:, :, max(0, f - 2 + k)]
                    for a in range(3):
                        for b in range(3):
                            r, c = row + a - 1, column + b - 1
                            if 0 <= r < 5 and 0 <= c < 6:
                                total += frame[:, :, r, c] @ conv.weight[:, :, k, a, b].detach().T
                expected[:, :, f, row, column] = total
    assert torch.allclose(got, expected, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("kernel", [1, 2, 3])
def test_t10_starts_as_the_picture_autoencoder_of_each_frame(kernel):
    vae, x = picture(), torch.randn(2, 3, 5, 16, 16, dtype=F64)
    model = CausalAutoencoder.from_image_model(vae, 1, kernel).eval()
    moments = vae.encode(frames_to_batch(x)).latent_dist
    found = model.encode(x).latent_dist
    for name in ("mean", "std"):
        assert torch.allclose(frames_to_batch(getattr(found, name)), getattr(moments, name), atol=1e-10)
    back = frames_to_batch(model.decode(found.mean))
    assert torch.allclose(back, vae.decode(moments.mean).sample, atol=1e-10)
    with_time = CausalAutoencoder.from_image_model(vae, 4, kernel).eval()  # of one frame the same, with any compression
    one = with_time.encode(x[:, :, :1]).latent_dist.mean
    assert torch.allclose(one[:, :, 0], batch_to_frames(moments.mean, 2)[:, :, 0], atol=1e-10)


@torch.no_grad()
def test_t10_compression_in_time_is_the_mean_of_pairs():
    """With weights that look at one frame and no nonlinearity in the way there is a closed form: latents of still
    stretches are those of their frame."""
    vae = picture()
    model = CausalAutoencoder.from_image_model(vae, 4).eval()
    a, b, c = torch.randn(3, 1, 3, 1, 16, 16, dtype=F64)
    video = torch.cat([a, b.expand(-1, -1, 4, -1, -1), c.expand(-1, -1, 4, -1, -1)], 2)
    expected = torch.stack([vae.encode(x[:, :, 0]).latent_dist.mean for x in (a, b, c)], 2)
    assert torch.allclose(mean_of(model, video), expected, atol=1e-10)
    back = model.decode(expected)
    pictures = [vae.decode(expected[:, :, i]).sample for i in range(3)]
    for frame, of in enumerate([0, 1, 1, 1, 1, 2, 2, 2, 2]):
        assert torch.allclose(back[:, :, frame], pictures[of], atol=1e-10)


@torch.no_grad()
def test_t9_frames_do_not_hear_of_later_ones():
    model, x = causal(), torch.randn(1, 3, 13, 16, 16, dtype=F64)
    z = mean_of(model, x)
    assert z.shape == (1, 4, 4, 4, 4)
    for latent in range(4):
        later = x.clone()
        later[:, :, 1 + 4 * latent :] += 1.0
        moved = (mean_of(model, later) - z).abs().amax((0, 1, 3, 4))
        assert float(moved[: latent + 1].max()) == 0.0
        assert latent == 3 or float(moved[latent + 1 :].min()) > 1e-4
    assert torch.allclose(mean_of(model, x[:, :, :1]), z[:, :, :1], atol=1e-12)
    assert mean_of(model, x[:, :, :1]).shape[2] == 1
    back = model.decode(z)
    changed = z.clone()
    changed[:, :, 2:] += 1.0
    moved = (model.decode(changed) - back).abs().amax((0, 1, 3, 4))
    assert float(moved[:5].max()) == 0.0 and float(moved[5:].min()) > 1e-4


@torch.no_grad()
@pytest.mark.parametrize(("time", "frames", "latents"), [(1, 6, 6), (2, 7, 4), (4, 9, 3), (4, 1, 1)])
def test_t12_lengths(time, frames, latents):
    model = causal(time)
    z = mean_of(model, torch.randn(1, 3, frames, 16, 16, dtype=F64))
    assert z.shape[2] == latents == 1 + (frames - 1) // time
    assert model.decode(z).shape == (1, 3, frames, 16, 16)


@torch.no_grad()
@pytest.mark.parametrize("time", [1, 2, 4])
def test_t11_pieces_with_what_was_seen_carried_on_are_the_whole(time):
    model = causal(time)
    x = torch.randn(2, 3, 1 + 4 * time, 16, 16, dtype=F64)
    z = mean_of(model, x)
    back = model.decode(z)
    for chunk in (1, 2, 3, 7):
        assert torch.allclose(mean_of(model, x, chunk), z, atol=1e-10)
        assert torch.allclose(model.decode(z, chunk), back, atol=1e-10)
    alone = torch.cat([model.decode(z[:, :, :2]), model.decode(z[:, :, 2:])], 2)
    assert alone.shape != back.shape or not torch.allclose(alone, back, atol=1e-3)  # nothing carried on


@torch.no_grad()
def test_t11_group_norms_over_time_are_not_exact_in_pieces():
    """CogVideoX's norms look at all frames of a piece: its own chunked encoding is another than the whole's."""
    theirs = cogvideox()
    x = torch.randn(1, 3, 17, 16, 16)
    chunked = theirs.encode(x).latent_dist.mean
    theirs.num_sample_frames_batch_size = 16
    assert float((theirs.encode(x).latent_dist.mean - chunked).abs().max()) > 1e-3 * float(chunked.std())


@torch.no_grad()
def test_t21_a_still_video_stays_still():
    model = causal(std=0.2)
    still = torch.randn(1, 3, 1, 16, 16, dtype=F64).expand(-1, -1, 13, -1, -1)
    z = mean_of(model, still)
    assert torch.allclose(z, z[:, :, :1].expand_as(z), atol=1e-12)
    back = model.decode(z)
    assert torch.allclose(back, back[:, :, :1].expand_as(back), atol=1e-12) and float(back.std()) > 0.01


def test_what_it_cannot_take_is_refused():
    with pytest.raises(UserError, match=r"4 frames.*such as 1 or 5"):
        causal().encode(torch.zeros(1, 3, 4, 16, 16, dtype=F64))
    with pytest.raises(UserError, match="at most 4 here"):
        CausalAutoencoder(LEVELS, 8)
    with pytest.raises(UserError, match="time_kernel"):
        CausalAutoencoder(LEVELS, 4, 0)


def test_a_copy_and_a_checkpointed_one_are_the_same():
    model = causal()
    x = torch.randn(1, 3, 5, 16, 16, dtype=F64)
    gradients = []
    for checkpointing in (False, True):
        net = copy.deepcopy(model).train()
        if checkpointing:
            net.enable_gradient_checkpointing()
        net.decode(net.encode(x).latent_dist.mean).square().sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in net.parameters()]))
    assert torch.allclose(*gradients, atol=1e-10) and float(gradients[0].abs().max()) > 0
    assert net.under is not model.under and net.image.encoder.conv_in.under is net.under


@torch.no_grad()
def test_its_latent_space_opens_from_a_folder(tmp_path):
    model = causal().float()
    model.register_to_config(scaling_factor=0.25)
    model.save_pretrained(tmp_path / "vae")
    space = open_space(tmp_path / "vae")
    assert isinstance(space, VideoSpace) and (space.time, space.shrink, space.channels) == (4, 4, 4)
    x = torch.randn(2, 3, 13, 16, 16)
    mean, std = space.encode(x)
    whole = model.encode(x).latent_dist
    assert torch.allclose(mean, 0.25 * whole.mean, atol=1e-5) and torch.allclose(std, 0.25 * whole.std, atol=1e-5)
    assert mean.shape[1:] == space.shape(13, 16, 16)
    assert torch.allclose(space.decode(mean), model.decode(whole.mean), atol=1e-4)
    assert space._piece(64 * 64, torch.device("cpu")) == CHUNK_PIXELS // (4 * 64 * 64)
    with pytest.raises(UserError, match="such as 9 or 13"):
        space.shape(12, 16, 16)
    with pytest.raises(UserError, match="multiples of 4"):
        space.shape(13, 18, 16)
    pack_file(tmp_path / "vae" / "diffusion_pytorch_model.safetensors")  # as a bundled model is kept
    packed = open_space(tmp_path / "vae").encode(x)[0]
    assert 0 < float((packed - mean).abs().max()) < 0.1 * float(mean.std())
    before = space.identity()
    with torch.no_grad():
        model.image.encoder.conv_in.weight[0, 0, 0] += 1.0
    assert VideoSpace(model).identity() != before
    picture().float().save_pretrained(tmp_path / "picture")
    assert type(open_space(tmp_path / "picture")) is LatentSpace


def cogvideox():
    torch.manual_seed(0)
    return randomise(
        AutoencoderKLCogVideoX(
            block_out_channels=(8, 8, 16), down_block_types=("CogVideoXDownBlock3D",) * 3,
            up_block_types=("CogVideoXUpBlock3D",) * 3, layers_per_block=1, norm_num_groups=4, latent_channels=4,
            temporal_compression_ratio=4, sample_height=16, sample_width=16, scaling_factor=0.7,
        ),
        0.05,
    ).eval()  # fmt: skip


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 9, 17])
def test_a_users_cogvideox_autoencoder_gives_diffusers_numbers(tmp_path, frames):
    theirs = cogvideox()
    theirs.save_pretrained(tmp_path / "vae")
    space = open_space(tmp_path / "vae")
    assert isinstance(space, CogVideoXSpace) and (space.time, space.shrink) == (4, 4)
    x = torch.randn(1, 3, frames, 16, 16)
    expected = theirs.encode(x).latent_dist
    mean, std = space.encode(x)
    assert mean.shape[1:] == space.shape(frames, 16, 16)
    assert torch.allclose(mean, 0.7 * expected.mean, atol=1e-6) and torch.allclose(std, 0.7 * expected.std, atol=1e-6)
    assert torch.allclose(space.decode(mean), theirs.decode(expected.mean).sample, atol=1e-5)


def test_it_trains_beside_a_critic_from_a_picture_autoencoder(tmp_path):
    picture().float().save_pretrained(tmp_path / "picture")
    model = Autoencoder({"causal_of": str(tmp_path / "picture"), "time_compression": 2}, {"critic_frames": 3}).build()
    assert isinstance(model, AutoencoderWithCritic) and model.vae.time == 2
    x = torch.randn(2, 3, 5, 16, 16)
    out = model(x, torch.zeros(2, *model.latent_shape(x)))
    assert out.sample.shape == x.shape and out.kl.shape == (2,)
    by_hand = model.vae.encode(x).latent_dist  # the KL of a Gaussian to N(0, I), per value
    expected = 0.5 * (by_hand.mean**2 + by_hand.std**2 - 1 - 2 * by_hand.std.log()).flatten(1).mean(1)
    assert torch.allclose(out.kl, expected, atol=1e-5)
    (out.sample.square().mean() + out.judge.mean()).backward()
    assert all(p.grad is not None for p in model.vae.image.decoder.parameters())


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"causal_of": "x", "block_out_channels": [8]}, "'block_out_channels' beside causal_of"),
        ({"temporal_decoder_of": "x", "time_kernel": 3}, "'time_kernel' beside temporal_decoder_of"),
        ({"temporal_decoder_of": "x", "causal_of": "y"}, "'causal_of' beside temporal_decoder_of"),
        ({"time_compression": 3}, "model.time_compression"),
    ],
)
def test_settings_that_do_not_go_together(model, said):
    with pytest.raises(UserError, match=said):
        Autoencoder(model, {})


def test_losses_of_pictures_and_clips_under_the_motion_term():
    """One frame has no differences: the term is left out, not undefined."""
    levels = {k: LEVELS[k] for k in ("block_out_channels", "norm_num_groups", "layers_per_block")}
    system = Autoencoder({"time_compression": 2, **levels}, {"motion": 1.0, "perceptual": 0.0})
    model = system.build()

    class Batch:
        seed, step, places = 1, 0, range(2)

    for frames in (1, 3):
        Batch.video = torch.randn(2, 3, frames, 16, 16)
        assert bool(system.losses(model, Batch).weighted.isfinite().all())
    assert isinstance(model.critic, PatchCritic)
