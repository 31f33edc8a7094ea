"""Prompts written out: the plain wording of captions by rules, a language model's words from a folder."""

import pytest

from muybridge.data.world import WorldConfig, WorldSource
from muybridge.errors import UserError
from muybridge.models.text.expansion import by_rules, expanded


@pytest.mark.parametrize(
    ("prompt", "plain"),
    [
        ("Show me a video of Red Circle going to the left!", "a red circle moving left"),
        ("a beautiful, cinematic video of a blue star that moves right.", "a blue star moving right"),
        ("orange ring moving upwards", "an orange ring moving up"),
        ("Please draw the clip showing a green cross that spins", "a green cross spinning"),
        ("two white squares, stationary", "two white squares, standing still"),
        ("fox, fluent style", "fox, fluent style"),
        ("rocket", "rocket"),
        ("video", "video"),
    ],
)
def test_rules(prompt, plain):
    assert by_rules(prompt) == plain == by_rules(plain)


def test_captions_of_the_data_come_back_as_they_are():
    source = WorldSource(WorldConfig(num_clips=200, plain_captions=1.0))
    assert not [c for c in source.captions() if by_rules(c) != c]


def test_no_expansion_and_none_there():
    assert expanded("Red Circle", "") == "Red Circle"
    with pytest.raises(UserError, match="nothing there; a language model is a folder"):
        expanded("a red circle", "/nowhere/at/all")
