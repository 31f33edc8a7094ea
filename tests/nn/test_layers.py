"""Positions, embeddings and text pooling on their own."""

import math

import pytest
import torch

from muybridge.nn.embeddings import FrameEmbedding, NoiseLevelEmbedding, init_after_silu, log_snr_position, sinusoid
from muybridge.nn.factorised import ResBlock, TemporalAttention, per_frame_norm, position_basis
from muybridge.nn.network_inputs import level_for_embedding
from muybridge.nn.position import relative_offsets, t5_buckets
from muybridge.nn.spacetime_attention import SpacetimeAttention
from muybridge.nn.text_conditioning import TextCondition, TextPooling, Words
from tests.conftest import randomise, some_text


def test_t5_buckets_are_exact_near_and_logarithmic_far():
    buckets = t5_buckets(relative_offsets(80), 32, 32)
    assert buckets[0, 0] == 0
    assert buckets[5, 2] == 3 and buckets[2, 5] == 16 + 3  # the past below, the future above half
    assert buckets[79, 0] == 15 and buckets[0, 79] == 31
    assert [int(buckets[i, 0]) for i in range(8)] == list(range(8))
    assert all(buckets[i + 1, 0] >= buckets[i, 0] for i in range(79))


def test_sinusoid_layouts():
    position = torch.tensor([3.0])
    ddpm, dit = sinusoid(position, 8), sinusoid(position, 8, "cos_sin")
    assert math.isclose(float(ddpm[0, 0]), math.sin(3), abs_tol=1e-6) and math.isclose(
        float(ddpm[0, 4]), math.cos(3), abs_tol=1e-6
    )
    assert math.isclose(float(ddpm[0, 3]), math.sin(3 / 10000), abs_tol=1e-6)
    assert math.isclose(float(dit[0, 0]), math.cos(3), abs_tol=1e-6)
    assert math.isclose(float(dit[0, 5]), math.sin(3 * 10000 ** (-1 / 4)), abs_tol=1e-6)
    assert sinusoid(position, 7).shape == (1, 7)


def test_log_snr_position_is_bounded_and_monotone():
    lam = torch.tensor([math.inf, 20.0, 0.0, -20.0, -math.inf])
    position = log_snr_position(lam)
    assert torch.isfinite(position).all() and float(position[2]) == pytest.approx(500, abs=1e-3)
    assert float(position[0]) < 0.1 and float(position[-1]) > 999.9


def test_noise_embedding_takes_any_shape():
    embed = NoiseLevelEmbedding(16, 32, layers=3)
    assert embed(torch.zeros(2, 5)).shape == (2, 5, 32)
    assert not torch.equal(embed(torch.zeros(2)), embed(torch.zeros(2), torch.ones(2, 32)))


def test_captions_do_not_fade_in_the_embedding():
    layer = init_after_silu(torch.nn.Linear(512, 512), gain=0.7)
    out = layer(torch.nn.functional.silu(torch.randn(4000, 512)))
    assert float(out.std()) == pytest.approx(0.7, rel=0.1)


def test_word_and_frame_multiply():
    embed = FrameEmbedding(16, 32)
    alone = torch.zeros(1, 5, dtype=torch.bool)
    left, right, both = torch.randn(3, 1, 1, 32).unbind(0)
    plain = embed(5, alone, None)
    # what a caption does differs from frame to frame, in proportion to the frame's embedding
    gates = [(embed(5, alone, c) - plain) / plain for c in (left, right)]
    for gate in gates:
        assert torch.allclose(gate[:, :1].expand(-1, 5, -1), gate, atol=1e-3)
    assert not torch.allclose(gates[0], gates[1], atol=0.1)
    alone[0, 3] = True
    out = embed(5, alone, both)
    assert torch.equal(out[0, 3], torch.zeros(32)) and bool((out[0, 2] != 0).any())


def test_a_sloped_shift_is_a_plane_across_the_picture():
    block = ResBlock(8, 8, 16, 4, sloped_shift=True).double()
    block.conv2 = torch.nn.Identity()
    block.slope.weight.data.zero_()
    x, embedding = torch.randn(3, 8, 4, 6).double(), torch.randn(1, 3, 16).double()
    flat = block(x, embedding)
    block.slope.bias.data = torch.cat([torch.full((8,), 0.25), torch.full((8,), -0.5)]).double()
    before_silu = {}
    block.dropout.register_forward_hook(lambda *a: before_silu.update(h=a[1][0]))
    assert not torch.allclose(block(x, embedding), flat)
    basis = position_basis(4, 6, x)
    assert torch.allclose(basis.mean(0), torch.tensor([1.0, 0, 0]).double(), atol=1e-9)
    plane = (basis @ torch.tensor([0.0, 0.25, -0.5]).double()).reshape(4, 6)
    e = block.embed(embedding)[0, :, :, None, None]
    scale, shift = e.chunk(2, 1)
    expected = block.norm2(block.conv1(torch.nn.functional.silu(block.norm1(x)))) * (1 + scale) + shift + plane
    assert torch.allclose(before_silu["h"], torch.nn.functional.silu(expected), atol=1e-9)
    with pytest.raises(ValueError, match="scale_shift"):
        ResBlock(8, 8, 16, 4, embedding_mode="add", sloped_shift=True)


def test_joint_attention_sees_where_and_when_and_reads_words():
    attend = randomise(SpacetimeAttention(16, 8, 4, token_dim=8), 0.5).double().eval()
    x = torch.randn(2 * 3, 16, 4, 4).double()
    text = some_text(2)
    words = Words.of(text, None)
    out = attend(x, 2, None, words)
    # a change at one place of one frame is felt at another place of another frame
    changed = x.clone()
    changed[0, :, 0, 0] += 1
    assert bool(((attend(changed, 2, None, words) - out).abs()[2, :, 3, 3] > 1e-6).any())
    assert torch.equal(attend(changed, 2, None, words)[3:], out[3:])  # the other sample does not feel it
    # the order of frames and of places matters, though the tokens are the same
    reversed_frames = attend(x.unflatten(0, (2, 3)).flip(1).flatten(0, 1), 2, None, words)
    assert not torch.allclose(reversed_frames.unflatten(0, (2, 3)).flip(1).flatten(0, 1), out, atol=1e-4)
    assert not torch.allclose(attend(x.flip(3), 2, None, words).flip(3), out, atol=1e-4)
    dropped = Words.of(text.null(), None)
    assert torch.allclose(attend(x, 2, None, dropped), attend(x, 2), atol=1e-12)


def test_each_frame_reads_its_own_caption():
    text = some_text(2, captions=3)
    words = Words.of(text, torch.tensor([0, 0, 2]))
    assert words.tokens.shape == (2, 15, 8) and words.allowed.shape == (2, 3, 15)
    assert words.allowed[0, 0].nonzero().flatten().tolist() == [0, 1, 2, 3]
    assert words.allowed[0, 2].nonzero().flatten().tolist() == [10, 11, 12, 13]


def test_norm_groups_follow_the_channels():
    assert per_frame_norm(48, 32).num_groups == 16
    assert per_frame_norm(64, 32).num_groups == 32


def test_temporal_attention_names():
    with pytest.raises(ValueError, match="unknown temporal position"):
        TemporalAttention(16, 8, 4, position="absolute")


def test_pooling_is_zero_where_dropped_and_needs_an_input():
    pool = randomise(TextPooling(8, 8, 16))
    text = some_text(3)
    out = pool(TextCondition(text.pooled, text.tokens, text.mask, torch.tensor([False, True, False])))
    assert torch.equal(out[1], torch.zeros(16)) and bool((out[0] != 0).any())
    assert torch.isfinite(pool(TextCondition(text.pooled, text.tokens, torch.zeros_like(text.mask)))).all()
    with pytest.raises(ValueError, match="neither pooled nor token"):
        TextPooling(0, 0, 16)(text)


def test_condition_batches():
    a, b = some_text(2), some_text(3).null()
    both = TextCondition.stack([a, b])
    assert both.pooled.shape[0] == 5 and torch.equal(both.rows(slice(2, 5)).tokens, b.tokens)
    assert b.rows(slice(1, 3)).dropped.tolist() == [True, True]
    assert both.dropped.tolist() == [False, False, True, True, True]
    assert TextCondition.stack([a, a]).dropped is None


def test_a_level_is_embedded_from_its_float32_copy():
    lam, z = torch.tensor([0.1, 7.0], dtype=torch.float64), torch.zeros(2, 3, 4, 8, 8)
    assert level_for_embedding(lam, z).dtype == torch.float32 and level_for_embedding(lam, z).shape == (2, 1)
    assert level_for_embedding(lam[:, None].expand(2, 4), z.bfloat16()).dtype == torch.float32
