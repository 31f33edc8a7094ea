"""Small footage with known truth."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.known_footage import film, write_film
from muybridge.curation.pipeline import Curation, CurationSettings
from muybridge.curation.survey import SurveySettings
from muybridge.data.video_io import write_video

QUICK = CurationSettings(survey=SurveySettings(min_seconds=1.0, max_seconds=4.0), per_shard=4)


@pytest.fixture(scope="session")
def footage(tmp_path_factory) -> Path:
    """Two films, one of them twice, and a still one."""
    folder = tmp_path_factory.mktemp("footage")
    (folder / "deep").mkdir()
    for seed in (0, 1):
        write_film(folder / f"film{seed}.mp4", film(seed, shots=3))
    (folder / "deep" / "copy.mp4").write_bytes((folder / "film0.mp4").read_bytes())
    (folder / "film1.txt").write_text("coloured things\nthat move")
    still = np.full((60, 90, 120, 3), 90, np.uint8)
    still[:, 20:40, 30:60] = (200, 40, 40)
    write_video(still, folder / "still.mp4", 24)
    return folder


@pytest.fixture
def run(footage, tmp_path):
    return Curation(footage, tmp_path / "out", QUICK)
