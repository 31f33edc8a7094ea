"""A long file watched in stretches gives what it gives watched at once."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.known_footage import FPS, film, write_film
from muybridge.curation.footage import FootageError, Probe, frames_between, frames_of, open_footage
from muybridge.curation.survey import SurveySettings, Watched, probe_file, stretches_of, survey, watch
from muybridge.data.video_io import write_video
from muybridge.errors import UserError

SETTINGS = SurveySettings(min_seconds=1.0, max_seconds=4.0)


@pytest.fixture(scope="module")
def long_film(tmp_path_factory):
    return write_film(tmp_path_factory.mktemp("long") / "film.mp4", film(3, shots=12))


def surveyed(path, settings):
    probe = probe_file(path)
    seen = [watch(path, *span, settings) for span in stretches_of(probe, settings.stretch_seconds)]
    return survey("film.mp4", "id", probe, seen, settings), len(seen)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [10.0, 7.3])
def test_stretches_give_what_the_whole_gives(long_film, seconds):
    (whole, pictures), one = surveyed(long_film, SETTINGS)
    (parts, same), several = surveyed(long_film, replace(SETTINGS, stretch_seconds=seconds))
    assert one == 1 and several >= 3
    for key in ("frames", "keys", "duration", "variable_rate"):
        assert parts["probe"][key] == whole["probe"][key]
    assert len(parts["zones"]) == len(whole["zones"]) > 3
    for mine, theirs in zip(parts["zones"], whole["zones"], strict=True):
        assert abs(mine[0] - theirs[0]) < 0.3 and abs(mine[1] - theirs[1]) < 0.3
    if seconds * SETTINGS.look_fps % 1 == 0:
        assert parts["probe"]["looked"] == whole["probe"]["looked"] and same == pictures


def test_frames_between_are_those_of_the_whole(long_film):
    with open_footage(long_film) as container:
        whole = [(f.time, f.rgb(48)) for f in frames_of(container)]
    between = [(f.time, f.rgb(48)) for f in frames_between(long_film, 5.0, 9.0)]
    wanted = [(t, p) for t, p in whole if 5.0 - 1e-6 <= t < 9.0 - 1e-6]
    assert [t for t, _ in between] == [t for t, _ in wanted]
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(between, wanted, strict=True))


def test_a_file_that_cannot_be_sought_is_read_from_its_beginning(tmp_path, monkeypatch):
    frames = np.random.default_rng(0).integers(0, 255, (96, 48, 64, 3), np.uint8)
    path = write_video(frames, tmp_path / "still.mp4", FPS)

    def lost(container, start=0.0, end=float("inf")):
        """As a container whose index leads to its last second."""
        return (f for f in frames_of(container, 0.0, end) if not start or f.time > 3.0)

    monkeypatch.setattr("muybridge.curation.footage.frames_of", lost)
    times = [f.time for f in frames_between(path, 1.0, 2.0)]
    assert len(times) == 24 and times[0] == pytest.approx(1.0)


PROBE = Probe(64, 48, 0, 10.0, 1.1, "h264", "yuv420p", False)


def test_what_comes_after_a_break_is_not_used():
    good = Watched(times=[0.0, 0.1], keys=[0.0])
    broken = Watched(times=[0.2], problem={"kind": "breaks off", "message": "breaks off after 0.20 s"})
    later = Watched(times=[0.9, 1.0])
    record, _ = survey("a.mp4", "id", PROBE, [good, broken, later], SETTINGS)
    assert record["probe"]["frames"] == 3 and record["problem"]["kind"] == "breaks off"


@pytest.mark.parametrize(("kind", "told"), [("crashed", "crashed"), ("breaks off", "no frame")])
def test_a_file_without_a_frame_says_why(kind, told):
    with pytest.raises(FootageError) as error:
        survey("a.mp4", "id", PROBE, [Watched(problem={"kind": kind, "message": "it did"})], SETTINGS)
    assert error.value.kind == told and error.value.message == "it did"


def test_a_break_belongs_to_the_stretch_it_lies_in(long_film, monkeypatch):
    """A file that breaks off at 11 s, watched in stretches of 10 s: the first looks beyond its end, but is whole."""

    def breaking(container, start=0.0, end=float("inf")):
        for frame in frames_of(container, start, end):
            if frame.time > 11:
                raise FootageError("breaks off", "breaks off after 11.00 s")
            yield frame

    monkeypatch.setattr("muybridge.curation.footage.frames_of", breaking)
    (record, _), count = surveyed(long_film, replace(SETTINGS, stretch_seconds=10.0))
    assert count >= 3 and record["problem"]["message"] == "breaks off after 11.00 s"
    assert record["probe"]["duration"] == pytest.approx(11.0, abs=0.1)


def test_errors():
    with pytest.raises(UserError, match="stretch_seconds"):
        SurveySettings(stretch_seconds=0.0)
