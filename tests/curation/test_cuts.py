"""Transitions: each kind is found, pans and flashes are not."""

import cv2
import numpy as np
import pytest

from benchmarks.known_footage import FPS, film, shot
from muybridge.curation.cuts import CutWatcher, Zone, join
from muybridge.curation.shots import divide, shots_of


def zones_of(frames):
    watcher = CutWatcher()
    for i, frame in enumerate(frames):
        watcher.feed(i / FPS, cv2.resize(frame, (120, 72), interpolation=cv2.INTER_AREA))
    return watcher.finish()


@pytest.mark.slow
def test_known_films():
    """Ten films that the rules were not set on, fifty transitions (benchmarks.curation has more)."""
    found = missed = false = 0
    for seed in (*range(20, 24), *range(100, 106)):
        known = film(seed)
        zones, used = zones_of(known.frames), set()
        for _, first, end in known.transitions:
            hits = [j for j, z in enumerate(zones) if z.start <= (end + 2) / FPS and z.end >= (first - 2) / FPS]
            found, missed = found + bool(hits), missed + (not hits)
            used.update(hits)
        false += len(zones) - len(used)
    assert found / (found + missed) >= 0.95 and found / (found + false) >= 0.95, (found, missed, false)


def two_shots(seed=3):
    rng = np.random.default_rng(seed)
    return shot(rng, 50, still=True), shot(rng, 50, still=True)


def test_a_cut_is_exact_and_a_single_shot_has_none():
    a, b = two_shots()
    zones = zones_of(np.concatenate([a, b]).astype(np.uint8))
    assert [z.start for z in zones] == [pytest.approx(50 / FPS)]
    assert zones_of(a.astype(np.uint8)) == []


def test_dissolve_fade_and_flash():
    a, b = two_shots()
    weight = np.linspace(0, 1, 18)[:, None, None, None]
    mixed = np.concatenate([a, (1 - weight) * a[-1] + weight * b[0], b]).astype(np.uint8)
    (zone,) = zones_of(mixed)
    assert "dissolve" in zone.detector and zone.start < 54 / FPS and zone.end > 64 / FPS
    dark = np.concatenate([a, a[-1] * (1 - weight), b[0] * weight, b]).astype(np.uint8)
    (zone,) = zones_of(dark)
    assert "fade" in zone.detector and zone.start < 56 / FPS and zone.end > 80 / FPS
    flashed = a.copy()
    flashed[25:27] = 240
    assert zones_of(flashed.astype(np.uint8)) == []


def test_a_pan_is_no_transition():
    rng = np.random.default_rng(1)
    wide = cv2.GaussianBlur(rng.integers(0, 255, (96, 800, 3)).astype(np.float32), (0, 0), 7)
    wide = np.clip((wide - wide.mean()) * 8 + 120, 0, 255).astype(np.uint8)
    frames = [wide[:, i * 4 : i * 4 + 160] for i in range(120)]
    assert zones_of(frames) == []


def test_joining_and_shots():
    zones = [Zone(1.0, 1.0, "content"), Zone(2.0, 3.0, "dissolve"), Zone(3.1, 3.4, "fade"), Zone(5.0, 5.0, "content")]
    joined = join(zones, 0.2)
    assert [(z.start, z.end) for z in joined] == [(1.0, 1.0), (2.0, 3.4), (5.0, 5.0)]
    assert joined[1].detector == "dissolve+fade"
    assert shots_of(joined, 8.0, 0.1) == [(0.0, 1.0), (1.0, 1.9), (3.5, 5.0), (5.0, 8.0)]


@pytest.mark.parametrize(
    ("keys", "parts"),
    [
        ([0.0, 4.0, 9.0, 18.0, 24.0], [(0.0, 9.0), (9.0, 18.0), (18.0, 25.0)]),  # the last key frame within reach
        ([0.0, 4.0, 9.0, 18.5, 24.0], [(0.0, 9.0), (9.0, 18.5), (18.5, 25.0)]),
        ([0.0, 5.0], [(0.0, 25 / 3), (25 / 3, 50 / 3), (50 / 3, 25.0)]),  # no key frame within reach: evenly
        ([0.0, 8.0, 16.0, 24.0], [(0.0, 8.0), (8.0, 16.0), (16.0, 25.0)]),  # none leaves a part too short
    ],
)
def test_a_long_shot_is_divided_on_key_frames_where_that_can_be(keys, parts):
    found = divide(0.0, 25.0, keys, 2.0, 10.0)
    assert np.allclose(found, parts)
    assert divide(1.0, 9.0, keys, 2.0, 10.0) == [(1.0, 9.0)]
