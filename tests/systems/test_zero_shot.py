"""Text2Video-Zero and ControlVideo: their laws (specs 12 and 13), diffusers' numbers, and bounded work."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel, DDIMScheduler, StableDiffusionControlNetPipeline, TextToVideoZeroPipeline
from diffusers.pipelines.deprecated.text_to_video_synthesis import pipeline_text_to_video_zero as theirs_module

from muybridge.diffusion.noise import Noise
from muybridge.errors import UserError
from muybridge.models.text.encoder import TextEncoder
from muybridge.models.vision.control import Control
from muybridge.opening.sampling import load_pipeline, load_zero_shot
from muybridge.pipelines.zero_shot import View, ZeroShotPipeline
from muybridge.systems.control_video.sampling import ControlVideoConfig, control_video, key_table
from muybridge.systems.control_video.smoother import neighbours, smooth, smoothing_steps
from muybridge.systems.text2video_zero.background import with_one_background
from muybridge.systems.text2video_zero.instruct import instruct_video
from muybridge.systems.text2video_zero.sampling import (
    ZeroConfig,
    chunks_with_first,
    frame_masks_of,
    network_steps,
    text_to_video_zero,
)
from tests.conftest import randomise
from tests.tiny_models import PROMPT, TEXT

SIZE = {"height": 16, "width": 16, "num_inference_steps": 20}


@pytest.fixture
def pipeline(picture_model):
    return load_zero_shot(picture_model)


def control_net(pipeline, scale=1.0, frames=3, same=False):
    torch.manual_seed(4)
    network = randomise(
        ControlNetModel.from_unet(pipeline.network, conditioning_embedding_out_channels=(8, 16)), 0.05
    ).eval()
    pictures = torch.rand(1 if same else frames, 3, 16, 16).expand(frames, -1, -1, -1)
    return Control(network, pictures, scale)


# --- Text2Video-Zero ------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("frames", [1, 3])
def test_the_first_frame_is_the_image_pipelines_picture(pipeline, picture_model, frames):
    picture = load_pipeline(str(picture_model))(PROMPT, seed=2, **SIZE, num_frames=1).samples
    made = text_to_video_zero(pipeline, PROMPT, 2, num_frames=frames, **SIZE).samples
    assert torch.allclose(made[:, :, :1], picture, atol=0 if frames == 1 else 2e-4)


class TheirNoise(Noise):
    """Our draws in the order in which diffusers' generator gives them."""

    def __init__(self, start, others):
        super().__init__([0])
        self.start, self.others = start, others

    def __call__(self, shape, purpose, step=0):
        return self.start if purpose == "start" else self.others[step - 1][None, :, None]


@pytest.mark.slow
@pytest.mark.parametrize("exact", [True, False])
def test_diffusers_deprecated_pipeline_gives_the_same_frames(pipeline, picture_model, exact, monkeypatch):
    """Equal where it is right; its re-noising multiplies one factor too early, which is listed here."""
    encoder = TextEncoder(TEXT)
    encoder.tokenizer.model_max_length = TEXT.max_length
    encoder.model.config.use_attention_mask = True
    scheduler = DDIMScheduler.from_pretrained(picture_model / "scheduler")
    their_network = load_pipeline(str(picture_model))
    theirs = TextToVideoZeroPipeline(
        vae=their_network.vae,
        text_encoder=encoder.model,
        tokenizer=encoder.tokenizer,
        unet=their_network.network,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    theirs.set_progress_bar_config(disable=True)
    # T and T' as indices from the end of the list of 20 steps: steps 1 and 2
    joined, moved = 1, 2
    if exact:

        def forward_loop(self, x_t0, t0, t1, generator):
            kept = self.scheduler.alphas_cumprod[t1] / self.scheduler.alphas_cumprod[t0]
            eps = theirs_module.randn_tensor(x_t0.size(), generator=generator, dtype=x_t0.dtype)
            return kept.sqrt() * x_t0 + (1 - kept).sqrt() * eps

        monkeypatch.setattr(TextToVideoZeroPipeline, "forward_loop", forward_loop)
    start = torch.randn(1, 4, 8, 8)
    others = torch.randn((3, 4, 8, 8), generator=torch.Generator().manual_seed(9))
    expected = theirs(
        PROMPT,
        video_length=4,
        num_inference_steps=20,
        guidance_scale=3.0,
        latents=start,
        generator=torch.Generator().manual_seed(9),
        t0=20 - moved - 1,
        t1=20 - joined - 1,
        output_type="latent",
        height=16,
        width=16,
    ).images
    got = []
    noise = TheirNoise(start[:, :, None], others)
    monkeypatch.setattr(pipeline, "to_pixels", lambda z: got.append(z) or torch.zeros(1, 3, 4, 16, 16))
    text_to_video_zero(pipeline, PROMPT, noise=noise, num_frames=4, guidance_scale=3.0, **SIZE)
    difference = (got[0][0].transpose(0, 1) - expected).abs().max()
    assert (difference < 2e-4) if exact else (1e-5 < difference < 0.2)


@pytest.mark.slow
def test_any_chunk_gives_the_same_frames_and_any_number_of_steps_works(pipeline):
    whole = text_to_video_zero(pipeline, PROMPT, 5, num_frames=6, **SIZE).samples
    for chunk in (1, 2, 5):
        parts = text_to_video_zero(pipeline, PROMPT, 5, ZeroConfig(chunk=chunk), num_frames=6, **SIZE).samples
        assert torch.allclose(parts, whole, atol=2e-4)
    longer = text_to_video_zero(pipeline, PROMPT, 5, num_frames=8, **SIZE).samples
    assert torch.allclose(longer[:, :, :6], whole, atol=2e-4)
    for steps in (1, 3, 7):
        assert text_to_video_zero(pipeline, PROMPT, 5, num_frames=2, **{**SIZE, "num_inference_steps": steps})
    assert [c.tolist() for c in chunks_with_first(6, 2)] == [[0, 1, 2], [0, 3, 4], [0, 5]]


def test_without_motion_and_noise_all_frames_are_one_and_steps_are_counted(pipeline):
    still = ZeroConfig(motion=(0.0, 0.0), moved_at=0.1, joined_at=0.1)
    seen = []
    made = text_to_video_zero(pipeline, PROMPT, 1, still, num_frames=3, on_step=seen.append, **SIZE)
    assert np.abs(made.samples[:, :, 1:] - made.samples[:, :, :1]).max() < 1e-4
    assert len(seen) == network_steps(still, 3, 20)
    noisy = replace(still, joined_at=0.05)
    assert (text_to_video_zero(pipeline, PROMPT, 1, noisy, num_frames=3, **SIZE).samples.diff(dim=2)).abs().max() > 1e-3


def test_background_smoothing_touches_the_background_alone(pipeline):
    z = torch.randn(1, 4, 3, 8, 8)
    samples = torch.zeros_like(z)

    def with_masks(value, alpha, motion=(0.0, 0.0)):
        masks = frame_masks_of([np.full((16, 16), value, np.float32)] * 3)
        return with_one_background(pipeline, z, samples, masks, motion, alpha)

    assert torch.equal(with_masks(1.0, 0.6), z)
    assert torch.equal(with_masks(0.0, 0.0), z)
    everywhere = with_masks(0.0, 1.0)
    assert torch.equal(everywhere, z[:, :, :1].expand_as(z))
    half = np.zeros((16, 16), np.float32)
    half[:, :4] = 1
    masks = frame_masks_of([half] * 3)
    out = with_one_background(pipeline, z, samples, masks, (0.0, 0.0), 0.6)
    assert torch.equal(out[..., :2], z[..., :2]) and torch.equal(out[:, :, 0], z[:, :, 0])
    torch.testing.assert_close(out[:, :, 2, :, 4:], 0.6 * z[:, :, 0, :, 4:] + 0.4 * z[:, :, 2, :, 4:])
    with pytest.raises(UserError, match="needs foreground masks"):
        text_to_video_zero(pipeline, PROMPT, 0, ZeroConfig(background=0.6), **SIZE)


def test_controls_start_all_frames_from_one_noise_and_zero_scale_is_none(pipeline):
    control = control_net(pipeline, same=True)
    made = text_to_video_zero(pipeline, PROMPT, 1, controls=[control], num_frames=3, **SIZE).samples
    assert (made.diff(dim=2)).abs().max() < 1e-4
    without = pipeline(PROMPT, seed=1, num_frames=1, **SIZE).samples
    assert (made[:, :, :1] - without).abs().max() > 1e-3
    off = View(controls=[replace(control, scale=0.0)])
    assert torch.equal(pipeline(PROMPT, seed=1, num_frames=1, view=off, **SIZE).samples, without)
    assert pipeline.attention.keys is None and pipeline.control_attention.keys is None


def test_a_control_net_of_another_model_is_refused(pipeline):
    control = control_net(pipeline)
    control.network.register_to_config(cross_attention_dim=768)
    with pytest.raises(UserError, match="belongs to another"):
        pipeline(PROMPT, view=View(controls=[control]), num_frames=1, **SIZE)


def test_attention_slicing_is_noticed_instead_of_losing_the_frames(pipeline):
    """diffusers' own switches put other processors in the place of ours."""
    pipeline.enable_attention_slicing()
    with pytest.raises(UserError, match="slicing"):
        text_to_video_zero(pipeline, PROMPT, 1, num_frames=2, **SIZE)


@pytest.mark.parametrize("attention", ["full", "first_previous"])
def test_attention_that_chunks_would_cut_is_refused(pipeline, attention):
    with pytest.raises(UserError, match="chunk of all frames"):
        text_to_video_zero(pipeline, PROMPT, 1, ZeroConfig(attention=attention, chunk=2), num_frames=4, **SIZE)


def test_instructions_need_their_network_and_give_diffusers_numbers(pipeline, picture_model, latent_space):
    with pytest.raises(UserError, match="takes 4 channels, not 8"):
        instruct_video(pipeline, torch.zeros(1, 3, 2, 16, 16), "make it red")
    from diffusers import StableDiffusionInstructPix2PixPipeline, UNet2DConditionModel

    wide = UNet2DConditionModel.from_config({**pipeline.network.config, "in_channels": 8})
    randomise(wide, 0.05).eval()
    editor = ZeroShotPipeline(wide, pipeline.vae, **_settings(pipeline))
    encoder = TextEncoder(TEXT)
    encoder.tokenizer.model_max_length = TEXT.max_length
    encoder.model.config.use_attention_mask = True
    theirs = StableDiffusionInstructPix2PixPipeline(
        vae=pipeline.vae,
        text_encoder=encoder.model,
        tokenizer=encoder.tokenizer,
        unet=UNet2DConditionModel.from_config(wide.config),
        scheduler=DDIMScheduler.from_pretrained(picture_model / "scheduler"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    theirs.unet.load_state_dict(wide.state_dict())
    theirs.set_progress_bar_config(disable=True)
    picture, start = torch.rand(1, 3, 16, 16) * 2 - 1, torch.randn(1, 4, 8, 8)
    expected = theirs(
        "make it red",
        image=picture / 2 + 0.5,
        latents=start,
        num_inference_steps=4,
        guidance_scale=3.0,
        image_guidance_scale=1.5,
        output_type="pt",
    ).images
    noise = TheirNoise(start[:, :, None], [])
    made = instruct_video(
        editor, picture[:, :, None], "make it red", 0, 1.5, noise=noise, guidance_scale=3.0, num_inference_steps=4
    )
    assert torch.allclose(made.samples[:, :, 0].clamp(-1, 1) / 2 + 0.5, expected, atol=2e-4)


def _settings(pipeline):
    config = pipeline.config
    return {k: config[k] for k in ("scheduler", "text_encoder", "text_max_length", "sampling")}


# --- ControlVideo ---------------------------------------------------------------------------------------------------


def test_one_frame_is_the_image_control_net_pipelines_picture(pipeline, picture_model):
    control = control_net(pipeline, frames=1)
    encoder = TextEncoder(TEXT)
    encoder.tokenizer.model_max_length = TEXT.max_length
    encoder.model.config.use_attention_mask = True
    fresh = load_pipeline(str(picture_model))
    theirs = StableDiffusionControlNetPipeline(
        vae=fresh.vae,
        text_encoder=encoder.model,
        tokenizer=encoder.tokenizer,
        unet=fresh.network,
        controlnet=control.network,
        scheduler=DDIMScheduler.from_pretrained(picture_model / "scheduler"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    theirs.set_progress_bar_config(disable=True)
    expected = theirs(
        PROMPT,
        image=control.pictures,
        latents=Noise([3])((4, 1, 8, 8), "start")[:, :, 0],
        num_inference_steps=4,
        guidance_scale=2.0,
        output_type="pt",
    ).images
    options = {**SIZE, "num_inference_steps": 4, "guidance_scale": 2.0, "num_frames": 1}
    made = control_video(pipeline, PROMPT, [control], 3, ControlVideoConfig(smooth_at=None), **options)
    assert torch.allclose(made.samples[:, :, 0].clamp(-1, 1) / 2 + 0.5, expected, atol=2e-4)


@pytest.mark.parametrize("group_norm", ["per_frame", "pooled"])
def test_identical_control_frames_give_identical_frames(pipeline, group_norm):
    control = control_net(pipeline, same=True)
    config = ControlVideoConfig(smooth_at=None, group_norm=group_norm)
    made = control_video(pipeline, PROMPT, [control], 1, config, num_frames=3, **SIZE).samples
    view = View(controls=[replace(control, pictures=control.pictures[:1])])
    alone = pipeline(PROMPT, seed=1, num_frames=1, view=view, **SIZE).samples
    assert torch.allclose(made, alone.expand_as(made), atol=2e-4)


def test_smoothing_tables():
    assert neighbours(7, 0) == {1: (0, 2), 3: (2, 4), 5: (4, 6)}
    assert neighbours(7, 1) == {0: (0, 1), 2: (1, 3), 4: (3, 5), 6: (5, 6)}
    assert neighbours(8, 1) == {0: (0, 1), 2: (1, 3), 4: (3, 5), 6: (5, 7)}
    for frames in range(2, 10):
        tables = [neighbours(frames, parity) for parity in (0, 1)]
        for j in range(1, frames - 1):
            assert sum(j in t for t in tables) == 1
        for table in tables:
            assert all(s == j or s not in table for j, pair in table.items() for s in pair)
    assert smoothing_steps(0.6, 50) == (30, 31)
    assert smoothing_steps(None, 50) == () == smoothing_steps(0.6, 1)


def test_smoothing_a_linear_video_changes_only_its_ends():
    from muybridge.models.vision.frame_interpolation import linear

    video = torch.linspace(0.1, 0.9, 7)[None, None, :, None, None].expand(1, 3, 7, 4, 4)
    for parity in (0, 1):
        moved = (smooth(video, parity, linear) - video).abs().amax((0, 1, 3, 4)) > 1e-6
        assert moved.tolist() == [bool(parity), *[False] * 5, bool(parity)]


def test_smoothing_that_replaces_nothing_is_the_plain_step(pipeline):
    """With an identity in place of decoder and encoder, and an interpolator that gives back what was there."""
    control = control_net(pipeline, frames=1)
    plain = control_video(pipeline, PROMPT, [control], 1, ControlVideoConfig(smooth_at=None), num_frames=1, **SIZE)
    smoothed = control_video(
        pipeline, PROMPT, [control], 1, ControlVideoConfig(interpolator="linear"), num_frames=1, **SIZE
    )
    assert torch.equal(plain.samples, smoothed.samples)
    control = control_net(pipeline, frames=3)
    rough = control_video(pipeline, PROMPT, [control], 1, ControlVideoConfig(smooth_at=None), num_frames=3, **SIZE)
    calm = control_video(
        pipeline, PROMPT, [control], 1, ControlVideoConfig(interpolator="linear"), num_frames=3, **SIZE
    )
    assert not torch.equal(rough.samples, calm.samples)


def test_key_frame_tables():
    keys, clips = key_table(15)
    assert keys == [0, 2, 4, 6, 8, 10, 12, 14] and all(len(inner) == 1 for _, _, inner in clips)
    keys, clips = key_table(100)
    assert keys == list(range(0, 100, 9)) and all(len(inner) == 8 for _, _, inner in clips)
    keys, clips = key_table(17)
    assert keys[-2:] == [15, 16] and all(inner for _, _, inner in clips)
    for frames in range(9, 60):
        keys, clips = key_table(frames)
        assert sorted(keys + [i for _, _, inner in clips for i in inner]) == list(range(frames))
    with pytest.raises(UserError, match="at least 9"):
        key_table(8)


def test_hierarchy_clips_depend_on_both_of_their_key_frames_and_on_nothing_else(pipeline):
    from muybridge.systems.control_video.sampling import key_frames_first

    text = pipeline.condition([PROMPT], pipeline.settings(**SIZE))
    denoise = key_frames_first(
        pipeline, lambda view: pipeline.closed(text.seen(keys=view.keys, frames=view.frames)), 16
    )
    keys, clips = key_table(16)
    z, lam = torch.randn(1, 4, 16, 8, 8), torch.zeros(1)
    with torch.no_grad():
        before = denoise(z, lam)
        assert denoise(z, lam).equal(before)

        def changed(frame):
            other = z.clone()
            other[:, :, frame] += 1
            return set(torch.nonzero((denoise(other, lam) - before).abs().amax((0, 1, 3, 4)) > 1e-6)[:, 0].tolist())

        left, right, inner = clips[1]
        assert changed(inner[0]) == {inner[0]}
        reached = changed(right)
        assert set(keys) <= reached and set(inner) <= reached
        assert set(inner) <= changed(left)


def test_memory_follows_the_longest_call_not_the_video(pipeline):
    longest = []
    network_forward = pipeline.network.forward
    pipeline.network.forward = lambda z, *a, **k: longest.append(len(z)) or network_forward(z, *a, **k)
    config = ControlVideoConfig(smooth_at=None)
    few = {**SIZE, "num_inference_steps": 2, "guidance_scale": 1.0}
    control_video(pipeline, PROMPT, [], 1, config, num_frames=100, **few)
    assert max(longest) == 12
    with pytest.raises(UserError, match="control pictures"):
        control_video(pipeline, PROMPT, [control_net(pipeline)], 1, config, num_frames=4, **few)
    with pytest.raises(UserError, match="pooled"):
        control_video(pipeline, PROMPT, [], 1, replace(config, group_norm="pooled"), num_frames=100, **few)
