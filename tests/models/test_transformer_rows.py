"""T4, T5, T6, T7 and T19 of spec 04: packs, words in the sequence, the other patterns of attention, one modulation for
all blocks; parameters to the unit."""

import math

import pytest
import torch

from muybridge.errors import UserError
from muybridge.models.transformer import SpacetimeTransformer, transformer_size
from muybridge.models.unet3d import joint_mask
from muybridge.nn.position import rotary_angles
from muybridge.nn.text_conditioning import TextCondition
from muybridge.nn.token_rows import TokenRow, gather_skipping
from muybridge.nn.transformer_blocks import SKIP, TransformerBlock, patterns_of
from tests.conftest import randomise, some_text

F64 = torch.float64
TOY = dict(width=48, layers=6, heads=4, text_pooled_dim=8, text_token_dim=8)
VARIANTS = {
    "joint": {}, "factorised": {"attention": "factorised"}, "alternating": {"attention": "alternating"},
    "skiparse": {"attention": "skiparse"}, "words in the sequence": {"text_mode": "joint"},
    "one modulation": {"modulation": "single"},
    "one modulation, words in the sequence": {"modulation": "single", "text_mode": "joint"},
    "flow": {"prediction_type": "flow"}, "patches of two frames": {"patch_size": (2, 2, 2)},
}  # fmt: skip
SIZES = [(4, 8, 6), (2, 4, 4), (2, 4, 4), (6, 2, 10)]  # two of one size side by side


def network(**settings):
    return randomise(SpacetimeTransformer(**{**TOY, **settings})).double().eval()


def pack(sizes=SIZES, per_frame=True):
    samples = [torch.randn(4, *size, dtype=F64) for size in sizes]
    levels = [torch.randn((), dtype=F64) for _ in sizes]
    if per_frame:  # the second half of the first sample's frames is clean
        levels[0] = torch.cat([levels[0].expand(2), torch.full((2,), 15.0, dtype=F64)])
    text = some_text(len(sizes))
    mask = text.mask.clone()
    mask[1, 2:] = False  # of different lengths
    dropped = torch.zeros(len(sizes), dtype=torch.bool)
    dropped[-1] = True
    return samples, levels, TextCondition(text.pooled, text.tokens, mask, dropped)


@torch.no_grad()
@pytest.mark.parametrize("variant", VARIANTS)
def test_t4_a_pack_is_its_samples_one_by_one(variant):
    net = network(**VARIANTS[variant])
    samples, levels, text = pack()
    got = net(samples, levels, text)
    for i, (z, lam) in enumerate(zip(samples, levels, strict=True)):
        alone = net(z[None], lam[None], text.rows(slice(i, i + 1)))[0]
        assert torch.allclose(got[i], alone, atol=1e-10) and float(alone.std()) > 1e-3
    order = [2, 0, 3, 1]
    turned = TextCondition(*(t[order] for t in (text.pooled, text.tokens, text.mask, text.dropped)))
    again = net([samples[i] for i in order], [levels[i] for i in order], turned)
    for place, i in enumerate(order):
        assert torch.allclose(again[place], got[i], atol=1e-10)
    others = [z + 1.0 for z in samples[1:]]
    assert torch.allclose(net([samples[0], *others], levels, text)[0], got[0], atol=1e-10)
    untold = net(samples, levels)
    assert torch.allclose(untold[3], got[3], atol=1e-10) and not torch.allclose(untold[0], got[0], atol=1e-4)


def test_t4_gradients_of_a_pack_are_those_of_its_samples():
    samples, levels, text = pack()
    gradients = []
    for packed in (True, False):
        torch.manual_seed(0)
        net = network(text_mode="joint").train()
        if packed:
            net.enable_gradient_checkpointing()
            outs = net(samples, levels, text)
        else:
            outs = [net(z[None], lam[None], text.rows(slice(i, i + 1)))[0]
                    for i, (z, lam) in enumerate(zip(samples, levels, strict=True))]  # fmt: skip
        sum(out.square().mean() for out in outs).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None]))
    assert torch.allclose(*gradients, atol=1e-9) and float(gradients[0].abs().max()) > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("mode", ["cross", "joint"])
def test_t5_padding_of_words_changes_nothing(mode):
    net = network(text_mode=mode)
    z, lam, text = torch.randn(2, 4, 2, 4, 4, dtype=F64), torch.randn(2, dtype=F64), some_text(2)
    text = TextCondition(text.pooled, text.tokens.double(), text.mask)
    longer = TextCondition(
        text.pooled,
        torch.cat([text.tokens, torch.randn(2, 3, 8, dtype=F64)], 1),
        torch.cat([text.mask, torch.zeros(2, 3, dtype=torch.bool)], 1),
    )
    assert torch.allclose(net(z, lam, longer), net(z, lam, text), atol=1e-10)
    seen = TextCondition(longer.pooled, longer.tokens, torch.ones_like(longer.mask))
    assert not torch.allclose(net(z, lam, seen), net(z, lam, text), atol=1e-4)


@torch.no_grad()
def test_t1_variants_start_at_zero_with_identity_blocks():
    for settings in VARIANTS.values():
        fresh = SpacetimeTransformer(**{**TOY, **settings}).double()
        samples, levels, text = pack()
        assert all(torch.equal(out, torch.zeros_like(out)) for out in fresh(samples, levels, text))
        if settings.get("modulation") != "single":
            x, condition = torch.randn(1, 21, 48, dtype=F64), torch.randn(1, 2, 48, dtype=F64)
            row = TokenRow.of([(1, 4, 4)], [1], None, torch.ones(1, 5, dtype=torch.bool), "cpu")
            block = TransformerBlock(48, 4, 2.0, True, "joint", 0, own_words=True).double()
            for layer in (block.modulation, block.word_modulation):
                torch.nn.init.zeros_(layer.weight)
                torch.nn.init.zeros_(layer.bias)
            assert torch.equal(block(x, condition, row), x)


@torch.no_grad()
def test_words_and_patches_have_modulations_of_their_own():
    """Against the formula: attention over all, with the words' six from their own map."""
    block = randomise(TransformerBlock(16, 2, 2.0, False, "joint", 0, own_words=True), 0.3).double()
    row = TokenRow.of([(2, 1, 2)], [2], None, torch.tensor([[True, True, False]]), "cpu")
    x, condition = torch.randn(1, 7, 16, dtype=F64), torch.randn(1, 3, 16, dtype=F64)
    heard = torch.nn.functional.silu(condition[0])
    of_video, of_words = block.modulation(heard[:2]), block.word_modulation(heard[2])
    six = torch.stack([*[of_words] * 3, of_video[0], of_video[0], of_video[1], of_video[1]])  # a condition a frame
    shift1, scale1, gate1, shift2, scale2, gate2 = six.chunk(6, -1)

    def normed(h):
        return (h - h.mean(-1, keepdim=True)) / (h.var(-1, unbiased=False, keepdim=True) + 1e-6).sqrt()

    inner = normed(x[0]) * (1 + scale1) + shift1
    q, k, v = block.attention.qkv(inner).chunk(3, -1)
    out = []
    for head in range(2):
        part = slice(8 * head, 8 * head + 8)
        logits = q[:, part] @ k[:, part].T / math.sqrt(8)
        logits[:, 2] = -math.inf  # the third word is padding
        out.append(logits.softmax(-1) @ v[:, part])
    h = x[0] + gate1 * block.attention.proj(torch.cat(out, -1))
    expected = h + gate2 * block.mlp(normed(h) * (1 + scale2) + shift2)
    assert torch.allclose(block(x, condition, row)[0], expected, atol=1e-10)


@torch.no_grad()
def test_t6_words_are_not_turned_and_patches_count_from_their_own_corner():
    row = TokenRow.of([(1, 1, 2), (2, 2, 1)], [1, 1], None, torch.ones(2, 3, dtype=torch.bool), "cpu")
    expected = [*[(0, 0, 0)] * 3, (0, 0, 0), (0, 0, 1), *[(0, 0, 0)] * 3, (0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 0)]
    assert row.positions("cpu").tolist() == [list(p) for p in expected]
    assert not rotary_angles(row.positions("cpu"), 12)[:3].any()
    assert [(s.start, s.stop) for s in row.spans] == [(0, 5), (5, 12)]
    assert row.which.tolist() == [2, 2, 2, 0, 0, 3, 3, 3, 1, 1, 1, 1]
    assert row.patches.tolist() == [3, 4, 8, 9, 10, 11]


@torch.no_grad()
def test_rotary_positions_go_on_beyond_trained_sizes():
    """A larger grid's corner has the smaller grid's positions: its patches, seen alone, are the smaller video."""
    net = network(text_pooled_dim=0, text_token_dim=0)
    big, lam = torch.randn(1, 4, 4, 12, 20, dtype=F64), torch.zeros(1, dtype=F64)
    corner = net(big[:, :, :2, :6, :8], lam)
    grids = {}
    for size in ((2, 3, 4), (4, 6, 10)):
        positions = TokenRow([size]).positions("cpu")
        grids[size] = rotary_angles(positions, 12).reshape(*size, -1)
    assert torch.equal(grids[(4, 6, 10)][:2, :3, :4], grids[(2, 3, 4)])
    assert corner.shape == (1, 4, 2, 6, 8) and net(big, lam).shape == big.shape


@torch.no_grad()
def test_t7_alternating_blocks_see_one_frame_or_one_place():
    net = network(attention="alternating", text_pooled_dim=0, text_token_dim=0, layers=1)
    z, lam = torch.randn(1, 4, 3, 4, 4, dtype=F64), torch.zeros(1, dtype=F64)
    out = net(z, lam)
    for f in range(3):  # the only block is spatial
        assert torch.allclose(out[:, :, f : f + 1], net(z[:, :, f : f + 1], lam), atol=1e-10)
    assert patterns_of("alternating", 5) == ["spatial", "temporal", "spatial", "temporal", "spatial"]
    block = randomise(TransformerBlock(16, 2, 2.0, True, "temporal", 0), 0.3).double()
    x, condition = torch.randn(2, 12, 16, dtype=F64), torch.randn(2, 1, 16, dtype=F64)
    row = TokenRow([(3, 2, 2)])
    moved = x.clone()
    moved[:, 5] = torch.randn(2, 16, dtype=F64)  # frame 1, place 1
    heard = (block(moved, condition, row) - block(x, condition, row)).abs().amax((0, 2)) > 1e-9
    assert heard.nonzero()[:, 0].tolist() == [1, 5, 9]
    alone = block(x[:, 1::4], condition, TokenRow([(3, 1, 1)]))
    assert torch.allclose(block(x, condition, row)[:, 1::4], alone, atol=1e-10)
    with_mask = block(x, condition, TokenRow([(3, 2, 2)], mask=joint_mask(0, 3)))
    assert torch.allclose(with_mask[:, :4], block(x[:, :4], condition, TokenRow([(1, 2, 2)])), atol=1e-10)


@pytest.mark.parametrize("runs", [False, True])
@pytest.mark.parametrize("tokens", [1, 5, 16, 31, 32, 100])
def test_t19_skipping_keeps_every_token_once(tokens, runs):
    places, there = gather_skipping(tokens, SKIP, runs)
    assert places.shape[0] == SKIP and sorted(places[there].tolist()) == list(range(tokens))
    whole = -(-tokens // 16) * 16
    expected = [[] for _ in range(SKIP)]
    for i in range(whole):
        expected[(i // SKIP if runs else i) % SKIP].append(i)
    assert [row[t].tolist() for row, t in zip(places, there, strict=True)] == [
        [i for i in row if i < tokens] for row in expected
    ]


@torch.no_grad()
@pytest.mark.parametrize("pattern", ["skip", "skip_runs"])
@pytest.mark.parametrize("grid", [(1, 1, 3), (2, 3, 3), (4, 4, 4)])
def test_t19_a_skipping_block_attends_within_its_sequences(pattern, grid):
    tokens = math.prod(grid)
    block = randomise(TransformerBlock(16, 2, 2.0, True, pattern, 0), 0.3).double()
    whole = TransformerBlock(16, 2, 2.0, True, "joint", 0).double()
    whole.load_state_dict(block.state_dict())
    x, condition = torch.randn(2, tokens, 16, dtype=F64), torch.randn(2, 1, 16, dtype=F64)
    angles = rotary_angles(TokenRow([grid]).positions("cpu"), 8)
    got = block(x, condition, TokenRow([grid], angles))
    sequence = torch.arange(tokens) // (SKIP if pattern == "skip_runs" else 1) % SKIP
    for i in range(SKIP):
        own = sequence == i
        if own.any():
            alone = whole(x[:, own], condition, TokenRow([(1, 1, int(own.sum()))], angles[own]))
            assert torch.allclose(got[:, own], alone, atol=1e-10)
    assert patterns_of("skiparse", 8) == ["joint"] * 2 + ["skip", "skip_runs"] * 2 + ["joint"] * 2


@torch.no_grad()
def test_one_modulation_is_shared_and_each_block_adds_its_table():
    net = network(modulation="single", layers=2, text_pooled_dim=0, text_token_dim=0)
    z, lam = torch.randn(1, 4, 2, 4, 4, dtype=F64), torch.zeros(1, dtype=F64)
    plain = SpacetimeTransformer(**{**TOY, "layers": 2, "text_pooled_dim": 0, "text_token_dim": 0}).double().eval()
    weights = {k: v for k, v in net.state_dict().items() if "table" not in k and not k.startswith("shared_")}
    for i in range(2):
        weights[f"blocks.{i}.modulation.weight"] = net.shared_modulation.weight
        weights[f"blocks.{i}.modulation.bias"] = net.shared_modulation.bias + net.blocks[i].table
    plain.load_state_dict(weights)
    assert torch.allclose(net(z, lam), plain(z, lam), atol=1e-10)


def count(**settings):
    with torch.device("meta"):
        return SpacetimeTransformer(**settings).num_parameters()


def test_t2_parameters_of_the_video_variants():
    """To the unit, from the formulas of spec 04 section 4."""
    size, d, layers = transformer_size("XL", 2), 1152, 28
    common = dict(**size, in_channels=4, out_channels=8, qk_norm=False)
    latte = count(**common, attention="alternating", position="sincos")
    assert latte + 16 * d == 673_994_912  # Latte keeps a table of its 16 frames' places, which is computed here
    fixed = (16 * d + d) + (256 * d + d + d * d + d) + (2 * d * d + 2 * d) + (d * 32 + 32)
    assert count(**common) == layers * (18 * d * d + 15 * d) + fixed
    time = 4 * d * d + 4 * d  # a second attention a block
    assert count(**common, attention="factorised") == layers * (18 * d * d + 15 * d + time) + fixed
    single = layers * (12 * d * d + 9 * d + 6 * d) + (6 * d * d + 6 * d) + fixed
    assert count(**common, modulation="single") == single
    words = 4096 + 4096 * d + d  # the null word, and words into the width
    assert count(**common, text_token_dim=4096, text_mode="joint") == layers * (24 * d * d + 21 * d) + words + fixed
    cross = (d * d + d) + (2 * 4096 * d + 2 * d) + (d * d + d)
    assert count(**common, text_token_dim=4096) == layers * (18 * d * d + 15 * d + cross) + 4096 + fixed
    assert count(**{**common, "qk_norm": True}) == layers * (18 * d * d + 15 * d + 2 * 72) + fixed


def test_what_a_pack_is_not_told():
    samples, levels, text = pack(per_frame=False)
    with pytest.raises(UserError, match="temporal_mask: a pack"):
        network()(samples, levels, text, joint_mask(1, 1))
    z, lam = torch.randn(2, 4, 2, 4, 4, dtype=F64), torch.zeros(2, dtype=F64)
    with pytest.raises(UserError, match="frame_to_caption: text_mode joint"):
        network(text_mode="joint")(z, lam, some_text(2, 2), frame_to_caption=torch.tensor([0, 1]))
    with pytest.raises(UserError, match="temporal_mask: attention skiparse"):
        network(attention="skiparse")(z, lam, some_text(2), joint_mask(0, 2))
    with pytest.raises(ValueError, match="text_mode joint needs attention joint"):
        SpacetimeTransformer(**TOY, text_mode="joint", attention="factorised")
    for name in ("attention", "text_mode", "modulation", "position"):
        with pytest.raises(ValueError, match=f"unknown {name}"):
            SpacetimeTransformer(**TOY, **{name: "other"})
