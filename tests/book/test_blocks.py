"""Every block of code of the README and of the book runs in a few steps, or says in its source why it does not."""

from collections import Counter

import pytest
import yaml

from muybridge.cli.parsing import check_arguments
from muybridge.configuration import from_mapping
from muybridge.data.registry import source_settings
from muybridge.errors import UserError
from muybridge.models import build_network
from muybridge.systems.imagen_video.cascade import StageConfig
from muybridge.training.distillation_plan import plan_of_file
from tests.book.reading import PAGES, READ, ROOT, RUN, SHOWN, blocks_of, commands_of, unmarked_code
from tests.book.running import run_page

README = ROOT / "README.md"
BLOCKS = {page: blocks_of(page) for page in PAGES}
RUNNING = [page for page in PAGES if page != README and any(b.language in RUN and b.why is None for b in BLOCKS[page])]
#: How many blocks of a page are not run; each says why in the line above it.
NOT_RUN = {
    "README.md": 2, "CONTRIBUTING.md": 1, "docs/start.md": 3, "docs/guides/studio.md": 1, "docs/guides/trainers.md": 1,
    "docs/data.md": 1,
    "docs/training.md": 1, "docs/benchmarks.md": 1, "docs/upscaling.md": 1, "docs/systems/sora.md": 1,
    "docs/image-model.md": 1,
}  # fmt: skip


def name_of(page):
    return str(page.relative_to(ROOT))


def test_every_block_names_its_language():
    for page, blocks in BLOCKS.items():
        assert not unmarked_code(page), f"{name_of(page)}: code without a language: {unmarked_code(page)[:2]}"
        for block in blocks:
            assert block.language in (*RUN, *READ, *SHOWN), f"{block.place}: {block.language!r}"
    counts = Counter(block.language for blocks in BLOCKS.values() for block in blocks)
    assert counts["bash"] > 30 and counts["python"] > 12 and counts["yaml"] > 5, counts


def test_what_is_not_run_says_why():
    marked = [block for blocks in BLOCKS.values() for block in blocks if block.why is not None]
    print(*(f"{block.place}: {block.why}" for block in marked), sep="\n")
    assert not [b.place for b in marked if len(b.why.split()) < 4 or b.language not in RUN]
    assert Counter(name_of(b.page) for b in marked) == NOT_RUN
    assert sum("<!-- not run:" in page.read_text(encoding="utf-8") for page in PAGES) == len(NOT_RUN)


def test_what_is_not_run_is_a_command_all_the_same(tmp_path):
    read = 0
    for block in (b for blocks in BLOCKS.values() for b in blocks if b.why is not None and b.language == "bash"):
        for words in commands_of(block.code, tmp_path):
            if words[0] == "muybridge" and not words[1].startswith("--"):
                check_arguments(words[1:])
                read += 1
    assert read >= 6


def check_settings(values, folder):
    """The keys and values of a block of YAML, by the dataclass or network that reads them."""
    if "data" in values:
        source_settings(values["data"])
    elif "teacher" in values:
        (folder / "plan.yaml").write_text(yaml.safe_dump(values))
        assert plan_of_file(folder / "plan.yaml")[0] == values["teacher"]
    elif "model" in values:
        build_network(values["model"])
    else:
        from_mapping(StageConfig, values["diffusion"]["stage"], "stage")


def test_settings_are_read(tmp_path):
    found = [block for blocks in BLOCKS.values() for block in blocks if block.language in READ]
    for block in found:
        check_settings(yaml.safe_load(block.code), tmp_path)
    assert len(found) >= 9
    for wrong in ({"data": {"source": "world", "fsp": 8}}, {"model": {"type": "transformer", "layer": 2}}):
        with pytest.raises(UserError):
            check_settings(wrong, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("page", RUNNING, ids=name_of)
def test_a_page_runs_from_top_to_bottom(page, reader, prepared):
    run_page(page, reader, prepared / "before")


@pytest.mark.parametrize("code", ["muybridge generate --step 2\n", "muybridge replay nothing.mp4\n", "ffmpeg -i x\n"])
def test_a_wrong_command_is_noticed(code, reader, tmp_path):
    page = reader / "page.md"
    page.write_text(f"# A page\n\n```bash\n{code}```\n")
    with pytest.raises(AssertionError):
        run_page(page, reader, tmp_path / "before")


def test_wrong_python_is_noticed(reader, tmp_path):
    page = reader / "page.md"
    page.write_text("```python\nthere = 1\n```\n\n```python\nassert there == 2\n```\n")
    with pytest.raises(AssertionError):
        run_page(page, reader, tmp_path / "before")
