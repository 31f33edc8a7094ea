"""The judge is right on what the generator draws, wrong on what it does not, and shares nothing with it."""

import ast
import itertools
from pathlib import Path

import numpy as np
import pytest

from muybridge.data.world import WorldConfig, WorldSource
from muybridge.evaluation import judge as judge_module
from muybridge.evaluation.judge import Verdict, judge
from muybridge.evaluation.motion import frame_differences, psnr, seam_ratio

COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "white")
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
DIRECTIONS = ("left", "right", "up", "down")


def drawn(colour, shape, direction, index=0, height=32, width=32, frames=12, fps=8.0):
    config = WorldConfig(
        height=height,
        width=width,
        num_frames=frames,
        fps=fps,
        num_clips=20,
        colours=(colour,),
        shapes=(shape,),
        motions=(direction,),
        sizes=("medium",),
        backgrounds=("dark",),
        pans=("none",),
        two_things=0.0,
        held_out=0.0,
    )
    return WorldSource(config).clip(index).frames


@pytest.mark.slow
def test_every_colour_shape_and_direction():
    triples = [
        *itertools.product(COLOURS, SHAPES[:1], DIRECTIONS[:1]),
        *itertools.product(COLOURS[:2], SHAPES, DIRECTIONS),
    ]
    rng = np.random.default_rng(0)
    for i, (colour, shape, direction) in enumerate(triples):
        frames = drawn(colour, shape, direction, i % 20)
        noisy = np.clip(frames + rng.normal(0, 8, frames.shape), 0, 255).astype(np.uint8)
        assert judge(noisy) == Verdict(colour, shape, direction), (colour, shape, direction)


def test_large_videos_are_judged_alike():
    for index, triple in enumerate((("green", "star", "up"), ("blue", "ring", "right"))):
        assert judge(drawn(*triple, index, 192, 320, 6, 4.0)) == Verdict(*triple)


def test_it_can_say_no():
    assert judge(np.full((12, 32, 32, 3), 18, np.uint8)) == Verdict(None, None, None)
    frames = drawn("red", "circle", "left")
    assert judge(frames[::-1]).direction == "right"
    assert judge(frames.transpose(0, 2, 1, 3)).direction == "up"
    assert judge(np.repeat(frames[:1], 12, 0)).direction == "still"
    assert judge(frames[..., ::-1]).colour == "blue"
    noise = np.random.default_rng(0).integers(0, 255, (12, 32, 32, 3), dtype=np.uint8)
    assert judge(noise).direction in ("still", None)
    # frames in random order drift nowhere
    order = np.random.default_rng(1).permutation(12)
    assert judge(frames[order]).direction != "left" or judge(frames[order[::-1]]).direction != "right"


def test_it_shares_no_code_with_the_generator():
    source = Path(judge_module.__file__).read_text(encoding="utf-8")
    names = [n.module or "" for n in ast.walk(ast.parse(source)) if isinstance(n, ast.ImportFrom)]
    names += [a.name for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Import) for a in n.names]
    assert not [n for n in names if n.startswith("muybridge")]


def test_motion_measures():
    frames = np.zeros((6, 4, 4, 3), np.uint8)
    frames[3:] = 30
    assert frame_differences(frames).tolist() == [0, 0, 30, 0, 0]
    smooth = np.arange(6, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8) * 2
    assert seam_ratio(smooth, [2]) == pytest.approx(1.0)
    jump = smooth.copy()
    jump[3:] += 4
    assert seam_ratio(jump, [2]) == pytest.approx(3.0)
    assert psnr(frames, frames) == float("inf") and psnr(frames, frames + 1) == pytest.approx(48.13, abs=0.01)
