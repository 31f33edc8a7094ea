"""Reading and writing video: mp4 (H.264), gif, animated webp, png, npy; each carries its record."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from muybridge.data.clips import Clip
from muybridge.errors import UserError, nearest
from muybridge.files import whole_file

FORMATS = ("mp4", "gif", "webp", "png", "npy")
#: x264 options for the same bytes from the same frames: without the second it now and then reads memory that it never
#: set.
SAME_BYTES = {"threads": "1", "x264-params": "cpu-independent=1"}
CRF = 12
#: Frame times that differ from an even rhythm by more than this share of a frame are a variable rate.
UNEVEN = 0.5


def write_video(frames: np.ndarray, path: str | Path, fps: float = 8.0, recipe: dict[str, Any] | None = None) -> Path:
    """Write a video; the ending chooses the format (.mp4, .gif, .webp, .npy; .png for a single frame).

    The file appears whole under its name or not at all.

    Args:
        frames: uint8 [F, H, W, 3].
        fps: frames a second.
        recipe: stored in the file's metadata (for npy, in NAME.npy.json beside it).

    Raises:
        UserError: frames of another type or shape, an unknown ending, or a path that cannot be written.
    """
    path = Path(path)
    frames = np.asarray(frames)
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        raise UserError(f"a video is uint8 [F, H, W, 3]; got {frames.dtype} {frames.shape}")
    kind = path.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise UserError(f"{path}: cannot write {path.suffix or 'a file without ending'}; {nearest(kind, FORMATS)}")
    if kind == "png" and len(frames) > 1:
        raise UserError(f"{path}: a .png holds one frame, this video has {len(frames)}; choose .mp4, .gif or .webp")
    text = json.dumps(recipe or {}, sort_keys=True)
    with whole_file(path) as unfinished:
        if kind == "mp4":
            _write_mp4(frames, unfinished, fps, text)
        elif kind == "npy":
            with open(unfinished, "wb") as file:
                np.save(file, frames, allow_pickle=False)
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


def _write_mp4(frames: np.ndarray, path: Path, fps: float, text: str) -> None:
    from fractions import Fraction

    import av

    height, width = frames.shape[1:3]
    # 4:2:0 needs even sides: repeat the last row or column rather than rescale
    padded = np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart+use_metadata_tags"}) as container:
        container.metadata["comment"] = text
        stream: Any = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.height, stream.width = padded.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": str(CRF), "preset": "medium", **SAME_BYTES}
        for picture in padded:
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def _write_pillow(frames: np.ndarray, path: Path, fps: float, text: str, kind: str) -> None:
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
    """Read a video file; the caption is empty.

    Raises:
        UserError: no such file, no video in it, or nothing that decodes.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no video at {path}")
    kind = path.suffix.lower().removeprefix(".")
    try:
        if kind == "npy":
            frames, fps = _read_npy(path)
        elif kind in ("gif", "webp", "png", "jpg", "jpeg"):
            frames, fps = _read_pillow(path, max_frames)
        else:
            frames, fps = _read_av(path, max_frames)
    except UserError:
        raise
    except Exception as error:  # PyAV and Pillow raise many kinds for damaged files
        raise UserError(f"{path}: not a readable video ({type(error).__name__}: {error})") from error
    if not len(frames):
        raise UserError(f"{path}: no frame could be decoded")
    return Clip(frames[:max_frames], "", fps)


def _read_npy(path: Path) -> tuple[np.ndarray, float]:
    frames = np.load(path, allow_pickle=False)
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
        raise UserError(f"{path}: expected uint8 [F, H, W, 3], got {frames.dtype} {frames.shape}")
    recipe = read_recipe(path)
    return frames, float(recipe.get("sampling", {}).get("fps", 8.0))


def _read_pillow(path: Path, max_frames: int | None) -> tuple[np.ndarray, float]:
    with Image.open(path) as picture:
        frames, milliseconds = [], 0.0
        for index in range(min(getattr(picture, "n_frames", 1), max_frames or 10**9)):
            picture.seek(index)
            frames.append(np.asarray(_on_white(picture)))
            milliseconds += float(picture.info.get("duration", 0) or 0)
    fps = 1000 * len(frames) / milliseconds if milliseconds > 0 else 8.0
    return np.stack(frames), fps


def _on_white(picture: Image.Image) -> Image.Image:
    """RGB; what is transparent lies on white."""
    if "A" not in picture.getbands() and "transparency" not in picture.info:
        return picture.convert("RGB")
    ground = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(ground, picture.convert("RGBA")).convert("RGB")


def _read_av(path: Path, max_frames: int | None) -> tuple[np.ndarray, float]:
    import av

    frames, times = [], []
    with av.open(str(path)) as container:
        if not container.streams.video:
            raise UserError(f"{path}: has no video stream")
        stream = container.streams.video[0]
        fps = float(stream.average_rate or 0) or 8.0
        for frame in container.decode(stream):
            turns = int(frame.rotation) // 90 % 4  # phones store upright videos lying down, with a note
            frames.append(np.rot90(frame.to_ndarray(format="rgb24"), turns))
            times.append(float(frame.time) if frame.time is not None else len(times) / fps)
            if max_frames and len(frames) >= max_frames:
                break
    if not frames:
        return np.zeros((0, 0, 0, 3), np.uint8), fps
    return np.stack(frames)[_even(np.array(times), fps)], fps


def uneven(times: Sequence[float] | np.ndarray) -> bool:
    """Whether frames come at a variable rate."""
    if len(times) < 3:
        return False
    gaps = np.diff(times)
    return bool(np.abs(gaps - np.median(gaps)).max() > UNEVEN * np.median(gaps))


def _even(times: np.ndarray, fps: float) -> np.ndarray:
    """Which frames make an even rhythm: all of them, or for a variable frame rate the one that is shown at every 1 /
    fps."""
    if not uneven(times):
        return np.arange(len(times))
    wanted = max(1, round((times[-1] - times[0] + float(np.median(np.diff(times)))) * fps))
    due = times[0] + np.arange(wanted) / fps
    return np.maximum(np.searchsorted(times, due + 1e-6, side="right") - 1, 0)


def read_recipe(path: str | Path) -> dict[str, Any]:
    """The recipe stored in a video, {} if there is none."""
    try:
        text = _comment_of(Path(path))
        found = json.loads(text.decode() if isinstance(text, bytes) else text)
    except (OSError, ValueError):  # no video at all, or other words in the place of ours
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
    import av

    with av.open(str(path)) as container:
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
