"""The bundled models' cards from their figures, logs and recipes: `python -m benchmarks.cards`. No number is typed by
hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.world_vdm import RECIPE
from muybridge.files import ZOO
from muybridge.opening.sampling import load_pipeline
from muybridge.training.recipe import Recipe, load_recipe

DETAIL = RECIPE.with_name("world-vdm-detail.yaml")
#: What issue 2 asks of 100 videos.
BARS = {"colour": 0.95, "direction": 0.95, "shape": 0.85, "all": 0.80}
SEAM_BAR, HELD_OUT_GAP = 1.3, 0.10


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def verdict(ok: bool) -> str:
    return "reached" if ok else "**missed**"


def read_log(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def training_of(log: list[dict[str, Any]]) -> tuple[int, float, dict[str, float]]:
    """Steps, hours of stepping (by the median logged step), and the newest held-out errors."""
    step = max(line["step"] for line in log)
    seconds = sorted(line["seconds_per_step"] for line in log if "seconds_per_step" in line)
    validated = [line for line in log if "validation_error" in line][-1]
    return step, step * seconds[len(seconds) // 2] / 3600, validated


def later_stages(folder: Path, name: str) -> tuple[str, dict[str, float]]:
    """What a card says of recipes/NAME-more.yaml and -third.yaml, and the newest held-out errors; nothing for a model
    of one stage."""
    told, errors = [], {}
    for stage in ("more", "third"):
        log = folder / f"log-{stage}.jsonl"
        if log.is_file():
            steps, hours, errors = training_of(read_log(log))
            told.append(
                f"Then `recipes/{name}-{stage}.yaml`: {steps:,} steps more, about {hours:.1f} hours (`{log.name}`); "
                f"held-out error {errors['validation_error']:.3f}."
            )
    return "\n".join(told), errors


def card(folder: Path, recipe: Recipe) -> str:
    figures = json.loads((folder / "figures.json").read_text(encoding="utf-8"))
    stages = [training_of(read_log(folder / name)) for name in ("log.jsonl", "log-detail.jsonl")]
    (step, hours, _), (more_steps, more_hours, errors) = stages
    detail = load_recipe(DETAIL)
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
    done = f"{step:,} + {more_steps:,} steps"
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

```bash
muybridge generate "a red circle moving left" --model world-vdm -o circle.mp4 --upscale 8
```

## Data

`world`: {recipe.data["num_clips"]:,} generated clips, one thing on a plain dark ground, {len(set(recipe.data["colours"]))} colours, {len(set(recipe.data["shapes"]))} shapes, \
{len(set(recipe.data["motions"]))} motions, {len(set(recipe.data["sizes"]))} sizes, several
phrasings; paths lie near the middle of the picture (`spread` {recipe.data["spread"]:g}). {percent(recipe.data["held_out"])} of all (colour, shape, motion) triples are never shown. No data from anywhere else. The text encoder is
all-MiniLM-L6-v2 (Apache-2.0), not part of these weights.

## Training

Two stages: `muybridge train recipes/world-vdm.yaml`, batch {training.batch_size}, {training.optimizer} at {training.learning_rate:g}, {recipe.model["prediction_type"].replace("_", "-")}, {step:,} steps, about {hours:.1f} hours
of two shared CPU cores (`log.jsonl`); then `recipes/world-vdm-detail.yaml`, {detail.training.learning_rate:g} and more of the times at low noise, {more_steps:,} steps,
{more_hours:.1f} hours (`log-detail.jsonl`). Held-out error (v) {errors["validation_error"]:.4f} at step {errors["step"]:,}; by log-SNR band: {bands}.

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

It knows the words it was trained on and no others. A faint grain of about five grey levels lies over the plain ground and changes from
frame to frame: it is most of the motion of new frames beside known ones that are perfectly plain. Licence: Apache-2.0.
"""


def emoji_video_card(folder: Path) -> str:
    """The card of the video model behind the image model."""
    figures = json.loads((folder / "figures.json").read_text(encoding="utf-8"))
    recipe = load_recipe(RECIPE.with_name("emoji-video.yaml"))
    steps, hours, errors = training_of(read_log(folder / "log.jsonl"))
    more, _ = later_stages(folder, "emoji-video")
    pipeline: Any = load_pipeline(str(folder))
    motion = figures["motion"]
    words = "\n".join(
        f"| {figures[n]['count']} {label} | {percent(figures[n]['first'])} | {percent(figures[n]['first five'])} |"
        for n, label in (("seen", "seen in training"), ("unseen", "unseen"))
    )
    rows = "\n".join(
        f"| {n} | {motion[n]['frame difference']:.2f} | {percent(motion[n]['share within'])} | {motion[n]['order']:.2f} | {motion[n]['motion distance']:.2f} "
        f"| {motion[n]['appearance distance']:.2f} |"
        for n in ("videos", "independent pictures", "real")
    )
    decoder = json.loads((folder / "decoder" / "figures.json").read_text(encoding="utf-8"))
    decoder_steps, _, _ = training_of(read_log(folder / "decoder" / "log.jsonl"))
    tuned, plain = decoder["tuned decoder"], decoder["picture decoder"]
    decoder_more, _ = later_stages(folder / "decoder", "emoji-decoder")
    videos, single = motion["videos"], motion["independent pictures"]
    halved = verdict(videos["motion distance"] <= 0.5 * single["motion distance"])
    kept = verdict(videos["appearance distance"] <= 1.1 * single["appearance distance"])
    return f"""# emoji-video

Words to a moving emoji, {recipe.sampling["num_frames"]} frames of {recipe.sampling["height"]}x{recipe.sampling["width"]} pixels: Video LDM's temporal layers behind the frozen `emoji-image`
({pipeline.network.num_parameters() / 1e6:.1f} million parameters together).

![the first 24 of the captions it is measured on, unpicked](../../../docs/pictures/emoji-video.gif)

```bash
muybridge generate "rocket, fluent style" -o rocket.gif --upscale 4
```

## Data

The animated Fluent loops (MIT, Microsoft), windows of {recipe.data["num_frames"]} of 32 frames; a twentieth of the captions is never shown. What `emoji-image` was
trained on is told on its card.

## Training

`recipes/emoji-video.yaml`: {steps:,} steps of {recipe.training.batch_size} clips, {recipe.training.optimizer} at {recipe.training.learning_rate:g}, about {hours:.1f} hours of two shared CPU cores (`log.jsonl`); the image
layers are frozen. Held-out error (v) {errors["validation_error"]:.3f}. {more}
Held-out captions are ones that the image model does not know: it has learned the seen ones so well that the error of the others rose.

## Measured

`python -m benchmarks.emoji --model emoji-video`: the right emoji among the nearest stills, as on the card of `emoji-image`; frames are averaged.

| captions | first | first five |
|---|---|---|
{words}

Wanted of seen captions: 60 % first ({verdict(figures["seen"]["first"] >= 0.6)}), 80 % among the first five ({verdict(figures["seen"]["first five"] >= 0.8)}).

Motion on {motion["clips"]} captions of loops, against {motion["references"]} other loops; "real" is the floor.

| | frame difference (median, grey levels) | within the data's 5th-95th percentile | change in two frames over that in one | motion distance | appearance distance |
|---|---|---|---|---|---|
{rows}

Wanted: motion distance at most half that of independent pictures ({halved}), appearance distance within 10 % ({kept}).

The decoder tuned on video (`recipes/emoji-decoder.yaml`, {decoder_steps:,} steps; encoder the same) against the image model's: motion distance of the round trip
{tuned["motion distance"]:.2f} against {plain["motion distance"]:.2f}, {percent(decoder["flicker lowered by"])} lower; of the held-out clips alone {tuned["motion distance, held-out"]:.2f} against {plain["motion distance, held-out"]:.2f}, \
{percent(decoder["flicker lowered by, held-out"])} lower (wanted: 30 %, {verdict(decoder["flicker lowered by, held-out"] >= 0.3)}); error of frame differences
{tuned["error of frame differences, grey levels"]:.2f} against {plain["error of frame differences, grey levels"]:.2f} grey levels (`python -m benchmarks.picture_to_video decoder --count 60`, {decoder["clips"]} clips, {decoder["held-out clips"]} of them held out).
{decoder_more}

Licence of the weights: Apache-2.0.
"""


def emoji_image_card(folder: Path) -> str:
    """The card of the image model, with its latent space."""
    figures = json.loads((folder / "figures.json").read_text(encoding="utf-8"))
    recipe = load_recipe(RECIPE.with_name("emoji-image.yaml"))
    (steps, hours, errors), log_vae = training_of(read_log(folder / "log.jsonl")), read_log(folder / "log-vae.jsonl")
    more, _ = later_stages(folder, "emoji-image")
    vae_steps = max(line["step"] for line in log_vae)
    vae_error = [line["validation_error"] for line in log_vae if "validation_error" in line][-1]
    pipeline: Any = load_pipeline(str(folder))
    network, vae = pipeline.network.num_parameters(), pipeline.vae.num_parameters()
    seen, unseen = figures["seen"], figures["unseen"]
    bands = ", ".join(
        f"{k.removeprefix('validation_error_')} {v:.3f}" for k, v in errors.items() if k.startswith("validation_error_")
    )

    def row(name: str) -> str:
        cells = (figures[name], figures[f"{name}, true pictures"])
        return " | ".join(f"{percent(c['first'])} | {percent(c['first five'])}" for c in cells)

    return f"""# emoji-image

Words to a picture of an emoji, 64x64 pixels, in Stable Diffusion's layout: a U-Net of {network / 1e6:.1f} million parameters on an autoencoder of {vae / 1e6:.1f}.

![the first 24 of the captions it is measured on, unpicked](../../../docs/pictures/emoji-image.png)

```bash
muybridge generate "fox, fluent style" --model emoji-image -o fox.png
muybridge models export emoji-image my-model      # a folder that diffusers loads without muybridge
```

Captions are Unicode's names, and a style: fluent, noto, twemoji, flat, emojione.

## Data

Captioned stills in five styles and every frame of the animated Fluent loops (`muybridge data build emoji`): Fluent (MIT, Microsoft), Noto (Apache-2.0, Google),
Twemoji (CC-BY-4.0, Twitter and contributors), EmojiOne (CC-BY-4.0); captions from emojibase (MIT). OpenMoji (CC-BY-SA) and flags are left out. A twentieth of the
captions, sex and skin-tone variants together, is never shown. The perceptual distance of the autoencoder's training is ST-LPIPS (trained on ImageNet).

## Training

`recipes/emoji-vae.yaml`: {vae_steps:,} steps (`log-vae.jsonl`), held-out error {vae_error:.3f}. `recipes/emoji-image.yaml`: {steps:,} steps of {recipe.training.batch_size} pictures, {recipe.training.optimizer} at
{recipe.training.learning_rate:g}, about {hours:.1f} hours of two shared CPU cores (`log.jsonl`); held-out error (v) {errors["validation_error"]:.3f}; by log-SNR band: {bands}.
{more} The second stage shows the Fluent stills eight times an epoch: before it, of captions with an animation 83 % were drawn right, of those without one 24 %.
It learns the seen captions by heart, at the unseen ones' cost: their error rises.

## Measured

`python -m benchmarks.emoji`: the right emoji among the nearest stills of all {figures["groups"]} captions (Fluent), by MobileNetV2's features, which share no weights with the
model. Beside it the judge's ceiling: true pictures after the latent space's round trip.

| captions | first | first five | true pictures: first | first five |
|---|---|---|---|---|
| {seen["count"]} seen in training | {row("seen")} |
| {unseen["count"]} unseen | {row("unseen")} |

The bars of the video model that stands on it: 60 % first, 80 % among the first five, for seen captions.

Licence of the weights: Apache-2.0; the data's licences are above.
"""


CARDS = {"emoji-image": emoji_image_card, "emoji-video": emoji_video_card}


def main() -> None:
    for name, write in CARDS.items():
        folder = ZOO / name
        if (folder / "figures.json").is_file():
            (folder / "README.md").write_text(write(folder), encoding="utf-8")
    folder = ZOO / "world-vdm"
    (folder / "README.md").write_text(card(folder, load_recipe(RECIPE)), encoding="utf-8")
    print(folder / "README.md")


if __name__ == "__main__":
    main()
