"""The figures, the table and the picture of docs/five-ways.md: one image model, brought to motion five ways, by
`muybridge compare`: `python -m benchmarks.five_ways`.

The same command goes on after an interruption. Figures are written to five_ways.json and, as the table, into the page.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.emoji import loops_of
from benchmarks.world_vdm import picture
from muybridge.data.video_io import read_video
from muybridge.evaluation.comparison.page import COLUMNS
from muybridge.evaluation.comparison.run import compare
from muybridge.evaluation.comparison.settings import Comparison
from muybridge.files import cache_folder, write_json, write_text
from muybridge.training.recipe import load_recipe

ROOT = Path(__file__).parent.parent
PAGE, RESULTS = ROOT / "docs" / "five-ways.md", Path(__file__).with_name("five_ways.json")
TEXT = Path(__file__).with_name("five_ways.md")
PICTURE = ROOT / "docs" / "pictures" / "five-ways.gif"
RECIPE = ROOT / "recipes" / "emoji-video.yaml"
#: System -> the bundled model of it.
MODELS = {
    "Video LDM": "emoji-video", "Stable Video": "emoji-animate", "Make-A-Video": "emoji-make-a-video",
    "Lumiere": "emoji-lumiere", "Text2Video-Zero": "emoji-image",
}  # fmt: skip
BEGIN, END = "<!-- table: benchmarks/five_ways.py -->", "<!-- end -->"
#: Of the picture: captions, frames, pixels a side.
SHOWN, FRAMES, SIDE = 4, 16, 96


def captions_of(count: int) -> tuple[str, ...]:
    """Of loops, evenly chosen."""
    source = loops_of(load_recipe(RECIPE).data)
    return tuple(source.caption_of(int(i)) for i in np.linspace(0, len(source) - 1, count))


def table(figures: dict[str, dict[str, Any]]) -> str:
    """A row a figure, a column a system, and real clips where they have one."""
    columns = {**MODELS, "real clips": "real clips"}
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, (called, written) in COLUMNS.items():
        values = [figures[model].get(name) for model in columns.values()]
        if any(v is not None for v in values):
            cells = ["" if v is None else written(v) for v in values]
            lines.append(f"| {called} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def page_with(figures: dict[str, dict[str, Any]]) -> str:
    """The page: the text of five_ways.md with the table of the figures."""
    text = TEXT.read_text(encoding="utf-8")
    before, behind = text.split(BEGIN)[0], text.split(END)[1]
    return f"{before}{BEGIN}\n\n{table(figures)}\n\n{END}{behind}"


def grid(folder: Path) -> np.ndarray:
    """Videos [SHOWN * models, FRAMES, SIDE, SIDE, 3]: a row a caption, frames evenly over each video's length."""
    rows = []
    for index in range(SHOWN):
        for model in MODELS.values():
            frames = read_video(folder / model / f"{index:04d}.mp4").frames
            chosen = frames[np.linspace(0, len(frames) - 1, FRAMES).round().astype(int)]
            rows.append(np.stack([cv2.resize(f, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST) for f in chosen]))
    return np.stack(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=24, help="captions")
    parser.add_argument("--folder", type=Path, default=cache_folder() / "benchmarks" / "five-ways", help="of videos")
    told = parser.parse_args()
    compared = Comparison(scorer="emoji-clip", reference=str(RECIPE))
    compare(
        tuple(MODELS.values()), captions_of(told.count), told.folder, compared, "cpu",
        lambda model, done, of: print(f"  {model} {done} of {of}", flush=True),
    )  # fmt: skip
    figures = json.loads((told.folder / "figures.json").read_text(encoding="utf-8"))
    write_json(RESULTS, figures)
    write_text(PAGE, page_with(figures))
    picture(grid(told.folder), PICTURE, columns=len(MODELS), scale=1)


if __name__ == "__main__":
    main()
