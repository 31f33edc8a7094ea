"""A picture's embedding in the words of a picture model."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import gelu, linear, normalize

from muybridge.diffusion.samplers import sample_ddim
from muybridge.diffusion.tables import level_grid
from muybridge.errors import UserError
from muybridge.learning.contract import TrainingBatch
from muybridge.learning.draws import Draws
from muybridge.models.image_projection import ImageProjection, first_and_last, open_projection
from muybridge.models.text.encoder import TextConfig
from muybridge.models.text.prior import SCHEDULE, CausalPrior, ContentPrior
from muybridge.models.weights.packaged import WEIGHTS
from muybridge.nn.text_conditioning import TextCondition
from muybridge.parts.content_prior import DROPPED
from muybridge.parts.image_projection import ImageProjectionTraining
from tests.conftest import randomise

SMALL = {"width": 16, "hidden": 12, "tokens": 3, "token_dim": 5}


@torch.no_grad()
def test_it_says_tokens_of_an_embedding_at_unit_variance(tmp_path):
    projection = randomise(ImageProjection(**SMALL))
    embedding = normalize(torch.randn(2, 16), dim=-1)
    enter, _, middle, _, leave = projection.layers
    h = gelu(linear(embedding * 4.0, enter.weight, enter.bias))
    h = gelu(linear(h, middle.weight, middle.bias))
    wanted = linear(h, leave.weight, leave.bias).reshape(2, 3, 5)
    assert torch.allclose(projection(embedding), wanted, atol=1e-6)
    projection.save_pretrained(tmp_path / "projection")
    assert torch.equal(open_projection(tmp_path / "projection")(embedding), projection(embedding))
    weights = tmp_path / "projection" / WEIGHTS
    save_file({k: v for k, v in load_file(weights).items() if k != "layers.2.bias"}, weights)
    with pytest.raises(UserError, match="layers.2.bias"):  # not drawn in its place
        open_projection(tmp_path / "projection")
    (tmp_path / "projection" / "config.json").write_text('{"_class_name": "ContentPrior"}')
    with pytest.raises(UserError, match="a ContentPrior, expected an image projection"):
        open_projection(tmp_path / "projection")


def test_of_a_caption_the_first_states_and_the_last():
    states = torch.arange(10.0).reshape(1, 5, 2).expand(4, -1, -1)
    mask = torch.arange(5) < torch.tensor([[5], [4], [2], [1]])
    rows = first_and_last(states, mask, 4)[:, :, 0] / 2
    assert rows.tolist() == [[0, 1, 2, 4], [0, 1, 2, 3], [0, 1, 1, 1], [0, 0, 0, 0]]
    assert first_and_last(states, mask, 8)[:, :, 0].div(2)[0].tolist() == [0, 1, 2, 3, 4, 4, 4, 4]


def batch_and_system(rows, **model):
    """Captions of four states, of which the last is not real, an empty caption of one, and unit embeddings of pictures
    and of words."""
    seen, words = normalize(torch.randn(2, rows, 256), dim=-1)
    system = ImageProjectionTraining({"scorer": "emoji-clip", **SMALL, "width": 256, **model}, None, TextConfig())
    network = type("N", (), {"to": lambda self, device: lambda pictures, texts: (seen, words, None)})
    system.scorer = type("S", (), {"network": network()})()
    mask = torch.tensor([True, True, True, False]).expand(rows, 1, -1)
    text = TextCondition(torch.zeros(rows, 1, 8), torch.randn(rows, 1, 4, 5), mask)
    empty = TextCondition(torch.zeros(1, 8), torch.randn(1, 4, 5), torch.arange(4)[None] < 1)
    return (
        TrainingBatch(torch.zeros(rows, 4, 1, 1, 1), text, 0, range(rows), rows, 1, 0, null_text=empty),
        system,
        seen,
        words,
    )


@torch.no_grad()
def test_the_loss_by_hand():
    batch, system, seen, _ = batch_and_system(64)
    model = randomise(system.build())
    found = system.losses(model, batch).weighted
    dropped = (Draws(batch, "drop").shares() < DROPPED).tolist()
    assert 0 < sum(dropped) < 64 and model.config.text_encoder == TextConfig().encoder
    for i in (dropped.index(True), dropped.index(False)):
        if dropped[i]:
            said, wanted = model(torch.zeros(1, 256))[0], batch.null_text.tokens[0, [0, 0, 0]]
        else:
            draws = Draws(batch, "noise")
            length, way = 0.5 * draws.uniform(1)[i].float(), normalize(draws.normal((256,)), dim=1)[i]
            moved = normalize(seen[i] + length * way, dim=0)
            assert 0.89 < float(moved @ seen[i]) < 0.9999
            said, wanted = model(moved[None])[0], batch.text.tokens[i, 0, [0, 1, 2]]
        assert torch.allclose(found[i], (said - wanted).square().mean(), rtol=1e-5)
    with pytest.raises(UserError, match="learns from captions"):
        system.losses(model, TrainingBatch(batch.video, None, 0, range(64), 64, 1, 0))


@pytest.mark.parametrize(("name", "value"), [("tokens", 0), ("tokens", 5000), ("token_dim", -1)])
def test_sizes_that_cannot_be_are_refused(name, value):
    with pytest.raises(UserError, match=f"model.{name} must be in 1"):
        ImageProjectionTraining({**SMALL, name: value}, None, TextConfig()).build()


def test_it_learns_what_pictures_are_called():
    batch, system, _, _ = batch_and_system(16)
    model, losses = system.build(), []
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(80):
        loss = system.losses(model, batch).weighted.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 * losses[0], losses


@torch.no_grad()
def test_half_of_the_samples_are_answers_of_the_prior(tmp_path):
    prior = randomise(ContentPrior(hidden=8))
    prior.save_pretrained(tmp_path / "prior")
    batch, system, _, words = batch_and_system(64, prior=str(tmp_path / "prior"))
    _, without, _, _ = batch_and_system(64)
    without.scorer = system.scorer
    model = randomise(system.build())
    found, plain = system.losses(model, batch).weighted, without.losses(model, batch).weighted
    dropped = Draws(batch, "drop").shares() < DROPPED
    answered = Draws(batch, "answered").shares() < 0.5
    assert torch.equal(found[~answered | dropped], plain[~answered | dropped])
    i = int((answered & ~dropped).nonzero()[0])
    noise = Draws(batch, "prior").normal((256,))[i : i + 1]
    *_, last = sample_ddim(lambda z, lam: prior(z, lam.to(z), words[i : i + 1]), noise, level_grid(SCHEDULE, 16))
    wanted = (model(normalize(last.z, dim=1))[0] - batch.text.tokens[i, 0, [0, 1, 2]]).square().mean()
    assert torch.allclose(found[i], wanted, rtol=1e-4) and not torch.allclose(found[i], plain[i], rtol=1e-2)


def test_a_prior_that_cannot_answer_is_refused(tmp_path):
    ContentPrior(width=16, hidden=8).save_pretrained(tmp_path / "other")
    CausalPrior(layers=1, heads=1, attention_head_dim=4).save_pretrained(tmp_path / "causal")
    for name, words in (("other", "answers with 16 values, the projection takes 256"), ("causal", "word")):
        batch, system, _, _ = batch_and_system(2, prior=str(tmp_path / name))
        with pytest.raises(UserError, match=f"model.prior: .*{words}"):
            system.losses(system.build(), batch)
