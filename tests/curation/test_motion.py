"""Motion in units that mean something, and whose it is."""

import cv2
import numpy as np
import pytest

from muybridge.curation.motion import measure_motion
from muybridge.curation.scores import (
    colourfulness,
    exposure,
    fingerprint,
    sharpness,
)
from muybridge.models.vision.optical_flow import flow_between


def texture(height, width, seed=0):
    rng = np.random.default_rng(seed)
    blurred = cv2.GaussianBlur(rng.normal(0, 1, (height, width, 3)).astype(np.float32), (0, 0), 4)
    return np.clip(blurred / blurred.std() * 45 + 128, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("shift", [1, 4, 12, 20])
def test_a_pan_measures_its_pixels(shift):
    wide = texture(180, 500)
    pictures = [wide[:, i * shift : i * shift + 320] for i in range(5)]
    motion = measure_motion(pictures, [i / 2 for i in range(5)])
    assert motion.pixels == pytest.approx(shift, rel=0.06)
    assert motion.motion == pytest.approx(2 * shift / 180, rel=0.06)
    assert motion.kind == "camera" and motion.things < 0.15 * motion.camera


def test_size_does_not_matter():
    wide = texture(180, 500)
    pictures = [wide[:, i * 8 : i * 8 + 320] for i in range(4)]
    large = [cv2.resize(p, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC) for p in pictures]
    seconds = [0, 0.5, 1, 1.5]
    assert measure_motion(large, seconds).motion == pytest.approx(measure_motion(pictures, seconds).motion, rel=0.05)


def test_things_and_stillness():
    ground = texture(180, 320)
    thing = texture(70, 70, seed=5) // 2 + 120
    pictures = []
    for i in range(4):
        picture = ground.copy()
        picture[50:120, 20 + 20 * i : 90 + 20 * i] = thing
        pictures.append(picture)
    moving = measure_motion(pictures, [0, 0.5, 1, 1.5])
    assert moving.kind == "things" and moving.things > 3 * moving.camera
    still = measure_motion([ground] * 4, [0, 0.5, 1, 1.5])
    assert still.pixels < 0.01 and still.kind == "static"
    assert measure_motion([ground], [0.0]) is None
    with pytest.raises(ValueError, match="farneback"):
        flow_between(ground[..., 0], ground[..., 0], "raft")


def test_pictures_and_fingerprints():
    picture = texture(120, 160)
    soft = cv2.GaussianBlur(picture, (0, 0), 4)
    assert sharpness(soft) < 0.7 * sharpness(picture)
    grey = np.repeat(picture.mean(-1, keepdims=True).astype(np.uint8), 3, -1)
    assert colourfulness(grey) < 1 < colourfulness(picture)
    assert exposure(np.zeros_like(picture)) == 0 and exposure(picture) > 0.9
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 40])
    small = cv2.resize(cv2.imdecode(data, 1), (100, 75), interpolation=cv2.INTER_AREA)
    hashes = [int(fingerprint(p), 16) for p in (picture, small, texture(120, 160, 9))]
    same, other = ((hashes[0] ^ h).bit_count() / 64 for h in hashes[1:])
    assert same < 0.05 and other > 0.25
