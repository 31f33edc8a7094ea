"""Latent systems: diffusers' numbers, frozen picture models, context frames, and training end to end (specs 08, 14)."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from muybridge.diffusion.conditioning import Known
from muybridge.errors import UserError
from muybridge.learning.contract import TrainingBatch
from muybridge.models.text.encoder import TextEncoder
from muybridge.nn.text_conditioning import TextCondition
from muybridge.opening.sampling import load_pipeline
from muybridge.parts.image_ldm import ImageLDM
from muybridge.pipelines.inflated import InflatedPipeline
from muybridge.systems.video_ldm.long_video import interpolate_latents, predict_latents
from muybridge.systems.video_ldm.training import VideoLDM
from muybridge.training.recipe import Recipe, TrainingConfig
from muybridge.training.trainer import Trainer
from tests.conftest import randomise
from tests.tiny_models import PROMPT, SAMPLING, TEXT, UNET


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_diffusers_samples_the_same_picture(picture_model, scale):
    pipeline = load_pipeline(str(picture_model))
    encoder = TextEncoder(TEXT)
    encoder.tokenizer.model_max_length = TEXT.max_length
    encoder.model.config.use_attention_mask = True
    theirs = StableDiffusionPipeline.from_pretrained(
        str(picture_model), text_encoder=encoder.model, tokenizer=encoder.tokenizer, local_files_only=True
    )
    theirs.set_progress_bar_config(disable=True)
    from muybridge.diffusion.noise import Noise

    latents = Noise([5])((4, 1, 8, 8), "start")[:, :, 0]
    expected = theirs(
        PROMPT, latents=latents, num_inference_steps=4, guidance_scale=scale, eta=0.0, output_type="pt"
    ).images
    got = pipeline(PROMPT, seed=5, guidance_scale=scale).samples[:, :, 0]
    assert torch.allclose(got.clamp(-1, 1) / 2 + 0.5, expected, atol=1e-4)


@pytest.mark.parametrize("sampler", ["ddim", "dpmpp_2m", "dpmpp_2m_sde", "ancestral"])
def test_f14_known_entries_come_back_exactly_on_stable_diffusions_table(picture_model, sampler):
    """Its config keeps the noise of the table's first level at the end of a run."""
    file = picture_model / "scheduler" / "scheduler_config.json"
    config = json.loads(file.read_text()) | {
        "rescale_betas_zero_snr": False,
        "set_alpha_to_one": False,
        "timestep_spacing": "leading",
    }
    file.write_text(json.dumps(config))
    pipeline = load_pipeline(str(picture_model))
    assert float(pipeline.levels(3, "ddim")[-1]) < 8
    value, mask = torch.randn(1, 4, 1, 8, 8), torch.zeros(1, 1, 1, 8, 8, dtype=torch.bool)
    mask[..., :4] = True
    sizes = {"num_frames": 1, "num_inference_steps": 3, "sampler": sampler, "output": "latents"}
    for weight in (0.0, 1.0):
        out = pipeline(PROMPT, known=Known(value, mask, weight), **sizes).samples
        assert torch.equal(out[..., :4], value[..., :4])


def test_same_seed_same_picture_whatever_the_batch(picture_model):
    pipeline = load_pipeline(str(picture_model))
    prompts = [PROMPT, "a blue star", "", "a white ring"]
    alone = pipeline(prompts, seed=3).samples
    assert torch.allclose(pipeline(prompts, seed=3, batch_size=3).samples, alone, atol=1e-4)
    assert torch.allclose(pipeline(prompts[2], seed=5).samples, alone[2:3], atol=1e-4)
    assert pipeline(None, seed=5).samples.shape == alone[2:3].shape


def recipe_of(name, system, model, data=None, **diffusion):
    world = {"source": "world", "height": 16, "width": 16, "num_frames": 8, "num_clips": 8, "backgrounds": ["dark"]}
    return Recipe(
        name=name,
        system=system,
        model=model,
        data={**world, "pans": ["none"], **(data or {})},
        diffusion=diffusion,
        text=TEXT,
        training=TrainingConfig(
            steps=3,
            batch_size=4,
            warmup_steps=1,
            checkpoint_every=2,
            validate_every=3,
            validation_clips=4,
            sample_every=3,
        ),
        sampling=SAMPLING if system == "image_ldm" else {**SAMPLING, "num_frames": 8},
    )


def test_an_image_model_trains_and_resumes(tmp_path, latent_space):
    recipe = recipe_of("picture", "image_ldm", {"autoencoder": str(latent_space), **UNET}, {"num_frames": 1})
    model = Trainer(recipe, tmp_path / "whole").run()
    half = Trainer(recipe, tmp_path / "half")
    half.run(until=2)
    Trainer(recipe, tmp_path / "half").run()
    name = "unet/diffusion_pytorch_model.safetensors"
    assert (model / name).read_bytes() == (tmp_path / "half" / "model" / name).read_bytes()
    frames = load_pipeline(str(model))(PROMPT, seed=1).frames
    assert frames.shape == (1, 1, 16, 16, 3)
    assert len(list((tmp_path / "whole" / "cache").glob("latents-*.safetensors"))) == 2  # both splits, once each


def trained_beside_a_frozen_image(recipe, run, part):
    """The model's folder, after `part` alone has trained and the picture model is what it was, bit for bit."""
    trainer = Trainer(recipe, run)
    before = trainer.system.build().state_dict()
    model = trainer.run()
    after = trainer.accelerator.unwrap_model(trainer.model).state_dict()
    assert all(torch.equal(before[n], after[n]) for n in before if n.startswith("image."))
    assert any(not torch.equal(before[n], after[n]) for n in before if n.startswith(part))
    assert trainer.counts["trainable"] == sum(v.numel() for n, v in before.items() if n.startswith(part))
    return model


@pytest.mark.slow
@pytest.mark.parametrize("task", ["clip", "prediction", "interpolation"])
def test_a_video_model_trains_behind_a_frozen_picture_model(tmp_path, picture_model, task):
    recipe = recipe_of("video", "video_ldm", {"image": str(picture_model)}, task=task, strides=(1,))
    model = trained_beside_a_frozen_image(recipe, tmp_path / "run", "temporal.")
    saved = {p.relative_to(model).as_posix() for p in model.rglob("*.safetensors")}
    assert saved == {"temporal/diffusion_pytorch_model.safetensors", "vocabulary.safetensors"}
    if task == "clip":
        pipeline = load_pipeline(str(model))
        assert isinstance(pipeline, InflatedPipeline)
        alone = pipeline([PROMPT, "a ring"], seed=1).samples
        assert alone.shape == (2, 3, 8, 16, 16)
        assert torch.allclose(pipeline([PROMPT, "a ring"], seed=1, batch_size=2).samples, alone, atol=1e-4)


def test_context_frames(picture_model):
    system = VideoLDM({"image": str(picture_model)}, {"task": "prediction"}, TEXT)
    video = torch.randn(8, 4, 6, 8, 8)

    class Batch:
        places, total, seed, step = range(8), 8, 1, 0

    Batch.video = video
    counts = system._mask(Batch).sum((1, 2, 3, 4)).long().tolist()
    assert set(counts) <= {0, 1, 2} and len(set(counts)) > 1
    seen = {}

    class Spy(torch.nn.Module):
        def forward(self, z, index, tokens, conditions):
            seen.update(conditions)
            return type("Out", (), {"sample": torch.zeros_like(z)})

    Batch.scalars = {}
    system.predict(Spy(), torch.randn_like(video), torch.zeros(8), torch.zeros(8, 3, 384), Batch)
    mask = seen["known_mask"]
    assert torch.equal(seen["known"], video * mask)  # clean latents at known frames, zero elsewhere
    assert all((mask[i, 0, :n] == 1).all() and (mask[i, 0, n:] == 0).all() for i, n in enumerate(counts))


def latents(step=0):
    """A batch of latents, [3, 4, 6, 8, 8], with captions."""
    text = TextEncoder(TEXT)([PROMPT] * 3)
    text = TextCondition(*(t[:, None] for t in (text.pooled, text.tokens, text.mask)))
    null = TextEncoder(TEXT)([""], allow_empty=True)
    video = torch.randn(3, 4, 6, 8, 8, generator=torch.Generator().manual_seed(0))
    return TrainingBatch(video, text, 0, range(3), 3, 1, step, null)


def test_a_step_of_pictures_is_the_picture_models(picture_model):
    """Every frame alone: what the temporal layers hold counts for nothing, and gets no gradient."""
    settings = {"image": str(picture_model), "temporal": {"train_image": True}}
    system = VideoLDM(settings, {"pictures": 0.5}, TEXT)
    model = randomise(system.build(), 0.05)
    alone = [step for step in range(40) if system._of_pictures(latents(step))]
    assert 10 < len(alone) < 30 and system.find_unused_parameters
    for p in model.parameters():
        p.requires_grad_(True)
    batch = latents(alone[0])
    system.losses(model, batch).weighted.mean().backward()
    assert all(p.grad is None for p in model.temporal.parameters())
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in model.image.parameters())
    before = system.losses(model, batch).error
    for p in model.temporal.parameters():
        p.data.normal_()
    assert torch.equal(system.losses(model, batch).error, before)
    together = latents(next(step for step in range(40) if step not in alone))
    system.losses(model, together).weighted.mean().backward()
    assert any(p.grad is not None for p in model.temporal.parameters())
    with pytest.raises(UserError, match="train_image"):
        VideoLDM({"image": str(picture_model)}, {"pictures": 0.5}, TEXT)


def test_frames_share_noise_in_training_and_in_sampling(picture_model, tmp_path):
    system = VideoLDM({"image": str(picture_model)}, {"noise_correlation": 0.75}, TEXT)
    seen = {}

    def predict(model, z, index, tokens, batch):
        seen["z"] = z
        return torch.zeros_like(z)

    system.predict = predict
    batch = replace(latents(), video=torch.zeros(3, 4, 6, 8, 8))
    system.losses(None, batch)
    rows = seen["z"].transpose(1, 2).flatten(2)  # noise alone, [3, 6, 256]
    for row in rows:
        found = torch.corrcoef(row)[~torch.eye(6, dtype=torch.bool)]
        assert abs(float(found.mean()) - 0.75) < 0.08
    system = VideoLDM({"image": str(picture_model)}, {"noise_correlation": 0.75}, TEXT)
    system.save(system.build(), tmp_path / "model", {**SAMPLING, "num_frames": 8})
    pipeline = load_pipeline(str(tmp_path / "model"))
    assert pipeline.settings().noise_correlation == 0.75
    starts = []
    pipeline.run = lambda denoise, z, *rest: starts.append(z) or z
    pipeline(PROMPT, seed=3)
    pipeline(PROMPT, seed=3, noise_correlation=0.0)
    shared, own = (torch.corrcoef(z[0].transpose(0, 1).flatten(1))[0, 1] for z in starts)
    assert shared > 0.5 > 0.3 > own
    with pytest.raises(UserError, match="leave it out"):
        system.own_settings({"noise_correlation": 0.5})


def test_interpolation_windows(picture_model):
    system = VideoLDM({"image": str(picture_model)}, {"task": "interpolation", "strides": [3, 1]}, TEXT)
    from muybridge.learning.contract import TrainingBatch

    video = torch.arange(16.0).reshape(1, 1, 16, 1, 1).expand(32, 4, 16, 8, 8)
    batch = system._windows(TrainingBatch(video, None, 0, range(32), 32, 1, 0))
    first, regime = batch.video[:, 0, :, 0, 0], batch.scalars["regime"]
    steps = first.diff(dim=1)
    assert batch.video.shape[2] == 5 and set(regime.tolist()) == {0.0, 1.0}
    assert all((steps[i] == (3 if regime[i] == 0 else 1)).all() for i in range(32))
    assert system._mask(batch)[0, 0, :, 0, 0].tolist() == [1, 0, 0, 0, 1]
    with pytest.raises(UserError, match="needs 13 frames"):
        system._windows(TrainingBatch(video[:, :, :8], None, 0, range(32), 32, 1, 0))


def test_context_guidance(picture_model):
    system = VideoLDM({"image": str(picture_model)}, {"task": "prediction"}, TEXT)
    network = system.build()
    randomise(network.temporal)
    pipeline = system.pipeline(network.eval(), {**SAMPLING, "num_frames": 4, "guidance_scale": 2.0})
    mask = torch.zeros(1, 1, 4, 1, 1)
    mask[:, :, 0] = 1
    given = {"known": torch.randn(1, 4, 4, 8, 8), "known_mask": mask}
    told = pipeline(PROMPT, seed=1, given=given).samples
    bare = pipeline(PROMPT, seed=1).samples
    assert not torch.allclose(told, bare, atol=1e-4)
    assert torch.allclose(pipeline(PROMPT, seed=1, given=given, context_scale=0.0).samples, bare, atol=1e-4)
    assert not torch.allclose(pipeline(PROMPT, seed=1, given=given, context_scale=2.0).samples, told, atol=1e-4)
    with pytest.raises(UserError, match="context_scale"):
        pipeline(PROMPT, given=given, context_scale=-1.0)
    clips = VideoLDM({"image": str(picture_model)}, {"task": "clip"}, TEXT)
    with pytest.raises(UserError, match="no known frames"):
        clips.pipeline(clips.build().eval(), SAMPLING)(PROMPT, context_scale=2.0)


def test_errors(tmp_path, picture_model, latent_space):
    with pytest.raises(UserError, match="autoencoder"):
        ImageLDM(UNET, {}, TEXT)
    with pytest.raises(UserError, match="caption"):
        ImageLDM({"autoencoder": str(latent_space)}, {}, None)
    with pytest.raises(UserError, match="rescale_betas_zero_snr"):
        ImageLDM({"autoencoder": str(latent_space)}, {"scheduler": {"rescale_betas_zerosnr": True}}, TEXT)
    with pytest.raises(UserError, match="interpolation"):
        VideoLDM({"image": str(picture_model)}, {"task": "interpolate"}, TEXT)
    with pytest.raises(UserError, match="unknown model"):
        VideoLDM({"image": str(tmp_path / "nothing")}, {"task": "prediction"}, TEXT).build()
    pipeline = load_pipeline(str(picture_model))
    with pytest.raises(UserError, match="multiples of 2"):
        pipeline(PROMPT, height=15)
    (picture_model / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"cut")
    with pytest.raises(UserError, match="damaged"):
        load_pipeline(str(picture_model))
    (picture_model / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    (picture_model / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(UserError, match="pickled"):
        load_pipeline(str(picture_model))
    index = json.loads((picture_model / "model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusionPipeline"


def test_latents_tell_rate_and_motion(tmp_path, latent_space):
    recipe = recipe_of("picture", "image_ldm", {"autoencoder": str(latent_space), **UNET})
    trainer = Trainer(replace(recipe, training=replace(recipe.training, steps=1)), tmp_path / "run")
    trainer.prepare()
    batch = trainer.batches(0, range(4))
    assert batch.video.shape == (4, 4, 8, 8, 8) and set(batch.scalars) == {"fps", "motion_bucket"}
    buckets = trainer.batches.latents.motion_bucket
    assert float(buckets.min()) == 0 and float(buckets.max()) == 255
    motions = [np.abs(np.diff(trainer.batches.source.clip(i).frames.astype(int), axis=0)).mean() for i in range(8)]
    assert np.argsort(motions).tolist() == buckets.argsort().tolist()


def context_model(picture_model, task):
    system = VideoLDM({"image": str(picture_model)}, {"task": task}, TEXT)
    network = system.build()
    randomise(network.temporal)
    return system.pipeline(network.eval(), {**SAMPLING, "num_frames": 5, "guidance_scale": 1.0})


def test_long_videos_keep_what_is_known(picture_model):
    pipeline = context_model(picture_model, "prediction")
    long = predict_latents(pipeline, PROMPT, 12, seed=3)
    assert long.shape == (1, 4, 12, 8, 8)
    # blocks of 5, then 3 new frames each; more frames never change the earlier ones
    assert torch.equal(predict_latents(pipeline, PROMPT, 9, seed=3), long[:, :, :9])
    start = torch.randn(1, 4, 3, 8, 8)
    continued = predict_latents(pipeline, PROMPT, 7, seed=3, start=start)
    assert torch.equal(continued[:, :, :3], start)
    with pytest.raises(UserError, match=r"1\.\.4"):
        predict_latents(pipeline, PROMPT, 12, context=5)


@pytest.mark.slow
def test_interpolation_joins_on_the_given_frames(picture_model):
    pipeline = context_model(picture_model, "interpolation")
    keys = torch.randn(1, 4, 8, 8, 8)
    between = interpolate_latents(pipeline, keys, PROMPT, seed=2)
    assert between.shape[2] == 29 and torch.equal(between[:, :, ::4], keys)
    assert torch.allclose(interpolate_latents(pipeline, keys, PROMPT, seed=2, batch_size=1), between, atol=1e-4)
    # a gap depends on its own ends alone, and the flag changes what is made
    part = interpolate_latents(pipeline, keys[:, :, :3], PROMPT, seed=2)
    assert torch.allclose(part, between[:, :, :9], atol=1e-4)
    assert not torch.allclose(interpolate_latents(pipeline, keys, PROMPT, seed=2, regime=1), between, atol=1e-3)
    for changed, gap in ((0, slice(1, 4)), (7, slice(25, 28))):  # each end is seen
        others = keys.clone()
        others[:, :, changed] += 2
        moved = interpolate_latents(pipeline, others, PROMPT, seed=2)
        assert not torch.allclose(moved[:, :, gap], between[:, :, gap], atol=1e-3)
    assert interpolate_latents(pipeline, between, PROMPT, regime=1).shape[2] == 113
    with pytest.raises(UserError, match="at least 2"):
        interpolate_latents(pipeline, keys[:, :, :1], PROMPT)
    with pytest.raises(UserError, match="no known frames"):
        interpolate_latents(load_pipeline(str(picture_model)), keys, PROMPT)


def test_extension_works_in_a_latent_space(picture_model):
    from muybridge.pipelines.continuation import extend_video

    pipeline = context_model(picture_model, "clip")
    frames = np.random.default_rng(0).integers(0, 255, (3, 16, 16, 3), dtype=np.uint8)
    longer = extend_video(pipeline, frames, PROMPT, 4, seed=1, num_inference_steps=2)
    assert longer.shape == (7, 16, 16, 3) and np.array_equal(longer[:3], frames)


def test_a_whole_diffusers_folder(picture_model, tmp_path):
    from muybridge.diffusion.noise import Noise
    from muybridge.library.export import export_diffusers

    folder = export_diffusers(str(picture_model), tmp_path / "whole")
    theirs = StableDiffusionPipeline.from_pretrained(str(folder), local_files_only=True)
    theirs.set_progress_bar_config(disable=True)
    latents = Noise([5])((4, 1, 8, 8), "start")[:, :, 0]
    expected = theirs(PROMPT, latents=latents, num_inference_steps=4, guidance_scale=3.0, output_type="pt").images
    got = load_pipeline(str(folder))(PROMPT, seed=5, guidance_scale=3.0).samples[:, :, 0]
    assert torch.allclose(got.clamp(-1, 1) / 2 + 0.5, expected, atol=1e-4)
    with pytest.raises(UserError, match="already"):
        export_diffusers(str(picture_model), tmp_path / "whole")
    with pytest.raises(
        UserError, match="a TextToVideoPipeline; diffusers has a layout for image models and InflatedPipeline"
    ):
        export_diffusers("world-vdm", tmp_path / "other")


@pytest.mark.slow
def test_temporal_layers_behind_another_picture_model(picture_model, tmp_path, latent_space):
    """The swap: another picture model's weights, the same temporal layers; written into recipes, replayed, and covered
    by hashes."""
    from muybridge.library.catalogue import model_hash
    from muybridge.making.base import Run
    from muybridge.making.from_words import Generate
    from muybridge.making.replay import replay

    system = VideoLDM({"image": str(picture_model)}, {}, TEXT)
    network = system.build()
    randomise(network.temporal, 0.05)
    sampling = {**SAMPLING, "num_frames": 3}
    system.save(network, tmp_path / "video", sampling)
    other = ImageLDM({"autoencoder": str(latent_space), **UNET}, {}, TEXT)
    torch.manual_seed(9)
    other.save(randomise(other.build(), 0.06), tmp_path / "other", SAMPLING)
    own, swapped = (
        load_pipeline(str(tmp_path / "video")),
        load_pipeline(str(tmp_path / "video"), picture=str(tmp_path / "other")),
    )
    there = load_pipeline(str(tmp_path / "other")).network.state_dict()
    assert all(torch.equal(swapped.network.image.state_dict()[n], v) for n, v in there.items())
    temporal = own.network.temporal.state_dict()
    assert all(torch.equal(swapped.network.temporal.state_dict()[n], v) for n, v in temporal.items())
    assert not np.array_equal(own(PROMPT).frames, swapped(PROMPT).frames)
    made = Generate(prompt=PROMPT).make(Run(swapped, str(tmp_path / "video"), 4))
    assert made.record["picture"] == str(tmp_path / "other")
    assert np.array_equal(replay(made.record, None, device="cpu").frames, made.frames)
    before = model_hash(tmp_path / "video")
    other.save(randomise(other.build(), 0.07), tmp_path / "other", SAMPLING)
    with pytest.raises(UserError, match="not the picture model"):
        replay(made.record, None)
    ImageLDM({"autoencoder": str(latent_space), **UNET}, {}, TEXT).save(other.build(), picture_model, SAMPLING)
    assert model_hash(tmp_path / "video") != before  # the picture model it names has changed
    with pytest.raises(UserError, match="takes another|take another"):
        load_pipeline(str(picture_model), picture=str(tmp_path / "other"))
