"""Video files: round trips, recipes inside, nothing half-written."""

import os
import resource
import subprocess
import sys

import numpy as np
import pytest

from muybridge.data.reading.sound import has_sound
from muybridge.data.video_io import FORMATS, read_recipe, read_video, write_strip, write_video
from muybridge.data.world import WorldConfig, WorldSource
from muybridge.errors import UserError
from muybridge.evaluation.motion import psnr


@pytest.fixture
def frames():
    return WorldSource(WorldConfig(height=48, width=64, num_frames=7, num_clips=1)).clip(0).frames


@pytest.mark.parametrize("kind", FORMATS)
def test_round_trip_with_recipe(kind, frames, tmp_path):
    frames = frames[:1] if kind == "png" else frames
    path = tmp_path / "deep" / f"clip.{kind}"
    recipe = {"prompt": 'a "quoted" ø circle', "seed": 3, "sampling": {"fps": 12.5}}
    write_video(frames, path, 12.5, recipe)
    clip = read_video(path)
    assert clip.frames.shape == frames.shape
    assert read_recipe(path) == recipe
    assert kind == "png" or abs(clip.fps - 12.5) < 0.01  # a picture has no rate
    assert psnr(clip.frames, frames) > (np.inf if kind in ("npy", "webp") else 22) or np.array_equal(
        clip.frames, frames
    )
    assert sorted(p.name for p in path.parent.iterdir()) == sorted(
        [path.name] + ([path.name + ".json"] if kind == "npy" else [])
    )


class Computed:
    """Frames that are made while they are read, and held one at a time."""

    def __init__(self, frames):
        self.frames, self.shape, self.dtype = frames, frames.shape, frames.dtype

    def __len__(self):
        return len(self.frames)

    def __iter__(self):
        return (frame.copy() for frame in self.frames)


@pytest.mark.parametrize("kind", FORMATS)
def test_frames_that_are_computed_while_they_are_read_make_the_same_file(kind, frames, tmp_path):
    frames = frames[:1] if kind == "png" else frames
    for name, given in (("array", frames), ("computed", Computed(frames))):
        write_video(given, tmp_path / f"{name}.{kind}", 8)
    assert (tmp_path / f"array.{kind}").read_bytes() == (tmp_path / f"computed.{kind}").read_bytes()
    if kind == "npy":
        np.save(tmp_path / "numpy.npy", frames)
        assert (tmp_path / "numpy.npy").read_bytes() == (tmp_path / "array.npy").read_bytes()
    with pytest.raises(UserError, match="a video is uint8"):
        write_video(Computed(frames[0]), tmp_path / f"flat.{kind}")


def test_odd_sizes_are_padded_not_rescaled(frames, tmp_path):
    odd = frames[:, :47, :63]
    read = read_video(write_video(odd, tmp_path / "odd.mp4")).frames
    assert read.shape == (7, 48, 64, 3) and psnr(read[:, :47, :63], odd) > 28


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_display_rotation_is_honoured(degrees, frames, tmp_path):
    """A phone's video: stored lying down, with a note that says how to turn it (counter-clockwise)."""
    import av

    lying, turned = write_video(frames, tmp_path / "lying.mp4"), tmp_path / "turned.mp4"
    with av.open(str(lying)) as source, av.open(str(turned), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        copy.set_display_rotation(degrees)
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.stream = copy
                target.mux(packet)
    expected = np.rot90(read_video(lying).frames, degrees // 90, axes=(1, 2))
    assert np.array_equal(read_video(turned).frames, expected)


def test_single_frame(frames, tmp_path):
    for kind in FORMATS:
        assert read_video(write_video(frames[:1], tmp_path / f"one.{kind}")).frames.shape == (1, 48, 64, 3)


@pytest.mark.parametrize(
    "make,message",
    [
        (lambda f: f.astype(np.float32), "uint8"),
        (lambda f: f[0], "uint8"),
        (lambda f: f[..., :1], "uint8"),
        (lambda f: f[:0], "uint8"),
    ],
)
def test_refuses_other_arrays(frames, tmp_path, make, message):
    with pytest.raises(UserError, match=message):
        write_video(make(frames), tmp_path / "x.mp4")
    assert not list(tmp_path.iterdir())


def test_refuses_other_endings_and_places(frames, tmp_path):
    with pytest.raises(UserError, match="did you mean 'mp4'"):
        write_video(frames, tmp_path / "x.mp5")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write here"):
        write_video(frames, tmp_path / "file" / "x.mp4")


@pytest.mark.parametrize("content", [b"", b"not a video", b"\x00\x00\x00\x20ftypisom" + b"\x00" * 40])
@pytest.mark.parametrize("kind", ["mp4", "gif", "webp", "npy"])
def test_damaged_files(tmp_path, content, kind):
    path = tmp_path / f"bad.{kind}"
    path.write_bytes(content)
    with pytest.raises(UserError, match="bad"):
        read_video(path)


def test_truncated_mp4(frames, tmp_path):
    path = write_video(frames, tmp_path / "cut.mp4")
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(UserError, match="not a readable video|no frame|no video stream"):
        read_video(path)
    with pytest.raises(UserError, match="no video at"):
        read_video(tmp_path / "none.mp4")


def test_a_video_of_another_program_has_no_recipe(frames, tmp_path):
    assert read_recipe(write_video(frames, tmp_path / "plain.mp4")) == {}


@pytest.mark.parametrize("kind", FORMATS)
def test_a_full_disk_leaves_nothing_behind(kind, tmp_path):
    """A file size limit stands in for a full disk: writes fail half-way with an OSError."""
    count = 1 if kind == "png" else 8
    code = (
        "import numpy as np, resource, sys\n"
        "from muybridge.data.video_io import write_video\nfrom muybridge.errors import UserError\n"
        f"frames = np.random.default_rng(0).integers(0, 255, ({count}, 64, 64, 3), dtype=np.uint8)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        f"try:\n    write_video(frames, {str(tmp_path / ('x.' + kind))!r})\n"
        "except UserError as error:\n    print('told:', error)\n    sys.exit(2)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 2 and "told:" in done.stdout, done.stderr
    assert not list(tmp_path.iterdir())
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_strip(frames, tmp_path):
    from PIL import Image

    with Image.open(write_strip(np.stack([frames, frames]), tmp_path / "s.png", columns=4, scale=2)) as picture:
        assert picture.size == (4 * 64 * 2, 2 * 48 * 2)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9.0,\n{}\n#EXT-X-ENDLIST\n"),
        ("list.mp4", "ffconcat version 1.0\nfile private.mp4\n"),
    ],
)
def test_a_list_of_other_files_is_no_video(tmp_path, name, text):
    """Who uploads a playlist would see a video that lies where they may not look."""
    other = write_video(np.zeros((2, 16, 16, 3), np.uint8), tmp_path / "private.mp4")
    (tmp_path / name).write_text(text.format(other))
    with pytest.raises(UserError, match="names other files"):
        read_video(tmp_path / name)
    assert read_recipe(tmp_path / name) == {} and not has_sound(tmp_path / name)
