"""A folder as people have it, forty odd and damaged files: each is used or has its line, and what is used looks as
ffmpeg shows it."""

import io
import os
import shutil
import subprocess
import tarfile
import zlib

import numpy as np
import pytest
from PIL import Image

from muybridge.data.folder import build_folder
from muybridge.data.packs import PackedSource, report_lines
from muybridge.data.sources.folder import FolderConfig
from muybridge.data.video_io import read_video
from tests.data.making_files import encode, tone_packets

SIDE = 64


def smooth(count=6, height=SIDE, width=SIDE):
    """Colours that change slowly from place to place and from frame to frame: no two ways of scaling differ in them."""
    y, x = np.mgrid[0:height, 0:width]
    base = np.stack([60 + x, 60 + y, 190 - (x + y) / 2], -1)
    return [np.clip(base + 6 * i, 0, 255).astype(np.uint8) for i in range(count)]


#: name -> encoder and options of PyAV
FILMS = {
    "h264.mp4": {"options": {"crf": "1"}},
    "h264.mkv": {"options": {"crf": "1"}},
    "h264.3gp": {"options": {"crf": "1"}},
    "h264.m2ts": {"options": {"crf": "1"}, "layout": "mpegts"},
    "444.mp4": {"options": {"crf": "1"}, "pix": "yuv444p"},
    "ten.mkv": {"codec": "ffv1", "pix": "yuv420p10le"},
    "lossless.mkv": {"codec": "ffv1"},
    "prores.mov": {"codec": "prores_ks", "pix": "yuv422p10le"},
    "mpeg4.avi": {"codec": "mpeg4", "options": {"qmin": "1", "qmax": "1"}},
    "mpeg2.ts": {"codec": "mpeg2video", "options": {"qmin": "1", "qmax": "2"}, "rate": 25},
    "mpeg1.mpg": {"codec": "mpeg1video", "options": {"qmin": "1", "qmax": "2"}, "rate": 25},
    "vp8.webm": {"codec": "libvpx", "options": {"crf": "4", "b": "4M"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"lossless": "1"}},
    "wmv.wmv": {"codec": "wmv2", "options": {"qmin": "1", "qmax": "2"}},
    "flv.flv": {"codec": "flv", "options": {"qmin": "1", "qmax": "2"}},
    "mjpeg.avi": {"codec": "mjpeg", "pix": "yuvj420p", "options": {"qmin": "1", "qmax": "2"}},
    "raw.y4m": {"codec": "wrapped_avframe", "layout": "yuv4mpegpipe"},
}
STILLS = {"still.png": "PNG", "still.bmp": "BMP", "still.tif": "TIFF", "still.jpg": "JPEG"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("as people have them")
    for name, how in FILMS.items():
        encode(folder / name, smooth(), **how)
    pictures = [Image.fromarray(f) for f in smooth()]
    for name, kind in STILLS.items():
        pictures[0].save(folder / name, format=kind, **({"quality": 100, "subsampling": 0} if kind == "JPEG" else {}))
    for name, kind in (("moving.webp", "WEBP"), ("moving.apng", "PNG")):
        pictures[0].save(
            folder / name, format=kind, save_all=True, append_images=pictures[1:], duration=100, lossless=True
        )
    pictures[0].save(folder / "moving.gif", save_all=True, append_images=pictures[1:], duration=100)
    (folder / "frames").mkdir()
    for i in range(12):
        Image.fromarray(smooth(12)[i]).save(folder / "frames" / f"frame{i + 1}.png")
    clip = (folder / "h264.mp4").read_bytes()
    with tarfile.open(folder / "shard.tar", "w") as tar:
        for name, data in (("1.mp4", clip), ("1.txt", b"in a tar")):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    for name in (*FILMS, *STILLS, "moving.webp", "moving.apng", "moving.gif", "frames"):
        path = folder / f"{name.rpartition('.')[0] or name}.txt"
        path.write_text(f"words of {name}") if not path.exists() else None
    odd(folder, clip)
    return folder


def odd(folder, clip):
    """What cannot be used, or only in part."""
    texts = ("empty", "words", "cut", "silent", "pipe", "lost", "bomb", "half", "one")
    for name in texts:
        (folder / f"{name}.txt").write_text(name)
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "words.mp4").write_text("these are words")
    (folder / "cut.mp4").write_bytes(clip[: len(clip) // 2])
    (folder / "half.mkv").write_bytes((folder / "lossless.mkv").read_bytes()[:-4000])
    import av

    with av.open(str(folder / "silent.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        for packet in tone_packets(stream, 440, 1):
            container.mux(packet)
    os.mkfifo(folder / "pipe.mp4")
    (folder / "lost.mp4").symlink_to(folder / "nowhere.mp4")
    size = b"IHDR" + (60_000).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0"
    chunks = [(len(c) - 4).to_bytes(4, "big") + c + zlib.crc32(c).to_bytes(4, "big")
              for c in (size, b"IDAT" + zlib.compress(bytes(100)))]  # fmt: skip
    (folder / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    encode(folder / "one.mp4", smooth(1))
    (folder / "uncaptioned.mp4").write_bytes(clip)
    (folder / "latin.mp4").write_bytes(clip)
    (folder / "latin.txt").write_bytes(b"caf\xe9")
    (folder / "wide.mp4").write_bytes(clip)
    (folder / "wide.txt").write_bytes("words in UTF-16".encode("utf-16"))
    (folder / "letter.docx").write_bytes(b"PK")
    (folder / ".DS_Store").write_bytes(b"\0")
    (folder / "lonely.txt").write_text("no clip")
    (folder / "bad.tar").write_bytes(b"no tar")
    (folder / "captions.jsonl").write_text('{"file": "gone.mp4", "caption": "x"}\nnot JSON\n')


USED = {*FILMS, *STILLS, "moving.webp", "moving.apng", "moving.gif", "frames", "shard.tar/1.mp4", "wide.mp4"}
REFUSED = {
    "empty.mp4": "empty", "words.mp4": "not a readable video", "cut.mp4": "not a readable video",
    "silent.mp4": "no video", "pipe.mp4": "no ordinary file", "lost.mp4": "leads nowhere", "bomb.png": "pixels",
    "uncaptioned.mp4": "no caption", "latin.mp4": "byte 0xe9 at 3", "letter.docx": "neither", ".DS_Store": "neither",
    "lonely.txt": "beside no clip", "bad.tar": "not a readable tar", "gone.mp4": "no such clip",
    "captions.jsonl:2": "does not hold",
}  # fmt: skip


def test_each_file_is_used_or_has_its_line(folder, tmp_path):
    assert len([p for p in folder.rglob("*") if not p.is_dir() and p.suffix != ".txt"]) >= 40
    store = build_folder(FolderConfig(str(folder), 32, 32, 4, fps=0, short="hold", store=str(tmp_path / "store")))
    lines = list(report_lines(store))
    entries = PackedSource(store, "all", 4).entries
    assert {e.origin for e in entries} - {"half.mkv", "one.mp4"} == USED
    dropped = {line["file"]: line["reason"] for line in lines if line["action"] == "dropped"}
    assert set(dropped) == set(REFUSED)
    for name, words in REFUSED.items():
        assert words in dropped[name], (name, dropped[name])
    assert {line["action"] for line in lines if line["file"] == "one.mp4"} == {"lengthened"}
    told = {line["file"] for line in lines} | {e.origin for e in entries}
    texts = {"captions.jsonl", "shard.tar"}
    missing = [
        p.name for p in folder.iterdir() if p.suffix != ".txt" and p.name not in told | texts and p.name not in REFUSED
    ]
    assert missing == []


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed: nothing to compare with")
@pytest.mark.parametrize("name", [*FILMS, *STILLS, "moving.gif", "moving.apng"])
def test_frames_are_those_that_ffmpeg_shows(folder, name):
    ours = read_video(folder / name).frames
    deep = "10" in FILMS.get(name, {}).get("pix", "")  # in 8 bits at once it rounds twice
    command = ["ffmpeg", "-v", "error", "-i", str(folder / name), "-pix_fmt", "rgb48le" if deep else "rgb24"]
    done = subprocess.run(
        [*command, "-fps_mode", "passthrough", "-f", "rawvideo", "-"], capture_output=True, check=True
    )
    theirs = np.frombuffer(done.stdout, np.uint16 if deep else np.uint8).reshape(-1, SIDE, SIDE, 3)
    theirs = (theirs / (257 if deep else 1)).round()
    assert ours.shape == theirs.shape
    inside = np.abs(ours.astype(int) - theirs)[:, 4:-4, 4:-4]
    assert inside.max() <= 2, inside.max()
