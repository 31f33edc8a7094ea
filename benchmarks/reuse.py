"""Features used again, time against distance to the full run: `python -m benchmarks.reuse` (results in reuse.json).

The default model at its own settings, its frames compared with the run without reuse: the distance of appearance is the
mean absolute difference of colours, that of motion the same of differences of neighbouring frames, each over the
full run's own spread; and the seconds of random weights at Stable Diffusion 1.5's widths, whose frames mean nothing.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.against_diffusers import stable_diffusion_folder
from muybridge.opening.sampling import load_pipeline

RESULTS = Path(__file__).with_name("reuse.json")
SHARES = (0.0, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9)
PROMPTS = ("rocket, fluent style", "dog face, fluent style", "unicorn, fluent style", "robot, fluent style")


def timed(pipeline: Any, share: float, prompts: tuple[str, ...], **how: Any) -> tuple[float, np.ndarray]:
    """Seconds of one video, the median over prompts, and the videos."""
    seconds, videos = [], []
    for seed, prompt in enumerate(prompts):
        began = time.perf_counter()
        videos.append(pipeline(prompt, seed=seed, reuse=share, **how).frames[0].astype(float))
        seconds.append(time.perf_counter() - began)
    return float(np.median(seconds)), np.stack(videos)


def distances(full: np.ndarray, made: np.ndarray) -> dict[str, float]:
    """Of videos [N, F, H, W, 3]: appearance and motion, as shares of the full run's own spread."""
    apart = np.abs(made - full).mean() / full.std()
    moving, other = np.diff(full, axis=1), np.diff(made, axis=1)
    return {"appearance": float(apart), "motion": float(np.abs(other - moving).mean() / max(moving.std(), 1e-9))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--shares", type=float, nargs="*", default=SHARES)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    figures: dict[str, dict[str, Any]] = {"emoji-video": {}, "SD 1.5 widths": {}}
    video = load_pipeline("emoji-video", "cpu")
    timed(video, 0.0, PROMPTS[:1])
    whole, full = timed(video, 0.0, PROMPTS)
    for share in arguments.shares:
        seconds, made = timed(video, share, PROMPTS)
        figures["emoji-video"][str(share)] = {"times as fast": whole / seconds, **distances(full, made)}
        print("emoji-video", share, figures["emoji-video"][str(share)], flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        large = load_pipeline(str(stable_diffusion_folder(Path(scratch) / "model")), "cpu")
        how = {"height": 256, "width": 256, "num_inference_steps": 10}
        timed(large, 0.0, ("a",), **{**how, "num_inference_steps": 1})
        whole, _ = timed(large, 0.0, ("a",), **how)
        for share in arguments.shares:
            seconds, _ = timed(large, share, ("a",), **how)
            figures["SD 1.5 widths"][str(share)] = {"times as fast": whole / seconds}
            print("SD 1.5 widths", share, whole / seconds, flush=True)
    RESULTS.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
