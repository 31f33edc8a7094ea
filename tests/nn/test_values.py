"""Layers against naive loops in float64 and against reference implementations, on random weights: what they compute,
not only what they leave alone (a wrong attention is as permutation-equivariant as a right one)."""

import math

import pytest
import torch
from diffusers.models.embeddings import apply_rotary_emb, get_3d_rotary_pos_embed
from torch.nn.functional import avg_pool2d, conv2d, group_norm, interpolate, layer_norm, linear
from transformers.models.t5.modeling_t5 import T5Attention

from muybridge.diffusion.schedule import phi_of
from muybridge.nn.embeddings import FrameEmbedding, NoiseLevelEmbedding
from muybridge.nn.factorised import ResBlock, SpatialAttention, TemporalAttention
from muybridge.nn.position import (
    grid_positions,
    relative_offsets,
    rotary_angles,
    rotate,
    split_rotary_dims,
    t5_buckets,
)
from muybridge.nn.spacetime_attention import THETA, SpacetimeAttention
from muybridge.nn.text_conditioning import TextCondition, TextPooling, Words
from muybridge.nn.token_rows import TokenRow
from muybridge.nn.transformer_blocks import TextCrossAttention, TokenAttention, TransformerBlock
from tests.conftest import randomise, some_text

F64 = torch.float64
B, F, H, W, C, HEADS = 2, 4, 3, 2, 16, 2
D = C // HEADS


def close(got, expected):
    torch.testing.assert_close(got, expected, atol=1e-10, rtol=1e-10)


def random(layer):
    return randomise(layer, 0.4).double().eval()


def mask_of_pairs():
    """Any pairs of frames, each frame itself among them; different in each sample."""
    return (torch.rand(B, F, F) > 0.5) | torch.eye(F, dtype=torch.bool)


def silu(x):
    return x / (1 + torch.exp(-x))


def attend(query, keys, values, extra=None):
    """One query [d] over a list of keys and values, with what is added to each logit."""
    logits = [float(query @ k) / math.sqrt(len(query)) + (0 if extra is None else extra[i]) for i, k in enumerate(keys)]
    weights = [math.exp(v - max(logits)) for v in logits]
    return sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)


def heads_of(projected, parts):
    """[N, parts C] -> [N, parts, heads, d]."""
    return projected.reshape(len(projected), parts, HEADS, D)


@pytest.mark.parametrize("position", ["t5", "shaw", "none"])
@pytest.mark.parametrize("masked", [False, True])
def test_temporal_attention(position, masked):
    layer = random(TemporalAttention(C, D, 4, position, max_frames=3))
    x, mask = torch.randn(B * F, C, H, W, dtype=F64), mask_of_pairs() if masked else None
    normed = group_norm(x, 4, layer.norm.weight, layer.norm.bias, layer.norm.eps).reshape(B, F, C, H, W)
    expected = x.clone().reshape(B, F, C, H, W)
    for b in range(B):
        for y in range(H):
            for z in range(W):
                qkv = heads_of(linear(normed[b, :, :, y, z], layer.qkv.weight, layer.qkv.bias), 3)
                for i in range(F):
                    seen = [j for j in range(F) if mask is None or mask[b, i, j]]
                    out = []
                    for head in range(HEADS):
                        keys, values, extra = [qkv[j, 1, head] for j in seen], [qkv[j, 2, head] for j in seen], None
                        if position == "shaw":  # offsets beyond 2 frames share a vector
                            places = [max(-2, min(2, j - i)) + 2 for j in seen]
                            keys = [k + layer.position.key[p] for k, p in zip(keys, places, strict=True)]
                            values = [v + layer.position.value[p] for v, p in zip(values, places, strict=True)]
                        if position == "t5":
                            extra = [float(layer.position.bias.weight[16 * (j > i) + abs(j - i), head]) for j in seen]
                        out.append(attend(qkv[i, 0, head], keys, values, extra))
                    expected[b, i, :, y, z] += linear(torch.cat(out), layer.proj.weight, layer.proj.bias)
    close(layer(x, B, mask), expected.flatten(0, 1))


def test_t5_buckets_are_t5s():
    for distance in (9, 32, 128):
        offsets = relative_offsets(60)
        theirs = T5Attention._relative_position_bucket(offsets, True, 32, distance)
        assert torch.equal(t5_buckets(offsets, 32, distance), theirs)


@pytest.mark.parametrize("distance", range(1, 17))
def test_t5_buckets_of_few_frames(distance):
    """A network for 8 frames or fewer: offsets that are exact anyway keep their own buckets, far ones never pass for
    near ones."""
    buckets = t5_buckets(relative_offsets(40), 32, distance)[:, 0]
    assert buckets[:8].tolist() == list(range(8))
    assert all(a <= b for a, b in zip(buckets, buckets[1:], strict=False)) and int(buckets[-1]) == 15


def test_spatial_attention():
    layer = random(SpatialAttention(C, D, 4))
    x = torch.randn(B, C, H, W, dtype=F64)
    normed = group_norm(x, 4, layer.norm.weight, layer.norm.bias, layer.norm.eps).flatten(2).transpose(1, 2)
    expected = x.flatten(2).transpose(1, 2).clone()
    for b in range(B):
        qkv = heads_of(linear(normed[b], layer.qkv.weight, layer.qkv.bias), 3)
        for i in range(H * W):
            out = [attend(qkv[i, 0, h], qkv[:, 1, h].unbind(), qkv[:, 2, h].unbind()) for h in range(HEADS)]
            expected[b, i] += linear(torch.cat(out), layer.proj.weight, layer.proj.bias)
    close(layer(x), expected.transpose(1, 2).reshape(x.shape))


def turned(vector, position, theta):
    """Rotary position in three axes, pair by pair."""
    out, start = vector.clone(), 0
    for axis, width in enumerate(split_rotary_dims(len(vector))):
        for k in range(width // 2):
            angle = float(torch.tensor(float(position[axis])) * theta ** (-2 * torch.tensor(float(k)) / width))
            a, b = vector[start + 2 * k], vector[start + 2 * k + 1]
            out[start + 2 * k] = a * math.cos(angle) - b * math.sin(angle)
            out[start + 2 * k + 1] = a * math.sin(angle) + b * math.cos(angle)
        start += width
    return out


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("captions", [None, 0, 2])
def test_spacetime_attention(masked, captions):
    layer = random(SpacetimeAttention(C, D, 4, token_dim=6 if captions is not None else 0))
    x, mask = torch.randn(B * F, C, H, W, dtype=F64), mask_of_pairs() if masked else None
    words = None
    if captions is not None:
        text = some_text(B, captions, width=6)
        words = Words.of(text, torch.tensor([0, 1, 1, 0]) if captions else None)
        embedded = layer_norm(words.tokens.double(), (6,), layer.words[0].weight, layer.words[0].bias)
        embedded = linear(embedded, layer.words[1].weight, layer.words[1].bias)
    normed = group_norm(x, 4, layer.norm.weight, layer.norm.bias, layer.norm.eps).reshape(B, F, C, H * W)
    expected = x.reshape(B, F, C, H * W).clone()
    places = [(f, y, z) for f in range(F) for y in range(H) for z in range(W)]
    for b in range(B):
        tokens = normed[b].permute(0, 2, 1).reshape(-1, C)
        qkv = heads_of(linear(tokens, layer.qkv.weight, layer.qkv.bias), 3)
        # a frame that sees only itself has no place in time
        at = [(f if mask is None or int(mask[b, f].sum()) > 1 else 0, y, z) for f, y, z in places]
        for i, (f, y, z) in enumerate(places):
            seen = [j for j, (g, _, _) in enumerate(places) if mask is None or mask[b, f, g]]
            out = []
            for h in range(HEADS):
                keys = [turned(qkv[j, 1, h], at[j], THETA) for j in seen]
                values = [qkv[j, 2, h] for j in seen]
                if words is not None:
                    allowed = words.allowed[b, f if words.allowed.shape[1] > 1 else 0]
                    pairs = heads_of(embedded[b], 2)[allowed, :, h]
                    keys, values = [*keys, *pairs[:, 0]], [*values, *pairs[:, 1]]
                out.append(attend(turned(qkv[i, 0, h], at[i], THETA), keys, values))
            expected[b, f, :, y * W + z] += linear(torch.cat(out), layer.proj.weight, layer.proj.bias)
    # angles are made in float32
    torch.testing.assert_close(layer(x, B, mask, words), expected.reshape(x.shape), atol=1e-5, rtol=1e-5)


def test_rotary_positions_are_cogvideoxs():
    frames, height, width = 5, 7, 3
    table = get_3d_rotary_pos_embed(64, ((0, 0), (height, width)), (height, width), frames)
    q = torch.randn(1, 2, frames * height * width, 64)
    got = rotate(q, rotary_angles(grid_positions(frames, height, width), 64))
    torch.testing.assert_close(got, apply_rotary_emb(q, table), atol=3e-6, rtol=0)


def test_rotation_in_bf16_is_rounded_once():
    angles = rotary_angles(grid_positions(5, 7, 3) + 100, 22)
    q = torch.randn(1, 1, 105, 22).bfloat16()
    assert torch.equal(rotate(q, angles), rotate(q.float(), angles).bfloat16())


@pytest.mark.parametrize("mode,sloped", [("scale_shift", False), ("scale_shift", True), ("add", False)])
@pytest.mark.parametrize("resample", [None, "down", "up"])
@pytest.mark.parametrize("per_frame", [False, True])
def test_residual_block(mode, sloped, resample, per_frame):
    layer = random(ResBlock(8, 12, 10, 4, resample=resample, embedding_mode=mode, sloped_shift=sloped))
    x, e = torch.randn(B * F, 8, 4, 6, dtype=F64), torch.randn(B, F if per_frame else 1, 10, dtype=F64)
    e = e.expand(B, F, 10).flatten(0, 1)

    def sized(x):
        if resample == "down":
            return avg_pool2d(x, 2)
        return interpolate(x, scale_factor=2) if resample == "up" else x

    h = conv2d(
        sized(silu(group_norm(x, 4, layer.norm1.weight, layer.norm1.bias, 1e-6))),
        layer.conv1.weight,
        layer.conv1.bias,
        padding=1,
    )
    said = linear(e, layer.embed.weight, layer.embed.bias)[:, :, None, None]
    if mode == "add":
        h = group_norm(h + said, 4, layer.norm2.weight, layer.norm2.bias, 1e-6)
    else:
        shift = said[:, 12:]
        if sloped:
            along_x, along_y = linear(e, layer.slope.weight, layer.slope.bias)[:, :, None, None].split(12, 1)
            height, width = h.shape[2:]
            shift = (
                shift
                + along_x * torch.linspace(-1.5, 1.5, width, dtype=F64)
                + along_y * torch.linspace(-1.5, 1.5, height, dtype=F64)[:, None]
            )
        h = group_norm(h, 4, layer.norm2.weight, layer.norm2.bias, 1e-6) * (1 + said[:, :12]) + shift
    h = conv2d(silu(h), layer.conv2.weight, layer.conv2.bias, padding=1)
    expected = conv2d(sized(x), layer.shortcut.weight, layer.shortcut.bias) + h
    close(layer(x, e.unflatten(0, (B, F)) if per_frame else e.unflatten(0, (B, F))[:, :1]), expected)


@pytest.mark.parametrize("layout", ["sin_cos", "cos_sin"])
def test_noise_level_embedding(layout):
    layer = random(NoiseLevelEmbedding(8, 12, layers=3, layout=layout))
    lam, added = torch.tensor([-30.0, -2.0, 0.5, 7.0, 40.0], dtype=F64), torch.randn(5, 12, dtype=F64)
    # beyond 20 nothing changes: there alpha or sigma is 4.5e-5
    u = phi_of(lam.clamp(-20, 20)) / (math.pi / 2) * 1000
    k = torch.arange(4, dtype=F64)
    angles = u[:, None] * 10000.0 ** (-k / (3 if layout == "sin_cos" else 4))
    waves = torch.cat([angles.sin(), angles.cos()] if layout == "sin_cos" else [angles.cos(), angles.sin()], 1)
    h = linear(waves, layer.first.weight, layer.first.bias) + added
    for deeper in layer.rest:
        h = linear(silu(h), deeper.weight, deeper.bias)
    torch.testing.assert_close(
        layer(lam, added), h, atol=2e-3, rtol=1e-3
    )  # the wave's phase is a float32 of up to 1000


def test_frame_embedding():
    layer = random(FrameEmbedding(6, 10))
    caption = torch.randn(B, 1, 10, dtype=F64)
    independent = torch.tensor([[False, False, True, False]])
    k = torch.arange(3, dtype=F64)
    for f in range(F):
        angles = f * 10000.0 ** (-k / 2)
        e = linear(torch.cat([angles.sin(), angles.cos()]), layer.index.weight, layer.index.bias)
        with_caption = e * (1 + linear(caption[:, 0], layer.gate.weight, layer.gate.bias))
        expected = torch.zeros_like(with_caption) if f == 2 else with_caption
        torch.testing.assert_close(layer(F, independent, caption)[:, f], expected, atol=1e-5, rtol=1e-5)
        bare = torch.zeros(10, dtype=F64) if f == 2 else e * (1 + layer.gate.bias)
        torch.testing.assert_close(layer(F, independent, None)[0, f], bare, atol=1e-5, rtol=1e-5)


def test_text_pooling():
    pool = random(TextPooling(5, 8, 12, queries=3, heads=2))
    text = some_text(B, width=8)
    text = TextCondition(torch.randn(B, 5), text.tokens, text.mask)
    normed = layer_norm(text.tokens.double(), (8,), pool.norm.weight, pool.norm.bias)
    for b in range(B):
        key, value = linear(normed[b], pool.key_value.weight, pool.key_value.bias)[text.mask[b]].split(8, 1)
        read = [
            torch.cat([attend(q[s], key[:, s].unbind(), value[:, s].unbind()) for s in (slice(0, 4), slice(4, 8))])
            for q in pool.query
        ]
        vector = linear(torch.cat(read), pool.out.weight, pool.out.bias)
        given = layer_norm(text.pooled[b].double(), (5,), pool.from_pooled[0].weight, pool.from_pooled[0].bias)
        vector = vector + linear(given, pool.from_pooled[1].weight, pool.from_pooled[1].bias)
        close(pool(text)[b], layer_norm(vector, (12,), pool.norm_out.weight, pool.norm_out.bias))


# --- the transformer's layers ---------------------------------------------------------------------------------------


def token_attention(layer, x, angles, seen):
    """x [N, C]; angles [N, d / 2] or None; seen[i] the tokens that token i attends to."""
    qkv = heads_of(linear(x, layer.qkv.weight, layer.qkv.bias), 3).clone()
    for part, norm in ((0, layer.norm_q), (1, layer.norm_k)):
        if isinstance(norm, torch.nn.RMSNorm):
            rows = qkv[:, part]
            qkv[:, part] = rows / (rows.square().mean(-1, keepdim=True) + 1e-6).sqrt() * norm.weight
        if angles is not None:
            even, odd = qkv[:, part, :, 0::2].clone(), qkv[:, part, :, 1::2].clone()
            cos, sin = angles.cos().double()[:, None], angles.sin().double()[:, None]
            qkv[:, part, :, 0::2], qkv[:, part, :, 1::2] = even * cos - odd * sin, even * sin + odd * cos
    rows = []
    for i in range(len(x)):
        out = [attend(qkv[i, 0, h], qkv[seen[i], 1, h].unbind(), qkv[seen[i], 2, h].unbind()) for h in range(HEADS)]
        rows.append(linear(torch.cat(out), layer.proj.weight, layer.proj.bias))
    return torch.stack(rows)


@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize("rotary", [False, True])
def test_token_attention(qk_norm, rotary):
    layer = random(TokenAttention(C, HEADS, qk_norm))
    x = torch.randn(B, 6, C, dtype=F64)
    angles = rotary_angles(torch.randint(0, 9, (6, 3)), D) if rotary else None
    mask = (torch.rand(6, 6) > 0.5) | torch.eye(6, dtype=torch.bool)
    expected = torch.stack([token_attention(layer, row, angles, [m.nonzero()[:, 0] for m in mask]) for row in x])
    close(layer(x, angles, mask), expected)


def test_text_cross_attention():
    layer = random(TextCrossAttention(C, HEADS, 6))
    x, text = torch.randn(B, 5, C, dtype=F64), some_text(B, width=6)
    words = Words(text.tokens.double(), text.mask[:, None])
    for b in range(B):
        q = linear(x[b], layer.q.weight, layer.q.bias).reshape(5, HEADS, D)
        kv = heads_of(linear(words.tokens[b], layer.kv.weight, layer.kv.bias), 2)[text.mask[b]]
        for i in range(5):
            out = torch.cat([attend(q[i, h], kv[:, 0, h].unbind(), kv[:, 1, h].unbind()) for h in range(HEADS)])
            close(layer(x, words)[b, i], linear(out, layer.proj.weight, layer.proj.bias))


@pytest.mark.parametrize("factorised", [False, True])
def test_transformer_block(factorised):
    """Which tokens each attention sees, under a mask over frames, and the order of the branches."""
    layer = random(TransformerBlock(C, HEADS, 2.0, True, factorised, 6))
    positions = H * W
    places = grid_positions(F, H, W)
    angles, mask = rotary_angles(places, D), mask_of_pairs()
    x, vector = torch.randn(B, F * positions, C, dtype=F64), torch.randn(B, 1, C, dtype=F64)
    text = some_text(B, width=6)
    words = Words(text.tokens.double(), text.mask[:, None])
    frame, place = torch.arange(F * positions) // positions, torch.arange(F * positions) % positions

    def normed(x):
        return layer_norm(x, (C,), eps=1e-6)

    for b in range(B):
        in_sight = mask[b][frame][:, frame]  # by the mask over frames
        h = x[b]
        shift1, scale1, gate1, shift2, scale2, gate2 = linear(
            silu(vector[b, 0]), layer.modulation.weight, layer.modulation.bias
        ).split(C)
        # the mask keeps frames apart, which attention within a frame does anyway
        seen = (frame[:, None] == frame) if factorised else in_sight
        inner = normed(h) * (1 + scale1) + shift1
        h = h + gate1 * token_attention(layer.attention, inner, angles, [m.nonzero()[:, 0] for m in seen])
        if factorised:
            seen = in_sight & (place[:, None] == place)
            h = h + token_attention(layer.time_attention, normed(h), angles, [m.nonzero()[:, 0] for m in seen])
        h = h + layer.cross(normed(h)[None], Words(words.tokens[b : b + 1], words.allowed[b : b + 1]))[0]
        inner = linear(normed(h) * (1 + scale2) + shift2, layer.mlp[0].weight, layer.mlp[0].bias)
        gelu = 0.5 * inner * (1 + torch.tanh(math.sqrt(2 / math.pi) * (inner + 0.044715 * inner**3)))
        expected = h + gate2 * linear(gelu, layer.mlp[2].weight, layer.mlp[2].bias)
        got = layer(x, vector, TokenRow([(F, H, W)], angles, mask=mask), words)[b]
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)  # angles are made in float32
