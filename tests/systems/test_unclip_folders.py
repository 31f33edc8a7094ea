"""Make-A-Video behind a user's unCLIP folder: diffusers' two layouts, on random weights (spec 05; issue 19)."""

import pytest
import torch
from diffusers import StableUnCLIPPipeline
from typer.testing import CliRunner

from muybridge.cli.main import app
from muybridge.data.video_io import read_video
from muybridge.errors import UserError
from muybridge.models.unclip import StableUnCLIPTelling, UnCLIPPrior, UnCLIPTelling, read_words
from muybridge.opening.identify import identify
from muybridge.opening.sampling import load_pipeline
from muybridge.systems.make_a_video.telling import PictureModel, predict_told
from muybridge.systems.make_a_video.training import MakeAVideo
from muybridge.training.trainer import Trainer
from tests import user_folders
from tests.systems.test_make_a_video import recipe_of

MAKERS = {"unclip": user_folders.unclip, "stable_unclip": user_folders.stable_unclip}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    where = tmp_path_factory.mktemp("unclip")
    return {**{name: make(where / name) for name, make in MAKERS.items()}, "clip": user_folders.clip(where / "clip")}


@torch.no_grad()
def test_unclip_is_told_as_diffusers_does(folders):
    telling, rows = UnCLIPTelling(folders["unclip"]), torch.randn(2, 16)
    words = read_words(folders["unclip"], "", ["", ""], pad=False)
    told = {"prompt_embeds": words.pooled, "text_encoder_hidden_states": words.tokens}
    tokens, labels = telling.project(image_embeddings=rows, **told, do_classifier_free_guidance=False)
    assert tokens.shape[1] == 4 + words.tokens.shape[1]
    got = telling(rows, torch.tensor([True, True]))
    assert torch.allclose(got[0], tokens, atol=1e-6) and torch.allclose(got[1], labels, atol=1e-6)
    both = {k: torch.cat([v, v]) for k, v in told.items()}
    guided = telling.project(image_embeddings=rows, **both, do_classifier_free_guidance=True)
    bare = telling(rows, torch.tensor([False, True]))
    assert torch.allclose(bare[0][0], guided[0][0], atol=1e-6) and torch.allclose(bare[0][1], tokens[1], atol=1e-6)
    assert torch.allclose(bare[1][0], guided[1][0], atol=1e-6)


@torch.no_grad()
def test_stable_unclip_is_told_as_diffusers_does(folders):
    telling, rows = StableUnCLIPTelling(folders["stable_unclip"]), torch.randn(2, 16)

    class Told:  # what diffusers' method reads of its pipeline: a normaliser, and a table without noise
        image_normalizer = type("N", (), {"to": lambda s, d: s, "scale": lambda s, e: e, "unscale": lambda s, e: e})()
        image_noising_scheduler = type("S", (), {"add_noise": lambda s, e, timesteps, noise: e})()

    expected = StableUnCLIPPipeline.noise_image_embeddings(Told, rows, 0, torch.zeros_like(rows))
    tokens, labels = telling(rows, torch.tensor([True, True]))
    assert torch.allclose(labels, expected, atol=1e-6)
    assert torch.allclose(tokens, read_words(folders["stable_unclip"], "", ["", ""]).tokens, atol=1e-6)
    assert (telling(rows, torch.tensor([False, True]))[1][0] == 0).all()


@pytest.mark.parametrize("name", MAKERS)
def test_the_prior_follows_words_and_seed(folders, name):
    prior = UnCLIPPrior(folders[name])
    made = prior.embedding_of("a red fox", 1, 2)
    assert made.shape == (1, 16) and torch.equal(prior.embedding_of("a red fox", 1, 2), made)
    assert not torch.allclose(prior.embedding_of("a blue star", 1, 2), made, atol=1e-4)
    assert not torch.allclose(prior.embedding_of("a red fox", 7, 2), made, atol=1e-4)
    alone = [prior.embedding_of("a red fox", seed, 1) for seed in (1, 2)]
    assert any(torch.allclose(made, one, atol=1e-4) for one in alone)


@pytest.mark.parametrize("name", MAKERS)
def test_a_decoder_trains_on_videos_and_generates(folders, name, tmp_path):
    model = {"image": str(folders[name]), "scorer": str(folders["clip"])}
    recipe = recipe_of(name, "make_a_video", model, 5, stage="video", num_frames=3, sampling={"num_frames": 3})
    system = MakeAVideo(recipe.model, recipe.diffusion, None)
    fresh, picture = system.build().eval(), PictureModel(str(folders[name]))
    with torch.no_grad():  # the start is the user's decoder on every frame
        net, kept, channels = picture.unet().eval(), torch.ones(1, dtype=torch.bool), 3 if name == "unclip" else 4
        told = picture.telling(fresh)(torch.randn(1, 16), kept)
        z, t = torch.randn(1, channels, 3, 8, 8), torch.tensor([300])
        made = predict_told(fresh, z, t, *told, {"fps": torch.tensor([5.0])})
        alone = [net(f, t, encoder_hidden_states=told[0], class_labels=told[1]).sample for f in z.unbind(2)]
        assert torch.allclose(made, torch.stack(alone, 2)[:, :channels], atol=1e-5)
    trainer = Trainer(recipe, tmp_path / "run")
    trainer.run()
    after = trainer.accelerator.unwrap_model(trainer.model).state_dict()
    assert all(torch.equal(v, after[n]) for n, v in fresh.state_dict().items() if n.startswith("image."))
    folder = tmp_path / "run" / "model"
    pipeline = load_pipeline(str(folder), "cpu")
    assert isinstance(pipeline.prior, UnCLIPPrior)
    out = tmp_path / "x.npy"
    done = CliRunner().invoke(app, ["generate", "a red fox", "--model", str(folder), "-o", str(out), "--fps", "4"])
    assert done.exit_code == 0, done.output
    assert read_video(out).frames.shape == (3, 16, 16, 3)


def test_they_are_known_and_wrong_uses_are_refused(folders):
    for name in MAKERS:
        assert "unCLIP" in identify(folders[name]).kind and "make_a_video" in identify(folders[name]).used_by
    model = {"image": str(folders["unclip"]), "scorer": str(folders["clip"])}
    with pytest.raises(UserError, match="begin with the stage video"):
        MakeAVideo(model, {"stage": "image"}, None)
    picture = PictureModel(str(folders["unclip"]))
    with pytest.raises(UserError, match="give the folder of its CLIP"):
        picture.seen(object(), torch.zeros(1, 3, 16, 16))
