"""Lumiere's space-time U-Net behind picture networks of three shapes (spec 11, invariants 1 to 6, 10, 11, 13)."""

import copy

import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from torch.nn.functional import conv1d

from muybridge.errors import UserError
from muybridge.models.inflated_unet import InflatedUNet
from muybridge.models.plugins.lumiere import AttentionInflation, ConvolutionInflation
from muybridge.nn.temporal import Call
from muybridge.nn.temporal_convolution import FrameConvolution
from tests.conftest import randomise

WIDTHS = dict(sample_size=8, block_out_channels=(8, 16, 16), norm_num_groups=4, layers_per_block=1)
OUTER = dict(
    down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
)
INNER = dict(
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
)
SHAPED = {
    "SD 1.5": dict(**WIDTHS, **OUTER, cross_attention_dim=12, attention_head_dim=4),
    "SD 2.1": dict(**WIDTHS, **OUTER, cross_attention_dim=16, attention_head_dim=[2, 4, 4], use_linear_projection=True),
    "SDXL": dict(
        **WIDTHS, **INNER, cross_attention_dim=16, attention_head_dim=[2, 4, 4], use_linear_projection=True,
        transformer_layers_per_block=[1, 1, 2], addition_embed_type="text_time", addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=32,
    ),
}  # fmt: skip
LAYERS = {"type": "lumiere", "levels": 2, "layers": 2, "attention_head_dim": 4}


def picture_net(kind="SD 1.5"):
    return randomise(UNet2DConditionModel(**SHAPED[kind])).eval()


def video_net(net=None, **settings):
    return InflatedUNet.from_image_model(net or picture_net(), {**LAYERS, **settings}).eval()


def inputs(kind="SD 1.5", frames=8, batch=2):
    given = {
        "sample": torch.randn(batch, 4, frames, 8, 8), "timestep": torch.tensor([3, 500])[:batch],
        "encoder_hidden_states": torch.randn(batch, 7, SHAPED[kind]["cross_attention_dim"]),
    }  # fmt: skip
    if kind == "SDXL":
        given["added_cond_kwargs"] = {"text_embeds": torch.randn(batch, 8), "time_ids": torch.randn(batch, 6)}
    return given


def alone(net, given):
    rest = {k: v for k, v in given.items() if k != "sample"}
    return torch.stack([net(frame, **rest).sample for frame in given["sample"].unbind(2)], 2)


@pytest.mark.parametrize("kind", SHAPED)
@torch.no_grad()
def test_1_the_start_is_the_picture_model_on_the_frames_that_reach_the_bottom(kind):
    net, given = picture_net(kind), inputs(kind)
    made, expected = video_net(net)(**given).sample, alone(net, given)
    off = (made - expected).abs().amax((0, 1, 3, 4))
    assert off[::4].max() < 1e-5 and off[[1, 2, 3, 5, 6, 7]].min() > 1e-3
    still = {**given, "sample": given["sample"][:, :, :1].expand(-1, -1, 8, -1, -1).contiguous()}
    assert torch.allclose(video_net(net)(**still).sample, alone(net, still), atol=1e-5)


@torch.no_grad()
def test_1_other_frames_meet_the_features_of_the_frame_before_them_at_the_deep_levels():
    """By a picture network made of its own blocks: level l of frame f is that of frame 2^l floor(f / 2^l)."""
    net, given = picture_net(), inputs(batch=1)
    made = video_net(net, levels=1)(**given).sample
    rest = {k: v for k, v in given.items() if k != "sample"}
    skips, deep = {}, {}
    hooks = [
        net.down_blocks[1].register_forward_hook(lambda m, a, out: skips.__setitem__("down", out)),
        net.up_blocks[0].register_forward_hook(lambda m, a, out: deep.__setitem__("up", out)),
    ]
    net(given["sample"][:, :, 2], **rest)
    even = (skips["down"], deep["up"])
    for hook in hooks:
        hook.remove()
    # in frame 3 the output of the last downsampler and all below it are frame 2's
    hook = net.up_blocks[0].register_forward_hook(lambda m, a, out: even[1])
    expected = net(given["sample"][:, :, 3], **rest).sample
    hook.remove()
    assert torch.allclose(made[:, :, 3], expected, atol=1e-5)
    assert not torch.allclose(made[:, :, 3], net(given["sample"][:, :, 3], **rest).sample, atol=1e-3)


@pytest.mark.parametrize("kind", SHAPED)
@torch.no_grad()
def test_2_without_resampling_it_is_the_picture_model_on_every_frame(kind):
    net, given = picture_net(kind), inputs(kind, frames=5)
    assert torch.allclose(video_net(net, levels=0)(**given).sample, alone(net, given), atol=1e-5)


def test_3_inflation_blocks_start_as_nothing():
    x = torch.randn(12, 8, 4, 4)
    for block in (ConvolutionInflation(8, 4, 3, "zeros"), AttentionInflation(8, 4, 3, 4, "sinusoidal")):
        assert torch.equal(block(x, 2), x)
        assert (randomise(block)(x, 2) - x).abs().max() > 1e-2
        assert len(getattr(block, "attentions", ())) in (0, 3)


@torch.no_grad()
def test_a_convolution_block_by_hand():
    block = randomise(ConvolutionInflation(8, 4, 3, "zeros")).double()
    x = torch.randn(2, 6, 8, 4, 4, dtype=torch.float64)  # [B, F, C, H, W]
    r = torch.stack([torch.nn.functional.silu(block.norm1(block.space(f))) for f in x.unbind(1)], 1)
    mixed = torch.zeros_like(r)
    for h in range(4):
        for w in range(4):
            line = r[:, :, :, h, w].transpose(1, 2)
            mixed[:, :, :, h, w] = conv1d(line, block.time.weight, block.time.bias, padding=1).transpose(1, 2)
    expected = torch.stack(
        [
            f + block.proj(torch.nn.functional.silu(block.norm2(m)))
            for f, m in zip(x.unbind(1), mixed.unbind(1), strict=True)
        ],
        1,
    )
    assert torch.allclose(block(x.flatten(0, 1), 2).unflatten(0, (2, 6)), expected, atol=1e-12)


def test_an_attention_block_by_hand():
    block = randomise(AttentionInflation(8, 4, 3, 4, "none")).double()
    x = torch.randn(2, 5, 8, 2, 3, dtype=torch.float64)
    r = x.flatten(0, 1)
    for layer in block.attentions:
        tokens = layer.norm(r).unflatten(0, (2, 5)).permute(0, 3, 4, 1, 2)  # [B, H, W, F, C]
        q, k, v = layer.qkv(tokens).unflatten(-1, (3, 2, 4)).permute(4, 0, 1, 2, 5, 3, 6)
        seen = ((q @ k.transpose(-1, -2)) / 2).softmax(-1) @ v  # [B, H, W, heads, F, d]
        added = layer.proj(seen.transpose(3, 4).flatten(4))
        r = r + added.permute(0, 3, 4, 1, 2).flatten(0, 1)
    assert torch.allclose(block(x.flatten(0, 1), 2), x.flatten(0, 1) + block.proj(r), atol=1e-12)


@torch.no_grad()
def test_4_resampling_starts_as_striding_and_repetition():
    plugin = video_net().temporal
    call, x = Call(8, videos=2), torch.randn(16, 8, 4, 4)
    down, up = next(iter(plugin.downs)), list(plugin.ups)[-1]
    low = plugin.follow(down, x, call, None, None)
    assert torch.equal(low, x.unflatten(0, (2, 8))[:, ::2].flatten(0, 1))
    y = torch.randn(8, 16, 4, 4)
    high = plugin.follow(up, y, call, None, None).unflatten(0, (2, 8))
    assert torch.equal(high[:, ::2].flatten(0, 1), y) and torch.equal(high[:, 1::2].flatten(0, 1), y)
    still = torch.randn(2, 1, 8, 4, 4).expand(-1, 8, -1, -1, -1)
    again = plugin.follow(down, still.flatten(0, 1), call, None, None)
    assert torch.equal(again, still[:, :4].flatten(0, 1))
    random = video_net(resampling="random").temporal
    assert not torch.allclose(random.follow(down, x, call, None, None), low, atol=1e-2)


@pytest.mark.parametrize("levels", [0, 1, 2])
def test_time_is_halved_behind_the_deepest_levels_and_as_often_doubled(levels):
    plugin = video_net(levels=levels).temporal
    assert list(plugin.downs) == [f"down_blocks_{i}_downsamplers_0" for i in (0, 1)][2 - levels :]
    assert list(plugin.ups) == [f"up_blocks_{i}_upsamplers_0" for i in (0, 1)][:levels]
    deep = {k for k, m in plugin.inflations.items() if isinstance(m, AttentionInflation)}
    assert deep and all(k.startswith(("down_blocks_2", "mid_block", "up_blocks_0")) for k in deep)
    assert len(plugin.inflations) == 3 + 1 + 6  # every layer: one a level on the way down, two on the way up
    video, seen = video_net(levels=levels), {}
    for key, module in video.temporal.inflations.items():
        module.register_forward_pre_hook(lambda m, args, key=key: seen.__setitem__(key, len(args[0]) // args[1]))
    video(**inputs())
    assert {seen[k] for k in deep} == {8 // 2**levels} and max(seen.values()) == 8


def test_5_only_the_temporal_layers_train_and_pictures_stay_bit_for_bit():
    video = video_net()
    names = dict(video.trainable_parameters())
    assert names and all(n.startswith("temporal.") for n in names)
    for name, parameter in video.named_parameters():
        parameter.requires_grad_(name in names)
    before, optimizer = copy.deepcopy(video.state_dict()), torch.optim.AdamW(names.values(), 1e-2, weight_decay=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (video(**inputs()).sample - 1).square().mean().backward()
        optimizer.step()
    after = video.state_dict()
    assert all(torch.equal(before[n], after[n]) for n in before if n.startswith("image."))
    assert not [n for n in names if torch.equal(before[n], after[n])]


@pytest.mark.parametrize("position", ["none", "sinusoidal"])
@torch.no_grad()
def test_6_a_shift_by_four_frames_shifts_the_output(position):
    video = randomise(video_net(padding="circular", position=position), 0.05).double()
    given = inputs(frames=16)
    given = {k: v.double() if v.is_floating_point() else v for k, v in given.items()}

    def differs(by):
        moved = {**given, "sample": given["sample"].roll(by, 2)}
        return float((video(**moved).sample - video(**given).sample.roll(by, 2)).abs().max())

    assert differs(2) > 1e-4
    assert (differs(4) < 1e-9) == (position == "none")  # a frame's index is a place that a shift leaves


@torch.no_grad()
def test_10_and_11_the_conditional_form():
    net, given = picture_net(), inputs()
    plain, told = video_net(net), video_net(net, known_channels=4)
    expected = plain(**given).sample
    known, mask = torch.randn(2, 4, 8, 8, 8), (torch.rand(2, 1, 8, 8, 8) > 0.5).float()
    for conditions in ({}, {"known": known, "known_mask": mask}, {"known": known * 0, "known_mask": mask * 0}):
        assert torch.allclose(told(**given, conditions=conditions).sample, expected, atol=1e-5)
    randomise(told.image.conv_in)
    packed = told.temporal.inputs(given["sample"], Call(8, conditions={"known": known, "known_mask": mask}))
    assert (packed[:, 4:8][mask.expand(-1, 4, -1, -1, -1) == 0] == 0).all()
    seen = told(**given, conditions={"known": known, "known_mask": mask}).sample
    other = torch.where(mask > 0, known, torch.randn_like(known))
    assert torch.equal(told(**given, conditions={"known": other, "known_mask": mask}).sample, seen)
    assert not torch.allclose(seen, told(**given).sample, atol=1e-3)
    assert "image.conv_in.weight" in dict(told.trainable_parameters())


def test_13_errors_name_the_levels():
    with pytest.raises(UserError, match=r"6 frames.*2 times \(levels\).*multiple of 4"):
        video_net()(**inputs(frames=6))
    with pytest.raises(UserError, match="at most as often as the picture, 2 times, got 3"):
        video_net(levels=3)
    net, given = picture_net(), inputs(frames=6)
    with torch.no_grad():
        assert torch.allclose(video_net(net)(**given, images_only=True).sample, alone(net, given), atol=1e-5)
    control = ControlNetModel.from_unet(net, conditioning_embedding_out_channels=(4, 8))
    folded = inputs()["sample"].transpose(1, 2).flatten(0, 1)
    text = inputs()["encoder_hidden_states"].repeat_interleave(8, 0)
    down, middle = control(folded, torch.zeros(16), text, torch.rand(16, 3, 16, 16), return_dict=False)
    with pytest.raises(UserError, match="ControlNet"):
        video_net()(**inputs(), down_block_additional_residuals=tuple(down), mid_block_additional_residual=middle)


@pytest.mark.parametrize("kind", SHAPED)
def test_gradient_checkpointing_changes_nothing(kind):
    video, given = randomise(video_net(picture_net(kind)), 0.05), inputs(kind)
    found = []
    for checkpointed in (False, True):
        if checkpointed:
            video.enable_gradient_checkpointing()
            video.train()
        video.zero_grad()
        out = video(**given).sample
        out.square().mean().backward()
        found.append((out.detach(), {n: p.grad.clone() for n, p in video.temporal.named_parameters()}))
    assert torch.allclose(found[0][0], found[1][0], atol=1e-6)
    for name, value in found[0][1].items():
        assert torch.allclose(value, found[1][1][name], atol=1e-5), name


@torch.no_grad()
def test_folders_open_and_copies_point_at_themselves(tmp_path):
    video, given = randomise(video_net(known_channels=4), 0.05), inputs()
    made = video(**given).sample
    video.save_pretrained(tmp_path)
    assert torch.equal(InflatedUNet.from_pretrained(tmp_path, local_files_only=True).eval()(**given).sample, made)
    twin = copy.deepcopy(video)
    randomise(twin)
    assert torch.equal(video(**given).sample, made) and not torch.allclose(twin(**given).sample, made, atol=1e-3)
    rows = [video(**{k: v[i : i + 1] for k, v in given.items()}).sample for i in range(2)]
    assert torch.allclose(torch.cat(rows), made, atol=1e-5)
    assert isinstance(next(iter(video.temporal.downs.values())), FrameConvolution)
