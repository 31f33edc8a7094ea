"""Text is what can be read: lines of words count, stripes and chequers that look like lines do not."""

import cv2
import numpy as np
import pytest

from muybridge.curation.scores import text_area

pytest.importorskip("rapidocr_onnxruntime")


def ground(side=180, width=320):
    return np.full((side, width, 3), 40, np.uint8)


def test_a_line_of_words_counts_by_its_area():
    picture = ground()
    (width, height), _ = cv2.getTextSize("the quick brown fox", cv2.FONT_HERSHEY_SIMPLEX, 0.8, 2)
    cv2.putText(picture, "the quick brown fox", (10, 100), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (240, 240, 240), 2)
    area = text_area(picture)
    assert area == pytest.approx(width * height / (180 * 320), rel=0.9)
    cv2.putText(picture, "jumps over a dog", (10, 40), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (240, 240, 240), 2)
    assert text_area(picture) > 1.4 * area


def test_what_only_looks_like_lines_does_not():
    stripes, chequers = ground(), ground()
    stripes[(np.arange(180) // 9) % 2 == 0] = 200
    y, x = np.mgrid[0:180, 0:320]
    chequers[(y // 12 + x // 12) % 2 == 0] = (200, 180, 60)
    for picture in (ground(), stripes, chequers):
        assert text_area(picture) == 0.0
