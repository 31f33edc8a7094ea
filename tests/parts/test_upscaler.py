"""Training the super-resolver: the loss by its formula, what the network is shown, resume, and what is refused."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from muybridge.errors import UserError
from muybridge.learning.contract import TrainingBatch
from muybridge.models.latent.critics import critic_losses
from muybridge.models.latent.space import LatentSpace
from muybridge.models.text.encoder import TextConfig
from muybridge.models.vision.upscaler import bicubic, box_averaged, open_upscaler
from muybridge.nn.frames import frames_to_batch
from muybridge.nn.text_conditioning import TextCondition
from muybridge.parts.upscaler import UpscalerTraining
from muybridge.training.trainer import Trainer
from tests.conftest import randomise
from tests.devices.recipes import recipe_of

MODEL = {"width": 12, "layers": 2, "temporal_every": 1, "text_pooled_dim": 6, "embedding_dim": 4}
#: Nothing drawn: one crop, the clip itself, as it is.
PLAIN = {"crop": 8, "crops": 1, "frames": 3, "noise": 0.0, "caption_dropout": 0.0, "critic_start": 2, "critic_width": 4}


def system_of(objective=(), model=()):
    return UpscalerTraining({**MODEL, **dict(model)}, {**PLAIN, **dict(objective)}, TextConfig())


def batch_of(side=32, frames=3, step=2, places=(0, 1)):
    clips = torch.rand(len(places), 3, frames, side, side, generator=torch.Generator().manual_seed(5)) * 2 - 1
    words = torch.randn(len(places), 1, 6, generator=torch.Generator().manual_seed(6))
    text = TextCondition(words, words[:, :, None], torch.ones(len(places), 1, 1, dtype=torch.bool))
    return TrainingBatch(clips, text, 0, places, 4, 3, step)


class Shown(nn.Module):
    """In the model's place: keeps what it is shown, and answers with bicubic interpolation."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, low, high, text, told):
        self.seen.append((low, high, text, told))
        made = bicubic(frames_to_batch(low)).unflatten(0, (len(low), -1)).transpose(1, 2)
        return made, low.new_zeros(len(low)), low.new_zeros(len(low))


def shown(system, batch):
    model = Shown()
    system.losses(model, batch)
    return model.seen[0]


@pytest.mark.parametrize("step", [1, 2])
def test_the_loss_is_its_formula(step):
    """L1 + 5 L1 of averages + 2 ST-LPIPS + 3 L1 of frame differences + critic + 0.5 maker, the last from step
    `critic_start` on."""
    system = system_of({"averages": 5.0, "perceptual": 2.0, "motion": 3.0, "adversarial": 0.5})
    model, batch = randomise(system.build(), 0.05), batch_of(step=step)
    low = box_averaged(batch.video)
    made = model.network(low, batch.text.pooled[:, 0])
    maker, judge = critic_losses(model.critic, batch.video, made)
    wrong = made - batch.video
    look = system.perceptual(frames_to_batch(made), frames_to_batch(batch.video)).reshape(2, 3).mean(1)
    still = wrong[:, :, 1:] - wrong[:, :, :-1]
    wanted = wrong.abs().mean((1, 2, 3, 4)) + 2 * look + 3 * still.abs().mean((1, 2, 3, 4)) + judge
    wanted = wanted + (0.5 * maker if step == 2 else 0)
    squares = wrong.reshape(2, 3, 3, 8, 4, 8, 4).mean((4, 6))
    wanted = wanted + 5 * squares.abs().mean((1, 2, 3, 4))
    found = system.losses(model, batch)
    torch.testing.assert_close(found.weighted, wanted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.error, wrong.abs().mean((1, 2, 3, 4)).detach())
    assert float(look.min()) > 1e-3 and float(maker.abs().min()) > 1e-3  # each term is more than the tolerance


def test_crops_lie_on_whole_pixels_of_the_input_and_where_something_is():
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    clip = torch.stack([y, x, torch.zeros_like(x)])[:, None].repeat(1, 5, 1, 1) / 200
    clip[2] += torch.arange(5.0)[:, None, None] / 10  # which frame
    clip[2, :, 72:, 72:] += (x + y)[72:, 72:] % 2  # all that there is lies in one corner
    batch = replace(batch_of(96, 5), video=clip.expand(2, -1, -1, -1, -1))
    corners = {}
    for count in (1, 64):
        system = system_of({"crops": 20, "candidates": count})
        low, high, text, told = shown(system, batch)
        assert high.shape == (40, 3, 3, 32, 32) and low.shape == (40, 3, 3, 8, 8) and bool(told.all())
        torch.testing.assert_close(text, batch.text.pooled[:, 0].repeat(20, 1))
        torch.testing.assert_close(low, box_averaged(high))
        places = []
        for part in high:
            top, left = (round(float(part[i, 0, 0, 0]) * 200) for i in (0, 1))
            first = round(float(part[2].amin((1, 2))[0]) * 10)
            assert top % 4 == 0 and left % 4 == 0 and 0 <= top <= 64 and 0 <= left <= 64 and first in (0, 1, 2)
            assert torch.equal(part, clip[:, first : first + 3, top : top + 32, left : left + 32])
            places.append((first, top, left))
        assert len(set(places)) > 10 and {first for first, _, _ in places} == {0, 1, 2}
        corners[count] = sum(top >= 56 and left >= 56 for _, top, left in places) / len(places)
    assert corners[64] > 0.8 and corners[1] < 0.3, corners


def test_the_input_is_degraded_as_it_is_said(latent_space):
    batch = batch_of(places=(0, 1))
    low = box_averaged(batch.video)
    space = LatentSpace.open(latent_space)
    through = space.decode(space.encode(low)[0])
    autoencoder = {"autoencoder": str(latent_space)}
    torch.testing.assert_close(shown(system_of({"autoencoded": 1.0}, autoencoder), batch)[0], through)
    assert (through - low).abs().mean() > 0.05
    torch.testing.assert_close(shown(system_of({"autoencoded": 0.0}, autoencoder), batch)[0], low)
    some = shown(system_of({"autoencoded": 0.5, "crops": 20}, autoencoder), batch)[0].unflatten(0, (20, 2))
    kept = (some - low).abs().amax((2, 3, 4, 5)) == 0
    assert 8 < int(kept.sum()) < 32

    noise = (shown(system_of({"noise": 0.4, "crops": 20}), batch)[0].unflatten(0, (20, 2)) - low).flatten(2)
    deviations = noise.std(-1)
    assert float(deviations.max()) < 0.44 and float(deviations.min()) < 0.1 and 0.15 < float(deviations.mean()) < 0.25
    assert abs(float(noise.mean())) < 0.01
    for share, least, most in ((0.0, 40, 40), (1.0, 0, 0), (0.5, 10, 30)):
        told = shown(system_of({"caption_dropout": share, "crops": 20}), batch)[3]
        assert least <= int(told.sum()) <= most

    system = system_of({"noise": 0.4, "crops": 2})
    again, alone = shown(system, batch)[0], shown(system, replace(batch, video=batch.video[1:], places=(1,)))[0]
    torch.testing.assert_close(alone, again[1::2])  # a function of seed, step and place alone
    assert not torch.equal(shown(system, replace(batch, step=3))[0], again)


def test_it_learns_resumes_bit_for_bit_and_saves_what_sampling_needs(tiny_models, tmp_path):
    recipe = recipe_of("upscaler", tiny_models, steps=3, sample_every=3)
    Trainer(recipe, tmp_path / "whole").run()
    Trainer(recipe, tmp_path / "parts").run(until=1)
    Trainer(recipe, tmp_path / "parts").run()
    one, other = (tmp_path / run / "model" for run in ("whole", "parts"))
    name = "diffusion_pytorch_model.safetensors"
    made, again = load_file(one / name), load_file(other / name)
    assert made.keys() == again.keys() and all(torch.equal(made[key], again[key]) for key in made)
    assert float(made["out.weight"].abs().max()) > 0  # it began at zero
    settings = json.loads((one / "muybridge.json").read_text())
    assert settings == {"made_for": ["tiny"], "text_encoder": "all-MiniLM-L6-v2", "text_max_length": 12}
    assert open_upscaler(one).config.layers == 2
    assert not [key for key in made if "critic" in key] and not (one / "vocabulary.safetensors").exists()
    assert (tmp_path / "whole" / "samples").is_dir() and list((tmp_path / "whole" / "samples").iterdir())


@pytest.mark.parametrize(
    ("model", "objective", "text", "message"),
    [
        ({}, {"autoencoded": 0.5}, TextConfig(), "objective.autoencoded: name the autoencoder"),
        ({}, {}, None, "text: an upscaler reads captions unless"),
        ({"text_pooled_dim": 0}, {}, TextConfig(), "text: an upscaler reads captions unless"),
        ({"made_for": "emoji-video"}, {}, TextConfig(), "model.made_for: a list"),
        ({}, {"crop": 4}, TextConfig(), "crop must be at least 8"),
        ({}, {"croop": 8}, TextConfig(), "did you mean 'crop'"),
        ({"wdth": 8}, {}, TextConfig(), "did you mean 'width'"),
        ({"temporal_every": -1}, {}, TextConfig(), "temporal_every must be in"),
        ({"autoencoder": "nowhere"}, {}, TextConfig(), "'nowhere': no part of a model there"),
    ],
)
def test_what_does_not_fit_is_refused(model, objective, text, message):
    with pytest.raises(UserError, match=message):
        UpscalerTraining({**MODEL, **model}, objective, text).build()


def test_clips_and_autoencoders_of_other_sizes_are_refused(latent_space):
    for side in (28, 34):
        with pytest.raises(UserError, match=f"from clips of {side}x{side}"):
            system_of().losses(Shown(), batch_of(side))
    with pytest.raises(UserError, match="takes multiples of 2"):
        system_of({"crop": 9}, {"autoencoder": str(latent_space)}).build()
