"""V1-V8, V11-V13 of the factorised 3D U-Net, and its published sizes."""

import pytest
import torch

from muybridge.errors import UserError
from muybridge.models import build_network
from muybridge.models.unet3d import PUBLISHED, UNet3DModel, joint_mask
from muybridge.nn.factorised import SpatialAttention, TemporalAttention
from muybridge.nn.text_conditioning import TextCondition
from tests.conftest import TOY, randomise, some_text

F64 = torch.float64


def video(frames=6, batch=2, size=16):
    return torch.randn(batch, 3, frames, size, size, dtype=F64), torch.randn(batch, dtype=F64)


def only_first(text, caption=0):
    return TextCondition(text.pooled[:, caption], text.tokens[:, caption], text.mask[:, caption])


VARIANTS = [{}, {"frame_embedding": True, "sloped_shift": True}, {"joint_resolutions": (8,)}]


@pytest.mark.parametrize("settings", VARIANTS)
def test_v1_all_masked_frames_are_single_images(settings):
    toy_unet = randomise(UNet3DModel(**TOY, **settings)).double().eval()
    z, lam = video()
    together = toy_unet(z, lam, temporal_mask=joint_mask(0, 6))
    for f in range(6):
        assert torch.allclose(together[:, :, f], toy_unet(z[:, :, f : f + 1], lam)[:, :, 0], atol=1e-8)


@pytest.mark.parametrize("settings", VARIANTS)
def test_v2_video_and_images_do_not_see_each_other(settings):
    unet = UNet3DModel(**TOY, text_pooled_dim=8, text_token_dim=8, **settings)
    unet = randomise(unet).double().eval()
    z, lam = video(7)
    mask, captions = joint_mask(4, 3), torch.tensor([0, 0, 0, 0, 1, 2, 3])
    text = some_text(2, captions=4)
    base = unet(z, lam, text, mask, captions)
    changed = z.clone()
    changed[:, :, 4:] += 1
    assert torch.equal(unet(changed, lam, text, mask, captions)[:, :, :4], base[:, :, :4])
    changed = z.clone()
    changed[:, :, :4] += 1
    assert torch.equal(unet(changed, lam, text, mask, captions)[:, :, 4:], base[:, :, 4:])
    alone = unet(z[:, :, 5:6], lam, only_first(text, 2))
    assert torch.allclose(base[:, :, 5:6], alone, atol=1e-8)
    assert torch.allclose(base[:, :, :4], unet(z[:, :, :4], lam, only_first(text)), atol=1e-8)


def test_v3_without_temporal_projection_it_is_an_image_network(toy_unet):
    z, lam = video()
    for module in toy_unet.modules():
        if isinstance(module, TemporalAttention):
            torch.nn.init.zeros_(module.proj.weight)
            torch.nn.init.zeros_(module.proj.bias)
    out = toy_unet(z, lam)
    for f in range(6):
        assert torch.allclose(out[:, :, f], toy_unet(z[:, :, f : f + 1], lam)[:, :, 0], atol=1e-8)


@pytest.mark.parametrize("position", ["t5", "shaw", "none"])
def test_v4_only_relative_time_matters(position):
    unet = randomise(UNet3DModel(**TOY, position=position)).double().eval()
    z, lam = video(4)
    alone = unet(z, lam)
    for offset in (0, 3, 5):
        row = torch.randn(2, 3, 9, 16, 16, dtype=F64)
        row[:, :, offset : offset + 4] = z
        mask = torch.eye(9, dtype=torch.bool)
        mask[offset : offset + 4, offset : offset + 4] = True
        assert torch.allclose(unet(row, lam, temporal_mask=mask)[:, :, offset : offset + 4], alone, atol=1e-8)


@pytest.mark.parametrize("position", ["t5", "shaw"])
def test_v5_order_of_frames_matters_through_positions_alone(position):
    z, lam = video()
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    unet = randomise(UNet3DModel(**TOY, position=position), 0.3).double().eval()
    assert not torch.allclose(unet(z[:, :, order], lam), unet(z, lam)[:, :, order], atol=1e-5)
    for module in unet.modules():
        if isinstance(module, TemporalAttention):
            for parameter in module.position.parameters():
                torch.nn.init.zeros_(parameter)
    assert torch.allclose(unet(z[:, :, order], lam), unet(z, lam)[:, :, order], atol=1e-8)


def test_v6_space_does_not_mix_frames_and_time_does(toy_unet):
    def cross_gradient(mask):
        z, lam = video(4, 1)
        z.requires_grad_(True)
        toy_unet(z, lam, temporal_mask=mask)[:, :, 2].sum().backward()
        return z.grad[:, :, 0].abs().max()

    assert cross_gradient(joint_mask(0, 4)) == 0
    assert cross_gradient(None) > 0


def test_v7_starts_at_zero():
    z, lam = video()
    assert torch.equal(UNet3DModel(**TOY).double()(z, lam), torch.zeros_like(z))


@pytest.mark.parametrize("settings", VARIANTS)
def test_v8_null_condition_is_no_caption(settings):
    unet = randomise(UNet3DModel(**TOY, text_pooled_dim=8, text_token_dim=8, **settings)).double().eval()
    z, lam = video()
    text = some_text(2)
    assert torch.allclose(unet(z, lam, text.null()), unet(z, lam), atol=1e-10)
    half = TextCondition(text.pooled, text.tokens, text.mask, torch.tensor([True, False]))
    mixed = unet(z, lam, half)
    assert torch.allclose(mixed[:1], unet(z, lam)[:1], atol=1e-10)
    assert torch.allclose(mixed[1:], unet(z, lam, text)[1:], atol=1e-10)


def test_a_frame_index_tells_frames_apart_without_attention():
    z, lam = video(4)
    same = z[:, :, :1].expand(-1, -1, 4, -1, -1).contiguous()
    mask = torch.ones(4, 4, dtype=torch.bool)
    for frame_embedding in (False, True):
        unet = randomise(UNet3DModel(**TOY, position="none", frame_embedding=frame_embedding)).double().eval()
        out = unet(same, lam, temporal_mask=mask)
        assert torch.allclose(out[:, :, 0], out[:, :, 3], atol=1e-9) is not frame_embedding


@pytest.mark.parametrize("settings", VARIANTS)
def test_masked_words_do_not_matter(settings):
    unet = randomise(UNet3DModel(**TOY, text_pooled_dim=8, text_token_dim=8, **settings)).double().eval()
    z, lam = video()
    text = some_text(2)
    other = TextCondition(text.pooled, text.tokens.clone(), text.mask)
    other.tokens[:, -1] += torch.randn(8)
    assert torch.equal(unet(z, lam, text), unet(z, lam, other))
    other.tokens[:, 0] += torch.randn(8)
    assert not torch.allclose(unet(z, lam, text), unet(z, lam, other))


def test_per_frame_noise_levels(toy_unet):
    z, lam = video()
    assert torch.allclose(toy_unet(z, lam[:, None].expand(-1, 6)), toy_unet(z, lam), atol=1e-10)
    one_clean = lam[:, None].repeat(1, 6)
    one_clean[:, 0] = 12.0
    assert not torch.allclose(toy_unet(z, one_clean), toy_unet(z, lam))


def test_zero_initialised_condition_channels():
    torch.manual_seed(2)
    unet = UNet3DModel(**TOY, condition_channels=4).double().eval()
    with torch.no_grad():
        torch.nn.init.normal_(unet.conv_out.weight, std=0.1)
    z, lam = video()
    a, b = torch.randn(2, 4, 6, 16, 16, dtype=F64), torch.randn(2, 4, 6, 16, 16, dtype=F64)
    assert torch.equal(unet(z, lam, condition=a), unet(z, lam, condition=b))
    with pytest.raises(UserError, match="condition channels"):
        unet(z, lam)


def count_attention(unet):
    temporal = sum(isinstance(m, TemporalAttention) for m in unet.modules())
    return temporal, sum(isinstance(m, SpatialAttention) for m in unet.modules())


def test_v11_toy_counts():
    unet = UNet3DModel(**TOY, position="none")
    assert unet.num_parameters() == 226_099
    assert count_attention(unet) == (4, 4)


@pytest.mark.parametrize(
    "name,millions,blocks",
    [
        ("ucf101", 1240, 16),
        ("bair", 159, 22),
        ("kinetics600", 1239, 16),
        ("text_small", 327, 16),
        ("text_large", 1241, 16),
        ("text_9x128", 1246, 16),
    ],
)
def test_v11_published_configurations(name, millions, blocks):
    settings = dict(PUBLISHED[name])
    settings.pop("text_token_dim", None)  # the table counts without text pooling
    with torch.device("meta"):
        unet = UNet3DModel(**settings, position="none")
    assert abs(unet.num_parameters() / 1e6 - millions) < 1.5
    assert count_attention(unet) == (blocks, blocks)


@pytest.mark.parametrize("frames", [1, 3, 40])
def test_v12_any_number_of_frames(toy_unet, frames):
    z, lam = video(frames, 1)
    assert torch.isfinite(toy_unet(z, lam)).all()


@pytest.mark.parametrize("height,width", [(16, 16), (8, 24), (2, 6)])
@pytest.mark.parametrize("patch", [1, 2])
def test_v13_any_size_that_halves(height, width, patch):
    unet = randomise(UNet3DModel(**{**TOY, "patch_size": patch, "attention_resolutions": (8, 4)})).double()
    z = torch.randn(1, 3, 2, height * patch, width * patch, dtype=F64)
    assert unet(z, torch.zeros(1, dtype=F64)).shape == z.shape
    with pytest.raises(UserError, match="divisible by"):
        unet(torch.randn(1, 3, 2, height * patch + 1, width * patch, dtype=F64), torch.zeros(1, dtype=F64))


@pytest.mark.parametrize("mode", ["add", "scale_shift"])
def test_gradient_checkpointing_changes_nothing(mode):
    z, lam = video(3, 1)
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        unet = randomise(UNet3DModel(**TOY, embedding_mode=mode)).double().train()
        if checkpointing:
            unet.enable_gradient_checkpointing()
        unet(z, lam).square().sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in unet.parameters()]))
    assert torch.allclose(gradients[0], gradients[1], atol=1e-10)


def test_save_and_load(tmp_path):
    unet = randomise(UNet3DModel(**TOY, text_pooled_dim=8))
    unet.save_pretrained(tmp_path)
    assert (tmp_path / "diffusion_pytorch_model.safetensors").is_file()
    loaded = UNet3DModel.from_pretrained(tmp_path)
    for (name, a), b in zip(unet.state_dict().items(), loaded.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert list(loaded.config.channel_multipliers) == [1, 2]


def test_misspelt_arguments_name_the_nearest():
    with pytest.raises(UserError, match="did you mean 'base_channels'"):
        build_network({"type": "unet3d", "base_chanels": 16})
    with pytest.raises(UserError, match="head width"):
        build_network({"type": "unet3d", **TOY, "attention_head_dim": 7})


@pytest.mark.parametrize("max_frames", [1, 7, 8, 9])
def test_a_network_for_few_frames_tells_offsets_apart(max_frames):
    unet = randomise(UNet3DModel(**TOY, max_frames=max_frames)).double().eval()
    z, lam = video(9, 1)
    assert torch.isfinite(unet(z, lam)).all()


@pytest.mark.parametrize("settings", VARIANTS)
def test_levels_and_captions_may_lie_anywhere(settings):
    """On a device, a float64 level and a table of captions may come from the CPU; the meta device refuses to mix."""
    with torch.device("meta"):
        unet = UNet3DModel(**TOY, text_pooled_dim=8, text_token_dim=8, **settings)
    text = TextCondition(
        *(torch.empty(s, device="meta") for s in ((2, 3, 8), (2, 3, 5, 8))), torch.ones(2, 3, 5, device="meta").bool()
    )
    z = torch.empty(2, 3, 4, 16, 16, device="meta")
    out = unet(z, torch.randn(2, 4, dtype=F64), text, joint_mask(2, 2, "meta"), torch.tensor([0, 0, 1, 2]))
    assert out.shape == z.shape and out.dtype == torch.float32
