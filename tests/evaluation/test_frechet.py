"""Frechet distances: closed forms, and that the motion distance sees what it should."""

import numpy as np
import pytest

from muybridge.evaluation.frechet import clip_features, frechet_distance
from muybridge.evaluation.motion import order_ratio


def test_closed_form():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 4)) * [1, 2, 3, 4]
    assert frechet_distance(x, x) < 1e-6
    assert frechet_distance(x, x + np.array([0, 0, 0, 5.0])) == pytest.approx(25, rel=1e-6)
    # doubling a Gaussian's scale: sum of (2 s - s)^2
    assert frechet_distance(x, 2 * (x - x.mean(0)) + x.mean(0)) == pytest.approx(1 + 4 + 9 + 16, rel=0.1)


@pytest.mark.slow
def test_motion_distance_sees_shuffled_and_frozen_frames():
    from muybridge.data.world import WorldConfig, WorldSource
    from muybridge.models.vision.picture_features import PictureFeatures

    plain = dict(motions=("left", "right"), sizes=("medium",), backgrounds=("dark",), pans=("none",), two_things=0.0)
    source = WorldSource(WorldConfig(height=48, width=48, num_frames=8, num_clips=60, **plain))
    clips = [source.clip(i).frames for i in range(60)]
    network = PictureFeatures()
    rng = np.random.default_rng(0)
    real, other = clip_features(network, clips[:30]), clip_features(network, clips[30:])
    shuffled = clip_features(network, [c[rng.permutation(8)] for c in clips[30:]])
    frozen = clip_features(network, [c[:1].repeat(8, 0) for c in clips[30:]])
    floor = frechet_distance(real.motion, other.motion)
    assert frechet_distance(real.motion, shuffled.motion) > 1.5 * floor
    assert frechet_distance(real.motion, frozen.motion) > 1.5 * floor
    appearance = frechet_distance(real.appearance, other.appearance)
    assert frechet_distance(real.appearance, shuffled.appearance) == pytest.approx(appearance, rel=1e-4)


def test_order_is_told_from_disorder():
    steady = np.stack([np.roll(np.tile(np.arange(0, 240, 10, dtype=np.uint8), (24, 1)), i, 1) for i in range(8)])
    steady = np.repeat(steady[..., None], 3, -1)[:, :, 8:]  # a ramp that moves, without the edge where it wraps
    noise = np.random.default_rng(0).integers(0, 255, (8, 24, 24, 3), dtype=np.uint8)
    assert abs(order_ratio(steady) - 2) < 0.01 and abs(order_ratio(noise) - 1) < 0.05
    assert order_ratio(np.repeat(noise[:1], 8, 0)) == 0
