"""T1-T3, T6-T8, T13, T15 and the size table of the spacetime transformer."""

import math

import pytest
import torch
from diffusers import DiTTransformer2DModel

from muybridge.errors import UserError
from muybridge.models.transformer import SIZES, SpacetimeTransformer, patchify, transformer_size, unpatchify
from muybridge.models.unet3d import joint_mask
from muybridge.nn.position import grid_positions, rotary_angles, rotate, split_rotary_dims
from muybridge.nn.text_conditioning import TextCondition, Words
from muybridge.nn.token_rows import TokenRow
from muybridge.nn.transformer_blocks import TokenAttention
from tests.conftest import randomise, some_text

F64 = torch.float64
TOY = dict(width=64, layers=2, heads=4)


def video(frames=4, batch=2, size=8):
    return torch.randn(batch, 4, frames, size, size, dtype=F64), torch.randn(batch, dtype=F64)


def network(std=0.1, **settings):
    return randomise(SpacetimeTransformer(**{**TOY, **settings}), std).double().eval()


@pytest.mark.parametrize("attention", ["joint", "factorised"])
def test_t1_starts_at_zero_with_identity_blocks(attention):
    fresh = SpacetimeTransformer(**TOY, attention=attention, text_pooled_dim=8, text_token_dim=8).double()
    z, lam = video()
    assert torch.equal(fresh(z, lam, some_text(2)), torch.zeros_like(z))
    x = torch.randn(2, 64, 64, dtype=F64)
    text = some_text(2)
    words = Words(text.tokens.double(), text.mask[:, None])
    out = fresh.blocks[0](x, torch.randn(2, 1, 64, dtype=F64), TokenRow([(4, 4, 4)]), words)
    assert torch.equal(out, x)


@pytest.mark.parametrize(
    "name,patch,parameters",
    [
        ("S", 8, 33_148_160), ("S", 4, 32_945_024), ("S", 2, 32_963_360),
        ("B", 8, 130_881_536), ("B", 4, 130_475_648), ("B", 2, 130_512_416),
        ("L", 8, 458_594_816), ("L", 4, 458_053_760), ("L", 2, 458_102_816),
        ("XL", 8, 675_683_072), ("XL", 4, 675_074_432), ("XL", 2, 675_129_632),
    ],
)  # fmt: skip
def test_t2_published_sizes(name, patch, parameters):
    settings = transformer_size(name, patch)
    with torch.device("meta"):
        net = SpacetimeTransformer(**settings, out_channels=8, position="sincos", qk_norm=False, num_classes=1000)
        said = SpacetimeTransformer(
            **settings, learned_variance=True, position="sincos", qk_norm=False, num_classes=1000
        )
    assert net.num_parameters() == said.num_parameters() == parameters  # DiT's second half is its variance
    assert net.num_parameters(only_trainable=True) == parameters - (32 // patch) ** 2 * SIZES[name][1]


@pytest.mark.parametrize("patch", [(1, 2, 2), (2, 4, 2), (1, 1, 1), (4, 8, 8)])
def test_t3_patches_round_trip(patch):
    z = torch.randn(2, 3, 4, 8, 16)
    tokens = patchify(z, patch)
    grid = [n // p for n, p in zip(z.shape[2:], patch, strict=True)]
    assert tokens.shape == (2, grid[0] * grid[1] * grid[2], 3 * patch[0] * patch[1] * patch[2])
    assert torch.equal(unpatchify(tokens, patch, grid), z)


def test_t3_token_order_is_time_row_column():
    z = torch.arange(2 * 3 * 4.0).reshape(1, 1, 2, 3, 4)
    assert torch.equal(patchify(z, (1, 1, 1)).flatten(), z.flatten())
    assert torch.equal(grid_positions(2, 3, 4)[5], torch.tensor([0, 1, 1]))


def test_t6_rotary_logits_depend_on_differences_only():
    angles = rotary_angles(grid_positions(3, 4, 4), 16)
    moved = rotary_angles(grid_positions(3, 4, 4) + torch.tensor([5, 2, 7]), 16)
    q, k = torch.randn(1, 2, 48, 16), torch.randn(1, 2, 48, 16)
    logits = rotate(q, angles) @ rotate(k, angles).transpose(-1, -2)
    assert torch.allclose(rotate(q, moved) @ rotate(k, moved).transpose(-1, -2), logits, atol=1e-4)
    assert torch.allclose(rotate(q, angles).norm(dim=-1), q.norm(dim=-1), atol=1e-5)
    assert not torch.allclose(logits, q @ k.transpose(-1, -2), atol=1e-2)


def test_t6_axis_split_and_two_dimensional_case():
    assert split_rotary_dims(64) == (16, 24, 24) and split_rotary_dims(16) == (4, 6, 6)
    one_frame = rotary_angles(grid_positions(1, 4, 4), 16)
    assert torch.equal(one_frame[:, :2], torch.zeros(16, 2))  # nothing is rotated for time
    with pytest.raises(ValueError, match="even head width"):
        split_rotary_dims(5)


def test_t7_factorised_starts_as_the_image_model_of_each_frame():
    net = SpacetimeTransformer(**TOY, attention="factorised").double()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "time_attention.proj" not in name and parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    z, lam = video()
    out = net(z, lam)
    for f in range(4):
        assert torch.allclose(out[:, :, f], net(z[:, :, f : f + 1], lam)[:, :, 0], atol=1e-10)
    spatial_only = z.clone()
    spatial_only[:, :, 0] += 1
    assert torch.equal(net(spatial_only, lam)[:, :, 1:], out[:, :, 1:])


def test_t8_positions_enter_only_through_rotation():
    net = network()
    z, lam = video(1, size=4)
    order = torch.tensor([2, 0, 3, 1])
    blocks = patchify(z, (1, 2, 2))
    shuffled = unpatchify(blocks[:, order], (1, 2, 2), (1, 2, 2))
    plain = patchify(net(z, lam), (1, 2, 2))[:, order]
    assert not torch.allclose(patchify(net(shuffled, lam), (1, 2, 2)), plain, atol=1e-4)
    import muybridge.models.transformer as module

    kept, module.rotary_angles = module.rotary_angles, lambda *a, **k: None
    try:
        plain = patchify(net(z, lam), (1, 2, 2))[:, order]
        assert torch.allclose(patchify(net(shuffled, lam), (1, 2, 2)), plain, atol=1e-10)
    finally:
        module.rotary_angles = kept


def test_t13_qk_norm_bounds_the_logits():
    attention = randomise(TokenAttention(32, 4, qk_norm=True), 3.0)
    x = 50 * torch.randn(2, 9, 32)
    q, k, _ = attention.qkv(x).unflatten(-1, (3, 4, -1)).permute(2, 0, 3, 1, 4).unbind(0)
    logits = attention.norm_q(q) @ attention.norm_k(k).transpose(-1, -2) / 8**0.5
    bound = 8**0.5 * attention.norm_q.weight.abs().max() * attention.norm_k.weight.abs().max()
    assert float(logits.abs().max()) <= float(bound) * 1.0001


def test_t15_per_frame_levels_and_condition_channels():
    net = network()
    z, lam = video()
    assert torch.allclose(net(z, lam[:, None].expand(-1, 4)), net(z, lam), atol=1e-10)
    some_clean = lam[:, None].repeat(1, 4)
    some_clean[:, :2] = 15.0
    assert not torch.allclose(net(z, some_clean), net(z, lam), atol=1e-4)
    assert torch.allclose(net(z, torch.full((2, 4), 15.0)), net(z, torch.full((2,), 15.0)), atol=1e-10)
    fresh = SpacetimeTransformer(**TOY, condition_channels=5).double()
    with torch.no_grad():
        for name, parameter in fresh.named_parameters():
            if "condition_in" not in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    a, b = (torch.randn(2, 5, 4, 8, 8, dtype=F64) for _ in range(2))
    assert torch.equal(fresh(z, lam, condition=a), fresh(z, lam, condition=b))
    with pytest.raises(UserError, match="condition channels"):
        fresh(z, lam)


@pytest.mark.parametrize("attention", ["joint", "factorised"])
def test_video_and_images_do_not_see_each_other(attention):
    net = network(attention=attention, text_pooled_dim=8, text_token_dim=8)
    z, lam = video(5)
    mask, captions, text = joint_mask(3, 2), torch.tensor([0, 0, 0, 1, 2]), some_text(2, captions=3)
    base = net(z, lam, text, mask, captions)
    changed = z.clone()
    changed[:, :, 3:] += 1
    assert torch.allclose(net(changed, lam, text, mask, captions)[:, :, :3], base[:, :, :3], atol=1e-12)
    first = TextCondition(text.pooled[:, 0], text.tokens[:, 0], text.mask[:, 0])
    assert torch.allclose(net(z[:, :, :3], lam, first), base[:, :, :3], atol=1e-8)
    image = TextCondition(text.pooled[:, 2], text.tokens[:, 2], text.mask[:, 2])
    alone = net(z[:, :, 4:], lam, image)
    assert torch.allclose(alone, base[:, :, 4:], atol=1e-8)


def test_dropped_captions_share_one_null_word():
    net = network(text_pooled_dim=8, text_token_dim=8)
    z, lam = video()
    a, b = some_text(2).null(), some_text(2).null()
    assert torch.allclose(net(z, lam, a), net(z, lam, b), atol=1e-12)
    assert not torch.allclose(net(z, lam, some_text(2)), net(z, lam, a), atol=1e-4)


def test_class_labels_default_to_the_null_class():
    net = network(num_classes=3)
    z, lam = video()
    null = torch.full((2,), 3)
    assert torch.equal(net(z, lam), net(z, lam, class_labels=null))
    assert not torch.allclose(net(z, lam, class_labels=torch.tensor([0, 1])), net(z, lam), atol=1e-4)


def test_any_size_and_length_with_rotary_and_clear_errors():
    net = network()
    for shape in ((1, 4, 1, 4, 12), (1, 4, 9, 6, 2)):
        assert net(torch.randn(shape, dtype=F64), torch.zeros(1)).shape == shape
    with pytest.raises(UserError, match="divisible by the patch"):
        net(torch.randn(1, 4, 2, 5, 4, dtype=F64), torch.zeros(1))
    with pytest.raises(UserError, match="sin-cos table"):
        network(position="sincos", sample_size=8)(torch.randn(1, 4, 2, 4, 4, dtype=F64), torch.zeros(1))
    with pytest.raises(ValueError, match="unknown attention"):
        SpacetimeTransformer(attention="sparse")


def test_gradient_checkpointing_and_saving(tmp_path):
    z, lam = video(2, 1)
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        net = network().train()
        if checkpointing:
            net.enable_gradient_checkpointing()
        net(z, lam).square().sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in net.parameters()]))
    assert torch.allclose(gradients[0], gradients[1], atol=1e-10)
    net = net.float()
    net.save_pretrained(tmp_path)
    loaded = SpacetimeTransformer.from_pretrained(tmp_path)
    assert torch.equal(loaded(z.float(), lam.float()), net.eval()(z.float(), lam.float()))


def test_it_is_the_diffusion_transformer():
    """DiT's weights as diffusers holds them, in our names, give DiT's output."""
    theirs = DiTTransformer2DModel(
        num_attention_heads=4, attention_head_dim=16, in_channels=4, out_channels=8, num_layers=2, sample_size=8,
        patch_size=2, num_embeds_ada_norm=10, norm_num_groups=1,
    )  # fmt: skip
    theirs = randomise(theirs).double().eval()
    embedding = theirs.transformer_blocks[0].norm1.emb
    for block in theirs.transformer_blocks:  # one embedding for all, as in DiT; diffusers keeps a copy in each block
        block.norm1.emb.load_state_dict(embedding.state_dict())
        block.norm1.emb.time_proj.downscale_freq_shift = 0  # DiT's own frequencies
        block.norm3.eps = 1e-6
    given = theirs.state_dict()

    def named(ours, name):
        return {f"{ours}.{end}": given[f"{name}.{end}"] for end in ("weight", "bias")}

    first = "transformer_blocks.0.norm1.emb"
    weights = (
        named("patch_in", "pos_embed.proj") | named("modulation_out", "proj_out_1") | named("patch_out", "proj_out_2")
    )
    weights["patch_in.weight"] = weights["patch_in.weight"].permute(0, 2, 3, 1).flatten(1)
    weights |= named("noise_embedding.first", f"{first}.timestep_embedder.linear_1")
    weights |= named("noise_embedding.rest.0", f"{first}.timestep_embedder.linear_2")
    weights["classes.weight"] = given[f"{first}.class_embedder.embedding_table.weight"]
    for i in range(2):
        there, here = f"transformer_blocks.{i}", f"blocks.{i}"
        for end in ("weight", "bias"):
            weights[f"{here}.attention.qkv.{end}"] = torch.cat([given[f"{there}.attn1.to_{n}.{end}"] for n in "qkv"])
        weights |= named(f"{here}.attention.proj", f"{there}.attn1.to_out.0")
        weights |= named(f"{here}.mlp.0", f"{there}.ff.net.0.proj") | named(f"{here}.mlp.2", f"{there}.ff.net.2")
        weights |= named(f"{here}.modulation", f"{there}.norm1.linear")
    net = SpacetimeTransformer(
        in_channels=4, out_channels=8, layers=2, width=64, heads=4, position="sincos", sample_size=8, qk_norm=False,
        num_classes=10,
    ).double().eval()  # fmt: skip
    missing = net.load_state_dict(weights, strict=False)
    assert missing.missing_keys == ["position_table"] and not missing.unexpected_keys

    z, step, label = torch.randn(2, 4, 8, 8, dtype=F64), torch.tensor([3, 700]), torch.tensor([1, 10])
    phi = step.double() / 1000 * math.pi / 2  # our embedding is of 1000 phi / (pi / 2)
    with torch.no_grad():
        expected = theirs(z, timestep=step, class_labels=label).sample
        got = net(z[:, :, None], 2 * (phi.cos() / phi.sin()).log(), class_labels=label)[:, :, 0]
    assert float((got - expected).abs().max()) < 2e-4 * float(expected.std())


def test_no_caption_is_the_null_caption():
    """What guidance's other branch sees and what training dropped captions to."""
    net = network(text_pooled_dim=8, text_token_dim=8)
    z, lam = video()
    null = net(z, lam, some_text(2).null())
    assert torch.allclose(net(z, lam), null, atol=1e-12)
    half = some_text(2)
    half = TextCondition(half.pooled, half.tokens, half.mask, torch.tensor([True, False]))
    assert torch.allclose(net(z, lam, half)[:1], null[:1], atol=1e-12)
    net = network(text_token_dim=8)
    empty = TextCondition(half.pooled, half.tokens, torch.zeros_like(half.mask))  # a caption without words
    assert torch.allclose(net(z, lam, empty), net(z, lam, half.null()), atol=1e-12)


def test_a_table_of_squares_takes_no_other_shape():
    net = network(position="sincos", sample_size=8)
    for height, width in ((4, 16), (16, 4), (2, 32)):
        with pytest.raises(UserError, match="squares of 8"):
            net(torch.randn(1, 4, 2, height, width, dtype=F64), torch.zeros(1))


def test_a_patch_of_frames_takes_one_level_one_caption_and_one_mask():
    net = network(patch_size=(2, 2, 2), text_pooled_dim=8, text_token_dim=8)
    z, _ = video()
    pairs = torch.tensor([0, 0, 1, 1])
    levels, mask, text = (
        torch.randn(2, 2, dtype=F64)[:, pairs],
        joint_mask(0, 2)[pairs][:, pairs],
        some_text(2, captions=2),
    )
    out = net(z, levels, text, mask, pairs)
    changed = z.clone()
    changed[:, :, 2:] += 1
    assert torch.allclose(net(changed, levels, text, mask, pairs)[:, :, :2], out[:, :, :2], atol=1e-12)
    with pytest.raises(UserError, match="noise levels must be the same"):
        net(z, torch.randn(2, 4, dtype=F64), text, mask, pairs)
    with pytest.raises(UserError, match="a mask must be the same"):
        net(z, levels, text, joint_mask(0, 4), pairs)
    with pytest.raises(UserError, match="a mask must be the same"):
        net(z, levels, text, joint_mask(3, 1), pairs)
    with pytest.raises(UserError, match="captions must be the same"):
        net(z, levels, text, mask, torch.tensor([0, 0, 0, 1]))


def test_a_condition_without_channels_for_it_is_refused():
    z, lam = video()
    with pytest.raises(UserError, match="takes 0 condition channels, got 5"):
        network()(z, lam, condition=torch.randn(2, 5, 4, 8, 8, dtype=F64))


@pytest.mark.parametrize("words", [0, 8])
def test_levels_and_captions_may_lie_anywhere(words):
    """On a device, a float64 level and a table of captions may come from the CPU; the meta device refuses to mix."""
    with torch.device("meta"):
        net = SpacetimeTransformer(**TOY, text_pooled_dim=8, text_token_dim=words)
    text = TextCondition(
        *(torch.empty(s, device="meta") for s in ((2, 3, 8), (2, 3, 5, 8))), torch.ones(2, 3, 5, device="meta").bool()
    )
    z, levels = torch.empty(2, 4, 4, 8, 8, device="meta"), torch.randn(2, 4, dtype=F64)
    out = net(z, levels, text, joint_mask(2, 2, "meta"), torch.tensor([0, 0, 1, 2]))
    assert out.shape == z.shape and out.dtype == torch.float32
