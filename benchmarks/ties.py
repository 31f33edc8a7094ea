"""What ties frames together best: `python -m benchmarks.ties RECIPE --folder RUNS`, one table for emoji-video's card.

Variants of one recipe of a video model, each trained for the same number of steps from the same picture model,
resumable; then the same loops are drawn by all: how they move, how they look, whether what is seen keeps its shape.
"""

from __future__ import annotations

import argparse
import copy
import json
from pathlib import Path
from typing import Any

from benchmarks.emoji import motion_figures
from muybridge.configuration import from_mapping
from muybridge.files import write_json
from muybridge.opening.sampling import load_pipeline
from muybridge.training.recipe import Recipe, load_recipe
from muybridge.training.trainer import Trainer

#: name -> changes of the recipe's sections `model.temporal` and `diffusion`.
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "layers over time alone": ({}, {}),
    "all layers": ({"train_image": True}, {}),
    "all layers, pictures mixed in": ({"train_image": True}, {"pictures": 0.25}),
    "the same, correlated noise": ({"train_image": True}, {"pictures": 0.25, "noise_correlation": 0.5}),
    "the same, attention over space and time": (
        {"train_image": True, "spacetime_levels": 2}, {"pictures": 0.25, "noise_correlation": 0.5},
    ),
}  # fmt: skip
#: What stands beside the variants' own figures, the same for all.
BESIDE = ("independent pictures", "real")
#: What the variants settle; whatever the recipe says of it is left out first.
SETTLED = {"temporal": ("train_image", "spacetime_levels"), "diffusion": ("pictures", "noise_correlation")}


def variant(recipe: Recipe, name: str, steps: int) -> Recipe:
    """The recipe with a variant's changes and length."""
    told = copy.deepcopy(recipe.as_dict())
    temporal, diffusion = VARIANTS[name]
    sections = {"temporal": told["model"].setdefault("temporal", {}), "diffusion": told["diffusion"]}
    for section, keys in SETTLED.items():
        for key in keys:
            sections[section].pop(key, None)
    sections["temporal"].update(temporal)
    sections["diffusion"].update(diffusion)
    told["sampling"].pop("noise_correlation", None)
    told["training"] |= {"steps": steps, "checkpoint_every": min(100, steps), "validate_every": steps,
                         "sample_every": 0}  # fmt: skip
    made: Recipe = from_mapping(Recipe, told, name)
    return made


def table(figures: dict[str, Any]) -> str:
    """Markdown, a row a variant, the last two real loops and independent pictures."""
    columns = ("motion distance", "appearance distance", "order", "warped difference", "frame difference")
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    beside: dict[str, Any] = {}
    for name, told in figures.items():
        beside |= {k: v for k, v in told.items() if k in BESIDE}
        lines.append(f"| {name} | " + " | ".join(f"{told['videos'][c]:.2f}" for c in columns) + " |")
    for name, told in beside.items():
        lines.append(f"| {name} | " + " | ".join(f"{told[c]:.2f}" for c in columns) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--folder", type=Path, required=True, help="of the runs")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--only", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "ties.json")
    arguments = parser.parse_args()
    recipe = load_recipe(arguments.recipe)
    figures: dict[str, Any] = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
    for name in arguments.only:
        folder = arguments.folder / name.replace(",", "").replace(" ", "-")
        if not (folder / "model").exists():
            Trainer(variant(recipe, name, arguments.steps), folder).run()
        figures[name] = {"steps": arguments.steps} | motion_figures(
            recipe, load_pipeline(str(folder / "model")), arguments.clips, alone=not figures
        )
        write_json(arguments.output, figures)
        print(table(figures), flush=True)


if __name__ == "__main__":
    main()
