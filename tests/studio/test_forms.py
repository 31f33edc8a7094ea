"""Forms are the commands' own dataclasses, and what they fill in is a command line."""

import shlex

import pytest

from muybridge.cli.parsing import check_arguments, whole_command
from muybridge.errors import UserError
from muybridge.making.replay import MAKINGS
from muybridge.studio.forms import arguments_of, fields_of_making, shown_command, sources_of
from muybridge.studio.making_tabs import TABS, seeds_of

#: What a reader might type into a field of each kind.
TYPED = {"words": "some words", "lines": "one\ntwo", "number": "3", "numbers": "1 2", "file": "a.png"}


def test_every_command_that_makes_a_video_has_its_panel():
    assert {c for panels in TABS.values() for c in panels.values()} == set(MAKINGS)


@pytest.mark.parametrize("name", MAKINGS)
def test_each_form_has_every_option_of_its_command(name):
    command = whole_command().commands[name]
    shown = {f.name for f in fields_of_making(MAKINGS[name])} | set(sources_of(MAKINGS[name]))
    wanted = {p.name for p in command.params if p.name != "help"}
    apart = {"output", "seed", "device", "precision"}  # the page's own, and the machine's
    apart |= {"prompts", "output_dir", "format", "batch_size", "picture_model"} if name == "generate" else set()
    apart |= {"model"} if name == "edit" else set()
    assert wanted - shown == apart & wanted


@pytest.mark.parametrize("name", MAKINGS)
def test_a_filled_in_form_is_read_by_the_command_line(name):
    fields = fields_of_making(MAKINGS[name])
    values = {}
    for one in fields:
        values[one.name] = {"switch": not one.default, "choice": (one.choices or ("",))[-1]}.get(
            one.kind, TYPED.get(one.kind)
        )
    values |= {"region": "0,0,1,1"} if "region" in values else {}
    values |= dict.fromkeys(sources_of(MAKINGS[name]), "a.mp4")
    arguments = arguments_of(name, fields, values)
    params = check_arguments(arguments).params
    for one in fields:
        said = params[one.name]
        if one.kind == "switch":
            assert said is (not one.default), one
        elif one.kind == "lines":
            assert list(said) == ["one", "two"], one
        elif one.kind in ("number", "numbers"):
            assert said in (3, (1, 2)), one
        else:
            assert str(said) == str(values[one.name]), one
    assert shlex.split(shown_command(arguments)) == ["muybridge", *arguments]


def test_an_untouched_form_says_nothing():
    fields = fields_of_making(MAKINGS["extend"])
    values = {one.name: one.default for one in fields} | {"video": "a.mp4", "prompt": ""}
    assert arguments_of("extend", fields, values) == ["extend", "a.mp4"]


def test_words_that_look_like_options_stay_words():
    fields = fields_of_making(MAKINGS["generate"])
    arguments = arguments_of("generate", fields, {"prompt": "--version", "negative_prompt": "-o"})
    params = check_arguments(arguments).params
    assert (params["prompt"], params["negative_prompt"]) == ("--version", "-o")


def test_the_shown_command_writes_under_its_name_alone():
    assert shown_command(["generate", "-o", "/a/b/it's.mp4", "x"]) == """muybridge generate -o 'it'"'"'s.mp4' x"""


@pytest.mark.parametrize(("text", "seeds"), [("7", [7]), ("1 2, 3", [1, 2, 3]), ("4-6", [4, 5, 6])])
def test_seeds(text, seeds):
    assert seeds_of(text) == seeds


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", "1-99", " ".join(map(str, range(17))), "0-99999999999999999"])
def test_seeds_that_are_none(text):
    with pytest.raises(UserError, match="seeds: "):
        seeds_of(text)
