"""A student of every kind of model: what it learns, and that it learns it from the right places (I11, F7)."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from muybridge.diffusion.prediction import to_x
from muybridge.diffusion.process import diffuse
from muybridge.diffusion.samplers import ddim_step
from muybridge.documents import read_yaml
from muybridge.errors import UserError
from muybridge.learning.contract import TrainingBatch
from muybridge.learning.distillation import Distillation, saved_network
from muybridge.learning.draws import Draws
from muybridge.models.guided import takes_guidance, with_guidance
from muybridge.models.text.encoder import TextEncoder
from muybridge.nn.text_conditioning import TextCondition
from muybridge.opening.sampling import load_pipeline
from muybridge.training.distillation_plan import DistillationPlan, plan_of_file
from muybridge.training.distilling import DistillationRun, recipe_of
from muybridge.training.recipe import Recipe, TrainingConfig, make_system
from tests.conftest import TINY_MODEL, randomise
from tests.tiny_models import PROMPT, SAMPLING, TEXT, UNET

REPOSITORY = Path(__file__).parents[2]
KINDS = ["vdm", "image_ldm", "video_ldm", "imagen_video"]
STAGE = {"kind": "spatial", "factor": 2, "num_frames": 4, "height": 16, "width": 16, "fps": 8}


@pytest.fixture
def recipes(picture_model, latent_space):
    """A recipe of each system, of a few steps."""
    world = {"source": "world", "height": 16, "width": 16, "num_frames": 4, "num_clips": 8}
    training = TrainingConfig(
        steps=2, batch_size=2, warmup_steps=1, checkpoint_every=1, validate_every=2, validation_clips=2,
        sample_every=0, sample_prompts=(PROMPT,), workers=0,
    )  # fmt: skip
    text = replace(TEXT, max_length=8)

    def made(name, model, data=None, **diffusion):
        shape = {"num_frames": 4, "height": 16, "width": 16, "num_inference_steps": 8, "guidance_scale": 3.0}
        rest = {
            "data": world | (data or {}),
            "training": training,
            "sampling": SAMPLING | shape,
            "diffusion": diffusion,
        }
        return Recipe(name=name, system=name, model=model, text=text, **rest)

    return {
        "vdm": made("vdm", dict(TINY_MODEL)),
        "image_ldm": made("image_ldm", {"autoencoder": str(latent_space), **UNET}, {"num_frames": 1}),
        "video_ldm": made("video_ldm", {"image": str(picture_model)}),
        "imagen_video": made("imagen_video", dict(TINY_MODEL), stage=STAGE),
    }


@pytest.fixture
def teacher_of(recipes, tmp_path):
    """A saved model of a kind, with perturbed weights."""

    def made(kind):
        recipe = recipes[kind]
        system = make_system(recipe)
        shape = {"num_frames": 1} if kind == "image_ldm" else {}
        network = randomise(system.build(), 0.05)
        system.save(network, tmp_path / kind, {**recipe.sampling, **shape})
        return str(tmp_path / kind), recipe

    return made


def batch_of(system, seed=0):
    encoder = TextEncoder(system.text)
    frames = 1 if system.name == "image_ldm" else 4
    shape = (3, 3, frames, 16, 16) if system.space is None else (3, 4, frames, 8, 8)
    video = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.5
    text = encoder([PROMPT, "a blue star", "a ring"])
    text = TextCondition(text.pooled[:, None], text.tokens[:, None], text.mask[:, None])
    scalars = {"fps": torch.full((3,), 8.0)}
    null = encoder([""], allow_empty=True)
    return TrainingBatch(video, text, 0, range(3), 3, 1, seed, null_text=null, scalars=scalars)


def told(pipeline, system, batch):
    """What the teacher's own pipeline tells its network of a batch: with its captions, and without."""
    given = system.inner.network_told
    plain = torch.zeros(3, dtype=torch.bool) if system.space is not None else torch.zeros(3, 1, dtype=torch.bool)
    return (given(pipeline.network, batch, plain), given(pipeline.network, batch, ~plain))


@pytest.mark.parametrize("kind", KINDS)
def test_i11_a_student_of_guidance_starts_as_the_teacher_told_its_words(kind, teacher_of):
    name, recipe = teacher_of(kind)
    recipe = replace(recipe, diffusion={**recipe.diffusion, "null_probability": 0.0})
    system = make_system(replace(recipe, distillation={"teacher": name, "guidance": [0.5, 4.0], "weighting": "snr+1"}))
    assert isinstance(system, Distillation)
    batch, student = batch_of(system), system.build()
    found = system.losses(student, batch)

    draws = Draws(batch, "distillation")
    times, eps = draws.times(), draws.normal(batch.video.shape[1:])
    system.inner.dropped(batch, draws)
    scale = 0.5 + 3.5 * draws.shares()
    lam = system.inner.level(times, batch.video)
    z = diffuse(batch.video, eps, lam)
    with_words, without = told(load_pipeline(name), system, batch)
    difference = with_words(z, lam) - without(z, lam)
    assert float(difference.abs().max()) > 1e-3  # else nothing is shown
    expected = (scale - 1) ** 2 * difference.square().flatten(1).mean(1)
    assert torch.allclose(found.error, expected, rtol=2e-3, atol=1e-7)
    assert torch.equal(found.weighted, found.error)  # a v network, the v loss


@pytest.mark.parametrize("steps", [0, 4])
def test_a_student_is_told_the_scale_of_its_target(steps, teacher_of, tmp_path):
    """One that has learned to listen: its projection is not zero any more."""
    name, recipe = teacher_of("vdm")
    if steps:  # of a teacher that is told, too
        first = make_system(replace(recipe, distillation={"teacher": name}))
        first.save(randomise(first.build(), 0.05), tmp_path / "told", recipe.sampling)
        name = str(tmp_path / "told")
    system = make_system(replace(recipe, distillation={"teacher": name, "steps": steps, "guidance": [2.0, 6.0]}))
    batch, student = batch_of(system), randomise(system.build(), 0.05)
    seen = []
    original = system.inner.network_told

    def watched(model, given, dropped, guidance=None):
        seen.append((model is student, guidance))
        return original(model, given, dropped, guidance)

    system.inner.network_told = watched
    found = system.losses(student, batch)
    draws = Draws(batch, "distillation")
    draws.times()
    draws.normal(batch.video.shape[1:])
    system.inner.dropped(batch, draws)
    scale = 2.0 + 4.0 * draws.shares()
    told = [guidance for is_student, guidance in seen if is_student or steps]
    assert len(told) == (2 if steps else 1) and all(torch.equal(guidance, scale) for guidance in told)
    assert bool(torch.isfinite(found.weighted).all())


@pytest.mark.parametrize("kind", KINDS)
def test_f7_a_step_towards_the_target_is_two_of_the_teacher(kind, teacher_of):
    name, recipe = teacher_of(kind)
    system = make_system(replace(recipe, distillation={"teacher": name, "steps": 4}))
    batch = batch_of(system)
    seen = {}

    def network(z, lam):
        seen.update(z=z, lam=lam)
        return torch.zeros_like(z)

    inner, teacher = system.inner, system.teacher
    original = inner.network_told
    inner.network_told = lambda model, *rest: network if model is None else original(model, *rest)
    found = system.losses(None, batch)
    z, lam = seen["z"], seen["lam"]
    pipeline = load_pipeline(name)
    grid, fine = pipeline.levels(4), pipeline.levels(8)
    assert torch.equal(inner.grid(4), grid)
    draws = Draws(batch, "distillation")
    at = (draws.times() * 4).long()
    assert torch.equal(lam, grid[at])
    assert 3 in at and min(at) < 3  # the last interval, which ends on x̂, and another
    draws.normal(batch.video.shape[1:])
    with_words = original(teacher, batch, inner.dropped(batch, draws))
    kindly = inner.prediction_type
    first = to_x(with_words(z, lam), z, lam, kindly)
    middle = ddim_step(z, first, lam, fine[2 * at + 1])
    second = to_x(with_words(middle, fine[2 * at + 1]), middle, fine[2 * at + 1], kindly)
    aim = ddim_step(middle, second, fine[2 * at + 1], grid[at + 1])
    with torch.no_grad():
        _, _, target = system._of_two_steps(batch, batch.video, *_drawn(system, batch))
    reached = ddim_step(z, to_x(target, z, lam, kindly), lam, grid[at + 1])
    assert torch.allclose(reached, aim, atol=2e-4)
    assert torch.allclose(found.error, target.square().flatten(1).mean(1), rtol=1e-4)


def _drawn(system, batch):
    draws = Draws(batch, "distillation")
    times, eps = draws.times(), draws.normal(batch.video.shape[1:])
    return eps, times, system.inner.dropped(batch, draws), None


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_told_guidance_is_the_same_until_it_learns(kind, recipes):
    system = make_system(recipes[kind])
    network = randomise(system.build(), 0.05)
    other = with_guidance(network)
    assert takes_guidance(other) and not takes_guidance(network)
    batch = batch_of(system)
    dropped = system.dropped(batch, Draws(batch))
    z, lam = batch.video, torch.tensor([-2.0, 0.0, 3.0])
    plain = system.network_told(network, batch, dropped)(z, lam)
    for scale in (1.0, 5.0):
        here = system.network_told(other, batch, dropped, torch.full((3,), scale))(z, lam)
        assert torch.allclose(here, plain, atol=1e-6)


PLAN = DistillationPlan(
    steps=2, first_steps=8, guidance_training=2, halving_training=2, ema=0.0, learning_rate=1e-3,
    halving_learning_rate=5e-4,
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_is_distilled_and_its_student_takes_one_call_a_step(kind, teacher_of, tmp_path):
    name, recipe = teacher_of(kind)
    (tmp_path / "own.yaml").write_text(json.dumps(recipe.as_dict()))  # JSON is YAML
    plan = replace(PLAN, recipe=str(tmp_path / "own.yaml"))
    made = DistillationRun(name, plan, tmp_path / "out").run()
    assert made == tmp_path / "out" / "steps-2" / "model"
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "cache", "guidance", "ladder.json", "ladder.png", "steps-2", "steps-4",
    ]  # fmt: skip
    phases = [
        json.loads((tmp_path / "out" / n / "recipe.json").read_text()) for n in ("guidance", "steps-4", "steps-2")
    ]
    assert [p["training"]["learning_rate"] for p in phases] == [1e-3, 5e-4, 5e-4]
    rungs = json.loads((tmp_path / "out" / "ladder.json").read_text())["rungs"]
    shown = [(r["model"], r["steps"], r["calls"]) for r in rungs]
    assert shown == [
        ("teacher", 8, 16), ("teacher", 4, 8), ("teacher", 2, 4), ("teacher", 1, 2),
        ("guidance", 8, 8), ("steps-4", 4, 4), ("steps-2", 2, 2),
    ]  # fmt: skip
    assert rungs[0]["distance"] == 0 and all(r["distance"] > 0 for r in rungs[1:])
    pipeline = load_pipeline(str(made))
    assert pipeline.takes_guidance and pipeline.settings().num_inference_steps == 2
    calls = []
    pipeline.network.register_forward_pre_hook(lambda *_: calls.append(1))
    if kind == "imagen_video":
        pipeline.raise_video(torch.zeros(1, 3, 4, 8, 8), [PROMPT])
    else:
        pipeline(PROMPT, seed=1)
    assert len(calls) == 2
    opened, trained = pipeline.network.state_dict(), saved_network(make_system(recipe), str(made)).state_dict()
    assert set(opened) == set(trained) and all(torch.equal(opened[n], trained[n].to(opened[n])) for n in opened)
    before = load_pipeline(name).network.state_dict()
    assert any(not torch.equal(before[n], opened[n].to(before[n])) for n in before)
    files = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.safetensors")}
    assert DistillationRun(name, plan, tmp_path / "out").run() == made  # nothing is trained twice
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.safetensors")} == files


KILLED = """
import os, signal, sys
from muybridge.learning.distillation import Distillation
losses, count = Distillation.losses, [0]
def watched(self, model, batch):
    if model.training:
        count[0] += 1
        if count[0] == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
    return losses(self, model, batch)
Distillation.losses = watched
from muybridge.cli.main import app
app(["distill", sys.argv[1], "-o", "out"])
"""


@pytest.mark.slow
def test_a_kill_in_any_phase_changes_nothing(teacher_of, tmp_path):
    """Two phases of two steps: killed in the second step of each."""
    name, recipe = teacher_of("vdm")
    (tmp_path / "own.yaml").write_text(json.dumps(recipe.as_dict()))
    plan = {"teacher": name, "recipe": "own.yaml", "steps": 2, "first_steps": 4}
    plan |= {"guidance_training": 2, "halving_training": 2, "learning_rate": 1e-3, "halving_learning_rate": 1e-3}
    (tmp_path / "plan.yaml").write_text(json.dumps(plan))
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}

    def run(at, folder):
        folder.mkdir(exist_ok=True)
        for file in ("own.yaml", "plan.yaml"):
            (folder / file).write_text((tmp_path / file).read_text())
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", KILLED, "plan.yaml", str(at)],
            cwd=folder, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    code, output = run(0, tmp_path / "whole")
    assert code == 0, output
    for at in (2, 3):  # the second goes on, and dies in the second step of the next phase
        code, output = run(at, tmp_path / "cut")
        assert code == -signal.SIGKILL, output
    assert (tmp_path / "cut" / "out" / "steps-2" / "checkpoints").is_dir()
    code, output = run(0, tmp_path / "cut")
    assert code == 0, output
    for phase in ("guidance", "steps-2"):
        file = f"out/{phase}/model/network/diffusion_pytorch_model.safetensors"
        one, other = (load_file(tmp_path / folder / file) for folder in ("whole", "cut"))
        assert all(torch.equal(one[n], other[n]) for n in one)


def test_a_file_of_settings_has_a_folder_that_no_training_run_has(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from muybridge.cli.main import app
    from muybridge.training import distilling

    given = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(distilling.DistillationRun, "__init__", lambda run, *told: given.append(told))
    monkeypatch.setattr(distilling.DistillationRun, "run", lambda run: "done")
    Path("emoji-video.yaml").write_text("teacher: emoji-video\nsteps: 8\nfirst_steps: 16\n")
    for model in ("emoji-video.yaml", "emoji-video", "runs/emoji-video/model"):
        assert CliRunner().invoke(app, ["distill", model]).exit_code == 0
    assert [told[2] for told in given] == [Path("runs/distilled-emoji-video")] * 3


def test_what_cannot_be_distilled_is_refused(teacher_of, recipes, tmp_path):
    name, recipe = teacher_of("vdm")
    with pytest.raises(UserError, match="power of two"):
        DistillationPlan(steps=8, first_steps=24)
    with pytest.raises(UserError, match="lowest_guidance"):
        DistillationPlan(lowest_guidance=3, highest_guidance=2)
    with pytest.raises(UserError, match="--recipe"):
        recipe_of(name)
    with pytest.raises(UserError, match="system tune_a_video have no students"):
        section = {"image": recipes["video_ldm"].model["image"]}
        make_system(replace(recipe, system="tune_a_video", model=section, distillation={"teacher": name}))
    with pytest.raises(UserError, match="reads no words"):
        plain = {k: v for k, v in recipe.model.items() if not k.startswith("text_")}
        make_system(replace(recipe, text=None, model=plain, distillation={"teacher": name}))
    system = make_system(replace(recipe, distillation={"teacher": name, "weights": "0" * 64}))
    with pytest.raises(UserError, match="other weights than when"):
        system.build()
    system = make_system(
        replace(recipe, diffusion={"schedule": "cosine", "schedule_options": {"kappa": 0.5}},
                distillation={"teacher": name})
    )  # fmt: skip
    with pytest.raises(UserError, match="schedule_options"):
        system.build()
    (tmp_path / "plan.yaml").write_text("steps: 4\n")
    with pytest.raises(UserError, match="teacher"):
        plan_of_file(tmp_path / "plan.yaml")
    (tmp_path / "plan.yaml").write_text("- 4\n")
    with pytest.raises(UserError, match="keys"):
        plan_of_file(tmp_path / "plan.yaml")
    assert read_yaml(REPOSITORY / "recipes" / "world-vdm.yaml")["system"] == "vdm"
