"""The judges of composed scenes: what each measures on pictures with known answers, and the whole on a tiny store."""

import ast
import re
from pathlib import Path

import numpy as np
import pytest

import benchmarks.judges
from benchmarks.composition import BARS, shares, table
from benchmarks.judges.backgrounds import Backdrop, behind
from benchmarks.judges.foreground import look, things_of
from benchmarks.judges.motions import LAGS, looks_the_same_turned, track_of
from benchmarks.judges.panel import Panel, PanelConfig, Verdict, rights
from benchmarks.judges.prompts import SENTENCES, pair_cases, sentence_cases, single_cases
from benchmarks.judges.relations import relation_class, standing
from benchmarks.judges.things import CROP, Likely, concept_group, crop_of
from muybridge.data.packs import PackedClip, build_pack
from muybridge.data.sprites import filler
from muybridge.data.sprites.plan import is_held_out
from muybridge.data.sprites.vocabulary import BACKGROUNDS, COLOURS, COUNTS, MOTIONS, PLACES, SIZES

Y, X = np.mgrid[0:64, 0:64].astype(np.float32)


def seen_as(outlines):
    """Outlines bool [F, 64, 64] as `look` would find them, without offsets."""
    seen = np.zeros((*outlines.shape, 3), np.float32)
    seen[..., 0] = outlines
    return seen


def going(step, frames=16):
    """A square of 13 pixels whose middle goes `step` (x, y) pixels a frame from (20, 20), on grey: frames, outlines."""
    outlines = np.stack([(abs(X - 20 - step[0] * f) <= 6) & (abs(Y - 20 - step[1] * f) <= 6) for f in range(frames)])
    pictures = np.where(outlines[..., None], [200, 30, 40], [90, 90, 90]).astype(np.uint8)
    return pictures, outlines


def turning(degrees, frames=16, round_thing=False):
    """A bar with one bright end (or a disc) that turns clockwise around (31.5, 31.5)."""
    pictures, outlines = [], []
    for f in range(frames):
        angle = np.deg2rad(degrees * f)
        u = np.cos(angle) * (X - 31.5) + np.sin(angle) * (Y - 31.5)
        v = -np.sin(angle) * (X - 31.5) + np.cos(angle) * (Y - 31.5)
        outline = u**2 + v**2 < 144 if round_thing else (abs(u) < 16) & (abs(v) < 5)
        bright = outline & (u > 6) & (not round_thing)
        outlines.append(outline)
        pictures.append(np.where(bright[..., None], 250, np.where(outline[..., None], 60, 128)).repeat(3, -1))
    return np.stack(pictures).astype(np.uint8), np.stack(outlines)


@pytest.mark.parametrize("step", [(1.5, 0.0), (-0.5, 1.0), (0.0, 0.0)])
def test_a_track_has_the_middle_size_and_speed_of_a_square(step):
    frames, outlines = going(step)
    moments = track_of(frames, seen_as(outlines)).moments
    assert (moments[:, 0] == 1).all()
    assert np.allclose(np.diff(moments[:, 1:3], axis=0).mean(0) * 16, step, atol=0.05)
    assert np.allclose(moments[0, 1:3] * 16 + 31.5, 20, atol=0.01)
    assert np.allclose(np.exp(moments[0, 3]) * 256, 169, rtol=0.01)
    assert np.allclose(moments[0, 4:6] * 16, np.sqrt((13**2 - 1) / 12), rtol=0.01)


@pytest.mark.parametrize("degrees", [15, -22.5, 0])
def test_a_track_finds_how_far_a_thing_turns(degrees):
    frames, outlines = turning(degrees)
    turns = track_of(frames, seen_as(outlines)).turns
    for i, lag in enumerate(LAGS):
        found = turns[: 16 - lag, i].argmax(1) * 360 / turns.shape[-1]
        apart = (found - degrees * lag + 180) % 360 - 180
        assert np.median(np.abs(apart)) <= 7.5, (lag, found)


def test_mirrored_and_reversed_tracks_are_those_of_mirrored_and_reversed_clips():
    frames, outlines = turning(20)
    outlines[:, :, 40:] = False  # nothing symmetrical, and its middle moves
    track, seen = track_of(frames, seen_as(outlines)), seen_as(outlines)
    for made, wanted in ((track.mirrored(), track_of(frames[:, :, ::-1], seen[:, :, ::-1])),
                         (track.reversed(), track_of(frames[::-1], seen[::-1]))):  # fmt: skip
        assert np.allclose(made.moments, wanted.moments, atol=1e-4)
        assert np.abs(made.turns - wanted.turns)[:12].max() < 0.05
    assert np.abs(track.mirrored().turns - track.turns).max() > 0.3


def test_a_disc_that_spins_looks_as_if_it_stood_still_and_a_bar_does_not():
    disc, bar = turning(24, round_thing=True), turning(24)
    assert looks_the_same_turned(disc[0], seen_as(disc[1])) and not looks_the_same_turned(bar[0], seen_as(bar[1]))


def test_what_lies_behind_is_known_where_a_thing_ever_leaves_it_free():
    backdrop = (np.stack([X, Y, 2 * Y], -1) + 40).astype(np.uint8)
    outlines = np.stack([(abs(X - 14 - 2 * f) <= 5) & (abs(Y - 30) <= 5) for f in range(16)])
    frames = np.where(outlines[..., None], np.uint8(255), backdrop[None])
    known = behind(frames, seen_as(outlines))
    assert known[..., 3].all()
    assert np.allclose((known[..., :3] + 1) * 127.5, backdrop, atol=0.01)
    still = behind(np.repeat(frames[:1], 16, 0), seen_as(np.repeat(outlines[:1], 16, 0)))
    assert 121 <= (still[..., 3] == 0).sum() <= 169 and (still[still[..., 3] == 0] == 0).all()


def test_two_things_that_touch_are_told_apart_by_the_middles_their_pixels_point_at():
    seen = np.zeros((64, 64, 3), np.float32)
    for cx, cy in ((20, 30), (40, 30)):  # squares that share an edge at x = 30
        own = (abs(X - cx) <= 9.99) & (abs(Y - cy) <= 8)
        seen[own] = np.stack([np.ones_like(X), cx - X, cy - Y], -1)[own]
    found = sorted(things_of(seen), key=lambda t: t.centre[0])
    assert [t.centre for t in found] == [(20, 30), (40, 30)]
    assert not (found[0].mask & found[1].mask).any() and found[0].mask.sum() + found[1].mask.sum() == seen[..., 0].sum()
    assert len(things_of(seen, most=1)) == 1 and things_of(np.zeros((64, 64, 3), np.float32)) == []


def test_a_crop_holds_the_thing_and_nothing_of_what_lies_behind():
    mask = (abs(X - 40) <= 10) & (abs(Y - 20) <= 5)
    frame = np.where(mask[..., None], [255, 0, 127], [0, 255, 0]).astype(np.uint8)
    crop = crop_of(frame, mask)
    assert crop.shape == (4, CROP, CROP)
    inside = crop[3] > 0.99
    assert np.allclose(crop[:3, inside].T, [1, -1, -0.004], atol=0.01)
    assert np.abs(crop[:, crop[3] == 0]).max() == 0
    rows, columns = np.nonzero(inside)
    assert abs(np.ptp(columns) / np.ptp(rows) - 2) < 0.25 and abs(columns.mean() - 15.5) < 0.6


def test_how_two_outlines_stand():
    first, second = (abs(X - 20) <= 5) & (abs(Y - 30) <= 5), (abs(X - 42) <= 5) & (abs(Y - 30) <= 5)
    row = standing(first, second)
    assert np.allclose(row[:6], [-2, 0, 2, 0, 1, -1]) and np.allclose(row[6:], 0)
    assert relation_class("beside", "left") == "left of" and relation_class("riding", "right") == "on"
    assert relation_class("behind", "") == relation_class("in front of", "") == "overlapping"
    assert relation_class("following", "left") == ""


TOLD = {"background": "gradient", "background_colours": ["red", "blue"], "relation": "above", "side": "left"}


def test_what_is_right():
    backdrop = Backdrop("gradient", ("red", "blue"))
    right = rights(Verdict((0,), (True,), "left", backdrop, "", "fox", 1), TOLD, {"left"}, True)
    assert all(right.values()) and set(right) == {"thing", "thing among five", "background", "motion", "all"}
    worse = rights(Verdict((4,), (False,), "right", backdrop, "", "fox", 1), TOLD, {"left"}, True)
    assert [worse[n] for n in ("thing", "thing among five", "motion", "all")] == [False, True, False, False]
    assert "motion" not in rights(Verdict((0,), (True,), "", backdrop, "", "fox", 1), TOLD, {""}, False)
    either = rights(Verdict((0,), (True,), "still", backdrop, "", "fox", 1), TOLD, {"spinning", "still"}, True)
    assert either["motion"]
    two = rights(Verdict((2, 0), (True, True), "", backdrop, "below", "fox", 2), TOLD, {""}, True)
    assert two["both present"] and not two["relation, of those"] and not two["both and relation"]
    one = rights(Verdict((0, 1), (True, False), "", backdrop, "above", "fox", 1), TOLD, {""}, True)
    assert one["one present"] and not one["both present"]
    assert not Backdrop("gradient", ("blue", "red")).is_right("gradient", ["red", "blue"])
    assert Backdrop("plain", ("red", "red")).is_right("plain", ["red"]) and Backdrop("sea", ("red", "red")).is_right(
        "sea", []
    )
    assert not Backdrop("plain", ("red", "red")).is_right("plain", ["blue"])


def test_ranks_and_shares():
    found = Likely(np.array([-3.0, -1.0, -2.0]), [], [])
    assert [found.rank(i) for i in range(3)] == [2, 0, 1]
    assert Likely(np.zeros(0), [], []).rank(1) > 5
    rows = [{"right": {"both present": True, "relation, of those": True}},
            {"right": {"both present": False, "relation, of those": False}},
            {"right": {"both present": False, "relation, of those": True}}]  # fmt: skip
    assert shares(rows) == {"both present": pytest.approx(1 / 3), "relation, of those": 1.0}
    figures = {
        "one thing": {"count": 8, "right": {"thing": 0.8, "motion": 0.5}, "true scenes": {"thing": 0.9, "motion": 1}}
    }
    lines = table(figures).splitlines()
    assert lines[2].endswith("pass") and lines[3].endswith("below") and len(lines) == 4
    assert f"{BARS['one thing']['thing']:.0%}" in lines[2] and "90.0%" in lines[2]


def test_sentences_have_unknown_words_and_say_nothing_of_a_scene():
    known = set(re.findall(r"[a-z]+", " ".join([*filler.ADJECTIVES, *filler.BEFORE, *filler.AFTER, *filler.ASIDES])))
    scene = {*COLOURS, *SIZES, *BACKGROUNDS, *MOTIONS, *COUNTS.values(), *PLACES}
    for sentence in SENTENCES:
        words = re.findall(r"[a-z]+", sentence.replace("{thing}", ""))
        assert len(set(words) - known) >= 2 and not set(words) & scene, sentence
        assert sentence.count("{thing}") == 1
    assert len(set(SENTENCES)) == len(SENTENCES)


def test_judges_share_nothing_with_the_models():
    for path in Path(benchmarks.judges.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else (
                [a.name for a in node.names] if isinstance(node, ast.Import) else [])  # fmt: skip
            for name in names:
                assert not name.startswith("muybridge.") or name.startswith(("muybridge.data", "muybridge.files")), path


NAMES = {"fox": "3/34", "rocket": "5/56", "automobile": "5/54", "star": "5/59", "apple": "4/42", "owl": "3/35",
         "man surfing": "1/28", "woman surfing": "1/28"}  # fmt: skip


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Things that differ in form and colour."""
    root = tmp_path_factory.mktemp("stores")
    for kind, count in (("stills", 1), ("animations", 16)):
        clips = []
        for n, (name, category) in enumerate(NAMES.items()):
            pixels = np.zeros((count, 64, 64, 4), np.uint8)
            pixels[..., :3] = [(37 * n) % 256, (90 + 60 * n) % 256, (200 + 110 * n) % 256]
            pixels[..., :32, :, :3] //= 2  # above is darker: turning it is seen
            power = (0.6, 1, 2, 8)[n % 4]
            pixels[..., 3] = 255 * (
                (abs(X - 31.5) / 28) ** power + (abs(Y - 31.5) / (28 if n < 4 else 15)) ** power < 1
            )
            style = "fluent" if kind == "animations" else "noto"
            entry = PackedClip(name, name, pixels.shape, 8.0, "@n/b@1", style, tags=(), category=category)
            clips.append((entry, pixels))
        build_pack(root / kind, clips, [], {}, {})
    return {
        "stills": str(root / "stills"),
        "animations": str(root / "animations"),
        "names_split": "all",
        "things": "all",
    }


def test_prompts_are_held_out_and_say_what_they_show(stores):
    for case in single_cases(20, **stores):
        assert case.told["held_out"] and all(is_held_out(tuple(c), 0.1) for c in case.told["held_out"])
        assert case.told["layout"] == "one" and case.told["background"] != "white"
        assert case.told["things"][0]["motion"] not in ("still", "following") and case.prompt == case.told["caption"]
    assert single_cases(1, **stores)[0].truth().shape == (16, 64, 64, 3)
    for case in pair_cases(10, **stores):
        assert case.told["layout"] == "related" and len(case.concepts) == 2 and case.told["held_out"]
    for case in sentence_cases(20, **stores):
        assert any(w in case.prompt for w in case.told["things"][0]["words"]), case.prompt
        assert case.told["background"] == "white" and case.prompt != case.told["caption"]
    for case in single_cases(10, frames=1, **stores):
        assert case.told["things"][0]["motion"] == "still" and case.truth().shape[0] == 1


def test_a_concept_is_present_where_some_thing_is_likelier_it_than_any_other():
    # two things: the first is 0 or, less likely, 1; the second is 2, by little
    logs = np.log([[0.6, 0.3, 0.1], [0.3, 0.3, 0.4]]).astype(np.float32)
    found = Likely(logs.max(0), [[], []], [logs, logs[:1]])
    assert [found.present(g) for g in range(3)] == [True, False, True]
    assert found.rank(2) == 1 and not Likely(logs.max(0), [[]] * 3, [logs, logs[:1], logs[:1]]).present(2)
    assert not Likely(np.zeros(0, np.float32), [], []).present(0)


@pytest.mark.slow
def test_a_panel_fitted_on_a_tiny_store_knows_its_true_scenes(stores, tmp_path, monkeypatch):
    monkeypatch.setenv("MUYBRIDGE_CACHE", str(tmp_path))
    config = PanelConfig(clips=300, tracked=250, finder_steps=100, background_steps=150, motion_steps=250,
                         relation_steps=100, thing_steps=40)  # fmt: skip
    panel = Panel(config, **stores)
    assert len(panel.groups) == 7 and concept_group("woman surfing") == concept_group("man surfing")
    cases = single_cases(16, **stores)
    verdicts = [panel.judge(c.truth(), c.concepts) for c in cases]
    pairs = list(zip(verdicts, cases, strict=True))
    assert np.mean([v.ranks[0] == 0 for v, _ in pairs]) > 0.6
    assert np.mean([v.backdrop.name == c.told["background"] for v, c in pairs]) > 0.6
    assert np.mean([v.motion == c.told["things"][0]["motion"] for v, c in pairs]) > 0.5
    kept = sorted(tmp_path.glob("judges/*.safetensors"))
    assert len(kept) == 5
    again = Panel(config, **stores)  # read, not fitted: the same files, the same answers
    assert sorted(tmp_path.glob("judges/*.safetensors")) == kept
    assert again.judge(cases[0].truth(), cases[0].concepts) == verdicts[0]
    picture = panel.judge(cases[0].truth()[:1], cases[0].concepts)
    assert picture.motion == ""
    with pytest.raises(ValueError, match="64x64"):
        look(panel.finder, np.zeros((2, 32, 32, 3), np.uint8))
