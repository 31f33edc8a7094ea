"""Rates and times: from time stamps, whatever headers say; what is shown at each moment."""

from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from muybridge.data.reading.opening import open_reader
from muybridge.data.reading.rhythm import rhythm_of, shown_at, uneven
from muybridge.data.video_io import read_video
from muybridge.errors import Notice
from tests.data.making_files import encode, steps, which

LOSSLESS = {"crf": "0", "preset": "ultrafast"}


@pytest.mark.parametrize("ending,codec", [("mp4", "libx264"), ("mkv", "libx264"), ("webm", "vp8"), ("flv", "flv"),
                                          ("wmv", "wmv2"), ("mpg", "mpeg2video"), ("ts", "libx264"),
                                          ("avi", "mpeg4")])  # fmt: skip
@pytest.mark.parametrize("rate", [Fraction(25), Fraction(24000, 1001)])
def test_the_rate_of_every_container(tmp_path, ending, codec, rate):
    path = encode(tmp_path / f"x.{ending}", steps(20), codec, rate, options={"bf": "0"} if codec == "mpeg4" else {})
    with open_reader(path) as reader:
        rhythm = reader.about.rhythm
    assert rhythm.fps == pytest.approx(float(rate), rel=1e-3) and not rhythm.variable and rhythm.count == 20
    assert which(read_video(path).frames) == list(range(20))


def test_a_header_that_contradicts_the_times(tmp_path):
    """A stream declared at 50 frames a second whose frames come every 0.2 s."""
    path = encode(tmp_path / "x.mkv", steps(10), rate=50, times=[i / 5 for i in range(10)], options=LOSSLESS)
    assert read_video(path).fps == pytest.approx(5.0)


@pytest.mark.parametrize("start", [-0.4, 0.0, 7.0])
def test_times_may_begin_anywhere(tmp_path, start):
    path = encode(
        tmp_path / "x.mkv", steps(10), times=[start + i / 10 for i in range(10)], options=LOSSLESS,
        container_options={"avoid_negative_ts": "disabled"},
    )  # fmt: skip
    clip = read_video(path)
    assert which(clip.frames) == list(range(10)) and clip.fps == pytest.approx(10)


def test_an_edit_list_leaves_out_what_it_hides(tmp_path):
    """An mp4 whose edit list begins 0.4 s into the media: its first four frames are not shown."""
    import av

    whole = encode(tmp_path / "whole.mp4", steps(12), options={**LOSSLESS, "bf": "0"})
    cut = tmp_path / "cut.mp4"
    with av.open(str(whole)) as source, av.open(str(cut), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        shift = round(0.4 / stream.time_base)
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, copy
                target.mux(packet)
    clip = read_video(cut)
    assert which(clip.frames) == list(range(4, 12)) and clip.fps == pytest.approx(10)


def test_a_variable_rate_shows_what_is_shown(tmp_path):
    times = [0, 0.1, 0.2, 0.8, 0.9, 1.0]
    path = encode(tmp_path / "x.mp4", steps(6), times=times, options=LOSSLESS)
    with pytest.warns(Notice, match="resampled from a variable rate to 10 frames a second"):
        clip = read_video(path)
    assert clip.fps == pytest.approx(10)
    assert which(clip.frames) == [0, 1, 2, 2, 2, 2, 2, 2, 3, 4, 5]
    with pytest.warns(Notice):
        assert which(read_video(path, 4).frames) == [0, 1, 2, 2]
    with open_reader(path) as reader:  # at a rate that is asked for, straight from the times
        assert which(reader.pictures(5)) == [0, 2, 2, 2, 3, 5]


@pytest.mark.parametrize("kind", ["gif", "webp", "apng", "png", "avif"])
def test_durations_of_animations(tmp_path, kind):
    path, shown = tmp_path / f"x.{kind}", [Image.fromarray(f) for f in steps(4)]
    options = {"lossless": True} if kind == "webp" else {"quality": 100} if kind == "avif" else {}
    durations = [100, 100, 1000, 100]
    kinds = {"apng": "PNG", "png": "PNG"}
    shown[0].save(
        path, kinds.get(kind), save_all=True, append_images=shown[1:], duration=durations, **options
    )  # fmt: skip
    with pytest.warns(Notice, match="variable rate to 10"):
        clip = read_video(path)
    assert clip.fps == pytest.approx(10) and which(clip.frames) == [0, 1, *[2] * 10, 3]


def test_an_animated_png_without_its_still(tmp_path):
    """A PNG that shows programs without animation another picture."""
    shown = [Image.fromarray(f) for f in steps(4)]
    shown[3].save(tmp_path / "x.png", save_all=True, append_images=shown[:3], default_image=True, duration=200)
    clip = read_video(tmp_path / "x.png")
    assert which(clip.frames) == [0, 1, 2] and clip.fps == pytest.approx(5)


def test_hidden_frames_do_not_count(tmp_path):
    """VP8 holds frames that are never shown, in packets with times of their own."""
    frames = np.random.default_rng(0).integers(0, 255, (40, 32, 48, 3), np.uint8)
    path = encode(tmp_path / "x.webm", list(frames), "libvpx", 25, options={"auto-alt-ref": "1", "lag-in-frames": "16"})
    clip = read_video(path)
    assert len(clip.frames) == 40 and clip.fps == pytest.approx(25)


def test_rules_of_rhythm():
    assert not uneven([0, 0.041, 0.083, 0.125]) and uneven([0, 0.04, 0.2, 0.24])
    even = rhythm_of(np.arange(10) / 30 + 5, header=1000)
    assert (even.fps, even.start, even.variable) == (pytest.approx(30), 5, False)
    assert rhythm_of(np.round(np.arange(100) * 1001 / 24000, 3), 24000 / 1001, 1e-3).fps == 24000 / 1001
    assert rhythm_of([0.0]).fps == 8 and rhythm_of([], 25.0).fps == 25
    long = rhythm_of([0, 0.001, 0.002, 60.0], 0, 0)
    assert long.variable and long.frames_at() <= 17  # never many more than are stored
    assert rhythm_of(np.arange(10) / 10).keeps(10) and not rhythm_of(np.arange(10) / 10).keeps(5)


def test_shown_at():
    class At:
        def __init__(self, time):
            self.time = time

    found = [f.time for f in shown_at([At(0.0), At(0.3), At(0.35), At(2.0)], 4, 10)]
    assert found == [0.0, 0.0, *[0.35] * 6, 2.0, 2.0]


def test_a_clock_that_jumps_back_is_told(tmp_path):
    from muybridge.data.folder import build_folder
    from muybridge.data.packs import report_lines
    from muybridge.data.sources.folder import FolderConfig

    (tmp_path / "clips").mkdir()
    part = encode(tmp_path / "a.ts", steps(20) * 3, "mpeg2video", 25).read_bytes()
    (tmp_path / "clips" / "joined.ts").write_bytes(part + part)
    (tmp_path / "clips" / "joined.txt").write_text("twice")
    store = build_folder(FolderConfig(str(tmp_path / "clips"), 16, 16, 4, fps=0, store=str(tmp_path / "s")))
    told = [line["reason"] for line in report_lines(store) if line["action"] == "trimmed"]
    assert any("its clock jumps back after 2." in reason for reason in told), told


def test_hasty_gifs_are_shown_as_browsers_do(tmp_path):
    pictures = [Image.fromarray(f) for f in steps(5)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=10)
    assert read_video(tmp_path / "a.gif").fps == 10


def test_hidden_files_are_no_frames(tmp_path):
    from muybridge.data.reading.frame_folders import pictures_of

    for name in ("f1.png", "f2.png"):
        Image.fromarray(steps(1)[0]).save(tmp_path / name)
        (tmp_path / f"._{name}").write_bytes(b"of a Mac")
    assert [p.name for p in pictures_of(tmp_path)[0]] == ["f1.png", "f2.png"]


@pytest.mark.parametrize("name", ["x.ts", "x.mpg", "x.mkv", "x.mp4"])
def test_a_span_in_the_middle_is_what_is_there(tmp_path, name):
    """MPEG-TS has no index: a search there may end behind the frames that are wanted."""
    generator = np.random.default_rng(0)
    pictures = list(generator.integers(0, 255, (150, 64, 96, 3), dtype=np.uint8))
    codec = "mpeg2video" if name.endswith("mpg") else "libx264"
    path = encode(tmp_path / name, pictures, codec, rate=25, options={"g": "25", "bf": "2"})
    with open_reader(path) as reader:
        every = [f.time for f in reader.frames()]
    assert len(every) == 150
    for start in (0.5, 0.96, 1.0, 2.0, 3.36, 5.0):
        with open_reader(path) as reader:
            found = [f.time for f in reader.frames(start, start + 0.8)]
        assert found == [t for t in every if start - 1e-6 <= t < start + 0.8 - 1e-6], start


def test_a_variable_rate_is_that_of_the_quicker_frames():
    rhythm = rhythm_of(np.cumsum([0.0] + [0.1, 0.3] * 6))
    assert rhythm.variable and rhythm.fps == pytest.approx(10)
    hasty = rhythm_of(np.cumsum([0.0] + [0.001, 1.0] * 6))  # but never more than four times as many as are stored
    assert hasty.fps == pytest.approx(4 * hasty.count / hasty.duration)
