"""Priors from words to a picture's embedding (spec 05, invariants 9 and 10)."""

import pytest
import torch
from torch.nn.functional import normalize

from muybridge.errors import UserError
from muybridge.learning.contract import TrainingBatch
from muybridge.models.text import prior as priors
from muybridge.models.text.encoder import TextConfig
from muybridge.models.text.prior import CausalPrior, ContentPrior, best_of_draws, open_prior
from muybridge.nn.text_conditioning import TextCondition
from muybridge.parts.content_prior import CausalPriorTraining
from tests.conftest import randomise

SMALL = dict(width=16, token_dim=24, max_length=6, layers=2, heads=2, attention_head_dim=8)


@pytest.fixture
def prior():
    return randomise(CausalPrior(**SMALL)).eval()


def told(rows=2, length=5):
    mask = torch.ones(rows, length, dtype=torch.bool)
    mask[:, -1] = False
    words = normalize(torch.randn(rows, 16), dim=-1)
    return {"words": words, "tokens": torch.randn(rows, length, 24), "mask": mask}


def seen_at(prior, z, lam, given):
    """The last block's outputs [B, L + 4, C]: words, their embedding, the level, the noisy embedding, the query."""
    found = []
    hook = prior.transformer.transformer_blocks[-1].register_forward_hook(lambda m, a, out: found.append(out))
    prior(z, lam, **given)
    hook.remove()
    return found[0]


@torch.no_grad()
def test_9_each_place_sees_those_before_it_alone(prior):
    z, lam, given = torch.randn(2, 16), torch.zeros(2), told()
    base = seen_at(prior, z, lam, given)
    assert base.shape[1] == SMALL["max_length"] + 4
    prior.transformer.positional_embedding[:, -1] += 1  # of the query
    query = seen_at(prior, z, lam, given)
    assert torch.equal(query[:, :-1], base[:, :-1]) and not torch.allclose(query[:, -1], base[:, -1], atol=1e-3)
    noisy = seen_at(prior, z + 1, lam, given)
    assert torch.equal(noisy[:, :-2], query[:, :-2]) and not torch.allclose(noisy[:, -1], query[:, -1], atol=1e-3)
    level = seen_at(prior, z, lam + 3, given)
    assert torch.equal(level[:, :-3], query[:, :-3]) and not torch.allclose(level[:, -1], query[:, -1], atol=1e-3)
    words = seen_at(prior, z, lam, {**given, "words": -given["words"]})
    assert torch.equal(words[:, :-4], query[:, :-4]) and not torch.allclose(words[:, -1], query[:, -1], atol=1e-3)


@torch.no_grad()
def test_9_words_one_by_one_count_and_padding_does_not(prior):
    z, lam, given = torch.randn(2, 16), torch.zeros(2), told()
    made = prior(z, lam, **given)
    changed = given["tokens"].clone()
    changed[:, 1] += 1
    assert not torch.allclose(prior(z, lam, **{**given, "tokens": changed}), made, atol=1e-4)
    hidden = given["tokens"].clone()
    hidden[:, -1] += 100  # not a real word
    assert torch.allclose(prior(z, lam, **{**given, "tokens": hidden}), made, atol=1e-5)
    longer = {**given, "tokens": torch.cat([given["tokens"], torch.randn(2, 9, 24)], 1)}
    longer["mask"] = torch.cat([given["mask"], torch.zeros(2, 9, dtype=torch.bool)], 1)
    assert torch.allclose(prior(z, lam, **longer), made, atol=1e-5)
    inner = prior.transformer
    tokens = torch.cat([prior.words(given["tokens"]), torch.zeros(2, 1, 16)], 1)
    mask = torch.cat([given["mask"], torch.zeros(2, 1, dtype=torch.bool)], 1)
    theirs = inner(z, lam * 50, given["words"] * 4.0, tokens, mask).predicted_image_embedding
    assert torch.allclose(theirs, made, atol=1e-6)


def test_10_unit_embeddings_are_scaled_to_unit_variance():
    rows = normalize(torch.randn(4000, 256), dim=-1) * 256**0.5
    assert abs(float(rows.var(0).mean()) - 1) < 0.01 and abs(float(rows.square().mean()) - 1) < 1e-5


def test_the_draw_nearest_to_the_words_is_taken(monkeypatch):
    words = normalize(torch.randn(1, 8), dim=-1)
    answers = torch.randn(3, 8)
    monkeypatch.setattr(priors, "STEPS", 2)
    found = best_of_draws(lambda z, lam: answers, words, seed=0, draws=3)
    rows = normalize(answers, dim=-1)
    assert torch.allclose(found[0], rows[(rows @ words[0]).argmax()], atol=0.1)


@torch.no_grad()
def test_sampling_and_opening(prior, tmp_path):
    given = told(1)
    words = given.pop("words")
    made = prior.picture_embedding(words, 3, draws=2, **given)
    assert made.shape == (1, 16) and torch.allclose(made.norm(), torch.ones(()))
    assert torch.equal(prior.picture_embedding(words, 3, draws=2, **given), made)
    assert not torch.allclose(prior.picture_embedding(words, 9, draws=2, **given), made, atol=1e-3)
    prior.save_pretrained(tmp_path / "causal")
    again = open_prior(tmp_path / "causal")
    assert isinstance(again, CausalPrior) and again.reads_tokens
    assert torch.equal(again.picture_embedding(words, 3, draws=2, **given), made)
    ContentPrior(16, 8).save_pretrained(tmp_path / "plain")
    assert isinstance(open_prior(tmp_path / "plain"), ContentPrior)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"_class_name": "UNet2DConditionModel"}')
    with pytest.raises(UserError, match="expected a prior"):
        open_prior(tmp_path / "other")


def test_it_learns_what_words_look_like():
    """Two captions, two pictures: the loss falls to a fraction in a few dozen steps."""
    system = CausalPriorTraining({"scorer": "emoji-clip", **SMALL, "width": 256, "token_dim": 8}, None, TextConfig())
    model, seen = system.build(), normalize(torch.randn(2, 256), dim=-1)
    words = normalize(torch.randn(2, 256), dim=-1)

    class Scorer:
        def to(self, device):
            return self

        def network(self, features, pooled):
            return seen.repeat(8, 1), words.repeat(8, 1), None

    Scorer.network = type("N", (), {"to": lambda s, d: lambda f, p: (seen.repeat(8, 1), words.repeat(8, 1), None)})()
    system.scorer = Scorer()
    tokens = torch.randn(2, 1, 5, 8).repeat(8, 1, 1, 1)
    text = TextCondition(torch.zeros(16, 1, 8), tokens, torch.ones(16, 1, 5, dtype=torch.bool))
    optimizer, losses = torch.optim.AdamW(model.parameters(), 3e-3), []
    for step in range(60):
        batch = TrainingBatch(torch.zeros(16, 4, 1, 1, 1), text, 0, range(16), 16, 1, step)
        loss = system.losses(model, batch).weighted.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5]), losses
