"""A sheet of videos with their prompts."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Array = np.ndarray
#: Frames of each video on the sheet, and pixels for a pixel.
SHOWN, SCALE = 6, 2
COLUMNS, LETTERS = 2, 92


def write_sheet(videos: list[Array], prompts: list[str], path: Path) -> None:
    """Frames of videos uint8 [F, H, W, 3] evenly over time, each row under its prompt."""
    font = ImageFont.load_default(13)
    cells = []
    for video, prompt in zip(videos, prompts, strict=True):
        chosen = np.unique(np.linspace(0, len(video) - 1, SHOWN).round().astype(int))
        row = np.concatenate(list(video[chosen]), 1).repeat(SCALE, 0).repeat(SCALE, 1)
        wide = SHOWN * video.shape[2] * SCALE
        cell = Image.new("RGB", (wide + 8, row.shape[0] + 40), "white")
        cell.paste(Image.fromarray(row), (4, 36))
        ImageDraw.Draw(cell).text((4, 2), "\n".join(textwrap.wrap(prompt, LETTERS)[:2]), "black", font)
        cells.append(cell)
    width, height = cells[0].size
    rows = -(-len(cells) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * width, rows * height), "white")
    for i, cell in enumerate(cells):
        sheet.paste(cell, (i % COLUMNS * width, i // COLUMNS * height))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
