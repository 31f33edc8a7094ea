"""Who looks at whom: laws of the frame attentions, against naive loops and diffusers."""

import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0

from muybridge.nn.frame_attention import FrameAttention, SharedText, key_frames
from muybridge.nn.frame_norm import PooledGroupNorm

B, F, N, C = 2, 4, 6, 16


def layer():
    return Attention(C, heads=2, dim_head=8).eval()


def run(attn, x, mode):
    processor = FrameAttention(key_frames(mode, F))
    return processor(attn, x)


def naive(attn, x, table):
    """Every frame's queries against the concatenated tokens of the frames it looks at."""
    video = x.unflatten(0, (B, F))
    rows = []
    for b in range(B):
        for f in range(F):
            seen = torch.cat([video[b, j] for j in table[f]])[None]
            rows.append(AttnProcessor2_0()(attn, video[b, f][None], seen)[0])
    return torch.stack(rows)


@pytest.mark.parametrize("mode", ["first", "first_previous", "full"])
@torch.no_grad()
def test_equals_a_loop(mode):
    attn, x = layer(), torch.randn(B * F, N, C)
    table = {
        "first": [[0]] * F,
        "first_previous": [[0, max(i - 1, 0)] for i in range(F)],
        "full": [list(range(F))] * F,
    }[mode]
    torch.testing.assert_close(run(attn, x, mode), naive(attn, x, table), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("mode", ["own", "first", "first_previous", "full"])
@torch.no_grad()
def test_equal_frames_see_what_each_would_alone(mode):
    attn, x = layer(), torch.randn(B, 1, N, C).repeat(1, F, 1, 1).flatten(0, 1)
    torch.testing.assert_close(run(attn, x, mode), AttnProcessor2_0()(attn, x), atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_who_is_changed_by_whom():
    attn, x = layer(), torch.randn(B * F, N, C)
    for mode, expected in {"first": {2}, "first_previous": {2, 3}, "full": {0, 1, 2, 3}}.items():
        other = x.clone()
        other[2] += 1  # frame 2 of the first video
        changed = (run(attn, other, mode) - run(attn, x, mode)).abs().flatten(1).amax(1) > 1e-7
        assert set(torch.nonzero(changed)[:, 0].tolist()) == expected, mode


@torch.no_grad()
def test_full_attention_follows_a_permutation_and_the_first_frame_moves_all():
    attn, x = layer(), torch.randn(F, N, C)
    order = torch.tensor([2, 0, 3, 1])
    processor = FrameAttention(key_frames("full", F))
    torch.testing.assert_close(processor(attn, x[order]), processor(attn, x)[order], atol=1e-6, rtol=1e-5)
    processor = FrameAttention(key_frames("first", F))
    other = x.clone()
    other[0] += 1
    assert ((processor(attn, other) - processor(attn, x)).abs().flatten(1).amax(1) > 1e-5).all()


@torch.no_grad()
def test_equals_diffusers_cross_frame_processor():
    from diffusers.pipelines.deprecated.text_to_video_synthesis import pipeline_text_to_video_zero as theirs

    attn, x = layer(), torch.randn(2 * F, N, C)  # their batch: two guidance branches
    got = FrameAttention(key_frames("first", F))(attn, x)
    assert torch.equal(theirs.CrossFrameAttnProcessor2_0(batch_size=2)(attn, x), got) or torch.allclose(
        theirs.CrossFrameAttnProcessor2_0(batch_size=2)(attn, x), got, atol=1e-7
    )
    torch.testing.assert_close(theirs.CrossFrameAttnProcessor(batch_size=2)(attn, x), got, atol=1e-6, rtol=1e-5)


def test_bad_calls_are_refused():
    attention = FrameAttention(key_frames("first", 3))
    with pytest.raises(ValueError, match="no whole number"):
        attention(layer(), torch.randn(4, N, C))
    with pytest.raises(ValueError, match="unknown frame attention"):
        key_frames("second", 3)
    with pytest.raises(ValueError, match="self-attention only"):
        attention(layer(), torch.randn(4, N, C), torch.randn(4, N, C))


@torch.no_grad()
def test_what_a_layer_does_around_its_attention_stays():
    """Residual, rescaling and the norm of the text, as some networks of diffusers have them."""
    attn = Attention(C, heads=2, dim_head=8, residual_connection=True, rescale_output_factor=2.0).eval()
    x = torch.randn(B * F, N, C)
    torch.testing.assert_close(FrameAttention()(attn, x), AttnProcessor2_0()(attn, x), atol=1e-6, rtol=1e-5)
    cross = Attention(C, cross_attention_dim=12, heads=2, dim_head=8, cross_attention_norm="layer_norm").eval()
    torch.nn.init.normal_(cross.norm_cross.weight)
    text = torch.randn(B * F, 5, 12)
    torch.testing.assert_close(SharedText(1)(cross, x, text), AttnProcessor2_0()(cross, x, text), atol=1e-6, rtol=1e-5)


def test_pooled_statistics_are_those_of_the_whole_clip():
    norm = PooledGroupNorm(2, 8)
    x = torch.randn(6, 8, 3, 3)
    plain = torch.nn.GroupNorm(2, 8)
    assert torch.equal(norm(x), plain(x))
    norm.frames = 3
    video = x.unflatten(0, (2, 3)).transpose(1, 2)
    torch.testing.assert_close(norm(x).unflatten(0, (2, 3)).transpose(1, 2), plain(video))


@torch.no_grad()
def test_text_shared_by_the_frames_of_a_video_is_projected_once_and_gives_the_same():
    attn = Attention(C, cross_attention_dim=12, heads=2, dim_head=8).eval()
    x, text = torch.randn(B * F, N, C), torch.randn(B, 5, 12)
    calls = []
    attn.to_k.register_forward_hook(lambda m, a, o: calls.append(len(a[0])))
    expected = AttnProcessor2_0()(attn, x, text.repeat_interleave(F, 0))
    torch.testing.assert_close(SharedText(F)(attn, x, text.repeat_interleave(F, 0)), expected, atol=1e-6, rtol=1e-5)
    assert calls == [B * F, B]
    with pytest.raises(ValueError, match="cross-attention"):
        SharedText(F)(attn, x)


@torch.no_grad()
def test_a_text_of_one_token_is_read_without_queries():
    attn = Attention(C, cross_attention_dim=10, heads=2, dim_head=8).eval()
    x, text = torch.randn(B * F, N, C), torch.randn(B, 1, 10)
    expected = AttnProcessor2_0()(attn, x, text.repeat_interleave(F, 0))
    asked = []
    attn.to_q.register_forward_hook(lambda *_: asked.append(1))
    got = SharedText(F)(attn, x, text.repeat_interleave(F, 0))
    assert got.shape == expected.shape and not asked
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-5)
    with torch.enable_grad():  # under gradients every weight has its own, as processes that share them ask
        SharedText(F)(attn, x, text.repeat_interleave(F, 0)).sum().backward()
    assert asked and attn.to_q.weight.grad is not None
