"""A short recipe of every system, for tests of devices and processes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from muybridge.models.text.encoder import TextConfig
from muybridge.training.recipe import Recipe, TrainingConfig
from tests.conftest import TINY_MODEL, TINY_VAE
from tests.tiny_models import SAMPLING, UNET

TEXT = TextConfig(max_length=12)
WORLD = {"source": "world", "height": 16, "width": 16, "num_clips": 8, "backgrounds": ["dark"], "pans": ["none"]}
TRANSFORMER = {
    "type": "transformer", "in_channels": 3, "out_channels": 3, "layers": 2, "width": 48, "heads": 4,
    "patch_size": [1, 2, 2], "text_pooled_dim": 384, "text_token_dim": 384,
}  # fmt: skip

LARGER = {
    "sample_size": 32, "block_out_channels": [8, 16], "layers_per_block": 1, "norm_num_groups": 4,
    "down_block_types": ["DownBlock2D", "DownBlock2D"], "up_block_types": ["UpBlock2D", "UpBlock2D"],
}  # fmt: skip
SORA = {"layers": 2, "width": 48, "heads": 4, "patch_size": [1, 2, 2], "text_pooled_dim": 384, "text_token_dim": 384}
#: name -> system, frames of a clip, words, the sections `model`, `diffusion`, `objective`. MODELS stands for the folder
#: of tiny models.
SYSTEMS: dict[str, tuple[str, int, bool, dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "vdm_joint": ("vdm", 4, True, TINY_MODEL, {"images_per_video": 2}, {}),
    "vdm_transformer": ("vdm", 4, True, TRANSFORMER, {}, {}),
    "vdm_transformer_joint": ("vdm", 4, True, TRANSFORMER, {"images_per_video": 1}, {}),
    "image_ldm": ("image_ldm", 1, True, {"autoencoder": "MODELS/vae", **UNET}, {}, {}),
    "autoencoder": ("autoencoder", 1, False, TINY_VAE, {}, {"critic_start": 0}),
    "temporal_decoder": ("autoencoder", 4, False, {"temporal_decoder_of": "MODELS/vae"}, {}, {"motion": 1.0,
    "critic_frames": 3, "critic_start": 0}),
    "causal_autoencoder": ("autoencoder", 5, False, {**TINY_VAE, "time_compression": 2}, {}, {"motion": 1.0,
    "critic_frames": 3, "critic_start": 0}),
    "video_ldm_clip": ("video_ldm", 8, True, {"image": "MODELS/picture"}, {"task": "clip"}, {}),
    "video_ldm_prediction": ("video_ldm", 8, True, {"image": "MODELS/picture"}, {"task": "prediction"}, {}),
    "video_ldm_interpolation": ("video_ldm", 8, True, {"image": "MODELS/picture"}, {"task": "interpolation",
    "strides": [1]}, {}),
    "sora": ("sora", 5, True, {"autoencoder": "MODELS/causal", **SORA}, {"masks": 0.5, "token_budget": 64}, {}),
    "sora_v": ("sora", 4, True, {"autoencoder": "MODELS/vae", **SORA, "text_mode": "joint", "patch_size": [1, 2, 2]},
    {"prediction": "v_prediction"}, {}),
    "stable_video": ("stable_video", 8, False, {"image": "MODELS/picture", "scorer": "MODELS/scorer"}, {}, {}),
    "stable_video_words": ("stable_video", 4, True, {"image": "MODELS/picture"}, {"task": "words"}, {}),
    "stable_video_between": ("stable_video", 5, False, {"image": "MODELS/picture", "scorer": "MODELS/scorer"},
    {"task": "interpolation"}, {}),
    "camera_lora": ("camera_lora", 8, False, {"base": "MODELS/alive", "rank": 2, "layers": "all"}, {}, {}),
    "tune_a_video": ("tune_a_video", 4, True, {"image": "MODELS/picture"}, {}, {}),
    "gen1": ("gen1", 4, False, {"image": "MODELS/picture", "scorer": "MODELS/scorer"}, {}, {}),
    "make_a_video_image": ("make_a_video", 2, False, {"image": "MODELS/picture", "scorer": "MODELS/scorer"},
    {"stage": "image"}, {}),
    "make_a_video_video": ("make_a_video", 5, False, {"decoder": "MODELS/decoder-image"}, {"stage": "video",
    "num_frames": 3}, {}),
    "make_a_video_between": ("make_a_video", 5, False, {"decoder": "MODELS/decoder-video"}, {"stage": "between",
    "skips": [2]}, {}),
    "make_a_video_sr": ("make_a_video_sr", 2, False, LARGER, {}, {}),
    "lumiere": ("lumiere", 4, True, {"image": "MODELS/picture", "temporal": {"levels": 1, "layers": 1}}, {}, {}),
    "lumiere_conditional": ("lumiere", 4, True, {"image": "MODELS/picture", "temporal": {"levels": 1, "layers": 1}},
    {"tasks": {"image": 1.0, "inpaint": 1.0}}, {}),
    "lumiere_sr": ("lumiere_sr", 2, False, LARGER, {"crop": 16}, {}),
    "video_ldm_sr": ("video_ldm_sr", 2, False, {"autoencoder": "MODELS/vae", **LARGER},
    {"factor": 4, "window": 2, "overlap": 1}, {}),
    "control_net": ("control_net", 1, True, {"image": "MODELS/picture", "structure": "edges"}, {}, {}),
    "causal_prior": ("causal_prior", 1, True, {"scorer": "MODELS/scorer", "width": 8, "layers": 1, "heads": 2,
    "attention_head_dim": 4}, {}, {}),
    "content_prior": ("content_prior", 1, True, {"scorer": "MODELS/scorer", "width": 8, "hidden": 16}, {}, {}),
    "image_projection": ("image_projection", 1, True, {"scorer": "MODELS/scorer", "width": 8, "hidden": 16,
    "tokens": 3}, {}, {}),
    "image_text": ("image_text", 1, True, {"hidden": 16, "width": 8}, {}, {}),
    "depth": ("depth", 2, False, {"channels": [8, 8, 8, 8, 8]}, {}, {}),
    "interpolator": ("interpolator", 3, False, {"width": 16}, {}, {}),
    "upscaler": ("upscaler", 4, True, {"width": 16, "layers": 2, "temporal_every": 1, "autoencoder": "MODELS/vae",
    "made_for": ["tiny"]}, {}, {"crop": 8, "frames": 3, "critic_start": 0, "critic_width": 4}),
}  # fmt: skip
#: Those whose clips are of 32 x 32 pixels, not of 16 x 16.
ENLARGED = ("autoencoder", "upscaler", "make_a_video_sr", "lumiere_sr", "video_ldm_sr")
#: Those that have nothing to show while they train.
BLIND = ("causal_prior", "content_prior", "image_projection", "image_text")


def recipe_of(name: str, models: Path, **training: Any) -> Recipe:
    """The recipe of one of SYSTEMS, of two steps unless told otherwise."""
    system, frames, words, model, diffusion, objective = SYSTEMS[name]
    settled = {k: v.replace("MODELS", str(models)) if isinstance(v, str) else v for k, v in model.items()}
    settings = dict(
        steps=2, batch_size=4, learning_rate=1e-3, warmup_steps=1, checkpoint_every=1, log_every=1, validate_every=2,
        validation_clips=4, sample_every=0 if name in BLIND else 2, ema=0.5, threads=1,
    )  # fmt: skip
    return Recipe(
        name=name,
        system=system,
        seed=3,
        model=settled,
        diffusion=diffusion,
        objective=objective,
        text=TEXT if words else None,
        data={**WORLD, "num_frames": frames, **({"height": 32, "width": 32} if system in ENLARGED else {})},
        training=replace(TrainingConfig(), **{**settings, **training}),
        sampling={**SAMPLING, "num_frames": frames, "num_inference_steps": 2},
    )
