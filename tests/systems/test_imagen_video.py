"""Imagen Video's cascade: its table, its pairs, its networks, and sampling stage by stage."""

import json
import math
from dataclasses import replace

import pytest
import torch
from diffusers.configuration_utils import FrozenDict

from muybridge.errors import UserError
from muybridge.learning.contract import TrainingBatch
from muybridge.models.unet3d import UNet3DModel, joint_mask
from muybridge.nn.factorised import ChannelNorm
from muybridge.nn.frames import crops
from muybridge.opening.sampling import load_pipeline
from muybridge.pipelines.staged import SEED_STRIDE
from muybridge.systems.imagen_video.cascade import (
    DISTILLED_STEPS,
    LAPTOP,
    PUBLISHED,
    PUBLISHED_PARAMETERS,
    StageConfig,
    check_cascade,
    network_calls,
)
from muybridge.systems.imagen_video.pairs import lowered, raised, raised_still
from muybridge.systems.imagen_video.pipeline import save_cascade
from muybridge.systems.imagen_video.stage import CascadeStagePipeline
from muybridge.systems.imagen_video.tiles import _spans, receptive_radius
from muybridge.systems.imagen_video.training import ImagenVideo
from muybridge.training.recipe import Recipe, TrainingConfig
from muybridge.training.trainer import Trainer
from tests.tiny_models import PROMPT, TEXT

SPACE = {"kind": "spatial", "num_frames": 3, "height": 16, "width": 16, "factor": 2, "fps": 4.0, "steps": 2}
TIME = {"kind": "temporal", "num_frames": 6, "height": 8, "width": 8, "factor": 2, "fps": 8.0, "steps": 2}
NET = {
    "base_channels": 8, "channel_multipliers": [1, 2], "blocks_per_level": 1, "attention_resolutions": [],
    "embedding_dim": 16, "embedding_layers": 2, "norm_groups": 4, "attention_head_dim": 4, "temporal": "convolution",
    "sample_size": 16,
}  # fmt: skip


def randomised(network, std=0.1):
    """Zero-initialised layers too, so that everything counts."""
    generator = torch.Generator().manual_seed(0)
    for p in network.parameters():
        p.data = p.data + std * torch.randn(p.shape, generator=generator)
    return network.eval().requires_grad_(False)


def network(**options):
    torch.manual_seed(0)
    return randomised(UNet3DModel(**{**NET, **options}))


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# --- the table ------------------------------------------------------------------------------------------------------


def test_the_published_cascade():
    check_cascade(PUBLISHED)
    assert [s.made for s in PUBLISHED] == [
        (16, 24, 40), (32, 24, 40), (32, 48, 80), (32, 192, 320), (64, 192, 320), (128, 192, 320), (128, 768, 1280)
    ]  # fmt: skip
    assert [s.fps for s in PUBLISHED] == [3, 6, 6, 6, 12, 24, 24]
    assert sum(PUBLISHED_PARAMETERS) == 11650
    assert network_calls(PUBLISHED) == 2048
    assert network_calls(PUBLISHED, [DISTILLED_STEPS] * 7, guided=False) == 56


def test_the_laptops_cascade_has_the_same_roles():
    check_cascade(LAPTOP)
    assert [(s.kind, s.guidance_schedule) for s in LAPTOP] == [(s.kind, s.guidance_schedule) for s in PUBLISHED]
    assert LAPTOP[-1].made == (32, 192, 320)


def test_stages_that_do_not_meet_are_refused():
    with pytest.raises(UserError, match="is given"):
        check_cascade([PUBLISHED[0], PUBLISHED[2]])
    with pytest.raises(UserError, match="base comes first"):
        check_cascade(PUBLISHED[1:])


def test_guidance_schedules():
    hi = PUBLISHED[0].guidance(20)
    assert hi == [16, 16] + [16 if i % 2 == 0 else 2 for i in range(2, 20)] and len(PUBLISHED[0].guidance(7)) == 7
    assert [s.guidance_schedule for s in PUBLISHED] == ["oscillating"] * 3 + ["constant"] * 4
    assert PUBLISHED[4].guidance(5) == [7] * 5


@pytest.mark.parametrize(
    ("change", "wanted"),
    [({"factor": 1}, "factor"), ({"height": 15}, "height"), ({"crop": 7}, "crop"), ({"crop": 32}, "crop"),
     ({"kind": "base"}, "factor"), ({"kind": "temporal", "num_frames": 3}, "num_frames"), ({"kind": "other"}, "kind")],
)  # fmt: skip
def test_stages_that_cannot_be_are_refused(change, wanted):
    with pytest.raises(UserError, match=wanted):
        StageConfig(**{**SPACE, **change})


# --- pairs ----------------------------------------------------------------------------------------------------------


def test_a_constant_video_stays_constant_and_known_frames_are_repeated():
    space, time = StageConfig(**SPACE), StageConfig(**TIME)
    flat = torch.full((2, 3, 3, 8, 8), 0.25)
    assert torch.allclose(raised(flat, space), torch.full((2, 3, 3, 16, 16), 0.25), atol=1e-6)
    video = noise(1, 3, 3, 8, 8)
    up = raised(video, time)
    assert up.shape == (1, 3, 6, 8, 8) and all(torch.equal(up[:, :, i], video[:, :, i // 2]) for i in range(6))
    blank = raised(video, replace(time, fill="blank"))
    assert torch.equal(blank[:, :3, ::2], video) and not blank[:, :3, 1::2].any()
    assert blank[:, 3].unique(dim=1).shape[1] == 2 and blank[0, 3, :, 0, 0].tolist() == [1, 0, 1, 0, 1, 0]


def test_what_is_raised_was_lowered():
    clip = noise(2, 3, 6, 8, 8)
    assert torch.equal(lowered(clip, StageConfig(**TIME)), clip[:, :, [0, 2, 4]])
    small = lowered(noise(1, 3, 3, 16, 16), StageConfig(**SPACE))
    assert small.shape == (1, 3, 3, 8, 8)
    ramp = torch.linspace(-1, 1, 16).expand(1, 3, 3, 16, 16)  # antialiased: means of a triangle, so a ramp stays one
    inner = lowered(ramp.contiguous(), StageConfig(**SPACE))[0, 0, 0, 0, 1:-1]
    assert torch.allclose(inner.diff(), torch.full((5,), 4 / 15), atol=1e-5)


def test_stills_are_told_themselves():
    stills = noise(1, 3, 2, 16, 16)
    assert torch.equal(raised_still(stills, StageConfig(**TIME)), stills)
    assert raised_still(stills, StageConfig(**{**TIME, "fill": "blank"}))[:, 3].min() == 1
    assert raised_still(stills, StageConfig(**SPACE)).shape == stills.shape


def test_crops_lie_on_the_grid_and_reach_every_corner():
    video = torch.arange(64.0).reshape(1, 1, 1, 8, 8).repeat(4, 1, 1, 1, 1)
    shares = torch.tensor([[0.0, 0.0], [0.999, 0.999], [0.0, 0.999], [0.5, 0.5]], dtype=torch.float64)
    made = crops(video, 4, shares, 2)
    assert made[:, 0, 0, 0, 0].tolist() == [0, 36, 4, 18]


# --- networks -------------------------------------------------------------------------------------------------------


def test_temporal_convolution_begins_as_a_network_of_pictures():
    torch.manual_seed(0)
    net = UNet3DModel(**NET)
    for name, p in net.named_parameters():
        if "convolution.conv2" not in name:
            p.data = p.data + 0.1 * noise(*p.shape)
    video = noise(1, 3, 4, 16, 16)
    whole = net(video, torch.zeros(1))
    for f in range(4):
        assert torch.allclose(net(video[:, :, f : f + 1], torch.zeros(1)), whole[:, :, f : f + 1], atol=1e-5)


def test_images_beside_a_video_are_as_alone_and_leak_nothing():
    net = network()
    video, stills = noise(1, 3, 4, 16, 16), noise(1, 3, 2, 16, 16, seed=1)
    mask = joint_mask(4, 2)
    both = net(torch.cat([video, stills], 2), torch.zeros(1), temporal_mask=mask)
    assert torch.allclose(both[:, :, :4], net(video, torch.zeros(1)), atol=1e-5)
    for i in range(2):
        alone = net(stills[:, :, i : i + 1], torch.zeros(1))
        assert torch.allclose(both[:, :, 4 + i : 5 + i], alone, atol=1e-5)
    assert not torch.allclose(net(video, torch.zeros(1))[:, :, :1], net(video[:, :, :1], torch.zeros(1)), atol=1e-3)


def test_frames_reach_as_far_as_the_convolutions():
    """Two levels of one block: down 1, middle 2 stages of which one mixes, up 2 + 2: each mixing stage reaches 2."""
    net = network()
    video = noise(1, 3, 40, 16, 16)
    changed = video.clone()
    changed[:, :, 20] += 1
    moved = (net(video, torch.zeros(1)) - net(changed, torch.zeros(1))).abs().amax((0, 1, 3, 4)) > 1e-7
    stages = sum("convolution.conv1.weight" in name for name, _ in net.named_parameters())
    reach = [i - 20 for i in range(40) if moved[i]]
    assert max(reach) <= 2 * stages and min(reach) >= -2 * stages and max(reach) > 2
    attends = network(temporal="attention", attention_resolutions=[16, 8])
    moved = (attends(video, torch.zeros(1)) - attends(changed, torch.zeros(1))).abs().amax((0, 1, 3, 4)) > 1e-7
    assert moved.all()


def test_the_noise_of_the_condition_counts_for_nothing_at_the_start_and_then_does():
    torch.manual_seed(0)
    net = UNet3DModel(**NET, condition_channels=3, condition_level=True)
    net.conv_out.weight.data.normal_(std=0.1)
    video, given = noise(1, 3, 2, 16, 16), noise(1, 3, 2, 16, 16, seed=1)

    def out(level):
        return net(video, torch.zeros(1), condition=given, condition_log_snr=torch.tensor([level]))

    assert torch.equal(out(-3.0), out(5.0))
    randomised(net)
    assert not torch.allclose(out(-3.0), out(5.0), atol=1e-4)
    with pytest.raises(UserError, match="must be told one"):
        net(video, torch.zeros(1), condition=given)
    with pytest.raises(UserError, match="takes none"):
        network()(video, torch.zeros(1), condition_log_snr=torch.zeros(1))


FULLY = {"norm": "channel", "spatial_attention": False, "condition_channels": 3, "condition_level": True}


def test_a_crop_is_the_crop_of_the_whole():
    net = network(**FULLY)
    rim = receptive_radius(net.config)
    side = 2 * rim + 8
    video, given = noise(1, 3, 2, side + 8, side + 8), noise(1, 3, 2, side + 8, side + 8, seed=1)
    told = {"condition_log_snr": torch.ones(1)}
    whole = net(video, torch.zeros(1), condition=given, **told)
    area = (..., slice(8, 8 + side), slice(8, 8 + side))
    part = net(video[area], torch.zeros(1), condition=given[area], **told)
    inner = (..., slice(rim, side - rim), slice(rim, side - rim))
    assert torch.allclose(part[inner], whole[area][inner], atol=1e-5)
    # the norm with statistics over the picture does not hold this
    other = network(**{**FULLY, "norm": "frame"})
    whole = other(video, torch.zeros(1), condition=given, **told)
    part = other(video[area], torch.zeros(1), condition=given[area], **told)
    assert not torch.allclose(part[inner], whole[area][inner], atol=1e-3)


def test_the_norm_of_channels_by_hand():
    norm = ChannelNorm(2)
    norm.weight.data, norm.bias.data = torch.tensor([1.0, 2.0]), torch.tensor([0.5, 0.0])
    out = norm(torch.tensor([3.0, 4.0]).reshape(1, 2, 1, 1)).flatten()
    size = math.sqrt((9 + 16) / 2)
    assert torch.allclose(out, torch.tensor([3 / size + 0.5, 8 / size]))


# --- sampling -------------------------------------------------------------------------------------------------------


def stage(options, net=None, **sampling):
    config = StageConfig(**options)
    net = net or network(condition_channels=config.condition_channels, condition_level=config.kind != "base")
    return CascadeStagePipeline(net, stage=options, sampling={"num_inference_steps": 2, **sampling})


def test_tiles_give_what_the_whole_gives():
    pipeline = stage(SPACE, network(**FULLY))
    video = noise(1, 3, 1, 72, 80).clamp(-1, 1)
    whole = pipeline.raise_video(video, [None], seed=3)
    rim = receptive_radius(pipeline.network.config)
    tiled = pipeline.raise_video(video, [None], seed=3, tile=2 * rim + 16)
    assert whole.samples.shape == (1, 3, 1, 144, 160)
    assert (whole.samples - tiled.samples).abs().max() < 1e-4
    assert abs(whole.frames.astype(int) - tiled.frames).max() <= 1
    with pytest.raises(UserError, match="tile"):
        pipeline.raise_video(video, [None], tile=2 * rim)
    with pytest.raises(UserError, match="looks at the whole picture"):
        stage(SPACE).raise_video(video, [None], tile=2 * rim + 16)


@pytest.mark.parametrize(("side", "tile", "rim"), [(10, 16, 3), (64, 16, 3), (65, 16, 3), (16, 16, 3), (17, 16, 7)])
def test_tiles_cover_a_side_once_and_keep_their_rims(side, tile, rim):
    taken = []
    for start, (first, behind) in _spans(side, tile, rim):
        taken += range(first, behind)
        assert start == 0 or first - start >= rim
        assert min(start + tile, side) == side or start + tile - behind >= rim
    assert taken == list(range(side))


def test_a_stage_depends_on_its_seed_alone_and_a_given_video_is_clipped():
    pipeline = stage(TIME)
    video = noise(2, 3, 3, 8, 8)
    both = pipeline.raise_video(video, [None, None], seed=5)
    one = pipeline.raise_video(video[1:], [None], seed=6)
    assert torch.equal(both.samples[1], one.samples[0]) and both.samples.shape == (2, 3, 6, 8, 8)
    assert torch.equal(pipeline.raise_video(video * 1e9, [None, None]).samples,
                       pipeline.raise_video(video.sign(), [None, None]).samples)  # fmt: skip


def test_the_base_draws_and_others_are_given():
    base = stage({"kind": "base", "num_frames": 2, "height": 8, "width": 8}, num_frames=2, height=8, width=8)
    assert base(None, seed=0).frames.shape == (1, 2, 8, 8, 3) and base.draws_from_words
    with pytest.raises(UserError, match="nothing to raise"):
        base.raise_video(noise(1, 3, 2, 8, 8), [None])
    with pytest.raises(UserError, match="is given a video"):
        stage(TIME)(None)


def test_an_oscillating_schedule_is_told_by_the_level():
    pipeline = stage({**SPACE, "guidance_schedule": "oscillating", "guidance_scale": 8.0, "guidance_low": 2.0})
    scale = pipeline.scale_over(20)
    lams = pipeline.levels(20)[:-1]
    assert [float(scale(lam[None])) for lam in lams] == pipeline.stage.guidance(20)
    assert stage(SPACE).scale_over(20) == 6.0


# --- training -------------------------------------------------------------------------------------------------------


def batch(video, images=0, step=0):
    return TrainingBatch(video, None, images, list(range(len(video))), len(video), 0, step)


def system(options, model=None, **diffusion):
    return ImagenVideo({"type": "unet3d", **NET, **(model or {})}, {"stage": options, **diffusion}, None)


@pytest.mark.parametrize("options", [SPACE, TIME, {**TIME, "fill": "blank"}])
@pytest.mark.parametrize("images", [0, 2])
def test_a_stage_trains_on_what_it_will_be_given(options, images):
    made = system(options, images_per_video=images)
    config = StageConfig(**options)
    video = noise(2, 3, config.num_frames + images, config.height, config.width)
    told = made.told(batch(video, images))
    assert told["condition"].shape == (2, config.condition_channels, *video.shape[2:])
    clean = system(options, augmentation_low=19.9, augmentation_high=20.0).told(batch(video, images))["condition"]
    frames = config.num_frames
    assert torch.allclose(clean[:, :, :frames], raised(lowered(video[:, :, :frames], config), config), atol=1e-3)
    net = randomised(made.build())
    losses = made.losses(net, batch(video, images))
    assert losses.weighted.shape == (2,) and bool(torch.isfinite(losses.weighted).all())
    assert torch.equal(losses.weighted, made.losses(net, batch(video, images)).weighted)


def test_the_noise_of_the_condition_is_not_that_of_the_video():
    made = system({**SPACE}, augmentation_low=-20.0, augmentation_high=-19.9)
    video = torch.zeros(1, 3, 3, 16, 16)
    noise_of_condition = made.told(batch(video))["condition"]
    seen = {}

    def net(z, lam, text=None, **told):
        seen["z"] = z
        return torch.zeros_like(z)

    made.losses(net, batch(video))
    correlation = torch.corrcoef(torch.stack([noise_of_condition.flatten(), seen["z"].flatten()]))[0, 1]
    assert abs(float(correlation)) < 0.1


def test_the_last_stage_trains_on_crops_at_places_of_their_own():
    made = system({**SPACE, "crop": 8}, model=FULLY | {"condition_channels": 3})
    seen = []

    def net(z, lam, text=None, condition=None, **told):
        seen.append(condition)
        return torch.zeros_like(z)

    video = noise(4, 3, 3, 16, 16)
    losses = made.losses(net, batch(video))
    assert seen[0].shape == (4, 3, 3, 8, 8) and losses.weighted.shape == (4,)


def test_models_that_do_not_fit_the_stage_are_refused():
    with pytest.raises(UserError, match="condition_channels"):
        system(SPACE, model={"condition_channels": 4})
    with pytest.raises(UserError, match="unet3d"):
        ImagenVideo({"type": "transformer"}, {"stage": SPACE}, None)
    with pytest.raises(UserError, match="augmentation_low"):
        system(SPACE, augmentation_low=5.0, augmentation_high=1.0)


# --- the cascade ----------------------------------------------------------------------------------------------------

BASE = {"kind": "base", "num_frames": 2, "height": 8, "width": 8, "fps": 2.0, "steps": 3}
FASTER = {**TIME, "num_frames": 4, "fps": 4.0}
LARGER = {**SPACE, "num_frames": 4, "fps": 4.0, "augmentation_snr": 1e6}


class Given(torch.nn.Module):
    """A super-resolution network that answers with what it was given."""

    def __init__(self):
        super().__init__()
        self.one = torch.nn.Parameter(torch.ones(1))
        self.device = torch.device("cpu")
        self.config = FrozenDict({
            "prediction_type": "sample", "out_channels": 3, "base_channels": 1, "sample_size": 16, "patch_size": 1,
            "channel_multipliers": [1], "joint_resolutions": [], "spatial_attention": True, "norm": "frame",
            "sloped_shift": False,
        })  # fmt: skip

    def forward(self, z, lam, condition=None, **told):
        return condition[:, :3]


def saved(tmp_path, options, name):
    config = StageConfig(**options)
    pipeline = CascadeStagePipeline(
        network(condition_channels=config.condition_channels, condition_level=config.kind != "base"), stage=options,
        sampling={"num_frames": config.num_frames, "height": config.height, "width": config.width,
                  "num_inference_steps": config.steps},
    )  # fmt: skip
    pipeline.save_pretrained(str(tmp_path / name))
    return tmp_path / name


@pytest.fixture
def cascade(tmp_path):
    stages = [saved(tmp_path, o, n) for o, n in ((BASE, "b"), (FASTER, "t"), (LARGER, "s"))]
    return save_cascade(stages, tmp_path / "cascade")


def test_a_cascade_draws_what_its_stages_draw_in_turn(cascade):
    pipeline = load_pipeline(str(cascade))
    kept = {}
    steps = []
    out = pipeline([None], [7], keep=lambda name, frames, fps: kept.update({name: (frames, fps)}),
                   on_step=lambda state: steps.append(state))  # fmt: skip
    assert out.frames.shape == (1, 4, 16, 16, 3) and len(steps) == pipeline.steps_of(pipeline.settings()) == 7
    assert [(n, f.shape[1:4], fps) for n, (f, fps) in kept.items()] == [
        ("base", (2, 8, 8), 2.0), ("2-temporal", (4, 8, 8), 4.0), ("3-spatial", (4, 16, 16), 4.0)
    ]  # fmt: skip
    by_hand = pipeline.opened(0)(None, [7]).samples.clamp(-1, 1)
    by_hand = pipeline.opened(1).raise_video(by_hand, [None], [7 + SEED_STRIDE]).samples.clamp(-1, 1)
    by_hand = pipeline.opened(2).raise_video(by_hand, [None], [7 + 2 * SEED_STRIDE]).samples.clamp(-1, 1)
    assert torch.equal(by_hand, out.samples)
    both = pipeline([None, None], [7, 8])
    assert torch.equal(both.samples[0], out.samples[0])


def test_networks_that_give_back_what_they_are_given_make_repeated_and_bilinear_video():
    video = noise(1, 3, 2, 8, 8).clamp(-1, 1)
    given = CascadeStagePipeline(
        Given(), stage={**FASTER, "augmentation_snr": 1e6}, sampling={"num_inference_steps": 2}
    )
    faster = given.raise_video(video, [None]).samples
    assert torch.allclose(faster, video.repeat_interleave(2, 2), atol=5e-3)
    larger = CascadeStagePipeline(Given(), stage=LARGER, sampling={"num_inference_steps": 2}).raise_video(
        faster, [None]
    )
    expected = torch.nn.functional.interpolate(faster[0].transpose(0, 1), scale_factor=2, mode="bilinear")
    assert torch.allclose(larger.samples[0].transpose(0, 1), expected, atol=1e-2)


@pytest.mark.parametrize("wrong", [{"height": 32}, {"num_inference_steps": 3}, {"guidance_scale": 3.0}])
def test_what_is_every_stages_own_is_refused(cascade, wrong):
    with pytest.raises(UserError, match="has its own"):
        load_pipeline(str(cascade))([None], **wrong)


def test_stages_that_do_not_follow_each_other_make_no_cascade(tmp_path):
    stages = [saved(tmp_path, o, n) for o, n in ((BASE, "b"), (LARGER, "s"))]
    with pytest.raises(UserError, match="is given"):
        save_cascade(stages, tmp_path / "cascade")
    assert not (tmp_path / "cascade").exists()


@pytest.mark.parametrize("names", [["../b"], ["/b"], [], "base", None])
def test_a_cascade_stays_in_its_folder(cascade, names):
    path = cascade / "muybridge.json"
    path.write_text(json.dumps({"stages": names}))
    with pytest.raises(UserError, match=r"stage"):
        load_pipeline(str(cascade))


@pytest.mark.parametrize("options", [{**BASE, "num_frames": 4, "height": 16, "width": 16}, {**SPACE, "num_frames": 4},
                                     {**TIME, "num_frames": 4, "height": 16, "width": 16}],
                         ids=["base", "spatial", "temporal"])  # fmt: skip
def test_a_stage_trains_from_a_recipe_shows_something_and_opens(options, tmp_path):
    world = {"source": "world", "height": 16, "width": 16, "num_frames": 4, "num_clips": 8, "backgrounds": ["dark"],
             "pans": ["none"]}  # fmt: skip
    recipe = Recipe(
        name="stage", system="imagen_video", model={"type": "unet3d", **NET, "text_pooled_dim": 384}, data=world,
        diffusion={"stage": options, "images_per_video": 1}, text=TEXT,
        sampling={"num_frames": 4, "height": 16, "width": 16, "num_inference_steps": 2},
        training=TrainingConfig(steps=2, batch_size=2, warmup_steps=0, validate_every=2, validation_clips=2,
                                sample_every=2, sample_prompts=(PROMPT,), checkpoint_every=2),
    )  # fmt: skip
    model = Trainer(recipe, tmp_path / "run").run()
    assert list((tmp_path / "run" / "samples").iterdir())
    pipeline = load_pipeline(str(model))
    assert isinstance(pipeline, CascadeStagePipeline) and pipeline.stage == StageConfig(**options)
    if options["kind"] == "base":
        assert pipeline([PROMPT], seed=0).frames.shape == (1, 4, 16, 16, 3)
    else:
        given = lowered(noise(1, 3, 4, 16, 16), pipeline.stage)
        with_words, without = (pipeline.raise_video(given, [p], seed=0).samples for p in (PROMPT, None))
        assert with_words.shape == (1, 3, 4, 16, 16) and not torch.equal(with_words, without)
