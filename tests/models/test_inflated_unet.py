"""A picture network with time: the identity at the start, the published counts, diffusers' numbers (specs 08, 09,
14)."""

import copy

import pytest
import torch
from diffusers import ControlNetModel, MotionAdapter, UNet2DConditionModel, UNetMotionModel
from diffusers import UNetSpatioTemporalConditionModel as DiffusersSVD

from muybridge.errors import UserError
from muybridge.models.inflated_unet import InflatedUNet
from muybridge.models.plugins.animatediff import MotionModules, read_motion_file
from muybridge.models.weights.opening import check_computed
from muybridge.models.weights.stable_video import inflated_from, load_stable_video_unet
from muybridge.nn.sites import spatial_sites
from muybridge.nn.temporal import AlphaBlender, Call
from tests.conftest import randomise

WIDTHS = dict(sample_size=8, block_out_channels=(16, 32), norm_num_groups=8, layers_per_block=1)
BLOCKS = dict(
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D")
)
SHAPED = {
    "SD 1.5": dict(**WIDTHS, **BLOCKS, cross_attention_dim=12, attention_head_dim=4),
    "SD 2.1": dict(**WIDTHS, **BLOCKS, cross_attention_dim=16, attention_head_dim=[2, 4], use_linear_projection=True),
    "SDXL": dict(
        **WIDTHS,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=[2, 4],
        use_linear_projection=True,
        transformer_layers_per_block=[1, 2],
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=32,
    ),
}
LAYERS = {"type": "video_ldm", "context_channels": 4, "scalars": ["fps"]}
MODULES = {"type": "motion_modules", "heads": 4, "groups": 8}
SD21 = dict(
    sample_size=96,
    block_out_channels=(320, 640, 1280, 1280),
    attention_head_dim=[5, 10, 20, 20],
    cross_attention_dim=1024,
    use_linear_projection=True,
)


def picture_net(kind="SD 2.1"):
    return randomise(UNet2DConditionModel(**SHAPED[kind])).eval()


def inputs(kind="SD 2.1", frames=5, batch=2):
    given = {
        "sample": torch.randn(batch, 4, frames, 8, 8),
        "timestep": torch.tensor([3, 500])[:batch],
        "encoder_hidden_states": torch.randn(batch, 7, SHAPED[kind]["cross_attention_dim"]),
    }
    if kind == "SDXL":
        given["added_cond_kwargs"] = {"text_embeds": torch.randn(batch, 8), "time_ids": torch.randn(batch, 6)}
    return given


def conditions(batch=2, frames=5):
    mask = torch.zeros(batch, 1, frames, 1, 1)
    mask[:, :, 0] = 1
    return {"fps": torch.tensor([8.0, 4.0])[:batch], "known": torch.randn(batch, 4, frames, 8, 8), "known_mask": mask}


def frame_by_frame(net, given):
    added = given.get("added_cond_kwargs")
    rows = [
        net(
            given["sample"][:, :, f],
            given["timestep"],
            encoder_hidden_states=given["encoder_hidden_states"],
            added_cond_kwargs=added,
        ).sample
        for f in range(given["sample"].shape[2])
    ]
    return torch.stack(rows, 2)


@pytest.mark.parametrize("plugin", [LAYERS, MODULES], ids=["video_ldm", "motion_modules"])
@pytest.mark.parametrize("kind", SHAPED)
@torch.no_grad()
def test_starts_as_the_picture_model(kind, plugin):
    net, given = picture_net(kind), inputs(kind)
    video = InflatedUNet.from_image_model(net, plugin).eval()
    out = video(**given, conditions=conditions()).sample
    assert torch.allclose(out, frame_by_frame(net, given), atol=1e-5)
    for name, value in net.state_dict().items():
        assert torch.equal(value, video.image.state_dict()[name])


@pytest.fixture
def float64():
    """Float64 networks: frames in other batches are rounded otherwise, in float32 by more than 1e-6 on some
    processors."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def picture_and_video():
    net = picture_net()
    video = InflatedUNet.from_image_model(net, LAYERS).eval()
    randomise(video.temporal)
    return net, video


@pytest.mark.usefixtures("float64")
@torch.no_grad()
def test_images_only_is_the_picture_model():
    (net, video), given = picture_and_video(), inputs()
    alone = video(**given, conditions=conditions(), images_only=True).sample
    assert torch.allclose(alone, frame_by_frame(net, given), atol=1e-6)


@torch.no_grad()
def test_alpha_one_and_images_only_are_exact():
    (_, video), given = picture_and_video(), inputs()
    alone = video(**given, conditions=conditions(), images_only=True).sample
    assert not torch.allclose(video(**given, conditions=conditions()).sample, alone, atol=1e-3)
    for module in video.temporal.modules():
        if isinstance(module, AlphaBlender):
            module.mix_factor.fill_(200.0)
    assert torch.equal(video(**given, conditions=conditions()).sample, alone)


def test_published_counts():
    def total(module):
        return sum(p.numel() for p in module.parameters())

    with torch.device("meta"):
        assert total(InflatedUNet(SD21, {"type": "video_ldm"}).temporal) == 656_076_838
        stable = {"type": "video_ldm", "train_image": True, "scalars": ["a", "b", "c"], "scalars_everywhere": True}
        assert total(InflatedUNet({**SD21, "in_channels": 8}, stable)) == 1_524_623_082
        sd15 = {"block_out_channels": (320, 640, 1280, 1280), "attention_head_dim": 8, "cross_attention_dim": 768}
        assert total(InflatedUNet(sd15, {"type": "motion_modules"}).temporal) == 453_209_280
        assert total(InflatedUNet(sd15, {"type": "motion_modules", "middle": False}).temporal) == 417_137_600


@pytest.mark.parametrize("plugin", [LAYERS, MODULES], ids=["video_ldm", "motion_modules"])
def test_only_the_plugin_trains(plugin):
    net = picture_net()
    video = InflatedUNet.from_image_model(net, plugin)
    trainable = dict(video.trainable_parameters())
    for name, parameter in video.named_parameters():
        parameter.requires_grad_(name in trainable)
    assert trainable and all(n.startswith("temporal.") for n in trainable)
    before = copy.deepcopy(video.state_dict())
    optimizer = torch.optim.SGD(trainable.values(), lr=0.1)
    for _ in range(2):  # the first step only reaches the zero projections
        optimizer.zero_grad()
        video(**inputs(), conditions=conditions()).sample.square().mean().backward()
        optimizer.step()
    after = video.state_dict()
    assert all(torch.equal(before[n], after[n]) for n in before if n.startswith("image."))
    unmoved = [n for n in trainable if torch.equal(before[n], after[n])]
    assert len(unmoved) < 0.2 * len(trainable), unmoved


@torch.no_grad()
def test_copies_point_at_themselves():
    video = InflatedUNet.from_image_model(picture_net(), LAYERS).eval()
    twin = copy.deepcopy(video)
    given = inputs()
    before = video(**given, conditions=conditions()).sample
    randomise(twin.temporal)
    assert not torch.allclose(twin(**given, conditions=conditions()).sample, before, atol=1e-3)
    assert torch.equal(video(**given, conditions=conditions()).sample, before)


@torch.no_grad()
def test_save_load_and_back_to_a_picture_model(tmp_path):
    net, given = picture_net(), inputs()
    video = randomise(InflatedUNet.from_image_model(net, LAYERS)).eval()
    video.save_pretrained(tmp_path / "video")
    again = InflatedUNet.from_pretrained(tmp_path / "video", local_files_only=True).eval()
    assert not any(p.is_meta for p in again.parameters())
    known = conditions()
    assert torch.equal(again(**given, conditions=known).sample, video(**given, conditions=known).sample)
    again.to_image_model().save_pretrained(tmp_path / "picture")
    plain = UNet2DConditionModel.from_pretrained(tmp_path / "picture", local_files_only=True)
    assert all(torch.equal(v, plain.state_dict()[n]) for n, v in video.image.state_dict().items())


@torch.no_grad()
def test_frames_talk_and_samples_do_not():
    video = randomise(InflatedUNet.from_image_model(picture_net(), LAYERS)).eval()
    given, known = inputs(), conditions()
    whole = video(**given, conditions=known).sample
    for row in range(2):
        one = {k: v[row : row + 1] for k, v in given.items()}
        alone = video(**one, conditions={k: v[row : row + 1] for k, v in known.items()}).sample
        assert torch.allclose(alone, whole[row : row + 1], atol=1e-5)
    changed = given["sample"].clone()
    changed[0, :, 4] += 1
    moved = (video(**{**given, "sample": changed}, conditions=known).sample - whole).abs().amax((1, 3, 4))
    assert (moved[0] > 1e-5).all() and (moved[1] == 0).all()


SPACETIME = {"type": "video_ldm", "spacetime_levels": 2}


@torch.no_grad()
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("kind", ["SD 2.1", "SDXL"])
def test_attention_over_everything_begins_as_nothing_and_sits_at_the_coarsest_levels(kind):
    net, given = picture_net(kind), inputs(kind)
    video = InflatedUNet.from_image_model(net, SPACETIME).eval()
    assert torch.allclose(video(**given).sample, frame_by_frame(net, given), atol=1e-10)
    levels, plugin = len(net.config.block_out_channels), video.temporal
    assert plugin.spacetime and not InflatedUNet.from_image_model(net, {"type": "video_ldm"}).temporal.spacetime
    deep = {f"down_blocks_{i}" for i in (levels - 2, levels - 1)} | {"up_blocks_0", "up_blocks_1", "mid_block"}
    assert {key.partition("_attentions")[0] for key in plugin.spacetime} <= deep
    here = {k.partition("_attentions")[0] for k in plugin.attentions}
    assert {key.partition("_attentions")[0] for key in plugin.spacetime} == here & deep


@torch.no_grad()
@pytest.mark.usefixtures("float64")
def test_attention_over_everything_follows_a_thing_to_another_place():
    """A block's output at one place depends on another frame's other places, which attention over time alone does not
    see; pictures that are no squares keep their rows."""
    video = randomise(InflatedUNet.from_image_model(picture_net(), SPACETIME)).eval()
    key = next(iter(video.temporal.spacetime))
    channels = video.temporal.spacetime[key].qkv.in_features
    call = Call(3, prepared={"mask": None, "size": (8, 16)})
    tokens = torch.randn(1, 3, 8, channels)  # 2 x 4 places of 8 x 16
    base = video.temporal._over_everything(key, tokens, call)
    changed = tokens.clone()
    changed[0, 2, 7] += 1
    moved = (video.temporal._over_everything(key, changed, call) - base).abs().amax((0, 3)) > 1e-9
    assert moved.all() and base.shape == tokens.shape
    layer = video.temporal.spacetime[key]
    x = tokens.flatten(0, 1).transpose(1, 2).reshape(3, channels, 2, 4)
    by_hand = (layer(x, 1) - x).flatten(2).transpose(1, 2)
    assert torch.allclose(by_hand, base[0])


@torch.no_grad()
def test_attention_window():
    from muybridge.nn.temporal import TemporalTransformerBlock, window_mask

    block = randomise(TemporalTransformerBlock(16, 2, 0, zero=True), 0.5).eval()
    x = torch.randn(1, 12, 3, 16)
    mask = window_mask(12, 4, x.device)
    base = block(x, None, mask)
    x[:, 6] = torch.randn(3, 16)
    moved = (block(x, None, mask) - base).abs().amax((0, 2, 3)) > 1e-5
    assert moved.tolist() == [abs(i - 6) < 4 for i in range(12)]
    assert window_mask(12, 0, x.device) is None and window_mask(4, 8, x.device) is None


SVD = dict(
    sample_size=8,
    block_out_channels=(32, 64, 64),
    down_block_types=(
        "CrossAttnDownBlockSpatioTemporal",
        "CrossAttnDownBlockSpatioTemporal",
        "DownBlockSpatioTemporal",
    ),
    up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
    num_attention_heads=(2, 4, 4),
    cross_attention_dim=16,
    addition_time_embed_dim=8,
    projection_class_embeddings_input_dim=24,
    layers_per_block=1,
)


@torch.no_grad()
def test_stable_video_weights_give_diffusers_numbers(tmp_path):
    theirs = randomise(DiffusersSVD(**SVD), 0.05).double().eval()
    theirs.save_pretrained(tmp_path)
    ours = load_stable_video_unet(tmp_path, torch.float64)
    assert all(p.requires_grad for p in ours.parameters()), "training goes on from it"
    x, text = torch.randn(2, 5, 8, 16, 8).double(), torch.randn(2, 1, 16).double()
    ids = torch.tensor([[6.0, 127.0, 0.02], [3.0, 20.0, 0.1]]).double()
    named = dict(zip(("fps", "motion_bucket", "noise_augmentation"), ids.unbind(1), strict=True))
    expected = theirs(x, torch.tensor(1.3), text, ids).sample.transpose(1, 2)
    got = ours(x.transpose(1, 2), torch.tensor(1.3), text, conditions=named).sample
    assert torch.allclose(got, expected, atol=1e-5)  # sinusoids are float32 in both
    again = tmp_path / "ours"
    ours.save_pretrained(again)
    reloaded = InflatedUNet.from_pretrained(again, local_files_only=True, torch_dtype=torch.float64).eval()
    once_more = reloaded(x.transpose(1, 2), torch.tensor(1.3), text, conditions=named).sample
    assert torch.allclose(once_more, got, atol=1e-10)
    whole = theirs.state_dict()
    for wrong, said in (
        ({k: v for k, v in whole.items() if "time_mixer" not in k}, "missing, 0 left over"),
        ({**whole, "down_blocks.7.attentions.0.time_mixer.mix_factor": torch.zeros(1)}, "0 tensors are missing, 1"),
        ({**whole, "conv_in.bias": torch.zeros(3)}, "1 tensors are missing, 1"),
    ):
        with pytest.raises(UserError, match=f"not a Stable Video U-Net.*{said}"):
            inflated_from(theirs.config, wrong.items())


def test_a_table_that_is_computed_when_a_network_is_made_is_missed():
    network = torch.nn.Linear(2, 2)
    network.register_buffer("table", torch.empty(3, device="meta"), persistent=False)
    check_computed(network, ["table"])
    with pytest.raises(RuntimeError, match="Linear computes table when it is made"):
        check_computed(network, [])


@torch.no_grad()
def test_motion_modules_give_diffusers_numbers():
    net = randomise(UNet2DConditionModel(**{**SHAPED["SD 1.5"], "attention_head_dim": 4})).eval()
    adapter = MotionAdapter(
        block_out_channels=(16, 32),
        motion_layers_per_block=1,
        motion_num_attention_heads=4,
        motion_norm_num_groups=8,
        motion_max_seq_length=16,
    )
    randomise(adapter)
    for name, value in adapter.state_dict().items():
        if name.endswith("pos_embed.pe"):  # a table, not a weight
            value.copy_(
                MotionAdapter(
                    block_out_channels=(16, 32),
                    motion_layers_per_block=1,
                    motion_num_attention_heads=4,
                    motion_norm_num_groups=8,
                    motion_max_seq_length=16,
                ).state_dict()[name]
            )
    theirs = UNetMotionModel.from_unet2d(net, adapter).eval()
    video = InflatedUNet.from_image_model(net, {**MODULES, "max_frames": 16}).eval()
    sites = MotionModules.choose(list(spatial_sites(net)))
    wrong = video.temporal.load_state_dict(read_motion_file(adapter.state_dict(), sites), strict=False)
    assert not wrong.unexpected_keys and all("pos_embed" in k for k in wrong.missing_keys)
    given = inputs("SD 1.5")
    text = given["encoder_hidden_states"].repeat_interleave(5, 0)
    expected = theirs(given["sample"], given["timestep"], text).sample
    assert torch.allclose(video(**given).sample, expected, atol=1e-5)
    with pytest.raises(UserError, match="at most 16 frames"):
        video(**inputs("SD 1.5", frames=17))
    pictures = inputs("SD 1.5", frames=17)
    assert video(**pictures, images_only=True).sample.shape[2] == 17  # each alone: no table is asked


@torch.no_grad()
def test_a_controlnet_fits():
    net, given = picture_net(), inputs()
    video = InflatedUNet.from_image_model(net, LAYERS).eval()
    control = ControlNetModel.from_unet(net, conditioning_embedding_out_channels=(4, 8)).eval()
    randomise(control)
    folded = given["sample"].transpose(1, 2).flatten(0, 1)
    times, text = given["timestep"].repeat_interleave(5), given["encoder_hidden_states"].repeat_interleave(5, 0)
    down, middle = control(folded, times, text, torch.rand(10, 3, 16, 16), return_dict=False)
    expected = net(
        folded,
        times,
        encoder_hidden_states=text,
        down_block_additional_residuals=list(down),
        mid_block_additional_residual=middle,
    ).sample
    got = video(
        **given,
        conditions=conditions(),
        down_block_additional_residuals=tuple(down),
        mid_block_additional_residual=middle,
    ).sample
    assert torch.allclose(got.transpose(1, 2).flatten(0, 1), expected, atol=1e-5)


def test_errors_name_what_is_known():
    net = picture_net()
    with pytest.raises(UserError, match="video_ldm"):
        InflatedUNet.from_image_model(net, {"type": "video_ldn"})
    with pytest.raises(UserError, match="temporal"):
        InflatedUNet.from_image_model(net, {"type": "video_ldm", "windows": 3})
    video = InflatedUNet.from_image_model(net, LAYERS)
    with pytest.raises(ValueError, match="fps"):
        video(**inputs())
