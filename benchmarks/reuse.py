"""Features used again, time against distance to the full run: `python -m benchmarks.reuse`.

Writes reuse.json and docs/pictures/reuse.svg.

The default model at its own settings, its frames compared with the run without reuse: the distance of appearance is the
mean absolute difference of colours, that of motion the same of differences of neighbouring frames, each over the
full run's own spread; and the seconds of random weights at Stable Diffusion 1.5's widths, whose frames mean nothing.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.against_diffusers import stable_diffusion_folder
from benchmarks.emoji import TWENTY
from muybridge.opening.sampling import load_pipeline

RESULTS = Path(__file__).with_name("reuse.json")
PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "reuse.svg"
#: Times as fast, and the distance that it may cost.
WANTED = (1.6, 0.05)
SHARES = (0.25, 0.4, 0.5, 0.6, 0.75, 0.9)
PROMPTS = (
    "rocket, fluent style", "dog face, fluent style", "unicorn, fluent style", "robot, fluent style",
    "fox, fluent style", "syringe, fluent style", "movie camera, fluent style", "woman rowing boat, fluent style",
)  # fmt: skip


def in_turn(pipeline: Any, shares: Sequence[float], prompts: Sequence[str], **how: Any) -> dict[float, Any]:
    """Of every share: how many times as fast as none, the median over prompts, and the videos; all in turn a prompt."""
    times, videos = defaultdict(list), defaultdict(list)
    for seed, prompt in enumerate(prompts):
        for share in (0.0, *shares):
            began = time.perf_counter()
            videos[share].append(pipeline(prompt, seed=seed, reuse=share, **how).frames[0].astype(float))
            times[share].append(time.perf_counter() - began)
    whole = np.array(times[0.0])
    return {x: (float(np.median(whole / times[x])), np.stack(videos[x])) for x in (0.0, *shares)}


def distances(full: np.ndarray, made: np.ndarray) -> dict[str, float]:
    """Of videos [N, F, H, W, 3]: appearance and motion, as shares of the full run's own spread."""
    apart = np.abs(made - full).mean() / full.std()
    moving, other = np.diff(full, axis=1), np.diff(made, axis=1)
    return {"appearance": float(apart), "motion": float(np.abs(other - moving).mean() / max(moving.std(), 1e-9))}


def plot(figures: Mapping[str, Mapping[str, float]]) -> str:
    """An SVG: times as fast to the right, distance upwards, a line for appearance and one for motion."""
    left, top, width, height, fastest, furthest = 60, 20, 440, 240, 3.5, 0.5
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 20}" height="{top + height + 50}"'
             ' font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>']  # fmt: skip

    def at(faster: float, distance: float) -> tuple[float, float]:
        """Square roots upwards, so that the small distances, which matter, are told apart."""
        share = (distance / furthest) ** 0.5
        return round(left + width * (faster - 1) / (fastest - 1), 1), round(top + height * (1 - share), 1)

    for faster in np.arange(1, fastest + 0.1, 0.5):
        x, _ = at(float(faster), 0)
        parts.append(f'<text x="{x}" y="{top + height + 18}" text-anchor="middle">{faster:g}</text>')
    for distance in (0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5):
        _, y = at(1, distance)
        stroke = "#c33" if distance == WANTED[1] else "#ddd"
        parts.append(f'<path d="M{left} {y}h{width}" stroke="{stroke}"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4}" text-anchor="end">{distance:g}</text>')
    x, y = at(WANTED[0], 0)
    parts.append(f'<path d="M{x} {y}v{-height}" stroke="#c33"/>')
    for name, colour in (("motion", "#1f5fa8"), ("appearance", "#d07a1e")):
        points = [(1.0, 0.0, "")] + [(f["times as fast"], f[name], share) for share, f in figures.items()]
        places = [(*at(faster, distance), share) for faster, distance, share in points]
        parts.append(f'<path d="M{"L".join(f"{x} {y}" for x, y, _ in places)}" fill="none" stroke="{colour}"/>')
        for x, y, share in places:
            parts.append(f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>')
            parts.append(f'<text x="{x}" y="{y - 7}" text-anchor="middle" fill="{colour}">{share}</text>')
        parts.append(f'<text x="{places[-1][0] + 8}" y="{places[-1][1] + 14}" fill="{colour}">{name}</text>')
    words = "times as fast; upwards the distance to the full run; red: what was wanted"
    parts.append(f'<text x="{left + width / 2}" y="{top + height + 40}" text-anchor="middle">{words}</text></svg>')
    return "\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--shares", type=float, nargs="*", default=SHARES)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    figures: dict[str, dict[str, Any]] = {"emoji-video": {}, "SD 1.5 widths": {}}
    video = load_pipeline("emoji-video", "cpu")
    video(PROMPTS[0], seed=0)
    made = in_turn(video, arguments.shares, PROMPTS, **TWENTY)
    for share in arguments.shares:
        faster, videos = made[share]
        figures["emoji-video"][str(share)] = {"times as fast": faster, **distances(made[0.0][1], videos)}
        print("emoji-video", share, figures["emoji-video"][str(share)], flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        large = load_pipeline(str(stable_diffusion_folder(Path(scratch) / "model")), "cpu")
        how: dict[str, Any] = {"height": 256, "width": 256}
        large("a", seed=0, num_inference_steps=1, **how)
        for share, (faster, _) in in_turn(large, arguments.shares, ("a",) * 2, num_inference_steps=10, **how).items():
            if share:
                figures["SD 1.5 widths"][str(share)] = {"times as fast": faster}
                print("SD 1.5 widths", share, faster, flush=True)
    RESULTS.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    PICTURE.write_text(plot(figures["emoji-video"]), encoding="utf-8")


if __name__ == "__main__":
    main()
