"""Cards of the models and small networks that stand beside emoji-video: `python -m benchmarks.part_cards`. No number is
typed by hand."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.cards import later_stages, read_log, training_of
from benchmarks.world_vdm import RECIPE
from muybridge.files import ZOO
from muybridge.library.catalogue import parameters_in
from muybridge.training.recipe import load_recipe

FLUENT = "Animated and still Fluent emoji (MIT, Microsoft)"
STILLS = (
    "Captioned stills in five styles and frames of the Fluent loops: Fluent (MIT, Microsoft), Noto (Apache-2.0, "
    "Google), Twemoji (CC-BY-4.0,\n"
    "Twitter and contributors), EmojiOne (CC-BY-4.0); captions from emojibase (MIT)"
)
#: name -> what it is, how it is used, its data, what one should know.
WHAT: dict[str, tuple[str, str, str, str]] = {
    "emoji-animate": (
        "A picture brought to life: Stable Video Diffusion's image-to-video stage at small size, 16 frames of "
        "64x64 pixels; the whole inflated\n"
        "`emoji-image` trains.",
        "muybridge animate fox.png -o alive.mp4 --motion 180",
        f"{FLUENT}, 16 of 32 frames of each loop; a twentieth of the captions is never shown, and is what is measured.",
        "It knows emoji and nothing of photographs.",
    ),
    "emoji-between": (
        "Three frames between two: Video LDM's interpolation layers behind the frozen `emoji-image`, convolutions "
        "over time alone.",
        "muybridge upsample-fps fox.mp4 -o smooth.mp4",
        f"{FLUENT}, windows of five frames at two rates.",
        "Its frames join without a seam but are less exact than a blend of the neighbours on these slow loops: "
        "take `interpolate` or the\n"
        "interpolator of `control` where exactness counts.",
    ),
    "emoji-restyle": (
        "A video's depth with another look: Gen-1 at small size, 8 frames of 64x64 pixels, longer videos in windows.",
        'muybridge restyle walk.mp4 --content "robot, fluent style" -o robot.mp4',
        f"{FLUENT} and drawn scenes (`world`), 8 frames each.",
        "Its content space is `emoji-clip`'s: words that are no emoji lead nowhere.",
    ),
    "depth": (
        "Inverse depth of a picture, up to scale: a small network with skips.",
        'muybridge control walk.mp4 "robot, fluent style" --control depth',
        "Composites of emoji cut-outs on a drawn ground, with exact depth (`data/composites.py`); styles and "
        "licences as on `emoji-image`'s card.",
        "It has never seen a photograph: give a MiDaS or DPT folder for real footage "
        "(`models.vision.structure.Depth`).",
    ),
    "interpolator": (
        "The frame between two frames: RIFE's IFNet at width 32.",
        'muybridge control walk.mp4 "robot, fluent style" --smooth learned',
        f"{FLUENT} and drawn scenes (`world`), triples of neighbouring frames.",
        "A user's own RIFE weights (HDv3) load in its place.",
    ),
    "emoji-prior": (
        "Words to the embedding of a picture, in `emoji-clip`'s space: a diffusion prior as a small MLP.",
        'muybridge restyle walk.mp4 --content "robot, fluent style"',
        f"{STILLS}.",
        "",
    ),
    "emoji-upscaler": (
        "64x64 pixels to 256x256 in one step, told the words and three frames to each side; frames and sizes of any "
        "number.",
        'muybridge generate "fox, fluent style" -o fox.mp4 --upscale 4',
        "Scenes of `sprites` and Fluent loops, drawn at 256 pixels; styles and licences as on `emoji-image`'s card.",
        "It sharpens outlines and knows nothing of photographs.",
    ),
    "emoji-edges": (
        "A ControlNet of `emoji-image` that reads outlines (Canny), in diffusers' layout with packed weights.",
        'muybridge control walk.mp4 "robot, fluent style" --control edges',
        f"{STILLS}.",
        "",
    ),
    "emoji-depth": (
        "A ControlNet of `emoji-image` that reads depth (by the bundled network), in diffusers' layout with packed "
        "weights.",
        'muybridge control walk.mp4 "robot, fluent style" --control depth',
        f"{STILLS}.",
        "",
    ),
}

#: Of models of several networks: what they are, how they are used, their limits, and each network's recipe.
WHOLES: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    "emoji-lumiere": (
        "Words, or parts of a video, to 48 frames in one pass at 64x64 pixels, and super-resolution to 128x128 in "
        "windows: Lumiere behind the\nfrozen `emoji-image`.",
        'muybridge generate "rocket, fluent style" --model emoji-lumiere -o rocket.mp4',
        "It knows what `emoji-image` knows. Its super-resolution was trained for a few hundred steps and leaves some grain; a "
        "clip takes about a\nminute of two cores.",
        ("emoji-lumiere", "emoji-make-a-video-4-sr", "emoji-lumiere-sr"),
    ),
}


def rows(figures: dict[str, Any], before: str = "") -> list[str]:
    """A table's lines from nested figures."""
    out = []
    for name, value in figures.items():
        if isinstance(value, dict):
            out += rows(value, f"{before}{name}: ")
        elif isinstance(value, int | float | bool):
            out.append(
                f"| {before}{name} | {value:.3f} |" if isinstance(value, float) else f"| {before}{name} | {value} |"
            )
    return out


def card(name: str) -> str:
    folder = ZOO / name
    what, use, data, limits = WHAT[name]
    recipe, figures = load_recipe(RECIPE.with_name(f"{name}.yaml")), json.loads((folder / "figures.json").read_text())
    steps, hours, errors = training_of(read_log(folder / "log.jsonl"))
    more, _ = later_stages(folder, name)
    table = "\n".join(rows(figures))
    how = {"emoji-animate": "picture_to_video animate", "emoji-between": "picture_to_video between"}
    how |= {"emoji-restyle": "zero_shot restyle"}
    return f"""# {name}

{what} {parameters_in(folder) / 1e6:.1f} million parameters in this folder.

```bash
{use}
```

## Data

{data}

## Training

`recipes/{name}.yaml`: {steps:,} steps of {recipe.training.batch_size}, {recipe.training.optimizer} at {recipe.training.learning_rate:g}, about {60 * hours:.0f} minutes of two shared CPU cores (`log.jsonl`). Held-out
error {errors["validation_error"]:.3f}. {more}

## Measured

`python -m benchmarks.{how.get(name, "parts")}`, on data it was not trained on unless a line says otherwise:

| | |
|---|---|
{table}

{limits}

Licence of the weights: Apache-2.0.
"""


def whole_card(name: str) -> str:
    """The card of a model of several networks: every network's recipe and log, and all figures."""
    folder = ZOO / name
    what, use, limits, recipes = WHOLES[name]
    figures, trained = json.loads((folder / "figures.json").read_text()), []
    for stage in recipes:
        recipe = load_recipe(RECIPE.with_name(f"{stage}.yaml"))
        steps, hours, errors = training_of(read_log(folder / f"log-{stage}.jsonl"))
        trained.append(
            f"| `recipes/{stage}.yaml` | {steps:,} | {recipe.training.batch_size} | {60 * hours:.0f} | "
            f"{errors['validation_error']:.3f} |"
        )
    table, stages = "\n".join(rows(figures)), "\n".join(trained)
    return f"""# {name}

{what} {parameters_in(folder) / 1e6:.1f} million parameters in this folder.

```bash
{use}
```

## Data

{FLUENT}, and the stills of `emoji-image`'s card for its picture networks; a twentieth of the captions is never shown.

## Training

On one of two shared CPU cores, or both, beside each other (`log-*.jsonl`):

| recipe | steps | clips a step | minutes | held-out error |
|---|---|---|---|---|
{stages}

## Measured

`python -m benchmarks.emoji --model` with the first network's folder (words, motion), `python -m benchmarks.space_time`
(the rest):

| | |
|---|---|
{table}

{limits}

Licence of the weights: Apache-2.0.
"""


def main() -> None:
    for name in WHOLES:
        if (ZOO / name / "figures.json").is_file():
            (ZOO / name / "README.md").write_text(whole_card(name), encoding="utf-8")
            print(name)
    for name in WHAT:
        if (ZOO / name / "figures.json").is_file():
            (ZOO / name / "README.md").write_text(card(name).replace("\n\n\n\n", "\n\n"), encoding="utf-8")
            print(name)


if __name__ == "__main__":
    main()
