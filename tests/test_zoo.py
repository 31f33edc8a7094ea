"""The bundled models: what their cards say, measured again."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.world_vdm import RECIPE, measure_words, triples_of
from muybridge.data.registry import make_source
from muybridge.files import ZOO
from muybridge.library.catalogue import bundled_models, model_hash, sampling_of
from muybridge.opening.sampling import load_pipeline, load_zero_shot
from muybridge.training.recipe import load_recipe

PARENT = Path(__file__).parent.parent


def test_bundled_models_are_small_and_have_cards():
    models = bundled_models()
    assert {
        "world-vdm",
        "emoji-image",
        "emoji-video",
        "emoji-animate",
        "emoji-between",
        "emoji-restyle",
        "emoji-lumiere",
    } <= set(models)
    parts = {p.parent for p in ZOO.glob("*/config.json")}
    assert {"emoji-edges", "emoji-depth", "depth", "interpolator"} <= {p.name for p in parts}
    for folder in [*models.values(), *parts]:
        card = (folder / "README.md").read_text(encoding="utf-8")
        for section in ("## Data", "## Training", "## Measured"):
            assert section in card
        assert not [p for p in folder.rglob("*") if p.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl")]
        assert len(model_hash(folder)) == 16
    assert sum(p.stat().st_size for p in ZOO.rglob("*.safetensors")) < 120e6


def test_the_bundled_model_is_of_the_committed_recipe():
    recipe = load_recipe(RECIPE)
    config = json.loads((bundled_models()["world-vdm"] / "network" / "config.json").read_text())
    for key, value in recipe.model.items():
        if key != "type":
            assert config[key] == value, key


@pytest.mark.slow
def test_a_fresh_process_opens_it():
    """Nothing but the front door is imported first, as in the README's example."""
    code = "from muybridge import load_pipeline; print(load_pipeline('world-vdm').settings().num_frames)"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, cwd=PARENT)
    assert done.stdout.strip() == "12", done.stderr[-2000:]


@pytest.mark.slow
def test_world_vdm_reaches_its_published_figures():
    """16 prompts against the card's figures on 100: three standard errors below them is a failure."""
    pipeline = load_pipeline("world-vdm")
    published = json.loads((bundled_models()["world-vdm"] / "figures.json").read_text())["seen"]
    seen, _ = triples_of(make_source(load_recipe(RECIPE).data))
    measured, _ = measure_words(pipeline, seen, 16, seed=500)
    for name in ("colour", "shape", "direction", "all"):
        p = published[name]
        allowed = 3 * max(p * (1 - p), 0.02) ** 0.5 / 16**0.5
        assert measured[name] >= p - allowed, (name, measured, published)


def test_diffusers_draws_what_emoji_image_draws(tmp_path):
    """The bundled image model as a whole diffusers folder: the same latents, the same picture."""
    import torch
    from diffusers import StableDiffusionPipeline

    from muybridge.diffusion.noise import Noise
    from muybridge.library.export import export_diffusers

    prompt, steps = "fox, fluent style", 10
    ours = load_pipeline("emoji-image")
    folder = export_diffusers("emoji-image", tmp_path / "whole")
    theirs = StableDiffusionPipeline.from_pretrained(str(folder), local_files_only=True)
    theirs.to(torch.float32).set_progress_bar_config(disable=True)
    start = Noise([7])(ours.sample_shape(ours.settings()), "start")[:, :, 0]
    drawn = theirs(prompt, latents=start, num_inference_steps=steps, guidance_scale=3.0, output_type="pt").images
    picture = ours(prompt, seed=7, num_inference_steps=steps, guidance_scale=3.0).samples[:, :, 0]
    assert torch.allclose(picture.clamp(-1, 1) / 2 + 0.5, drawn, atol=1e-4)
    assert float(picture.std()) > 0.1  # not a blank one


def drawn(prompt="fox, fluent style"):
    """A picture of the image model's, float [1, 3, 64, 64] and uint8 [1, 64, 64, 3]."""
    made = load_pipeline("emoji-image")(prompt, seed=0)
    return made.samples[:, :, 0].clamp(-1, 1), made.frames[0]


@pytest.mark.slow
def test_emoji_animate_keeps_its_picture_and_moves_as_it_is_told():
    """The card's bars on one picture that the model has never seen."""
    from muybridge.evaluation.motion import mean_frame_difference

    picture, _ = drawn()
    pipeline = load_pipeline("emoji-animate")
    motion = []
    for bucket in (10.0, 245.0):
        made = pipeline(picture, seed=0, motion_bucket=bucket, num_inference_steps=12)
        assert (made.samples[:, :, 0].clamp(-1, 1) - picture).abs().mean() / 2 < 0.05
        motion.append(mean_frame_difference(made.frames[0]))
    assert motion[0] < motion[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "words", "scale", "margin"),
    [
        ("edges", "", 1.0, 0.4),
        ("depth", "", 1.0, 0.2),
        ("edges", "red apple, fluent style", 2.0, 0.2),  # words known by heart are outvoted by twice the scale
        ("depth", "red apple, fluent style", 2.0, 0.1),
    ],
)
def test_the_bundled_control_nets_draw_what_they_are_shown(name, words, scale, margin):
    """Outlines and depth of drawn things, at the guidance the nets were made for: pictures under them have them, free
    ones have not."""
    from benchmarks.parts import _likeness
    from muybridge.data.world import WorldConfig, WorldSource
    from muybridge.library.catalogue import find_part
    from muybridge.models.vision.control import Control, open_control_net
    from muybridge.models.vision.structure import control_pictures, estimator_named
    from muybridge.pipelines.zero_shot import View

    config = WorldConfig(num_frames=1, num_clips=6, two_things=0.0, sizes=("large",), backgrounds=("light",))
    source = WorldSource(config)
    pipeline, estimator, folder = (
        load_zero_shot("emoji-image"),
        estimator_named(name),
        find_part(f"emoji-{name}"),
    )
    network, guidance = open_control_net(folder), sampling_of(folder).get("guidance_scale")
    assert guidance == 1.5
    told = {"seed": 0, "num_frames": 1, "guidance_scale": guidance}
    free, found = pipeline(words, **told).frames[0], []
    for i in range(6):
        shown = estimator(source.scene(i)[0].frames())
        if not shown.any():
            continue
        view = View(controls=[Control(network, control_pictures(shown), scale)])
        under = pipeline(words, **told, view=view).frames[0]
        found.append([_likeness(name, shown[0], estimator(f)[0]) for f in (free, under)])
    without, with_it = (sum(row[i] for row in found) / len(found) for i in (0, 1))
    assert len(found) >= 3 and with_it > without + margin, found


@pytest.mark.slow
def test_emoji_restyle_follows_the_depth_it_is_given():
    from muybridge.models.vision.structure import estimator_named
    from muybridge.systems.gen1.pipeline import depth_video

    _, frames = drawn("red apple, fluent style")
    depth = depth_video(estimator_named("depth")(frames.repeat(4, 0)))
    pipeline = load_pipeline("emoji-restyle")
    errors = []
    for level in (0, 7):
        made = pipeline(depth, "robot, fluent style", seed=0, level=level, num_inference_steps=12).frames[0]
        errors.append(float((depth_video(estimator_named("depth")(made)) - depth).abs().mean()))
    assert errors[0] < errors[1]
