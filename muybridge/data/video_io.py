"""Writing video: mp4 (H.264), gif, animated webp, png, npy, each with its record; and reading whole ones."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from muybridge.configuration import check_request
from muybridge.data.clips import Clip
from muybridge.data.reading.colour import BT601, BT709, FULL, LIMITED
from muybridge.data.reading.formats import FootageError, told
from muybridge.data.reading.opening import frames_of_all, open_reader
from muybridge.data.reading.sound import Sound, SoundTrack
from muybridge.data.reading.streams import open_file
from muybridge.errors import Notice, UserError, nearest
from muybridge.files import whole_file

FORMATS = ("mp4", "gif", "webp", "png", "npy")
#: x264 options for the same bytes from the same frames: without the second it now and then reads memory that it never
#: set.
SAME_BYTES = {"threads": "1", "x264-params": "cpu-independent=1"}
#: Frames a second of files that do not say it, and the most that a record is believed.
DEFAULT_RATE, MOST_RATE = 8.0, 1000.0
CRF = 12
#: swscale's number of a matrix -> the code that says matrix, primaries and transfer (BT.709; SMPTE 170M is BT.601).
TAGS = {BT709: 1, BT601: 6}
TOO_LITTLE = "not enough memory for its frames: take fewer (--max-frames), or make the video smaller first"


class Frames(Protocol):
    """Frames that are computed while they are read."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> Any: ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[np.ndarray]: ...


def write_video(
    frames: np.ndarray | Frames,
    path: str | Path,
    fps: float = 8.0,
    recipe: dict[str, Any] | None = None,
    sound: Sound | None = None,
) -> Path:
    """Write a video; the ending chooses the format (.mp4, .gif, .webp, .npy; .png for a single frame).

    The file appears whole under its name or not at all. An mp4 is BT.709, limited range, and says so.

    Args:
        frames: uint8 [F, H, W, 3]; of an mp4 and a npy, one after another is held in memory.
        fps: frames a second.
        recipe: stored in the file's metadata (for npy, in NAME.npy.json beside it).
        sound: heard with it, if the ending holds sound; else a `Notice` says that it is left out.

    Raises:
        UserError: frames of another type or shape or too large, an unknown ending, or a path that cannot be written.
    """
    path = Path(path)
    frames = frames if hasattr(frames, "dtype") else np.asarray(frames)
    if frames.dtype != np.uint8 or len(frames.shape) != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        raise UserError(f"a video is uint8 [F, H, W, 3]; got {frames.dtype} {frames.shape}")
    kind = path.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise UserError(f"{path}: cannot write {path.suffix or 'a file without ending'}; {nearest(kind, FORMATS)}")
    if kind == "png" and len(frames) > 1:
        raise UserError(f"{path}: a .png holds one frame, this video has {len(frames)}; choose .mp4, .gif or .webp")
    check_request(frames.shape[2], frames.shape[1], str(path))
    if sound is not None and kind != "mp4":
        warnings.warn(f"{path.name}: .{kind} holds no sound, so it is left out; .mp4 does", Notice, stacklevel=2)
    text = json.dumps(recipe or {}, sort_keys=True)
    with whole_file(path) as unfinished:
        if kind == "mp4":
            _write_mp4(frames, unfinished, fps, text, sound)
        elif kind == "npy":
            _write_npy(frames, unfinished)
        else:
            _write_pillow(frames, unfinished, fps, text, kind)
    if kind == "npy":
        with whole_file(Path(f"{path}.json")) as unfinished:
            unfinished.write_text(text, encoding="utf-8")
    return path


def as_written(frames: np.ndarray, ending: str, fps: float) -> np.ndarray:
    """What comes back of frames that are written and read again: the cost of the encoding."""
    with tempfile.TemporaryDirectory() as folder:
        return read_video(write_video(frames, Path(folder) / f"x{ending}", fps)).frames


def _write_npy(frames: np.ndarray | Frames, path: Path) -> None:
    """What numpy.save writes, frame by frame."""
    with open(path, "wb") as file:
        about = {"descr": "|u1", "fortran_order": False, "shape": tuple(frames.shape)}
        np.lib.format.write_array_header_1_0(file, about)
        for frame in frames:
            file.write(np.ascontiguousarray(frame).tobytes())


def _write_mp4(frames: np.ndarray | Frames, path: Path, fps: float, text: str, sound: Sound | None) -> None:
    import av

    height, width = frames.shape[1:3]
    # 4:2:0 needs even sides: repeat the last row or column rather than rescale
    sides = ((0, height % 2), (0, width % 2), (0, 0))
    rate = Fraction(fps).limit_denominator(1001)
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart+use_metadata_tags"}) as container:
        container.metadata["comment"] = text
        stream: Any = container.add_stream("libx264", rate=rate)
        stream.height, stream.width = height + height % 2, width + width % 2
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": str(CRF), "preset": "medium", **SAME_BYTES}
        tag(stream.codec_context)
        track = _track(container, sound)
        for i, picture in enumerate(frames):
            for packet in stream.encode(as_yuv(np.pad(picture, sides, mode="edge"))):
                container.mux(packet)
            if track is not None:
                track.until(i / float(rate))
        for packet in stream.encode():
            container.mux(packet)
        if track is not None:
            track.until(float("inf"))
            if track.problem:
                warnings.warn(f"{track.sound.path.name}: {track.problem}", Notice, stacklevel=3)


def _track(container: Any, sound: Sound | None) -> SoundTrack | None:
    """The sound that is written beside a video; None, with a line that says why, where it cannot be decoded."""
    if sound is None:
        return None
    try:
        return SoundTrack(container, sound)
    except Exception as error:  # PyAV raises many kinds for sound without a decoder
        warnings.warn(f"{sound.path.name}: its sound is left out: {told(error)}", Notice, stacklevel=4)
        return None


def as_yuv(picture: np.ndarray, matrix: int = BT709) -> Any:
    """uint8 [h, w, 3], even sides -> PyAV's yuv420p frame, limited range, with its tags.

    Args:
        matrix: swscale's number.
    """
    import av

    frame: Any = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    made = frame.reformat(format="yuv420p", dst_colorspace=matrix, src_color_range=FULL, dst_color_range=LIMITED)
    tag(made, TAGS[matrix])
    return made


def tag(made: Any, code: int = BT709) -> None:
    """Say of a frame or an encoder which matrix, primaries and transfer it has (H.273's code), and that its range is
    limited."""
    made.colorspace = made.color_primaries = made.color_trc = code
    made.color_range = LIMITED


def _write_pillow(frames: np.ndarray | Frames, path: Path, fps: float, text: str, kind: str) -> None:
    pictures = [Image.fromarray(f) for f in frames]
    # whole milliseconds (gif: centiseconds) whose sum stays in step with the clock
    unit = 10 if kind == "gif" else 1
    clock = [round(i * 1000 / fps / unit) * unit for i in range(len(frames) + 1)]
    durations = [max(unit, b - a) for a, b in zip(clock, clock[1:], strict=False)]
    options: dict[str, Any] = {"save_all": True, "append_images": pictures[1:], "duration": durations, "loop": 0}
    if kind == "gif":
        pictures[0].save(path, format="GIF", comment=text.encode(), **options)
    elif kind == "png":
        about = PngInfo()
        about.add_itxt("Comment", text)
        pictures[0].save(path, format="PNG", pnginfo=about)
    else:
        exif = Image.Exif()
        exif[0x010E] = text  # ImageDescription
        pictures[0].save(path, format="WEBP", lossless=True, exif=exif, **options)


def read_video(path: str | Path, max_frames: int | None = None) -> Clip:
    """Read a video, an animation or a picture, all of its frames at once; the caption is empty. What is done to it on
    the way is told by a `Notice`.

    Raises:
        UserError: no such file, no video in it, nothing that decodes, or more than memory holds.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no video at {path}")
    try:
        if path.suffix.lower() == ".npy":
            frames, fps = _read_npy(path)
            return Clip(frames[:max_frames], "", fps)
        with open_reader(path) as reader:
            about = reader.about
            _check_memory(path, about.rhythm.frames_at(), max_frames, about.height, about.width)
            frames = frames_of_all(reader, max_frames)
            for line in reader.told():
                warnings.warn(f"{path.name}: {line}", Notice, stacklevel=2)
    except FootageError as error:
        raise UserError(f"{path}: not a readable video ({error.kind}): {error.message}") from error
    except MemoryError as error:
        raise UserError(f"{path}: {TOO_LITTLE}") from error
    if not len(frames):
        raise UserError(f"{path}: no frame could be decoded")
    return Clip(frames, "", about.rhythm.fps)


def _check_memory(path: Path, count: int, most: int | None, height: int, width: int) -> None:
    """Refuse what would not fit, before it is allocated.

    Raises:
        UserError: says what it takes and what there is.
    """
    import psutil

    needed, free = min(count, most or count) * height * width * 3, psutil.virtual_memory().available
    if needed > free:
        raise UserError(
            f"{path}: {min(count, most or count)} frames of {width}x{height} take {needed / 2**30:.1f} GiB, "
            f"{free / 2**30:.1f} are free; {TOO_LITTLE}"
        )


def _read_npy(path: Path) -> tuple[np.ndarray, float]:
    try:
        frames = np.load(path, allow_pickle=False)
    except MemoryError:
        raise
    except Exception as error:  # numpy raises several kinds for damaged files
        raise UserError(f"{path}: not a readable video ({type(error).__name__}: {error})") from error
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
        raise UserError(f"{path}: expected uint8 [F, H, W, 3], got {frames.dtype} {frames.shape}")
    if not len(frames):
        raise UserError(f"{path}: no frame could be decoded")
    recipe = read_recipe(path)
    sampling = recipe.get("sampling")
    said = sampling.get("fps") if isinstance(sampling, dict) else None
    return frames, float(said) if isinstance(said, int | float) and 0 < said <= MOST_RATE else DEFAULT_RATE


def read_recipe(path: str | Path) -> dict[str, Any]:
    """The recipe stored in a video, {} if there is none."""
    try:
        text = _comment_of(Path(path))
        found = json.loads(text.decode() if isinstance(text, bytes) else text)
    except (FootageError, OSError, ValueError):  # no video at all, or other words in the place of ours
        return {}
    return found if isinstance(found, dict) else {}


def _comment_of(path: Path) -> str | bytes:
    """What a file says of itself in the place where a recipe is stored."""
    kind = path.suffix.lower().removeprefix(".")
    if kind == "npy":
        beside = Path(f"{path}.json")
        return beside.read_text(encoding="utf-8") if beside.is_file() else ""
    if kind in ("gif", "webp", "png"):
        with Image.open(path) as picture:
            name = {"gif": "comment", "png": "Comment"}.get(kind)
            found: str | bytes = picture.info.get(name, b"") if name else picture.getexif().get(0x010E, "")
            return found
    with open_file(path) as container:
        return str(container.metadata.get("comment", ""))


def write_strip(frames: np.ndarray, path: Path, columns: int = 8, scale: int = 2) -> Path:
    """Videos [B, F, H, W, 3] as one picture: a row each, `columns` frames evenly spaced."""
    chosen = np.linspace(0, frames.shape[1] - 1, min(columns, frames.shape[1])).round().astype(int)
    rows = [np.concatenate(list(video[chosen]), axis=1) for video in frames]
    picture = Image.fromarray(np.concatenate(rows, axis=0))
    with whole_file(path) as unfinished:
        size = (picture.width * scale, picture.height * scale)
        picture.resize(size, Image.Resampling.NEAREST).save(unfinished, format="PNG")
    return path
