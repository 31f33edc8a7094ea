"""Turned, mirrored, anamorphic and interlaced video; damage; sizes that are refused; memory."""

import os
import resource
import subprocess
import sys

import numpy as np
import pytest

from muybridge.data.reading.opening import open_reader
from muybridge.data.reading.orientation import of_matrix, upright
from muybridge.data.video_io import read_video, write_video
from muybridge.errors import Notice, UserError
from tests.data.making_files import encode, steps

LOSSLESS = {"crf": "0", "preset": "ultrafast"}


def circle(shape, height=64, width=64, radius=24):
    """A disc that is round where pixels are so many times as wide as high."""
    y, x = np.mgrid[:height, :width]
    inside = ((x - width / 2 + 0.5) * shape) ** 2 + (y - height / 2 + 0.5) ** 2 < radius**2
    return np.where(inside[..., None], 230, 20).astype(np.uint8).repeat(3, 2)


def sides(frame):
    """Height and width of the disc."""
    rows, columns = np.nonzero(frame[..., 0] > 125)
    return int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1


@pytest.mark.parametrize("ending,codec,shape", [
    ("mp4", "libx264", "2"), ("mkv", "libx264", "16/15"), ("mpg", "mpeg2video", "16/11"), ("avi", "mpeg4", "3/2"),
    ("mov", "prores_ks", "4/3"), ("mp4", "libx264", "8/9"),
])  # fmt: skip
def test_pixels_are_made_square(tmp_path, ending, codec, shape):
    from fractions import Fraction

    # MPEG-2 knows whole pictures of 4:3 and 16:9 alone
    height, width = (72, 88) if ending == "mpg" else (64, 64)
    ratio = float(Fraction(shape)) if ending != "mpg" else 16 / 9 * 72 / 88
    told = Fraction(16, 9) * Fraction(72, 88) if ending == "mpg" else Fraction(shape)
    pix = "yuv422p10le" if codec == "prores_ks" else "yuv420p"
    path = encode(tmp_path / f"x.{ending}", [circle(ratio, height, width)] * 3, codec, 25, shape=told, pix=pix,
                  options={"q": "1"} if codec not in ("libx264", "prores_ks") else {})  # fmt: skip
    with pytest.warns(Notice, match="pixels made square"):
        frame = read_video(path).frames[0]
    assert frame.shape[:2] == (height, round(width * ratio))
    high, wide = sides(frame)
    assert abs(high - 48) <= 2 and abs(wide - 48) <= 3


MIRRORED = {  # EXIF's way: a, b, c, d of the display matrix
    1: (1, 0, 0, 1), 2: (-1, 0, 0, 1), 3: (-1, 0, 0, -1), 4: (1, 0, 0, -1),
    5: (0, 1, 1, 0), 6: (0, 1, -1, 0), 7: (0, -1, -1, 0), 8: (0, -1, 1, 0),
}  # fmt: skip


@pytest.mark.parametrize("way", MIRRORED)
def test_a_display_matrix_of_any_kind(tmp_path, way):
    """Set in the file's own bytes; the shown picture by the formula that a player uses: p -> p M."""
    picture = np.zeros((32, 48, 3), np.uint8)
    picture[:16, :24], picture[:16, 24:], picture[16:, :24] = (220, 20, 20), (20, 220, 20), (20, 20, 220)
    path = encode(tmp_path / "x.mp4", [picture] * 3, options=LOSSLESS)
    a, b, c, d = MIRRORED[way]
    data = bytearray(path.read_bytes())
    place = data.find(b"tkhd") + 4 + 40
    data[place : place + 20] = b"".join((v << 16).to_bytes(4, "big", signed=True) for v in (a, b, 0, c, d))
    path.write_bytes(data)
    assert of_matrix(np.array([a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30], np.int32).tobytes()) == way
    y, x = np.mgrid[:32, :48]
    to_x, to_y = a * x + c * y, b * x + d * y
    expected = np.zeros((int(np.ptp(to_y)) + 1, int(np.ptp(to_x)) + 1, 3), np.uint8)
    expected[to_y - to_y.min(), to_x - to_x.min()] = picture
    frame = read_video(path).frames[0]
    assert frame.shape == expected.shape
    high, wide = frame.shape[:2]
    for row, column in ((high // 4, wide // 4), (high // 4, 3 * wide // 4), (3 * high // 4, wide // 4)):
        assert np.abs(frame[row, column].astype(int) - expected[row, column]).max() < 12
    assert np.array_equal(upright(picture, way), expected)


def woven(count=8, height=64, width=96):
    """Interlaced frames of a bar that moves 4 pixels each field."""
    frames = []
    for i in range(count):
        frame = np.full((height, width, 3), 30, np.uint8)
        frame[0::2, 8 * i : 8 * i + 16] = 220
        frame[1::2, 8 * i + 4 : 8 * i + 20] = 220
        frames.append(frame)
    return frames


def combed(frame):
    """How much neighbouring lines differ."""
    lines = frame[..., 0].astype(int)
    return float(np.abs(lines[1:] - lines[:-1])[4:-4].mean())


@pytest.mark.parametrize("ending,codec,options", [
    ("mp4", "libx264", {"x264-params": "tff=1", "crf": "4"}), ("mpg", "mpeg2video", {"flags": "+ildct+ilme", "q": "2"}),
    ("ts", "libx264", {"x264-params": "tff=1", "crf": "4"}), ("mov", "prores_ks", {"flags": "+ildct"}),
])  # fmt: skip
def test_interlaced_footage_is_made_progressive(tmp_path, ending, codec, options):
    pix = "yuv422p10le" if codec == "prores_ks" else "yuv420p"
    path = encode(tmp_path / f"x.{ending}", woven(), codec, 25, pix=pix, options=options)
    with pytest.warns(Notice, match="deinterlaced"):
        clip = read_video(path)
    assert len(clip.frames) == 8 and clip.fps == pytest.approx(25)
    assert combed(woven()[4]) > 8 and max(combed(f) for f in clip.frames[1:-1]) < 2
    bar = np.nonzero(clip.frames[4][32, :, 0] > 125)[0]
    assert 30 <= bar.min() <= 37 and 45 <= bar.max() <= 54  # where it was, of its width


def test_progressive_footage_is_left_as_it_is(tmp_path):
    path = encode(tmp_path / "x.mp4", woven(), rate=25, options=LOSSLESS)
    assert combed(read_video(path).frames[4]) > 8


def test_a_video_too_large_is_refused(tmp_path):
    """20,000 x 20,000 in the header of a few bytes."""
    body = b"YUV4MPEG2 W20000 H20000 F25:1 Ip A1:1 C420\nFRAME\n" + bytes(1000)
    (tmp_path / "x.y4m").write_bytes(body)
    with pytest.raises(UserError, match="x.y4m"):
        read_video(tmp_path / "x.y4m")
    path = encode(tmp_path / "x.mp4", steps(2, 64, 64), options=LOSSLESS, shape="16")
    assert read_video(path).frames.shape[2] == 1024
    data = bytearray(path.read_bytes())  # the sample entry's sides
    place = data.find(b"avc1", data.find(b"stsd")) + 4 + 24
    data[place : place + 4] = (20000).to_bytes(2, "big") * 2
    (tmp_path / "y.mp4").write_bytes(data)
    assert read_video(tmp_path / "y.mp4").frames.shape[1] == 64  # the stream itself knows better


def test_a_request_too_large_is_refused(tmp_path):
    huge = np.lib.stride_tricks.as_strided(np.zeros(3, np.uint8), (1, 20_000, 20_000, 3), (0, 0, 0, 1))
    with pytest.raises(UserError, match="20000x20000 pixels are more than the 134 million"):
        write_video(huge, tmp_path / "x.png")
    assert not list(tmp_path.iterdir())


def test_out_of_memory_is_called_that(tmp_path, monkeypatch):
    path = write_video(np.zeros((4, 64, 64, 3), np.uint8), tmp_path / "x.mp4")
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("M", (), {"available": 1000})())
    with pytest.raises(UserError, match="4 frames of 64x64 take .* not enough memory"):
        read_video(path)

    def full(*_):
        raise MemoryError

    monkeypatch.undo()
    monkeypatch.setattr("muybridge.data.video_io.frames_of_all", full)
    with pytest.raises(UserError, match="not enough memory"):
        read_video(path)


@pytest.mark.slow
def test_memory_follows_what_is_asked(tmp_path):
    """400 frames of 1280x720, 1.1 GB as pixels, are read at 4 frames a second in a tenth of that."""
    path = encode(tmp_path / "x.mp4", [np.full((720, 1280, 3), i % 200, np.uint8) for i in range(400)], rate=25,
                  options={"preset": "ultrafast"})  # fmt: skip
    code = (
        "import sys, resource\nfrom pathlib import Path\nfrom muybridge.data.reading.opening import open_reader\n"
        f"reader = open_reader(Path({str(path)!r}))\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(sum(1 for _ in reader.pictures(4)), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    count, grown = map(int, done.stdout.split())
    assert count == 64 and grown < 100_000, grown  # kB
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 0


def test_damage_gives_the_same_on_every_machine(tmp_path):
    """Bits turned in the middle: decoded by one thread, so that the number of cores decides nothing."""
    rng = np.random.default_rng(0)
    frames = [np.roll(rng.integers(0, 255, (64, 96, 3), np.uint8), i, 1) for i in range(60)]
    data = bytearray(encode(tmp_path / "x.mkv", frames, rate=25, options={"g": "10"}).read_bytes())
    for place in rng.integers(len(data) // 3, len(data), 60):
        data[place] ^= 0xFF
    (tmp_path / "x.mkv").write_bytes(data)
    found = set()
    for _ in range(3):
        with open_reader(tmp_path / "x.mkv") as reader:
            assert reader.stream.codec_context.thread_count == 1
            hashes = []
            try:
                for frame in reader.frames():
                    hashes.append(hash(frame.rgb().tobytes()))
            except Exception as error:
                assert "avcodec" not in str(error)
            found.add(tuple(hashes))
    assert len(found) == 1 and len(next(iter(found))) > 5
