"""Folders of numbered pictures, and what `data build` tells of every file."""

import numpy as np
import pytest
from PIL import Image

from muybridge.data.folder import FolderConfig, build_folder
from muybridge.data.packs import PackedSource, report_lines
from muybridge.data.reading.formats import FILMS, PICTURES, VIDEOS
from muybridge.data.reading.frame_folders import gaps_of, order_of, pictures_of
from tests.data.making_files import encode, steps, which

LOSSLESS = {"crf": "0", "preset": "ultrafast"}


def folder_of(root, numbers, name="frame{}.png", caption="a grey step"):
    folder = root / "clip"
    folder.mkdir(parents=True)
    for i, number in enumerate(numbers):
        Image.fromarray(steps(len(numbers))[i]).save(folder / name.format(number))
    (root / "clip.txt").write_text(caption)
    return folder


def built(root, tmp_path, **options):
    config = FolderConfig(str(root), **{"height": 16, "width": 16, "num_frames": 4, "fps": 0.0, **options},
                          store=str(tmp_path / "store"))  # fmt: skip
    store = build_folder(config)
    source = PackedSource(store, "all", config.num_frames, loops=False)
    return [source.clip(i) for i in range(len(source))], list(report_lines(store))


@pytest.mark.parametrize("name", ["frame{}.png", "{}.jpg", "shot 2 take{}x.webp", "IMG_{}.tif"])
def test_pictures_come_in_the_order_of_their_numbers(tmp_path, name):
    folder_of(tmp_path / "in", range(1, 13), name)
    clips, report = built(tmp_path / "in", tmp_path, num_frames=12)
    assert len(clips) == 1 and which(clips[0].frames) == list(range(12)) and not report
    assert clips[0].fps == 8


def test_gaps_are_told(tmp_path):
    folder_of(tmp_path / "in", [1, 2, 3, 7, 8, 10, 11, 12])
    clips, report = built(tmp_path / "in", tmp_path, num_frames=8)
    assert which(clips[0].frames) == list(range(8))
    assert report == [
        {"file": "clip", "action": "gap", "reason": "no picture is numbered 4 to 6, 9; those around follow each other"}
    ]


@pytest.mark.parametrize(
    "in_order",
    [
        ["f01b", "F1", "f9", "f10", "f²"],
        ["t0.0", "t0.25", "t0.5", "t1.0", "t1.125", "t1.5", "t10.5"],  # as programs print numbers with a point
        ["shot1.8", "shot1.9", "shot1.10", "shot1.11", "shot2.1"],  # which these are not
        ["z_-10", "z_-2", "z_0", "z_3", "z_11"],
        ["z_-1", "z_-2", "z_-10"],  # all of them have it: it parts words
        ["take 1-10", "take 2-9", "take 10-1"],
        [f"f{n:02x}" for n in range(5, 40)],
        [f"{n}{take}" for n in (1, 2, 10, 11) for take in "ab"],
        ["99999999999999999998", "99999999999999999999", "100000000000000000000"],
    ],
)
def test_rules_of_order(in_order):
    assert sorted(sorted(in_order), key=order_of(in_order)) == in_order
    assert sorted(sorted(in_order, reverse=True), key=order_of(in_order)) == in_order


def test_rules_of_gaps():
    assert gaps_of(["f0", "f5", "f10"]) == "" and gaps_of(["f0", "f5", "f10", "f20"]) == "15"
    assert gaps_of(["a", "b"]) == "" and gaps_of([]) == "" and gaps_of(["x1"]) == ""
    assert gaps_of(["f1_640x480", "f2_640x480", "f4_640x480"]) == "3"


def pictures_in(folder, *names):
    for name in names:
        Image.fromarray(steps(1)[0]).save(folder / name)
    pictures, told = pictures_of(folder)
    return [p.name for p in pictures], told


def test_a_frame_that_lies_there_twice_is_taken_once(tmp_path):
    names, told = pictures_in(tmp_path, "f1.png", "f2.png", "f1.jpg", "f2.jpg", "f3.jpg")
    assert names == ["f1.jpg", "f2.jpg", "f3.jpg"]  # the commoner ending
    assert told == [("dropped", "f1.png, f2.png: the same name with another ending is taken (.jpg)")]
    (tmp_path / "f3.jpg").unlink()
    assert pictures_in(tmp_path)[0] == ["f1.png", "f2.png"]


def test_two_numberings_in_one_folder_are_told(tmp_path):
    names, told = pictures_in(tmp_path, "left_1.png", "right_1.png", "left_2.png", "right_2.png", "right_5.png")
    assert names == ["left_1.png", "left_2.png", "right_1.png", "right_2.png", "right_5.png"]
    assert [action for action, _ in told] == ["order", "gap"] and "left_#, right_#" in told[0][1]
    assert "numbered 3 to 4;" in told[1][1]


@pytest.mark.parametrize(("damaged", "shown"), [(0, [1, 2, 3]), (2, [0, 1, 1, 3]), (3, [0, 1, 2, 2])])
@pytest.mark.parametrize("how", ["header", "body"])
def test_a_picture_that_cannot_be_read_does_not_cost_its_folder(damaged, shown, how, tmp_path):
    folder = folder_of(tmp_path / "in", range(4))
    file = folder / f"frame{damaged}.png"
    file.write_bytes(b"nothing" if how == "header" else file.read_bytes()[:60])
    clips, report = built(tmp_path / "in", tmp_path, num_frames=len(shown))
    assert [which(c.frames) for c in clips] == [shown]
    assert [r["action"] for r in report] == ["gap"] and file.name in report[0]["reason"]


def test_a_folder_of_pictures_of_which_none_can_be_read(tmp_path):
    folder = folder_of(tmp_path / "in", range(3))
    for file in folder.iterdir():
        file.write_bytes(b"nothing")
    encode(tmp_path / "in" / "good.mp4", steps(4), options=LOSSLESS)
    (tmp_path / "in" / "good.txt").write_text("good")
    _, report = built(tmp_path / "in", tmp_path)
    assert [r["action"] for r in report] == ["gap"] * 3 + ["dropped"]


@pytest.mark.parametrize("text,rate", [("24", 24), ("24000/1001\n", 24000 / 1001), ("\ufeff12.5", 12.5)])
def test_a_rate_beside_the_pictures(tmp_path, text, rate):
    (folder_of(tmp_path / "in", range(12)) / "fps.txt").write_text(text, encoding="utf-8")
    clips, _ = built(tmp_path / "in", tmp_path)
    assert clips[0].fps == pytest.approx(rate) and len(clips) == 3


def test_a_rate_in_the_recipe_and_resampling(tmp_path):
    folder_of(tmp_path / "in", range(12))
    clips, _ = built(tmp_path / "in", tmp_path, picture_fps=24.0, fps=8.0)
    assert [which(c.frames) for c in clips] == [[0, 3, 6, 9]]


@pytest.mark.parametrize("text", ["fast", "0", "-3", "1/0", "1e9"])
def test_a_rate_that_is_none(tmp_path, text):
    (folder_of(tmp_path / "in", range(12)) / "fps.txt").write_text(text)
    encode(tmp_path / "in" / "good.mp4", steps(4), options=LOSSLESS)
    (tmp_path / "in" / "good.txt").write_text("good")
    _, report = built(tmp_path / "in", tmp_path)
    assert [(r["file"], r["action"]) for r in report] == [("clip", "dropped")] and "fps.txt" in report[0]["reason"]


def test_pictures_of_other_sizes_are_told(tmp_path):
    folder = folder_of(tmp_path / "in", range(4))
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "frame9.png")
    encode(tmp_path / "in" / "good.mp4", steps(4), options=LOSSLESS)
    (tmp_path / "in" / "good.txt").write_text("good")
    _, report = built(tmp_path / "in", tmp_path)
    assert "differ in size" in report[-1]["reason"]


ENCODED = {
    "mp4": ("libx264", "yuv420p"), "mov": ("prores_ks", "yuv422p10le"), "mkv": ("libx264", "yuv420p"),
    "webm": ("vp8", "yuv420p"), "avi": ("mpeg4", "yuv420p"), "wmv": ("wmv2", "yuv420p"), "flv": ("flv", "yuv420p"),
    "mpg": ("mpeg2video", "yuv420p"), "mpeg": ("mpeg2video", "yuv420p"), "ts": ("libx264", "yuv420p"),
    "mts": ("libx264", "yuv420p"), "m2ts": ("libx264", "yuv420p"), "3gp": ("libx264", "yuv420p"),
    "mxf": ("mpeg2video", "yuv422p"), "ogv": ("vp8", "yuv420p"), "y4m": ("rawvideo", "yuv420p"),
    "m4v": ("libx264", "yuv420p"), "asf": ("wmv2", "yuv420p"), "vob": ("mpeg2video", "yuv420p"),
    "f4v": ("libx264", "yuv420p"), "nut": ("ffv1", "yuv420p"), "ivf": ("libvpx-vp9", "yuv420p"), "dv": None,
}  # fmt: skip
LAYOUTS = {"wmv": "asf", "y4m": "yuv4mpegpipe", "mts": "mpegts", "m2ts": "mpegts", "mpeg": "mpeg", "asf": "asf",
           "m4v": "mp4", "vob": "vob", "f4v": "mp4", "mxf": "mxf"}  # fmt: skip


@pytest.mark.parametrize("ending", [e for e, how in ENCODED.items() if how])
def test_every_container_is_read_by_every_command(tmp_path, ending):
    codec, pix = ENCODED[ending]
    (tmp_path / "in").mkdir()
    encode(tmp_path / "in" / f"x.{ending}", steps(8, 64, 96), codec, 25, pix=pix, layout=LAYOUTS.get(ending))
    (tmp_path / "in" / "x.txt").write_text("steps")
    assert f".{ending}" in VIDEOS
    clips, _ = built(tmp_path / "in", tmp_path)
    assert len(clips) == 2 and which(clips[0].frames) == [0, 1, 2, 3] and clips[0].fps == pytest.approx(25, rel=1e-3)
    from muybridge.curation.survey import probe_file

    probe = probe_file(tmp_path / "in" / f"x.{ending}")
    assert (probe.width, probe.height) == (96, 64) and probe.fps == pytest.approx(25, rel=1e-3)


def test_endings_are_lists_of_their_own():
    assert not FILMS & PICTURES and not VIDEOS & PICTURES


def test_conversions_are_lines_of_the_report(tmp_path):
    (tmp_path / "in").mkdir()
    encode(tmp_path / "in" / "wide.mp4", steps(8, 64, 64), options=LOSSLESS, shape="2")
    encode(tmp_path / "in" / "uneven.mp4", steps(6), times=[0, 0.1, 0.2, 0.8, 0.9, 1.0], options=LOSSLESS)
    for name in ("wide", "uneven"):
        (tmp_path / "in" / f"{name}.txt").write_text(name)
    clips, report = built(tmp_path / "in", tmp_path, fps=5.0)
    lines = {(r["file"], r["action"]): r["reason"] for r in report}
    assert lines["wide.mp4", "converted"] == "pixels made square: 64x64 scaled to 128x64"
    assert lines["uneven.mp4", "converted"] == "resampled from a variable rate to 5 frames a second"
    assert which(next(c for c in clips if c.caption == "uneven").frames) == [0, 2, 2, 2]


def test_a_file_that_breaks_off_is_used_as_far_as_it_goes(tmp_path):
    (tmp_path / "in").mkdir()
    frames = [np.random.default_rng(i).integers(0, 255, (64, 96, 3), np.uint8) for i in range(40)]
    path = encode(tmp_path / "in" / "x.mkv", frames, "ffv1", 25, pix="yuv420p")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 30000] = bytes(30000)
    path.write_bytes(data)
    (tmp_path / "in" / "x.txt").write_text("noise")
    clips, _ = built(tmp_path / "in", tmp_path)
    assert 2 <= len(clips) <= 10 and all(np.ptp(c.frames) > 20 for c in clips)


def test_a_link_that_leads_nowhere_has_its_line(tmp_path):
    folder_of(tmp_path / "in", range(4))
    (tmp_path / "in" / "x.mp4").symlink_to(tmp_path / "nothing.mp4")
    (tmp_path / "in" / "x.txt").write_text("x")
    _, report = built(tmp_path / "in", tmp_path)
    assert [(r["file"], r["action"]) for r in report] == [("x.mp4", "dropped")] and "link" in report[0]["reason"]
