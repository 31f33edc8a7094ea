"""Values that cannot be are refused with exit code 2 and a message that says what is allowed, before anything is made
of them: in every section of a recipe and in the options of every command."""

import copy
import itertools
import json
import re

import pytest
import yaml
from typer.testing import CliRunner

from muybridge.cli.main import app
from muybridge.configuration import Settings, setting
from muybridge.documents import DEEPEST
from muybridge.errors import UserError
from tests.conftest import TINY_MODEL

WORLD = {"source": "world", "height": 16, "width": 16, "num_frames": 4, "num_clips": 8}
RECIPE = {"name": "n", "system": "vdm", "model": dict(TINY_MODEL), "data": dict(WORLD)}
NAN, INF = float("nan"), float("inf")

#: section, key, value, and words of the message.
IN_RECIPES = [
    ("training", "steps", 0, "training.steps must be in 1..1000000000, got 0"),
    ("training", "steps", -5, "training.steps must be in 1"),
    ("training", "batch_size", 0, "training.batch_size must be in 1"),
    ("training", "batch_size", 10**9, "training.batch_size must be in 1..1000000"),
    ("training", "accumulation", 0, "training.accumulation must be in 1"),
    ("training", "optimizer", "adam", "did you mean 'adamw'"),
    ("training", "learning_rate", 0, "training.learning_rate must be above 0 and below 1"),
    ("training", "learning_rate", 1.0, "training.learning_rate must be above 0 and below 1"),
    ("training", "betas", [0.9], "training.betas: expected 2 values, got 1"),
    ("training", "betas", [2, 5], "training.betas must be at least 0 and below 1, got 2.0"),
    ("training", "betas", [0.9, NAN], "training.betas must be a finite number"),
    ("training", "weight_decay", -1, "training.weight_decay must be in 0..100"),
    ("training", "eps", INF, "training.eps must be a finite number"),
    ("training", "warmup_steps", -1, "training.warmup_steps must be in 0"),
    ("training", "decay", "cosin", "did you mean 'cosine'"),
    ("training", "clip_norm", -1.0, "training.clip_norm must be at least 0, got -1.0"),
    ("training", "clip_norm", NAN, "training.clip_norm must be a finite number"),
    ("training", "ema", 1.0, "training.ema must be at least 0 and below 1"),
    ("training", "precision", "fp8", "Known: fp32, bf16, fp16"),
    ("training", "checkpoint_every", 0, "training.checkpoint_every must be in 1"),
    ("training", "keep_checkpoints", 0, "training.keep_checkpoints must be in 1"),
    ("training", "log_every", 0, "training.log_every must be in 1"),
    ("training", "validate_every", 0, "training.validate_every must be in 1"),
    ("training", "validate_every", -1, "training.validate_every must be in 1"),
    ("training", "validation_clips", 0, "training.validation_clips must be in 1"),
    ("training", "sample_every", -1, "training.sample_every must be in 0"),
    ("training", "threads", -2, "training.threads must be in 0..1024, got -2"),
    ("training", "threads", 10**8, "training.threads must be in 0..1024"),
    ("training", "workers", -1, "training.workers must be in 0..256"),
    ("model", "in_channels", 4, "model.in_channels: clips have 3 channels, got 4"),
    ("text", "max_length", 0, "text.max_length must be in 1..4096, got 0"),
    ("text", "max_length", -1, "text.max_length must be in 1..4096"),
    ("text", "max_length", 10**8, "text.max_length must be in 1..4096"),
    ("diffusion", "schedule", "cosin", "did you mean 'cosine'"),
    ("diffusion", "schedule_options", {"kappa": 0}, "kappa must be above 0"),
    ("diffusion", "schedule_options", {"kappa": -1}, "kappa must be above 0"),
    ("diffusion", "schedule_options", {"lam_min": 5, "lam_max": -5}, "lam_min 5 must be below lam_max -5"),
    ("diffusion", "schedule_options", {"lam_min": NAN}, "lam_min must be a finite number"),
    ("diffusion", "schedule_options", {"lam_max": 1e9}, "lam_max must be in -80..80"),
    ("diffusion", "null_probability", 1.0, "diffusion.null_probability must be at least 0 and below 1"),
    ("diffusion", "images_per_video", -1, "diffusion.images_per_video must be in 0..64"),
    ("diffusion", "weighting", "snr+2", "weighting: unknown 'snr+2'"),
    ("model", "base_channels", 0, "model.base_channels must be in 1..65536"),
    ("model", "base_channels", 10**8, "model.base_channels must be in 1..65536"),
    ("model", "channel_multipliers", [], "model.channel_multipliers: at least 1"),
    ("model", "prediction_type", "w", "Known: epsilon, sample, v_prediction"),
    ("model", "type", "unet", "did you mean 'unet3d'"),
    ("model", "patch_size", 0, "model.patch_size must be in 1..64"),
    ("sampling", "num_frames", 0, "num_frames must be"),
    ("sampling", "num_inference_steps", 0, "num_inference_steps must be in 1..1000"),
    ("sampling", "fps", NAN, "fps must be a finite number"),
    ("sampling", "guidance_scale", "much", "sampling.guidance_scale: expected float"),
    ("sampling", "sampler", "dimm", "did you mean 'ddim'"),
    ("data", "source", "wolrd", "did you mean 'world'"),
    ("data", "held_out", 1.0, "data.held_out must be at least 0 and below 1, got 1.0"),
    ("data", "held_out", -0.1, "data.held_out must be at least 0 and below 1"),
    ("data", "held_out", NAN, "data.held_out must be a finite number"),
    ("data", "num_frames", 10**9, "data.num_frames must be in 1..100000"),
    ("data", "num_frames", 0, "data.num_frames must be in 1..100000"),
    ("data", "height", 4, "data.height must be in 8..8192"),
    ("data", "height", 8192, None),
    ("data", "num_clips", 10**12, "data.num_clips must be in 1..100000000"),
    ("data", "fps", 0, "data.fps must be above 0"),
    ("data", "fps", NAN, "data.fps must be a finite number"),
    ("data", "seed", -1, "data.seed must be at least 0"),
    ("data", "two_things", 2, "data.two_things must be in 0..1"),
    ("data", "spread", -1, "data.spread must be in 0..1"),
    ("data", "colours", [], "data.colours: at least 1 wanted"),
]
#: `diffusion.scheduler` of a latent system, and words of the message.
TABLES = [
    ({"num_train_timesteps": 0}, "num_train_timesteps must be in 2..100000"),
    ({"num_train_timesteps": 10**12}, "num_train_timesteps must be in 2..100000"),
    ({"beta_start": 5.0}, "beta_start must be above 0 and below 1"),
    ({"beta_start": 0.5}, "beta_start 0.5 must be at most beta_end 0.012"),
    ({"beta_schedule": "foo"}, "Known: linear"),
    ({"prediction_type": "w"}, "Known: epsilon, sample, v_prediction"),
    ({"timestep_spacing": "leading "}, "did you mean 'leading'"),
    ({"steps_offset": -1}, "steps_offset must be in 0..1000"),
    ({"beta_strat": 0.1}, "did you mean 'beta_start'"),
]
#: The whole `data` section, and words of the message.
SOURCES = [
    ({"source": "emoji", "num_frames": 10**9}, "data.num_frames must be in 1..100000"),
    ({"source": "emoji", "background": [255, 255]}, "data.background must be 3 values"),
    ({"source": "emoji", "background": [0, 0, 256]}, "data.background must be in 0..255"),
    ({"source": "folder", "path": ".", "fps": NAN}, "data.fps must be a finite number"),
    ({"source": "folder", "path": ".", "fps": -1}, "data.fps must be in 0..240"),
    ({"source": "folder", "path": ".", "num_frames": 0}, "data.num_frames must be in 1"),
    ({"source": "folder", "path": ".", "max_pieces": -1}, "data.max_pieces must be in 0"),
    ({"source": "folder", "path": ".", "buckets": [[16, 64]]}, "frames, height, width"),
    ({"source": "folder", "path": ".", "buckets": [[16, 64, 0]]}, "data.buckets must be in 1"),
    ({"source": "folder", "path": ".", "height": 8000, "width": 8000, "num_frames": 1000}, "at most 4 GiB"),
    ({"source": "one_video", "path": "x.mp4", "caption": "x", "stride": 0}, "data.stride must be in 1"),
    ({"source": "one_video", "path": "x.mp4", "caption": "x", "first": -1}, "data.first must be in 0"),
    ({"source": "composites", "size": 8}, "data.size must be in 16..8192"),
    ({"source": "composites", "num_clips": 0}, "data.num_clips must be in 1"),
    ({"source": "camera", "of": WORLD, "amount": 1.0}, "data.amount must be above 0 and below 1"),
    ({"source": "camera", "of": WORLD, "background": [NAN, 0, 0]}, "data.background"),
    ({"source": "mix", "of": []}, "data.of: a mix needs a list"),
    ({"source": "mix", "of": [{**WORLD, "times": 10**12}]}, "`times` must be a whole number in 1..1000000"),
    ({"source": "mix", "of": [{**WORLD, "times": 0}]}, "`times` must be a whole number"),
    ({"source": "world", "held_out": 0.6, "colours": ["red"], "shapes": ["star"], "motions": ["up"]}, "leaves no"),
]
#: Arguments of a command, and words of the message. RECIPE and FILMS stand for a recipe and a folder of footage.
OPTIONS = [
    ("train RECIPE --steps 0", "steps must be in 1..1000000000, got 0"),
    ("train RECIPE --steps -5", "steps must be in 1..1000000000, got -5"),
    ("data build FILMS --fps nan", "data.fps must be a finite number"),
    ("data build FILMS --fps inf", "data.fps must be a finite number"),
    ("data build FILMS --fps -1", "data.fps must be in 0..240"),
    ("data build FILMS --size 10000000", "size must be in 1..8192"),
    ("data build FILMS --num-frames 0", "num_frames must be in 1..100000"),
    ("data build FILMS --short cut", "data.short: unknown 'cut'"),
    ("data build emoji --kind stils", "did you mean 'stills'"),
    ("data build emoji --size 0", "size must be in 1..8192"),
    ("data show RECIPE --count 0", "count must be in 1..1000"),
    ("data show RECIPE --split test", "split: unknown 'test'"),
    *((f"curate {command} FILMS -o OUT {options}", words)
      for command in ("run", "tune")
      for options, words in (
        ("--workers 0", "workers must be in 1..4096, got 0"),
        ("--workers -3", "workers must be in 1..4096, got -3"),
        ("--duplicates 2", "duplicates must be in 0..1, got 2"),
        ("--duplicates nan", "duplicates must be a finite number"),
        ("--alike -1", "alike must be in 0..1"),
        ("--keep 1.5", "keep must be in 0..1"),
        ("--limit motion=nan", "limits.motion must be a finite number"),
        ("--limit motoin=1", "did you mean 'motion'"),
        ("--limit motion", "expected NAME=NUMBER"),
        ("--drop motion=1", "drop.motion must be at least 0 and below 1"),
        ("--slow-rate 5=2", "a correlation of at most 1"),
        ("--min-seconds 0", "min_seconds must be above 0"),
        ("--min-seconds 5 --max-seconds 4", "min_seconds 5 must be at most max_seconds 4"),
        ("--look-fps 31", "look_fps must be above 0 and at most 30"),
        ("--look-side 16", "look_side must be in 32..4096"),
        ("--stretch-seconds 0", "stretch_seconds must be above 0"),
        ("--detector cascad", "did you mean 'cascade'"),
    )),
    ("curate run FILMS -o OUT --per-shard 0", "per_shard must be in 1..1000000"),
    ("curate run FILMS -o OUT --split atuo", "did you mean 'auto'"),
]  # fmt: skip


def refused(arguments, words):
    """Exit code 2 and one message with these words on one line, without a traceback."""
    result = CliRunner().invoke(app, arguments)
    told = " ".join(result.output.split())
    assert result.exit_code == 2 and isinstance(result.exception, SystemExit), (told, result.exception)
    assert words in told and told.startswith("error: "), told


def written(folder, **sections):
    path = folder / "r.yaml"
    path.write_text(yaml.safe_dump({**copy.deepcopy(RECIPE), **sections}))
    return str(path)


@pytest.mark.parametrize(("section", "key", "value", "words"), IN_RECIPES)
def test_recipes(section, key, value, words, tmp_path):
    values = {**RECIPE.get(section, {}), key: value}
    if words is None:
        values, words = values | {"width": 8192, "num_frames": 100}, "at most 4 GiB"
    recipe = written(tmp_path, **{section: values})
    refused(["train", recipe, "-o", str(tmp_path / "run")], words)
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize(("table", "words"), TABLES)
def test_noise_tables(table, words, tmp_path):
    for system, model in (("image_ldm", {"autoencoder": "emoji-image/vae"}), ("gen1", {"image": "emoji-image"})):
        text = None if system == "gen1" else {"max_length": 8}
        recipe = written(tmp_path, system=system, model=model, text=text, diffusion={"scheduler": table})
        refused(["train", recipe, "-o", str(tmp_path / "run")], words)


def test_captions_that_no_network_reads_are_refused(tmp_path):
    recipe = {**RECIPE, "model": {**TINY_MODEL, "text_pooled_dim": 0, "text_token_dim": 0}, "text": {"max_length": 8}}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe))
    result = CliRunner().invoke(app, ["plan", str(tmp_path / "r.yaml")])
    assert result.exit_code == 2 and "the network reads no captions" in " ".join(result.output.split())


def test_captions_of_another_width_are_refused_before_a_step(tmp_path):
    model = {**TINY_MODEL, "text_pooled_dim": 12}
    training = {"steps": 1, "batch_size": 1, "validation_clips": 1, "sample_every": 0}
    recipe = written(tmp_path, model=model, text={"max_length": 8}, training=training)
    result = CliRunner().invoke(app, ["train", recipe, "-o", str(tmp_path / "run")])
    told = " ".join(result.output.split())
    assert result.exit_code == 2 and "model.text_pooled_dim is 12, but captions are embedded with 384 values" in told


@pytest.mark.parametrize(("data", "words"), SOURCES)
def test_sources(data, words, tmp_path):
    refused(["data", "show", written(tmp_path, data=data), "-o", str(tmp_path / "s.png")], words)


@pytest.mark.parametrize(("line", "words"), OPTIONS)
def test_options(line, words, tmp_path):
    (tmp_path / "films").mkdir()
    places = {"RECIPE": written(tmp_path), "FILMS": str(tmp_path / "films"), "OUT": str(tmp_path / "out")}
    refused([places.get(part, part) for part in line.split()], words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model: " + "[" * 300 + "]" * 300, f"nested more than {DEEPEST} deep"),
        ("model: " + "{a: " * 300 + "1" + "}" * 300, f"nested more than {DEEPEST} deep"),
        ("model: " + "[" * 20000 + "]" * 20000, f"nested more than {DEEPEST} deep"),
        (
            "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
            + "".join(f"{n}: &{n} [{', '.join([f'*{b}'] * 10)}]\n" for b, n in itertools.pairwise("abcdefghij")),
            "more than 1,000,000 entries",
        ),
        ("seed: " + "9" * 5000, "not a readable YAML recipe"),
        ("seed: 0x" + "f" * 5000, "seed: a number of thousands of digits is too large"),
        ("seed: " + "9" * 400, "too large a number; whole numbers fit into 64 bits"),
        ("model: {type: unet3d, dropout: .nan}", "model.dropout must be a finite number"),
        ("model: {type: unet3d, dropout: .inf}", "model.dropout must be a finite number"),
        ("training: {learning_rate: " + "9" * 400 + "}", "training.learning_rate: 999"),
    ],
)
def test_files_that_no_one_writes(text, words, tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(
        f"name: n\nsystem: vdm\nmodel: {{}}\ndata: {{}}\n{text}".replace("model: {}\n", "", "model:" in text)
    )
    for command in ("train", "plan"):
        refused([command, str(path)], words)


def test_a_runs_own_recipe_is_read_as_strictly(tmp_path):
    (tmp_path / "run").mkdir()
    training = {"steps": 0}
    (tmp_path / "run" / "recipe.json").write_text(json.dumps({**RECIPE, "training": training}))
    refused(["export", str(tmp_path / "run"), str(tmp_path / "m")], "training.steps must be in 1")


def test_every_setting_of_a_recipe_has_a_help_line_and_numbers_a_range():
    """What a new field forgets."""
    import dataclasses
    import typing

    from muybridge.configuration import setting_of
    from muybridge.data.registry import source_module, source_names
    from muybridge.training.recipe import Recipe, TextConfig, TrainingConfig

    endless = {"seed", "limits"}  # any number will do
    from muybridge.curation import settings as curation

    classes = [Recipe, TextConfig, TrainingConfig, *(source_module(n).Config for n in source_names())]
    classes += [
        c for c in vars(curation).values() if isinstance(c, type) and issubclass(c, Settings) and c is not Settings
    ]
    for cls in classes:
        hints = typing.get_type_hints(cls)
        for known in dataclasses.fields(cls):
            about = setting_of(known)
            assert about.help, (cls, known.name)
            numbers = re.search(r"\b(int|float)\b", str(hints[known.name]))
            if numbers and known.name not in endless:
                assert about.range_text(), (cls, known.name)


def test_what_a_setting_checks():
    about = setting(0, "x", low=0, high=1).metadata["setting"]
    assert about.check(0.5, "x") is None and about.check({"a": 1, "b": (0, 1)}, "x") is None
    for wrong in (2, [0, 2], {"a": -1}, NAN, 10**5000):
        with pytest.raises(UserError, match="x.* must be"):
            about.check(wrong, "x")
