"""Make-A-Video's pseudo-3D layers behind picture networks of three shapes (spec 05, invariants 1 to 7)."""

import copy

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn

from muybridge.errors import UserError
from muybridge.models.inflated_unet import InflatedUNet
from muybridge.nn.temporal import Call
from muybridge.nn.temporal_convolution import FrameConvolution
from tests.conftest import randomise
from tests.models.test_inflated_unet import SHAPED, frame_by_frame, inputs, picture_net

LAYERS = {"type": "make_a_video"}
FPS = {"fps": torch.tensor([8.0, 4.0])}
#: A decoder of unCLIP's kind: attention that stands alone, residual blocks that resample.
UNCLIP = dict(
    sample_size=8, in_channels=3, out_channels=6, block_out_channels=(16, 32), norm_num_groups=8, layers_per_block=1,
    down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
    up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
    mid_block_type="UNetMidBlock2DSimpleCrossAttn",
    cross_attention_dim=16, attention_head_dim=8, class_embed_type="identity", only_cross_attention=False,
    resnet_time_scale_shift="scale_shift",
)  # fmt: skip


def video_net(net=None, **settings):
    return InflatedUNet.from_image_model(net or picture_net(), {**LAYERS, **settings}).eval()


@pytest.mark.parametrize("position", ["t5", "sinusoidal"])
@pytest.mark.parametrize("frames", [1, 5])
@pytest.mark.parametrize("kind", SHAPED)
@torch.no_grad()
def test_1_and_5_the_start_is_the_picture_model(kind, frames, position):
    net, given = picture_net(kind), inputs(kind, frames)
    video = video_net(net, position=position)
    assert torch.allclose(video(**given, conditions=FPS).sample, frame_by_frame(net, given), atol=1e-5)
    other = video(**given, conditions={"fps": torch.tensor([30.0, 1.0])}).sample
    assert torch.equal(other, video(**given, conditions=FPS).sample)  # what the rate adds is zero at the start


@torch.no_grad()
def test_1_behind_an_unclip_decoder():
    net = randomise(UNet2DConditionModel(**UNCLIP)).eval()
    z, t, text, labels = torch.randn(2, 3, 3, 8, 8), torch.tensor([3, 500]), torch.randn(2, 4, 16), torch.randn(2, 64)
    video = video_net(net)
    kinds = {k.split(".")[0] for k in video.temporal.state_dict()}
    assert kinds == {"convolutions", "attentions", "rate"} and video.temporal.attentions
    alone = [net(z[:, :, f], t, text, class_labels=labels).sample for f in range(3)]
    made = video(z, t, text, conditions=FPS, class_labels=labels).sample
    assert torch.allclose(made, torch.stack(alone, 2), atol=1e-5)
    assert not torch.allclose(video(z, t, text, conditions=FPS, class_labels=labels + 1).sample, made, atol=1e-3)


@pytest.mark.parametrize("kind", SHAPED)
def test_a_convolution_over_time_behind_every_spatial_one_and_attention_behind_every_attention(kind):
    net = picture_net(kind)
    video = video_net(net)
    spatial = [
        n for n, m in net.named_modules() if isinstance(m, nn.Conv2d) and not n.endswith(("proj_in", "proj_out"))
    ]
    assert set(video.temporal.convolutions) == {n.replace(".", "_") for n in spatial} and "conv_in" in spatial
    blocks = [n for n, _ in net.named_modules() if n.split(".")[-2:-1] == ["transformer_blocks"]]
    assert set(video.temporal.attentions) == {n.replace(".", "_") for n in blocks}


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_2_a_dirac_kernel_changes_nothing_at_all(kernel):
    x = torch.randn(10, 6, 4, 3)
    assert torch.equal(FrameConvolution(6, kernel).along_frames(x, 2), x)
    with pytest.raises(ValueError, match="odd"):
        FrameConvolution(6, 4)
    with pytest.raises(ValueError, match="padding"):
        FrameConvolution(6, padding="mirror")


@pytest.mark.parametrize("padding", ["zeros", "replicate", "circular"])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_over_time_by_hand(padding, stride):
    layer = randomise(FrameConvolution(3, 3, padding, stride)).double()
    x = torch.randn(2, 6, 3, 2, 2, dtype=torch.float64)  # [B, F, C, H, W]
    expected = torch.zeros(2, 6 // stride, 3, 2, 2, dtype=torch.float64)
    for b in range(2):
        for i in range(6 // stride):
            for k in range(3):
                f = i * stride + k - 1
                f = {"zeros": f, "replicate": min(max(f, 0), 5), "circular": f % 6}[padding]
                if 0 <= f < 6:
                    expected[b, i] += torch.einsum("oc,chw->ohw", layer.weight[:, :, k], x[b, f])
            expected[b, i] += layer.bias[:, None, None]
    got = layer.along_frames(x.flatten(0, 1), 2)
    assert torch.allclose(got, expected.flatten(0, 1), atol=1e-12)


@torch.no_grad()
def test_attention_over_time_by_hand():
    """A position of a transformer block's tokens attends to itself in other frames, and to no other position."""
    plugin = randomise(video_net().temporal).double()
    key = next(iter(plugin.attentions))
    layer, frames, batch = plugin.attentions[key], 4, 2
    heads, width = layer.heads, layer.qkv.in_features
    x = torch.randn(batch * frames, 6, width, dtype=torch.float64)
    got = plugin.follow(key, x, Call(frames, videos=batch), None, None)
    normed = layer.norm(x.transpose(1, 2)).transpose(1, 2)  # statistics of a frame
    bias = layer.position(frames)
    for b in range(batch):
        for p in range(6):
            tokens = normed.unflatten(0, (batch, frames))[b, :, p]
            q, k, v = (
                tokens @ w.T + c for w, c in zip(layer.qkv.weight.chunk(3), layer.qkv.bias.chunk(3), strict=True)
            )
            out = []
            for h in range(heads):
                here = slice(h * width // heads, (h + 1) * width // heads)
                logits = q[:, here] @ k[:, here].T / (width / heads) ** 0.5 + bias[h]
                out.append(logits.softmax(-1) @ v[:, here])
            expected = (
                x.unflatten(0, (batch, frames))[b, :, p] + torch.cat(out, 1) @ layer.proj.weight.T + layer.proj.bias
            )
            assert torch.allclose(got.unflatten(0, (batch, frames))[b, :, p], expected, atol=1e-10)


def trained(video, steps=1):
    """After steps on the temporal layers, and the gradients of each."""
    names = dict(video.trainable_parameters())
    for name, parameter in video.named_parameters():
        parameter.requires_grad_(name in names)
    optimizer, seen = torch.optim.SGD(names.values(), lr=0.05), []
    for _ in range(steps):
        optimizer.zero_grad()
        (video(**inputs(), conditions=FPS).sample - 1).square().mean().backward()
        seen.append({n: p.grad.clone() for n, p in names.items()})
        optimizer.step()
    return seen


def test_3_frames_may_change_places_only_as_long_as_nothing_was_learned():
    video, given, order = video_net(), inputs(), [3, 0, 4, 1, 2]

    @torch.no_grad()
    def differs():
        moved = {**given, "sample": given["sample"][:, :, order]}
        return (video(**moved, conditions=FPS).sample - video(**given, conditions=FPS).sample[:, :, order]).abs().max()

    assert differs() < 1e-5
    trained(video)
    assert differs() > 1e-3


def test_4_what_gradients_reach():
    first, second = trained(video_net(), 2)
    for name, value in first.items():
        if ".qkv." in name or ".norm." in name or ".position." in name:
            assert (value == 0).all(), name
        elif ".convolutions." in name or ".proj." in name or "linear_2" in name:
            assert value.abs().max() > 0, name
    assert all(v.abs().max() > 0 for n, v in second.items() if n.endswith((".qkv.weight", ".position.bias.weight")))


@pytest.mark.parametrize("train_spatial", [False, True])
def test_what_trains(train_spatial):
    video = video_net(train_spatial=train_spatial)
    before = copy.deepcopy(video.state_dict())
    trained(video, 2)
    moved = {n for n, v in video.state_dict().items() if not torch.equal(v, before[n])}
    pictures = {n for n in before if n.startswith("image.")}
    assert (len(moved & pictures) > 0.9 * len(pictures)) if train_spatial else not moved & pictures
    assert any(n.startswith("temporal.") for n in moved)


@torch.no_grad()
def test_6_and_7_known_frames_come_in_beside_the_noise_and_count_for_nothing_at_first():
    net, given = picture_net(), inputs()
    plain, told = video_net(net), video_net(net, known_channels=4)
    assert (
        told.image.conv_in.in_channels == 9 and told.image.config.in_channels == 9 and told.temporal.takes_known_frames
    )
    known, mask = torch.randn(2, 4, 5, 8, 8), torch.zeros(2, 1, 5, 1, 1)
    mask[:, :, ::2] = 1
    packed = told.temporal.inputs(given["sample"], Call(5, conditions={"known": known, "known_mask": mask}, videos=2))
    assert packed.shape == (2, 9, 5, 8, 8) and torch.equal(packed[:, :4], given["sample"])
    assert torch.equal(packed[:, 4:8, ::2], known[:, :, ::2]) and (packed[:, 4:8, 1::2] == 0).all()
    assert packed[0, 8, :, 3, 3].tolist() == [1, 0, 1, 0, 1]
    whole = told.temporal.inputs(given["sample"], Call(5, conditions={"known": known, "known_mask": mask * 0 + 1}))
    assert torch.equal(whole[:, 4:8], known)
    expected = plain(**given, conditions=FPS).sample
    for conditions in ({"known": known, "known_mask": mask}, {}):
        assert torch.allclose(told(**given, conditions={**FPS, **conditions}).sample, expected, atol=1e-5)
    assert {n for n, _ in told.trainable_parameters() if n.startswith("image.")} == {
        "image.conv_in.weight", "image.conv_in.bias",
    }  # fmt: skip
    randomise(told.image.conv_in)
    seen = told(**given, conditions={**FPS, "known": known, "known_mask": mask}).sample
    hidden = torch.where(mask > 0, known, torch.full_like(known, torch.nan))
    assert torch.equal(told(**given, conditions={**FPS, "known": hidden, "known_mask": mask}).sample, seen)
    assert not torch.allclose(told(**given, conditions={**FPS, "known": known + 1, "known_mask": mask}).sample, seen)


@torch.no_grad()
def test_images_pass_and_folders_open(tmp_path):
    video, given = randomise(video_net(known_channels=4), 0.05), inputs()
    alone = frame_by_frame_wide(video, given)
    assert torch.allclose(video(**given, images_only=True).sample, alone, atol=1e-5)
    made = video(**given, conditions=FPS).sample
    assert not torch.allclose(made, alone, atol=1e-3)
    assert not torch.allclose(video(**given, conditions={"fps": torch.tensor([30.0, 1.0])}).sample, made, atol=1e-4)
    video.save_pretrained(tmp_path)
    again = InflatedUNet.from_pretrained(tmp_path, local_files_only=True).eval()
    assert torch.equal(again(**given, conditions=FPS).sample, made)
    with pytest.raises(ValueError, match="fps"):
        video(**given)
    with pytest.raises(UserError, match="padding"):
        video_net(padding="mirror")


def frame_by_frame_wide(video, given):
    sample = torch.cat([given["sample"], torch.zeros(2, 5, *given["sample"].shape[2:])], 1)
    return frame_by_frame(video.image, {**given, "sample": sample})
