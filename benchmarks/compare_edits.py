"""The pictures of docs/editing.md and of its systems' pages: one clip through every command that edits: `python -m
benchmarks.compare_edits`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.world_vdm import picture
from muybridge.data.emoji import EmojiConfig, EmojiSource
from muybridge.data.video_io import read_video, write_video

SOURCE, OTHER = "fox", "tiger face, fluent style"
PICTURES = Path(__file__).parent.parent / "docs" / "pictures"
#: The picture of each system's page, from left to right.
PAGES = {
    "text2video-zero": ("zero",),
    "control-video": ("source", "edges", "depth"),
    "tune-a-video": ("source", "edit"),
    "gen-1": ("source", "restyle"),
}


def run(*arguments: str) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "muybridge.cli.main", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    print(done.stdout.strip().splitlines()[-1], flush=True)


def main() -> None:
    loops = EmojiSource(EmojiConfig("animations", 16, split="all"))
    clip = loops.clip([e.caption for e in loops.entries].index(SOURCE))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        source = str(write_video(clip.frames, folder / "source.npy", clip.fps))
        out = {n: str(folder / f"{n}.npy") for n in ("zero", "edges", "depth", "edit", "restyle", "redraw", "animate")}
        run("zero", OTHER, "-o", out["zero"], "--num-frames", "16")
        for structure in ("edges", "depth"):
            run("control", source, OTHER, "-o", out[structure], "--control", structure)
        tuned = str(folder / "tuned")
        tune = ["tune", source, "--caption", f"{SOURCE}, fluent style", "--folder", tuned, "--num-frames", "16"]
        run(*tune, "--train-steps", "100", "--learning-rate", "3e-4", "--steps", "25")
        run("edit", f"{tuned}/model", OTHER, "-o", out["edit"])
        run("restyle", source, "-o", out["restyle"], "--content", OTHER, "--structure-level", "1")
        run("restyle", source, "-o", out["redraw"], "--content", OTHER, "--strength", "0.7", "--model", "emoji-video")
        run("animate", source, "-o", out["animate"], "--num-frames", "16")
        rows = [clip.frames, *(read_video(path).frames for path in out.values())]
    picture(np.stack(rows), PICTURES / "editing.gif", columns=4, scale=2)
    made = dict(zip(["source", *out], rows, strict=True))
    for name, shown in PAGES.items():
        picture(np.stack([made[n] for n in shown]), PICTURES / f"{name}.gif", columns=len(shown), scale=2)


if __name__ == "__main__":
    main()
