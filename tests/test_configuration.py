"""Recipes are read strictly."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from muybridge.configuration import from_mapping
from muybridge.errors import UserError
from muybridge.opening.training import build_system
from muybridge.training.recipe import TrainingConfig, load_recipe, make_system
from tests.conftest import TINY_MODEL, write_recipe


@dataclass(frozen=True)
class Inner:
    rate: float = 0.1


@dataclass(frozen=True)
class Outer:
    name: str
    sizes: tuple[int, ...] = (1,)
    inner: Inner = Inner()
    maybe: Inner | None = None


def test_builds_nested_values_and_reads_yaml_floats():
    out = from_mapping(Outer, {"name": "x", "sizes": [2, 3], "inner": {"rate": "1e-4"}, "maybe": {"rate": 2}}, "top")
    assert out == Outer("x", (2, 3), Inner(1e-4), Inner(2.0))


@pytest.mark.parametrize(
    "values,message",
    [
        ({"name": "x", "siezs": [1]}, "did you mean 'sizes'"),
        ({"name": "x", "inner": {"raet": 1}}, "top.inner: unknown key 'raet'; did you mean 'rate'"),
        ({}, "missing name"),
        ({"name": 3}, "expected str"),
        ({"name": "x", "sizes": 3}, "expected a list"),
        ({"name": "x", "inner": {"rate": "fast"}}, "expected float"),
        ("text", "expected keys and values"),
    ],
)
def test_errors_name_the_place_and_the_nearest_key(values, message):
    with pytest.raises(UserError, match=message):
        from_mapping(Outer, values, "top")


def test_recipe_round_trip(tiny_recipe, tmp_path):
    assert load_recipe(write_recipe(tiny_recipe, tmp_path / "r.yaml")) == tiny_recipe


@pytest.mark.slow
def test_shipped_recipes_load_and_build(tmp_path):
    """A recipe that names the model of a run gets what that run's recipe builds."""
    from dataclasses import replace

    recipes = Path(__file__).parent.parent / "recipes"

    def system_of(path):
        recipe = load_recipe(path)
        model = {key: made(value) for key, value in recipe.model.items()}
        return make_system(replace(recipe, model=model)), recipe

    def made(value):
        if not (isinstance(value, str) and value.startswith("runs/")):
            return value
        name = value.split("/")[1]
        if not (tmp_path / name).is_dir():
            system, recipe = system_of(recipes / f"{name}.yaml")
            system.save(system.build(), tmp_path / name, recipe.sampling)
        return str(tmp_path / name)

    paths = sorted(recipes.glob("*.yaml"))
    assert paths
    for path in paths:
        system_of(path)[0].build()


def test_shipped_distillations_load():
    from muybridge.library.catalogue import bundled_models
    from muybridge.training.distillation_plan import plan_of_file

    root = Path(__file__).parent.parent
    paths = sorted((root / "recipes" / "distillation").glob("*.yaml"))
    assert paths
    for path in paths:
        teacher, plan = plan_of_file(path)
        assert teacher in bundled_models() and load_recipe(root / plan.recipe)


@pytest.mark.parametrize(
    "text,message",
    [
        ("name: [1", "not a readable YAML"),
        ("name: a/b\nsystem: vdm\nmodel: {}\ndata: {}", "plain name"),
        ("name: a\nsystem: vdm\nmodel: {}\ndata: {}\ntraining: {stepz: 3}", "did you mean 'steps'"),
        (
            "name: a\nsystem: vdm\nmodel: {}\ndata: {}\ntraining: {batch_size: 3, accumulation: 2}",
            "multiple of accumulation",
        ),
        ("name: a\nsystem: vdm\nmodel: {}\ndata: {}\ntraining: {precision: fp8}", "precision"),
    ],
)
def test_bad_recipes(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        load_recipe(path)
    with pytest.raises(UserError, match="no recipe at"):
        load_recipe(tmp_path / "none.yaml")


def test_bad_systems_and_settings():
    with pytest.raises(UserError, match="did you mean 'vdm'"):
        build_system("vmd", TINY_MODEL, {}, {}, None)
    with pytest.raises(UserError, match="did you mean 'unet3d'"):
        build_system("vdm", {"type": "unet3"}, {}, {}, None)
    with pytest.raises(UserError, match="weighting"):
        build_system("vdm", TINY_MODEL, {"weighting": "snr2"}, {}, None)
    with pytest.raises(UserError, match="schedule"):
        build_system("vdm", TINY_MODEL, {"schedule": "cosine", "schedule_options": {"lam_mini": 1}}, {}, None)
    with pytest.raises(UserError, match="learning_rate"):
        TrainingConfig(learning_rate=3)


def test_samples_have_the_size_of_the_data_unless_the_recipe_says_otherwise(tiny_recipe, tmp_path):
    path = write_recipe(replace(tiny_recipe, sampling={"num_inference_steps": 3}), tmp_path / "r.yaml")
    assert load_recipe(path).sampling == {"num_frames": 4, "height": 16, "width": 16, "num_inference_steps": 3}
    write_recipe(replace(tiny_recipe, sampling={"height": 32}), path)
    assert load_recipe(path).sampling == {"num_frames": 4, "height": 32, "width": 16}
