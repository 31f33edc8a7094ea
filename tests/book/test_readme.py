"""What the README says is true: its commands make what they say, its Python too, and its files exist."""

import re

import pytest

import muybridge
from muybridge.data.video_io import read_video
from tests.book.reading import PAGES, ROOT
from tests.book.running import run_page

#: (frames, height, width) that a command's file has; the model's preset, enlarged where the line says so.
SHAPES = {
    "first.mp4": (4, 64, 64), "dog.mp4": (4, 256, 256), "dog.png": (1, 64, 64), "triangle.mp4": (12, 32, 32),
    "longer.mp4": (18, 32, 32), "smooth.mp4": (23, 32, 32), "alive.mp4": (4, 64, 64), "zero.mp4": (8, 64, 64),
    "tiger.mp4": (4, 64, 64), "cat.mp4": (4, 64, 64), "robot.mp4": (4, 64, 64),
}  # fmt: skip


@pytest.mark.slow
def test_it_runs_from_top_to_bottom(reader, prepared):
    run = run_page(ROOT / "README.md", reader, prepared / "before")
    written = [words[words.index("-o") + 1] for words in run if "-o" in words]
    assert len(set(written)) == len(written), "a file is written twice"
    assert {name: read_video(name).frames.shape[:3] for name in SHAPES} == SHAPES
    assert {*written} - {"clips"} == {*SHAPES} - {"first.mp4"}


@pytest.mark.slow
def test_the_example_of_the_package_runs(reader):
    exec(compile(muybridge.__doc__.split("\n\n", 1)[1], "muybridge", "exec"), {})
    assert read_video("circle.mp4").frames.shape == (12, 32, 32, 3)


def test_its_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"
