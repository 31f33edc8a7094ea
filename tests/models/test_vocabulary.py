"""What a model was trained on is known to it: prompts of which it knows no word are told, with the nearest it knows."""

import warnings

import pytest
import torch

from muybridge.errors import Notice, UserError
from muybridge.library.catalogue import model_hash, parameters_in
from muybridge.models.text.vocabulary import MOST_NAMES, Vocabulary, chosen, words_of
from muybridge.models.weights.packaged import VOCABULARY
from muybridge.opening.sampling import load_pipeline
from muybridge.training.export import export_run
from muybridge.training.trainer import Trainer
from tests.conftest import with_training


def told(pipeline, prompt):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        pipeline([prompt], seed=0, num_inference_steps=1)
    return [str(w.message) for w in said if w.category is Notice]


def test_words_are_small_single_and_say_something():
    assert words_of("Two DOGS and the dog\u2019s glass, on a bus!") == {"two", "dog", "glass", "bus"}
    assert words_of("a of the 4 !?") == set()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    from tests.conftest import make_tiny_recipe

    folder = tmp_path_factory.mktemp("run") / "run"
    Trainer(with_training(make_tiny_recipe(), steps=1), folder).run()
    return folder


@pytest.mark.parametrize("how", ["trained", "exported"])
def test_a_prompt_without_a_known_word_is_told_with_the_nearest_names(run, how, tmp_path):
    folder = run / "model" if how == "trained" else export_run(run, tmp_path / "out")
    pipeline = load_pipeline(str(folder))
    assert not told(pipeline, "a red zeppelin") and not told(pipeline, "circles")
    (line,) = told(pipeline, "pirouette")
    assert "no word of the prompt 'pirouette'" in line and "'spinning'" in line
    assert len(told(pipeline, "4 of the")) == 1


def test_a_model_without_a_vocabulary_says_nothing(run, tmp_path):
    folder = export_run(run, tmp_path / "out")
    (folder / VOCABULARY).unlink()
    pipeline = load_pipeline(str(folder))
    assert pipeline.vocabulary is None and not told(pipeline, "pirouette")


@pytest.mark.parametrize("damage", ["bytes", "count"])
def test_a_damaged_vocabulary_is_named(run, damage, tmp_path):
    folder = export_run(run, tmp_path / "out")
    if damage == "bytes":
        (folder / VOCABULARY).write_bytes(b"nothing")
    else:
        Vocabulary(("one", "two"), torch.zeros(3, 4)).save(folder)
    with pytest.raises(UserError, match=VOCABULARY):
        load_pipeline(str(folder))


def test_the_shortest_names_are_kept_each_once():
    many = [f"name {i}" for i in range(MOST_NAMES)] * 2 + ["a very long name"]
    assert len(chosen(many)) == MOST_NAMES and "a very long name" not in chosen(many)


def test_the_default_model_names_the_nearest_emoji():
    pipeline = load_pipeline("emoji-video")
    assert not told(pipeline, "a dog in the snow")
    (line,) = told(pipeline, "quantum entanglement")
    assert "the nearest that it knows: 'atom symbol'" in line


def test_a_model_of_several_networks_tells_what_its_first_one_knows():
    assert load_pipeline("emoji-lumiere").opened(0).vocabulary.knows("a rocket")


def test_names_are_not_part_of_what_a_model_is(run, tmp_path):
    folder = export_run(run, tmp_path / "out")
    before = model_hash(folder), parameters_in(folder)
    (folder / VOCABULARY).unlink()
    assert (model_hash(folder), parameters_in(folder)) == before
