"""The temporal decoder: the picture decoder at the start, the encoder untouched, diffusers' numbers (specs 08, 09)."""

import copy
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderKLTemporalDecoder

from muybridge.errors import UserError
from muybridge.models.latent.autoencoder import AutoencoderWithCritic
from muybridge.models.latent.critics import PatchCritic, critic_losses
from muybridge.models.latent.space import LatentSpace, pieces_of
from muybridge.models.latent.video_autoencoder import (
    VideoAutoencoder,
    load_decoder,
    load_stable_video_autoencoder,
    save_decoder,
)
from muybridge.nn.frames import frames_to_batch
from tests.conftest import TINY_VAE, randomise

TINY = {**TINY_VAE, "scaling_factor": 0.5}


def tiny_vae():
    return randomise(AutoencoderKL(**TINY), 0.02).eval()


@torch.no_grad()
def test_decodes_as_the_picture_decoder_at_the_start():
    vae = tiny_vae()
    video = VideoAutoencoder.from_image_model(vae).eval()
    z = torch.randn(2, 4, 5, 8, 8)
    expected = vae.decode(frames_to_batch(z)).sample
    assert torch.allclose(frames_to_batch(video.decode(z)), expected, atol=1e-5)
    randomise(video.temporal)
    moved = video.decode(z)
    assert not torch.allclose(frames_to_batch(moved), expected, atol=1e-3)
    z[:, :, 4] += 1
    assert ((video.decode(z) - moved).abs().amax((0, 1, 3, 4)) > 1e-6).all()  # every frame hears of the last


def test_training_leaves_the_encoder():
    video = VideoAutoencoder.from_image_model(tiny_vae())
    trainable = dict(video.trainable_parameters())
    for name, parameter in video.named_parameters():
        parameter.requires_grad_(name in trainable)
    before = copy.deepcopy(video.state_dict())
    x = torch.randn(1, 3, 4, 16, 16)
    optimizer = torch.optim.SGD(trainable.values(), lr=0.1)
    latents = video.encode(frames_to_batch(x)).latent_dist.mean.unflatten(0, (1, 4)).transpose(1, 2)
    (video.decode(latents) - x).square().mean().backward()
    optimizer.step()
    changed = {n for n, v in video.state_dict().items() if not torch.equal(v, before[n])}
    assert changed and not any(n.startswith(("image.encoder", "image.quant_conv")) for n in changed)
    assert any("temporal" in n for n in changed)


@torch.no_grad()
def test_stable_video_decoder_gives_diffusers_numbers(tmp_path):
    theirs = AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 64), down_block_types=("DownEncoderBlock2D",) * 2, layers_per_block=2, sample_size=16
    )
    randomise(theirs, 0.02).eval().save_pretrained(tmp_path)
    ours = load_stable_video_autoencoder(tmp_path)
    z = torch.randn(2, 4, 5, 8, 8)
    expected = theirs.decode(frames_to_batch(z), num_frames=5).sample
    assert torch.allclose(frames_to_batch(ours.decode(z)), expected, atol=1e-5)
    x = torch.randn(2, 3, 16, 16)
    assert torch.allclose(ours.encode(x).latent_dist.mean, theirs.encode(x).latent_dist.mean, atol=1e-5)
    with pytest.raises(UserError, match="expected config"):
        load_stable_video_autoencoder(tmp_path / "no")


def test_critic_sees_patches_of_time():
    critic = PatchCritic(width=8, layers=2, frames=3)
    x = torch.randn(1, 3, 5, 32, 32)
    base = critic(x)
    assert base.shape[:3] == (1, 1, 5) and base.shape[3] > 1
    x[:, :, 2] += 1
    moved = (critic(x) - base).abs().amax((0, 1, 3, 4)) > 1e-6
    assert moved[2] and moved[1] and moved[3]
    far = PatchCritic(
        width=8, layers=1, frames=3
    )  # no norm: only the kernels look at other frames, two of them one to each side
    base, x[:, :, 4] = far(x), x[:, :, 4] + 1
    assert [bool(m) for m in (far(x) - base).abs().amax((0, 1, 3, 4)) > 1e-6] == [False, False, True, True, True]
    with pytest.raises(ValueError, match="odd"):
        PatchCritic(frames=2)


def test_statistics_of_a_critic_of_single_frames_run_over_the_clip():
    """What its docstring says: to judge frames one by one, give them one by one."""
    critic = PatchCritic(width=8, layers=2, frames=1)
    x = torch.randn(1, 3, 4, 32, 32)
    base, alone = critic(x), critic(x[:, :, :1])
    x[:, :, 3] *= 3
    assert float((critic(x) - base)[:, :, 0].abs().max()) > 1e-3
    assert torch.equal(critic(x[:, :, :1]), alone)


def test_one_backward_trains_both_sides_and_mixes_neither():
    critic, fake = PatchCritic(width=8, layers=2), torch.randn(2, 3, 1, 32, 32, requires_grad=True)
    real = torch.randn(2, 3, 1, 32, 32)
    maker, judge = critic_losses(critic, real, fake)
    maker.sum().backward(retain_graph=True)
    assert fake.grad is not None and all(p.grad is None for p in critic.parameters())
    fake.grad = None
    judge.sum().backward()
    assert fake.grad is None and all(p.grad is not None for p in critic.parameters())


def test_autoencoder_measures_its_latents():
    model = AutoencoderWithCritic(tiny_vae(), PatchCritic(width=8, layers=2)).train()
    x = torch.randn(3, 3, 1, 16, 16)
    shape = model.latent_shape(x)
    assert shape == (4, 1, 8, 8)
    for _ in range(3):
        out = model(x, torch.randn(3, *shape))
    assert out.sample.shape == x.shape and out.kl.shape == out.maker.shape == (3,)
    held = float(model.latent_power)
    model.eval()(x, torch.zeros(3, *shape))
    assert held != 1.0 and float(model.latent_power) == held


@torch.no_grad()
def test_latent_space_round_trip():
    vae = tiny_vae()
    space = LatentSpace(vae, chunk=2)
    x = torch.rand(2, 3, 5, 16, 16) * 2 - 1
    mean, std = space.encode(x)
    assert mean.shape == std.shape == (2, *space.shape(5, 16, 16)) and bool((std > 0).all())
    posterior = vae.encode(frames_to_batch(x)).latent_dist
    assert torch.allclose(frames_to_batch(mean), 0.5 * posterior.mean, atol=1e-6)
    assert torch.allclose(frames_to_batch(space.decode(mean)), vae.decode(posterior.mean).sample, atol=1e-5)
    identity = space.identity()
    vae.encoder.conv_in.weight.add_(1e-3)
    assert space.identity() != identity
    with pytest.raises(UserError, match="multiples of 2"):
        space.shape(5, 15, 16)


@torch.no_grad()
def test_a_decoder_is_kept_without_its_encoder(tmp_path):
    vae = tiny_vae()
    video = VideoAutoencoder.from_image_model(vae).eval()
    randomise(video.temporal)
    save_decoder(video, "emoji-image/vae", tmp_path)
    again = load_decoder(tmp_path, vae)
    z = torch.randn(1, 4, 5, 8, 8)
    assert torch.equal(again.decode(z), video.decode(z))
    from safetensors.torch import load_file

    assert not any("encoder." in k and "decoder." not in k for k in load_file(tmp_path / "decoder.safetensors"))
    space = LatentSpace(vae, chunk=5, decoder=again)
    assert torch.allclose(space.decode(z * space.scale), video.decode(z), atol=1e-5)
    other = AutoencoderKL(**{**TINY, "block_out_channels": (8, 8)})
    with pytest.raises(UserError, match="another build"):
        load_decoder(tmp_path, other)
    with pytest.raises(UserError, match="missing"):
        load_decoder(tmp_path / "no", vae)


def test_a_temporal_decoder_trains(tmp_path):
    from muybridge.training.recipe import Recipe, TrainingConfig
    from muybridge.training.trainer import Trainer

    tiny_vae().save_pretrained(tmp_path / "vae")
    world = {"source": "world", "height": 32, "width": 32, "num_frames": 4, "num_clips": 8}
    training = TrainingConfig(
        steps=2, batch_size=2, warmup_steps=1, validate_every=2, validation_clips=2, sample_every=2, checkpoint_every=2
    )
    recipe = Recipe("decoder", "autoencoder", {"temporal_decoder_of": str(tmp_path / "vae")}, world, training=training)
    recipe.objective.update(critic_frames=3, critic_start=0, critic_width=8)
    trainer = Trainer(recipe, tmp_path / "run")
    before = trainer.system.build().state_dict()
    folder = trainer.run()
    after = trainer.accelerator.unwrap_model(trainer.model).state_dict()
    encoder = [n for n in before if n.startswith(("vae.image.encoder", "vae.image.quant"))]
    assert encoder and all(torch.equal(before[n], after[n]) for n in encoder)
    assert any(not torch.equal(before[n], after[n]) for n in before if n.startswith("vae.temporal"))
    assert load_decoder(folder, tiny_vae()).config.image_config["latent_channels"] == 4
    # another run starts from it
    more = replace(recipe, training=replace(training, start_from=str(folder)))
    second = Trainer(more, tmp_path / "more")
    second.prepare()
    saved = load_decoder(folder, tiny_vae()).state_dict()
    began = second.accelerator.unwrap_model(second.model).vae.state_dict()
    assert all(torch.equal(v, saved[n]) for n, v in began.items() if not n.startswith(("image.encoder", "image.quant")))
    # and so does one of the picture autoencoder itself
    plain = replace(
        recipe, model=dict(TINY), objective={}, training=replace(training, start_from=str(tmp_path / "vae"))
    )
    third = Trainer(plain, tmp_path / "picture")
    third.prepare()
    given = LatentSpace.open(tmp_path / "vae").vae.state_dict()
    assert all(
        torch.equal(v, given[n]) for n, v in third.accelerator.unwrap_model(third.model).vae.state_dict().items()
    )
    with pytest.raises(UserError, match="beside"):
        from muybridge.parts.autoencoder import Autoencoder

        Autoencoder({"temporal_decoder_of": "x", "latent_channels": 4}, {})


@pytest.mark.parametrize(
    ("frames", "size", "shared"), [(16, 8, 2), (9, 8, 2), (101, 8, 2), (5, 1, 2), (7, 8, 2), (15, 4, 0)]
)
def test_pieces_cover_every_frame_and_share(frames, size, shared):
    pieces = pieces_of(frames, size, shared)
    assert pieces[0].start == 0 and pieces[-1].stop == frames
    assert all(0 < p.stop - p.start <= size for p in pieces)
    assert all(a.stop - b.start == min(shared, size // 2) < b.stop - b.start for a, b in pairwise(pieces))


class Piecewise:
    """A decoder that gives all frames of the n-th piece the value n."""

    def __init__(self):
        self.calls = []

    def to(self, device):
        return self

    def decode(self, latents):
        self.calls.append(latents.shape[2])
        return torch.full((len(latents), 3, latents.shape[2], 16, 16), float(len(self.calls)))


def test_what_two_pieces_share_is_faded():
    decoder = Piecewise()
    video = LatentSpace(tiny_vae(), decoder=decoder).decode(torch.zeros(1, 4, 14, 8, 8))
    assert decoder.calls == [8, 8] and video.shape == (1, 3, 14, 16, 16)
    values = video[0, 0, :, 0, 0]
    assert values.tolist() == pytest.approx([1] * 6 + [4 / 3, 5 / 3] + [2] * 6)


@torch.no_grad()
def test_a_video_is_decoded_the_same_alone_and_in_a_batch():
    video = randomise(VideoAutoencoder.from_image_model(tiny_vae()), 0.05).eval()
    space = LatentSpace(video.image, decoder=video)
    z = torch.randn(2, 4, 11, 8, 8)
    assert torch.equal(space.decode(z)[1:], space.decode(z[1:]))


def test_losses_of_both_sides_are_the_hinges():
    """The maker's is -D(fake); the critic's the mean of max(0, 1 - D(real)) and max(0, 1 + D(fake)). Source:
    2012.09841."""

    class Scores(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.factor = torch.nn.Parameter(torch.ones(()))

        def forward(self, x):
            return self.factor * x

    real, fake = torch.tensor([[2.0, 0.5], [-1.0, 3.0]]), torch.tensor([[-2.0, 0.0], [0.5, -0.5]])
    maker, judge = critic_losses(Scores(), real, fake)
    assert torch.equal(maker, torch.tensor([1.0, 0.0]))
    assert torch.equal(judge, torch.tensor([(0 + 0.5 + 0 + 1) / 4, (2 + 0 + 1.5 + 0.5) / 4]))
