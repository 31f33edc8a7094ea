"""The card of world-vdm from its figures, log and recipe: `python -m benchmarks.cards`. No number is typed by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.world_vdm import RECIPE
from muybridge.systems.loading import load_pipeline, zoo_folder
from muybridge.training.recipe import Recipe, load_recipe

#: What issue 2 asks of 100 videos.
BARS = {"colour": 0.95, "direction": 0.95, "shape": 0.85, "all": 0.80}
SEAM_BAR, HELD_OUT_GAP = 1.3, 0.10


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def verdict(ok: bool) -> str:
    return "reached" if ok else "**missed**"


def training_of(log: list[dict[str, Any]]) -> tuple[int, float, dict[str, float]]:
    """Steps, hours of stepping (by the median logged step), and the newest held-out errors."""
    step = max(line["step"] for line in log)
    seconds = sorted(line["seconds_per_step"] for line in log if "seconds_per_step" in line)
    validated = [line for line in log if "validation_error" in line][-1]
    return step, step * seconds[len(seconds) // 2] / 3600, validated


def card(folder: Path, recipe: Recipe) -> str:
    figures = json.loads((folder / "figures.json").read_text(encoding="utf-8"))
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    step, hours, errors = training_of(log)
    count = load_pipeline(str(folder)).network.num_parameters()
    seen, held, extension = figures["seen"], figures["held_out"], figures["extension"]
    missed = [name for name, bar in BARS.items() if seen[name] < bar]
    missed += ["seam of extensions"] if extension["reconstruction_seam"] > SEAM_BAR else []
    training = recipe.training
    state = (
        "every bar of the measurement below is reached"
        if not missed
        else f"bars missed: {', '.join(missed)} (see below)"
    )
    done = f"{step:,} of {training.steps:,} steps"
    rows = "\n".join(
        f"| {name if name != 'all' else 'all three'} | {percent(seen[name])} | {percent(bar)} | {verdict(seen[name] >= bar)} "
        f"| {percent(held[name])} | {verdict(held[name] >= seen[name] - HELD_OUT_GAP)} |"
        for name, bar in BARS.items()
    )
    bands = ", ".join(
        f"{k.removeprefix('validation_error_')} {v:.4f}" for k, v in errors.items() if k.startswith("validation_error_")
    )
    return f"""# world-vdm

Text to video, {recipe.sampling["num_frames"]} frames of {recipe.sampling["height"]}x{recipe.sampling["width"]} pixels: one coloured shape that moves. The 3D U-Net of
Video Diffusion Models with {count / 1e6:.1f} million parameters; what differs from the paper is told in `docs/systems/vdm.md`.

**State**: averaged weights after {done}; {state}.

    muybridge generate "a red circle moving left" -o circle.mp4

## Data

`world`: {recipe.data["num_clips"]:,} generated clips, one thing on a plain dark ground, {len(set(recipe.data["colours"]))} colours, {len(set(recipe.data["shapes"]))} shapes, \
{len(set(recipe.data["motions"]))} motions, {len(set(recipe.data["sizes"]))} sizes, several
phrasings; paths lie near the middle of the picture (`spread` {recipe.data["spread"]:g}). {percent(recipe.data["held_out"])} of all (colour, shape, motion) triples are never shown. No data from anywhere else. The text encoder is
all-MiniLM-L6-v2 (Apache-2.0), not part of these weights.

## Training

`muybridge train recipes/world-vdm.yaml`: batch {training.batch_size}, {training.optimizer} at {training.learning_rate:g}, {recipe.model["prediction_type"].replace("_", "-")}; {step:,} steps, about {hours:.1f} hours
of two shared CPU cores (`log.jsonl`). Held-out error (v) {errors["validation_error"]:.4f} at step {errors["step"]:,}; by log-SNR band: {bands}.

## Measured

`python -m benchmarks.world_vdm`: prompts "a COLOUR SHAPE moving DIRECTION", judged from pixels by a program that shares no code with
the generator.

| | seen triples ({seen["videos"]} videos) | wanted | | held-out triples ({held["videos"]} videos) | at most 10 points lower |
|---|---|---|---|---|---|
{rows}

Extension of {extension["scenes"]} unseen scenes by half a clip, as seam ratio (wanted: at most {SEAM_BAR}) and motion of the new frames over the true
motion: reconstruction guidance {extension["reconstruction_seam"]:.2f} ({verdict(extension["reconstruction_seam"] <= SEAM_BAR)}), {extension["reconstruction_motion"]:.2f}; \
replacement {extension["replacement_seam"]:.2f}, {extension["replacement_motion"]:.2f}.

## Limits

It knows the words it was trained on and no others. It was trained on whole paths across the picture: gone on with from the middle of
one, a thing tends to leap back to where such a path begins. Licence: Apache-2.0.
"""


def main() -> None:
    folder = zoo_folder() / "world-vdm"
    (folder / "README.md").write_text(card(folder, load_recipe(RECIPE)), encoding="utf-8")
    print(folder / "README.md")


if __name__ == "__main__":
    main()
