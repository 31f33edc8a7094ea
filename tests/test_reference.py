"""docs/reference.md is what the settings say, and every command's options come from them."""

from collections import Counter

from typer.main import get_command

from benchmarks import reference
from muybridge.cli.main import app
from muybridge.data.registry import source_names
from muybridge.opening.offers import offers


def test_the_page_is_what_its_script_writes():
    told = "run `python -m benchmarks.reference`"
    assert reference.PAGE.read_text(encoding="utf-8") == reference.page(), told


def test_every_section_of_every_system_source_and_command_is_there():
    page = reference.page()
    wanted = [f"### `system: {name}`" for name in offers("TRAINS")]
    wanted += [f"### `data.source: {name}`" for name in source_names()]
    wanted += [f"### `muybridge {' '.join(words)}" for words, _ in reference.commands(get_command(app), ())]
    assert len(wanted) > 35 and not [w for w in wanted if w not in page]


def test_every_row_says_what_it_is():
    rows = [line for line in reference.page().splitlines() if line.startswith("| `")]
    assert len(rows) > 400
    assert not [r for r in rows if r.rsplit("|", 2)[1].strip() == ""]


def test_no_command_has_an_option_twice_and_each_says_what_it_does():
    for words, command in reference.commands(get_command(app), ()):
        options = [p for p in command.params if p.param_type_name == "option"]
        flags = Counter(flag for p in options for flag in (*p.opts, *p.secondary_opts))
        assert max(flags.values(), default=1) == 1, (words, flags)
        assert not [p.name for p in options if not p.help], words
