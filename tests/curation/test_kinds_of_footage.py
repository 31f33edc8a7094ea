"""Footage of every kind comes out as clips that all read: right in colour, shape and time, with sound."""

import os
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from muybridge.curation.cutting import can_copy, copy_clip, encode_clip, note_of
from muybridge.curation.footage import FootageError
from muybridge.curation.pipeline import Curation
from muybridge.curation.select import SelectSettings
from muybridge.data.reading.opening import open_reader
from muybridge.data.video_io import read_video
from tests.curation.conftest import QUICK
from tests.data.making_files import encode, heard, pitch, planes
from tests.data.test_colours import NITS, grey_steps, seen
from tests.data.test_colours import pq as pq_curve
from tests.data.test_shapes import circle, combed, sides, woven

ALL = replace(
    QUICK, select=SelectSettings(drop={"motion": 0.0, "sharpness": 0.0, "exposure": 0.0}, duplicates=0.0)
)  # fmt: skip


def moving(count=50, height=64, width=96, seed=0):
    """A textured square that moves over a textured ground."""
    rng = np.random.default_rng(seed)
    ground = rng.integers(40, 120, (height // 8, width // 8, 1)).repeat(8, 0).repeat(8, 1)
    thing = rng.integers(120, 250, (5, 5, 1)).repeat(4, 0).repeat(4, 1)
    out = []
    for i in range(count):
        frame = ground.repeat(3, 2)
        frame[20:40, i % (width - 20) : i % (width - 20) + 20] = thing
        out.append(frame.astype(np.uint8))
    return out


def curated(folder, output, settings=ALL):
    run = Curation(folder, output, settings)
    outcome = run.run()
    return outcome, pq.read_table(run.output / "manifest.parquet").to_pylist()


KINDS = {
    "vp8.webm": ("libvpx", "yuv420p", False),
    "vp9.webm": ("libvpx-vp9", "yuv420p", True),
    "prores.mov": ("prores_ks", "yuv422p10le", False),
    "wmv.wmv": ("wmv2", "yuv420p", False),
    "flv.flv": ("flv", "yuv420p", False),
    "mjpeg.avi": ("mjpeg", "yuvj420p", False),
    "ffv1.mkv": ("ffv1", "yuv420p", False),
    "huff.avi": ("ffvhuff", "yuv420p", False),
    "raw.y4m": ("rawvideo", "yuv420p", False),
    "png.mov": ("png", "rgb24", False),
    "h264.ts": ("libx264", "yuv420p", True),
    "h265.mp4": ("libx265", "yuv420p", True),
    "ten.mp4": ("libx264", "yuv420p10le", True),
    "mpeg2.mpg": ("mpeg2video", "yuv420p", False),
    "old.avi": ("msmpeg4", "yuv420p", False),
    "mpeg4.avi": ("mpeg4", "yuv420p", True),
    "four.mp4": ("libx264", "yuv444p", True),
    "apng.apng": ("apng", "rgb24", False),
}


@pytest.mark.slow
def test_every_codec_is_cut(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    frames = moving()
    for name, (codec, pix, _) in KINDS.items():
        layout = {"wmv": "asf", "y4m": "yuv4mpegpipe"}.get(name.rpartition(".")[2])
        options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
        encode(folder / name, frames, codec, 25, pix=pix, layout=layout, options=options)
    _outcome, rows = curated(folder, tmp_path / "out")
    assert {r["path"]: (r["keep"], r["reasons"]) for r in rows} == {name: (True, []) for name in KINDS}
    for row in rows:
        path = tmp_path / "out" / row["file"]
        clip = read_video(path)
        assert clip.frames.shape == (50, 64, 96, 3) and clip.fps == pytest.approx(25, rel=1e-2), row["path"]
        assert np.abs(clip.frames[25].astype(int) - frames[25]).mean() < 10, row["path"]
        assert not row["copied"] or KINDS[row["path"]][2], row["path"]
        assert row["copied"] == note_of(path)["copied"]
    copied = {r["path"] for r in rows if r["copied"]}
    assert {"h264.ts", "h265.mp4", "ten.mp4", "four.mp4", "vp9.webm"} <= copied


def test_what_an_mp4_does_not_take_is_encoded_after_all(tmp_path, monkeypatch):
    """Also in a run that goes on: a clip that is there says itself how it was cut."""
    folder = tmp_path / "in"
    folder.mkdir()
    encode(folder / "x.mp4", moving(), rate=25)

    def refuses(*_):
        raise FootageError("no copy", "mp4 does not hold it")

    monkeypatch.setattr("muybridge.curation.cutting._copy", refuses)
    from muybridge.curation.shards import write_clip

    outcome, _ = curated(folder, tmp_path / "seen")
    (source,) = outcome.sources
    clip = {**source["clips"][0], "reasons": [], "problems": []}
    made = [write_clip({**clip}, source["probe"], folder, tmp_path / "out", "auto") for _ in range(2)]
    assert made[0] == made[1] and not made[0]["copied"] and (tmp_path / "out" / made[0]["file"]).is_file()
    monkeypatch.undo()
    again = write_clip({**clip}, source["probe"], folder, tmp_path / "out", "auto")
    assert again == made[0]
    monkeypatch.setattr("muybridge.curation.cutting._copy", refuses)
    dropped = write_clip({**clip, "reasons": []}, source["probe"], folder, tmp_path / "other", "copy")
    assert not dropped["keep"] and "mp4 does not hold it" in dropped["reasons"][0]


def test_times_that_a_copy_would_lose_are_refused(tmp_path):
    path = encode(tmp_path / "x.avi", moving(), "mpeg4", 25, options={"bf": "2"})
    with pytest.raises(FootageError, match="avi keeps no times"):
        copy_clip(path, tmp_path / "out.mp4", 0.0, 2.0)


def test_hdr_clips_are_tone_mapped_and_tagged(tmp_path):
    import av

    source = grey_steps(tmp_path / "x.mp4", pq_curve, "smpte2084")
    with open_reader(source) as reader:
        about = reader.about
    probe = {
        "plain": about.plain,
        "rotation": 0,
        "variable_rate": False,
        "codec": "hevc",
        "pixel_format": "yuv420p10le",
    }
    assert not about.plain and not can_copy(probe) and can_copy({**probe, "plain": True})
    encode_clip(source, tmp_path / "out.mp4", 0.0, 0.4)
    with av.open(str(tmp_path / "out.mp4")) as container:
        frame = next(container.decode(video=0))
        assert [int(t) for t in (frame.colorspace, frame.color_range, frame.color_trc, frame.color_primaries)] == [
            1
        ] * 4
    grey = seen(tmp_path / "out.mp4")[:, 1]
    below = NITS < 0.8 * 203
    assert np.abs(grey[below] - 255 * (NITS[below] / 203) ** (1 / 2.4)).max() <= 6 and 238 <= grey[5] <= 252


@pytest.mark.parametrize("height,code", [(64, 6), (720, 1)])
def test_untagged_clips_get_the_tags_of_their_size(tmp_path, height, code):
    import av

    source = encode(tmp_path / "x.mkv", moving(8, height, 128), rate=25, options={"crf": "4"})
    encode_clip(source, tmp_path / "out.mp4", 0.0, 1.0, crf=4)
    with av.open(str(tmp_path / "out.mp4")) as container:
        frame = next(container.decode(video=0))
    assert (int(frame.colorspace), int(frame.color_range)) == (code, 1)
    before, after = read_video(source).frames, read_video(tmp_path / "out.mp4").frames
    assert np.abs(before.astype(int) - after).mean() < 3


def test_anamorphic_and_interlaced_clips(tmp_path):
    wide = encode(tmp_path / "wide.mp4", [circle(2)] * 10, rate=25, shape="2", options={"crf": "4"})
    encode_clip(wide, tmp_path / "w.mp4", 0.0, 0.4)
    frame = read_video(tmp_path / "w.mp4").frames[0]
    high, broad = sides(frame)
    assert frame.shape == (64, 128, 3) and abs(high - 48) <= 2 and abs(broad - 48) <= 3
    lines = encode(tmp_path / "i.mp4", woven(12), rate=25, options={"x264-params": "tff=1", "crf": "4"})
    encode_clip(lines, tmp_path / "p.mp4", 0.0, 0.4)
    assert max(combed(f) for f in read_video(tmp_path / "p.mp4").frames[1:-1]) < 2.5


@pytest.mark.parametrize("kind", ["wide", "interlaced", "hdr"])
def test_such_files_are_never_copied(tmp_path, kind):
    folder = tmp_path / "in"
    folder.mkdir()
    frames = moving()
    if kind == "wide":
        encode(folder / "x.mp4", frames, rate=25, shape="2")
    elif kind == "interlaced":
        encode(folder / "x.mp4", frames, rate=25, options={"x264-params": "tff=1"})
    else:
        luma = [np.asarray(f[..., 1], np.uint16) * 3 + 64 for f in frames]
        params = "log-level=none:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:range=limited"
        encode(folder / "x.mp4", [planes(y) for y in luma], "libx265", 25, pix="yuv420p10le",
               options={"x265-params": params})  # fmt: skip
    outcome, (row,) = curated(folder, tmp_path / "out")
    assert row["keep"] and not row["copied"] and outcome.sources[0]["probe"]["changes"]
    clip = read_video(tmp_path / "out" / row["file"])
    assert clip.frames.shape[1:] == ((64, 192, 3) if kind == "wide" else (64, 96, 3))
    assert (row["width"], row["height"]) == clip.frames.shape[2:0:-1]


@pytest.mark.parametrize("split", ["auto", "exact"])
def test_clips_keep_their_sound(tmp_path, split):
    folder = tmp_path / "in"
    folder.mkdir()
    encode(folder / "x.mp4", moving(), rate=25, tone=440)
    _, (row,) = curated(folder, tmp_path / "out", replace(ALL, split=split))
    assert row["copied"] == (split == "auto")
    samples, rate, start = heard(tmp_path / "out" / row["file"])
    assert pitch(samples[2000:-2000], rate) == pytest.approx(440, abs=3)
    assert len(samples) / rate == pytest.approx(2.0, abs=0.06) and abs(start) < 0.05


def test_sound_that_cannot_be_decoded_has_its_line(tmp_path, monkeypatch):
    folder = tmp_path / "in"
    folder.mkdir()
    encode(folder / "x.mp4", moving(), rate=25, tone=440)
    from muybridge.curation.shards import write_clip

    outcome, _ = curated(folder, tmp_path / "seen")
    (source,) = outcome.sources
    clip = {**source["clips"][0], "problems": []}

    def broken(*_):
        raise ValueError("no decoder")

    monkeypatch.setattr("muybridge.curation.cutting.SoundTrack", broken)
    made = write_clip({**clip, "problems": []}, source["probe"], folder, tmp_path / "out", "auto")
    told = {"stage": "cut", "kind": "silent", "message": "its sound cannot be kept: ValueError: no decoder"}
    assert made["problems"] == [told] and heard(tmp_path / "out" / made["file"]) is None
    monkeypatch.undo()
    assert write_clip({**clip, "problems": []}, source["probe"], folder, tmp_path / "out", "auto")["problems"] == [told]


# --- names ----------------------------------------------------------------------------------------------------------


def test_a_copy_under_another_ending_does_not_hide_a_film(footage, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(footage / "film1.mp4", folder / "film.mp4")
    shutil.copy(footage / "film1.mp4", folder / "film.bak")
    shutil.copy(footage / "film1.mp4", folder / "zfilm.mkv")
    outcome, _ = curated(folder, tmp_path / "out")
    (source,) = outcome.sources
    assert source["path"] == "film.mp4" and source["twins"] == ["film.bak", "zfilm.mkv"] and source["clips"]
    (folder / "film.mp4").unlink()
    (folder / "zfilm.mkv").unlink()
    outcome, (row,) = curated(folder, tmp_path / "out")
    assert row["reasons"] == ["not video: .bak is not a video file's ending"]
    (folder / "film.bak").rename(folder / "film.mp4")
    outcome, _ = curated(folder, tmp_path / "out")
    assert outcome.sources[0]["clips"] and not outcome.sources[0]["problem"]


def test_links_and_pipes_have_their_lines(footage, tmp_path):
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    shutil.copy(footage / "film1.mp4", folder / "film.mp4")
    (folder / "gone.mp4").symlink_to(tmp_path / "nothing.mp4")
    (folder / "circle.mp4").symlink_to("circle.mp4")
    (folder / "deep" / "up").symlink_to("..")
    (folder / "linked.mp4").symlink_to("film.mp4")
    os.mkfifo(folder / "pipe.mp4")
    (folder / os.fsdecode(b"caf\xe9.mp4")).write_bytes(b"of another system")
    outcome, rows = curated(folder, tmp_path / "out")
    kinds = {s["path"]: s["problem"].get("kind", "") for s in outcome.sources}
    assert kinds == {
        "film.mp4": "", "gone.mp4": "link", "circle.mp4": "link", "deep/up": "link", "pipe.mp4": "no file",
        "caf\\xe9.mp4": "name",
    }  # fmt: skip
    assert {r["path"] for r in rows} == {*kinds, "linked.mp4"}
    assert all(r["reasons"] for r in rows if not r["keep"])


def test_runs_agree_byte_by_byte(tmp_path):
    """With damage, sound, other codecs and shapes: twice, and with one and several threads."""
    folder = tmp_path / "in"
    folder.mkdir()
    encode(folder / "a.mp4", moving(), rate=25, tone=300, shape="2")
    encode(folder / "b.webm", moving(seed=1), "libvpx", 25)
    data = bytearray(encode(folder / "c.mkv", moving(seed=2), rate=25, options={"g": "10"}).read_bytes())
    for place in np.random.default_rng(0).integers(len(data) // 2, len(data), 40):
        data[place] ^= 0xFF
    (folder / "c.mkv").write_bytes(data)
    found = []
    for cores in (1, 4):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("os.cpu_count", lambda cores=cores: cores)
            curated(folder, tmp_path / f"out{cores}")
        out = tmp_path / f"out{cores}"
        found.append({p.relative_to(out).as_posix(): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()})
    assert found[0].keys() == found[1].keys()
    assert [n for n in found[0] if found[0][n] != found[1][n] and n not in ("run.json",)] == []
    assert b"avcodec_" not in found[0]["manifest.parquet"]
