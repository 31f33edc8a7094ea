"""Each lesson moves its formula, plot and frames together, by the library's own functions."""

import re

import pytest

from muybridge.studio.learn import basics, video
from muybridge.studio.learn.drawing import formula, plot
from muybridge.studio.learn.learn_tab import LESSONS


def ends(lesson, which):
    return {s.name: s.start if s.choices else getattr(s, which) for s in lesson.sliders}


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.title)
def test_both_ends_are_shown_and_differ(lesson):
    shown = [lesson.show(**values) for values in (ends(lesson, "low"), lesson.starts, ends(lesson, "high"))]
    for part in ("formula", "plot", "frames"):
        assert len({getattr(s, part) for s in shown}) == 3, f"{part} does not move"
    for one in shown:
        assert "<math" in formula(one.formula) and "nan" not in one.plot + one.formula
        assert "http" not in one.plot + one.frames.replace("data:", "")


@pytest.mark.parametrize("name", basics.NAMES)
def test_every_schedule(name):
    assert f"{name}" in basics.schedules(name, 2.0, 0.5).plot


#: A function of the library that stands behind each lesson.
BEHIND = {
    "Noise schedules and log-SNR": (basics, "schedule_from_name"), "The forward process": (basics, "diffuse"),
    "What the network predicts": (basics, "to_x"), "The circle: v, and DDIM walking along it": (basics, "sample_ddim"),
    "Classifier-free guidance": (basics, "classifier_free"), "Motion latents": (video, "move"),
    "Reconstruction guidance": (video, "reconstruction_guidance"), "Temporal mix": (video, "AlphaBlender"),
    "MultiDiffusion windows": (video, "windowed"), "A cascade, stage by stage": (video, "augment_condition"),
}  # fmt: skip


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.title)
def test_the_librarys_own_function_is_called(lesson, monkeypatch):
    module, name = BEHIND[lesson.title]
    assert getattr(module, name).__module__.startswith("muybridge.") and name in lesson.code

    def gone(*_, **__):
        raise InterruptedError

    monkeypatch.setattr(module, name, gone)
    with pytest.raises(InterruptedError):
        lesson.show(**lesson.starts)


def test_the_numbers_of_a_formula_are_the_levels():
    assert r"0.924\, x + 0.383\, \epsilon" in basics.forward(1.7627).formula  # tan(pi/8) = exp(-lam/2)
    assert r"\phi = 1.568" in basics.circle(6, 0).formula  # the first level is almost noise


def test_a_plot_leaves_out_what_is_not_finite_and_escapes_names():
    drawn = plot([("<b>", [(0, 1), (1, float("inf")), (2, 3)])], [("x", float("nan"), 0)], "t", "y")
    assert "&lt;b&gt;" in drawn and "<b>" not in drawn
    assert len(re.search('points="([^"]+)"', drawn)[1].split()) == 2
