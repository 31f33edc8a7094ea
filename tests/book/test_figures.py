"""Figures of the pages are those that the benchmarks wrote: each stands where it is said what it is."""

import json
import re
from functools import reduce

import pytest

from tests.book.reading import ROOT

CONTROL, ZERO = "docs/systems/control-video.md", "docs/systems/text2video-zero.md"
GEN1 = "docs/systems/gen-1.md"
LDM, TEMPORAL = "docs/systems/video-ldm.md", "docs/lab-notes/temporal-layers.md"
BENCHMARKS, CAMERA = "docs/benchmarks.md", "docs/lab-notes/camera-motion.md"
#: file of benchmarks/, page, part of a row or paragraph, and what stands there: (form, the keys that lead to it).
KEPT = [
    ("results", BENCHMARKS, "| training step (forward", [("2f", "peer/training_step_speedup")]),
    ("results", BENCHMARKS, "| forward |", [("2f", "peer/forward_speedup")]),
    ("results", BENCHMARKS, "| 3D U-Net, width 64", [("2f", "gemm/unet_over_gemm")]),
    ("results", BENCHMARKS, "| spacetime transformer, width 768", [("2f", "gemm/transformer_over_gemm")]),
    *(("results", BENCHMARKS, line, [
        *(("2f", f"frames/{name}_{count}_frames_over_8") for count in (16, 32, 64)), ("2f", f"frames/{name}_exponent"),
    ]) for line, name in (("| 3D U-Net | 1", "unet"), ("factorised attention | 1", "factorised"),
                          ("joint attention | 2", "joint"))),
    *(("zero_shot", page, line, [("4f", f"flicker/{name}/warped error"), ("3f", f"flicker/{name}/consistency")])
      for page, line, name in (
        (ZERO, "| frames alone", "independent frames"), (ZERO, "| Text2Video-Zero |", "Text2Video-Zero"),
        (CONTROL, "learned smoother", "ControlVideo"), (CONTROL, "linear smoother", "ControlVideo, linear smoother"),
        (CONTROL, "full attention, no smoother", "ControlVideo, no smoother"),
        (CONTROL, "first frame's keys", "ControlVideo, first-frame attention, no smoother"),
        (CONTROL, "own frame's keys", "ControlVideo, own-frame attention, no smoother"))),
    ("zero_shot", CONTROL, "100 frames with key frames first", [("2f", "memory/ratio")]),
    ("zero_shot", ZERO, "times as fast (wanted: 1.3", [("2f", "speed/ours/times as fast")]),
    ("zero_shot", ZERO, "times the peak memory", [("2f", "speed/ours/share of the peak memory")]),
    ("stable_video", "docs/benchmarks.md", "Stable Video's U-Net", [
        ("2f", f"ours/{name}") for name in ("times as fast", "share of the peak memory")]),
    *(("reuse", "docs/sampling.md", line, [(how, f"{model}/{share}/{name}") for share in (.25, .4, .5, .6, .75, .9)])
      for line, how, model, name in (
        ("| times as fast, `emoji-video`", "2f", "emoji-video", "times as fast"),
        ("| distance of appearance", "3f", "emoji-video", "appearance"),
        ("| distance of motion", "3f", "emoji-video", "motion"),
        ("| times as fast, Stable Diffusion", "2f", "SD 1.5 widths", "times as fast"))),
    ("animatediff", LDM, "| Zen 4 with AVX-512", [
        ("2f", f"{kind}/times as fast") for kind in ("ours", "ours, guided throughout", "ours, bf16")]),
    ("long_video", LDM, "A video of 101 frames", [("2f", "ratio of the peaks")]),
    ("swap", TEMPORAL, "54 %", [("%", "tuned picture model/frames nearest to/openmoji")]),
    ("space_time", "docs/systems/lumiere.md", "Periodic motion, 12 captions", [
        ("2f", f"phase/{name}/unevenness, radians") for name in (
            "one pass", "key frames and frames between", "real loops")]),
    ("space_time", "docs/systems/lumiere.md", "The start of the resampling", [
        ("3f", f"start/{kind}/step {step}") for kind in ("identity", "random") for step in (0, 60)]),
    ("space_time", "docs/systems/make-a-video.md", "Motion from frame to frame falls", [
        ("2f", f"rates/frame difference/{fps}") for fps in (2, 4, 8, 15, 30)]),
    ("space_time", "docs/systems/make-a-video.md", "Frame interpolation is worse", [
        ("4f", f"between/{what}/{how}") for how in ("network", "linear blend")
        for what in ("sharp moving things", "sharp moving things, the half that moves more", "loops")]),
    ("space_time", "docs/systems/make-a-video.md", "Super-resolution, 12 clips", [
        ("2f", f"super_resolution/against the enlarged, and against the true one/{name}/0") for name in (
            "with time", "the same network, every frame alone", "pictures' network, own noise",
            "pictures' network, one noise")]),
    ("camera", CAMERA, "| nothing |", [
        ("3f", "without it/drift to the right, of the width"), ("2f", "without it/area, last frame over first")]),
    ("camera", CAMERA, "| all layers |", [
        ("3f", "with it/drift to the right, of the width"), ("2f", "with it/area, last frame over first")]),
    ("curation", "docs/curation.md", "transitions, 20 films", [("2f", "transitions/precision"),
                                                               ("2f", "transitions/recall")]),
    ("curation", "docs/curation.md", "against TransNetV2's", [("2f", "agreement/precision"),
                                                              ("2f", "agreement/recall")]),
    ("curation", "docs/curation.md", "the whole film curated", [("2f", "film/ratio to decoding")]),
    ("curation", "docs/curation.md", "two Ray workers", [("2f", "workers/times as fast")]),
]  # fmt: skip


def shown(value, form):
    """As pages write it: .0141 and 0.68 are both found by ".0141" and ".68"."""
    return f"{100 * value:.0f} %" if form == "%" else f"{value:.{form}}".replace("0.", ".", 1)


@pytest.mark.parametrize(("kept", "page", "part", "values"), KEPT)
def test_a_figure_is_the_one_that_was_measured(kept, page, part, values):
    found = json.loads((ROOT / "benchmarks" / f"{kept}.json").read_text(encoding="utf-8"))
    text = (ROOT / page).read_text(encoding="utf-8")
    pieces = [" ".join(piece.split()) for piece in re.split(r"\n\n|\n(?=\|)", text)]  # paragraphs, and rows of tables
    lines = [piece for piece in pieces if part in piece]
    assert len(lines) == 1, (part, lines)
    for form, keys in values:
        value = reduce(lambda inner, key: inner[int(key) if isinstance(inner, list) else key], keys.split("/"), found)
        assert shown(value, form) in lines[0], (keys, shown(value, form), lines[0])


def test_a_table_of_a_bundled_model_is_its_own_figures():
    levels = json.loads((ROOT / "muybridge" / "zoo" / "emoji-restyle" / "figures.json").read_text(encoding="utf-8"))
    text = (ROOT / GEN1).read_text(encoding="utf-8")
    for name, title in (("depth error by level", "depth error"), ("frame consistency by omega_t", "frame consistency")):
        row = next(line for line in text.splitlines() if line.startswith(f"| {title}"))
        assert [cell.strip() for cell in row.split("|")[2:-1]] == [shown(v, "3f") for v in levels[name].values()]
