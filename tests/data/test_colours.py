"""Colours of video: tags are honoured, HDR is tone-mapped, what is written says what it is."""

import numpy as np
import pytest

from muybridge.data.reading.colour import _in_8_bits
from muybridge.data.video_io import read_video, write_video
from muybridge.errors import Notice, UserError
from tests.data.making_files import BT601, BT709, encode, planes

COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 100, 50), (20, 180, 120), (128, 128, 128), (255, 255, 255),
           (250, 220, 10)]  # fmt: skip
LOSSLESS = {"crf": "0", "preset": "ultrafast"}
NITS = np.array([0, 5, 20, 50, 100, 203, 600, 1000.0])


def bars(height=64, side=16):
    return np.repeat(np.repeat(np.array(COLOURS, np.uint8)[None], height, 0), side, 1)


def seen(path, count=8, side=16):
    """The colours of the bars as they are read."""
    frame = read_video(path).frames[0]
    side = frame.shape[1] // count
    return np.stack([frame[frame.shape[0] // 2, i * side + side // 2] for i in range(count)]).astype(int)


def ycbcr(rgb, kr, kb, full):
    """8-bit samples of a colour by the formula of the standards."""
    r, g, b = np.asarray(rgb, float) / 255
    y = kr * r + (1 - kr - kb) * g + kb * b
    cb, cr = (b - y) / (2 * (1 - kb)), (r - y) / (2 * (1 - kr))
    return (y * 255, cb * 255 + 128, cr * 255 + 128) if full else (16 + 219 * y, 128 + 224 * cb, 128 + 224 * cr)


def sampled(height, kr, kb, full=False, side=16):
    """Bars as PyAV's frame of such samples."""
    import av

    made = av.VideoFrame(side * len(COLOURS), height, "yuv420p")
    parts = np.array([ycbcr(c, kr, kb, full) for c in COLOURS]).clip(0, 255).round().astype(np.uint8)
    for i, plane in enumerate(made.planes):
        room = np.zeros((plane.height, plane.line_size), np.uint8)
        row = np.repeat(parts[:, i], side if i == 0 else side // 2)
        room[:, : len(row)] = row
        plane.update(room.tobytes())
    return made


MATRICES = {BT709: (0.2126, 0.0722), BT601: (0.299, 0.114)}


@pytest.mark.parametrize("height,matrix", [(64, BT601), (480, BT601), (576, BT601), (720, BT709), (1080, BT709)])
def test_untagged_is_what_its_size_says(tmp_path, height, matrix):
    path = encode(tmp_path / "x.mkv", [sampled(height, *MATRICES[matrix])], options=LOSSLESS)
    assert np.abs(seen(path) - COLOURS).max() <= 3


@pytest.mark.parametrize("height", [64, 720])
@pytest.mark.parametrize("matrix", [BT709, BT601])
@pytest.mark.parametrize("full", [False, True])
def test_tags_are_honoured_at_every_size(tmp_path, height, matrix, full):
    tags = {"colorspace": matrix, "color_range": 2 if full else 1}
    path = encode(tmp_path / "x.mp4", [sampled(height, *MATRICES[matrix], full)], options=LOSSLESS, tags=tags)
    assert np.abs(seen(path) - COLOURS).max() <= 3


@pytest.mark.parametrize(("codec", "kind"), [("ffv1", "mkv"), ("libvpx-vp9", "webm")])
@pytest.mark.parametrize("full", [False, True])
def test_a_range_that_the_pixel_format_does_not_say(tmp_path, codec, kind, full):
    """H.264's full range comes as a pixel format of its own, other codecs' as a tag alone."""
    tags = {"colorspace": BT709, "color_range": 2 if full else 1}
    options = {"lossless": "1"} if codec == "libvpx-vp9" else {}
    made = sampled(64, *MATRICES[BT709], full)
    path = encode(tmp_path / f"x.{kind}", [made], codec, options=options, tags=tags)
    assert np.abs(seen(path) - COLOURS).max() <= 4


@pytest.mark.parametrize("level", [0, 40, 128, 255])
def test_grey_footage_without_a_range_is_of_full_range(tmp_path, level):
    picture = np.full((32, 48, 3), level, np.uint8)
    path = encode(tmp_path / "x.avi", [picture] * 2, "ffv1", pix="gray", each=lambda f: f.reformat(format="gray"))
    assert np.abs(read_video(path).frames.astype(int) - level).max() <= 1


@pytest.mark.parametrize("height", [64, 720])
def test_what_is_written_says_what_it_is(tmp_path, height):
    import av

    path = write_video(np.stack([bars(height)] * 3), tmp_path / "x.mp4", 8)
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        tags = [int(t) for t in (frame.colorspace, frame.color_range, frame.color_trc, frame.color_primaries)]
        raw = frame.to_ndarray()
    assert tags == [BT709, 1, BT709, BT709]
    found = np.abs(seen(path) - COLOURS)
    assert found.max() <= 4 and found.mean() < 2
    luma = [ycbcr(c, *MATRICES[BT709], False)[0] for c in COLOURS]
    assert np.abs(raw[height // 2, 8 : 8 * 16 : 16] - luma).max() <= 2.5  # the samples themselves, by the formula


def test_old_small_files_read_as_they_did(tmp_path):
    """What was written before files had tags: BT.601, as PyAV converts by itself."""
    import av

    path = encode(tmp_path / "old.mp4", [bars()] * 3, options={"crf": "12"})
    with av.open(str(path)) as container:
        plain = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    assert np.array_equal(read_video(path).frames, plain)


def pq(nits):
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 4096 * 128, 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
    y = (nits / 10000) ** m1
    return ((c1 + c2 * y) / (1 + c3 * y)) ** m2


def hlg(nits):
    """Of a grey on a display of 1000 cd/m2: the inverse of the system gamma, then the curve."""
    scene = (nits / 1000) ** (1 / 1.2)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c)


def grey_steps(path, curve, transfer):
    luma = (64 + 876 * curve(NITS)).round().astype(np.uint16)
    frame = planes(np.repeat(np.repeat(luma[None], 64, 0), 16, 1))
    params = f"log-level=none:colorprim=bt2020:transfer={transfer}:colormatrix=bt2020nc:range=limited"
    return encode(path, [frame] * 4, "libx265", pix="yuv420p10le", options={"x265-params": params, "crf": "1"})


@pytest.mark.parametrize("curve,transfer,name", [(pq, "smpte2084", "PQ"), (hlg, "arib-std-b67", "HLG")])
@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
def test_hdr_is_tone_mapped(tmp_path, curve, transfer, name, ending):
    path = grey_steps(tmp_path / f"x.{ending}", curve, transfer)
    with pytest.warns(Notice, match=f"tone-mapped from {name} to BT.709"):
        found = seen(path)
    assert np.ptp(found, axis=1).max() <= 2  # grey stays grey
    grey = found[:, 1]
    assert (np.diff(grey) > 0).all()
    below = NITS < 0.8 * 203  # a straight line there: as SDR shows such light
    assert np.abs(grey[below] - 255 * (NITS[below] / 203) ** (1 / 2.4)).max() <= 4
    assert 240 <= grey[5] <= 250 and grey[7] >= 252  # paper white, and what is brighter


@pytest.mark.parametrize("primaries,matrix", [(9, 9), (12, 1)])
def test_wide_primaries_come_to_709(tmp_path, primaries, matrix):
    """SDR in BT.2020 or Display P3: BT.709's red is less than full there."""
    to_wide = np.linalg.inv({
        9: [[1.660491, -0.587641, -0.07285], [-0.12455, 1.1329, -0.008349], [-0.018151, -0.100579, 1.11873]],
        12: [[1.22494, -0.22494, 0], [-0.042057, 1.042057, 0], [-0.019638, -0.078636, 1.098274]],
    }[primaries])  # fmt: skip
    light = (np.array(COLOURS) / 255) ** 2.4 @ to_wide.T
    wide = np.round(255 * light.clip(0, 1) ** (1 / 2.4)).astype(np.uint8)
    picture = np.repeat(np.repeat(wide[None], 64, 0), 16, 1)
    sws = {9: 9, 1: 1}[matrix]
    path = encode(
        tmp_path / "x.mp4", [picture], pix="yuv444p10le", options=LOSSLESS,
        tags={"colorspace": matrix, "color_primaries": primaries, "color_trc": 1, "color_range": 1},
        each=lambda f: f.reformat(format="yuv444p10le", dst_colorspace=sws, src_color_range=2, dst_color_range=1),
    )  # fmt: skip
    light, wanted = ((np.asarray(c) / 255) ** 2.4 for c in (seen(path), COLOURS))
    assert np.abs(light - wanted).max() < 0.025


@pytest.mark.parametrize("ending,codec,pix,options", [
    ("webm", "libvpx", "yuva420p", {"auto-alt-ref": "0"}), ("webm", "libvpx-vp9", "yuva420p", {"auto-alt-ref": "0"}),
    ("mov", "prores_ks", "yuva444p10le", {"profile": "4444"}), ("mov", "qtrle", "argb", {}), ("mov", "png", "rgba", {}),
    ("mkv", "ffv1", "bgra", {}),
])  # fmt: skip
def test_alpha_lies_on_white(tmp_path, ending, codec, pix, options):
    picture = np.zeros((48, 64, 4), np.uint8)
    picture[..., :3] = (200, 40, 30)
    picture[:, 32:, 3] = 255
    path = encode(tmp_path / f"x.{ending}", [picture] * 3, codec, pix=pix, options=options)
    with pytest.warns(Notice, match="transparency laid on white"):
        frame = read_video(path).frames[1].astype(int)
    assert (frame[10:40, 4:28] >= 253).all() and np.abs(frame[10:40, 36:60] - (200, 40, 30)).max() <= 8


@pytest.mark.parametrize("pix,codec", [("gray", "ffv1"), ("gray16le", "ffv1"), ("gray10le", "ffv1"),
                                       ("yuv422p10le", "prores_ks"), ("gray12le", "ffv1"),
                                       ("gbrp", "libx264rgb"), ("yuvj420p", "mjpeg"),
                                       ("yuv444p16le", "ffv1")])  # fmt: skip
def test_greys_of_every_depth(tmp_path, pix, codec):
    ramp = np.repeat(np.linspace(0, 255, 64).round().astype(np.uint8)[None], 48, 0)
    path = tmp_path / "x.mkv"
    encode(path, [np.stack([ramp] * 3, -1)] * 2, codec, pix=pix if codec != "libx264rgb" else "rgb24",
           options={"qmin": "1", "q": "1"} if codec == "mjpeg" else {"crf": "0"} if codec == "libx264rgb" else {},
           each=lambda f: f.reformat(format=pix if codec != "libx264rgb" else "rgb24"))  # fmt: skip
    frame = read_video(path).frames[0].astype(int)
    assert np.abs(frame - ramp[..., None]).max() <= (8 if codec == "mjpeg" else 3)


@pytest.mark.parametrize(("matrix", "name"), [(8, "YCgCo"), (14, "ICtCp"), (13, "primaries")])
def test_ways_of_coding_colours_that_are_not_read_are_refused(matrix, name, tmp_path):
    path = encode(tmp_path / "x.mkv", [sampled(64, *MATRICES[BT601])], options=LOSSLESS, tags={"colorspace": matrix})
    with pytest.raises(UserError, match=name):
        read_video(path)


def test_a_matrix_that_says_nothing_is_taken_as_untagged(tmp_path):
    path = encode(tmp_path / "x.mkv", [sampled(64, *MATRICES[BT601])], options=LOSSLESS, tags={"colorspace": 3})
    assert np.abs(seen(path) - COLOURS).max() <= 3


def test_16_bits_come_to_the_nearest_of_8():
    given = np.array([0, 128, 129, 257 * 5 + 128, 257 * 5 + 129, 65535], np.uint16)
    assert _in_8_bits(given).tolist() == [0, 0, 1, 5, 6, 255]
