"""The folder in which a reader types the book's commands: their own small videos and pictures, recipes cut down to one
step, and the bundled models with presets of two sampling steps."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from safetensors.torch import save_file

from muybridge.data.video_io import write_video
from muybridge.files import ZOO
from tests import user_folders
from tests.adapter_files import Parts, kohya
from tests.book.reading import ROOT

#: Videos and pictures that pages take as the reader's own: (frames, height, width).
OWN = {
    "fox.mp4": (4, 64, 64), "dog.mp4": (4, 32, 32), "walk.mp4": (8, 64, 64), "street.mp4": (4, 64, 64),
    "slow.mp4": (4, 64, 64), "small.mp4": (12, 16, 16), "other.mp4": (9, 48, 80), "fox.png": (1, 64, 64),
    "lake.png": (1, 64, 64),
}  # fmt: skip


def moving_square(frames: int, height: int, width: int, start: int = 0) -> np.ndarray:
    """A bright square that goes right over a ground with a gradient."""
    video = np.empty((frames, height, width, 3), np.uint8)
    video[:] = np.linspace(30, 120, width, dtype=np.uint8)[:, None]
    side = max(height // 3, 2)
    for i in range(frames):
        x = (start + 2 * i) % max(width - side, 1)
        video[i, side : 2 * side, x : x + side] = (230, 90, 40)
    return video


def small_data(data: dict[str, Any]) -> dict[str, Any]:
    """A few drawn scenes of the same shape in the place of any source; of a mixture the first two parts."""
    if data["source"] == "mix":
        return {**data, "of": [small_data(part) for part in data["of"][:2]]}
    size = {"height": data.get("height", 64), "width": data.get("width", 64), "num_frames": data.get("num_frames", 16)}
    if stored := re.search(r"-(128|256)$", str(data.get("store", ""))):
        size |= {"height": int(stored[1]), "width": int(stored[1])}
    return {"source": "world", **size, "fps": data.get("fps", 8), "num_clips": 4, "held_out": 0.0}


def small_recipe(recipe: dict[str, Any]) -> dict[str, Any]:
    """A recipe of this repository that trains for one step and samples in two; its networks are its own."""
    training = {
        "steps": 1, "batch_size": 1, "optimizer": "adamw", "learning_rate": 1e-4, "warmup_steps": 0, "ema": 0.0,
        "checkpoint_every": 1, "validate_every": 1, "validation_clips": 1, "sample_every": 0, "threads": 1,
        "workers": 0,
    }  # fmt: skip
    kept = {key: recipe["training"][key] for key in ("start_from",) if key in recipe["training"]}
    small = {**recipe, "data": small_data(recipe["data"]), "training": {**training, **kept}}
    if "sampling" in recipe:
        small["sampling"] = {**recipe["sampling"], "num_inference_steps": 2}
    return SMALLER.get(recipe["system"], lambda same: same)(small)


def halved(recipe: dict[str, Any]) -> dict[str, Any]:
    """A stage of a cascade of half the frames, height and width."""
    stage = {**recipe["diffusion"]["stage"], "steps": 2}
    for part in (stage, recipe["data"]):
        part |= {name: part[name] // 2 for name in ("num_frames", "height", "width", "crop") if part.get(name)}
    model = dict(recipe["model"])
    model["sample_size"] //= 2
    for name in ("attention_resolutions", "joint_resolutions"):
        model[name] = [side // 2 for side in model.get(name, [])]
    return {**recipe, "model": model, "diffusion": {**recipe["diffusion"], "stage": stage}}


def shortened(recipe: dict[str, Any]) -> dict[str, Any]:
    """Four frames where the recipe has more, of a decoder of videos or a model of whole clips."""
    small = {**recipe, "sampling": {**recipe["sampling"], "num_frames": min(recipe["sampling"]["num_frames"], 4)}}
    if recipe["diffusion"].get("stage") == "video":
        small["diffusion"] = {**recipe["diffusion"], "num_frames": 4}
        small["data"] = {**recipe["data"], "num_frames": 16}
    elif recipe["diffusion"].get("stage") == "between":
        parts = [{**part, "num_frames": 16} for part in recipe["data"]["of"]]
        return {**recipe, "data": {**recipe["data"], "of": parts}}
    elif recipe["system"] == "lumiere":
        small["data"] = {**recipe["data"], "num_frames": 4}
    return small


def thin(recipe: dict[str, Any]) -> dict[str, Any]:
    """A network with fewer channels; one that starts from another takes that one's."""
    if "block_out_channels" not in recipe["model"]:
        return recipe
    share = 4 if recipe["system"].endswith("_sr") else 2
    channels = [count // share for count in recipe["model"]["block_out_channels"]]
    return {**recipe, "model": {**recipe["model"], "block_out_channels": channels}}


def narrow(recipe: dict[str, Any]) -> dict[str, Any]:
    """The 3D U-Net with a sixteenth of its parameters."""
    return {**recipe, "model": {**recipe["model"], "base_channels": 16, "attention_head_dim": 8, "embedding_dim": 64}}


def shallow(recipe: dict[str, Any]) -> dict[str, Any]:
    """A transformer of two blocks."""
    return {**recipe, "model": {**recipe["model"], "layers": 2}}


def few_pixels(recipe: dict[str, Any]) -> dict[str, Any]:
    """The upscaler with three of its blocks, on one crop of clips of four frames."""
    parts = [{**part, "num_frames": 4} for part in recipe["data"]["of"][:1]]
    return {
        **recipe, "model": {**recipe["model"], "width": 16, "layers": 3}, "data": {**recipe["data"], "of": parts},
        "objective": {**recipe["objective"], "crops": 1},
    }  # fmt: skip


#: What one step of a system's recipes would still take too long for.
SMALLER = {
    "vdm": narrow, "imagen_video": halved, "make_a_video": shortened, "lumiere": shortened, "make_a_video_sr": thin,
    "lumiere_sr": thin, "upscaler": few_pixels, "autoencoder": thin, "sora": shallow,
}  # fmt: skip


def small_zoo(folder: Path) -> Path:
    """The bundled models with presets of two sampling steps, and of 4 frames for 16; their weights are linked."""
    for path in ZOO.rglob("*"):
        place = folder / path.relative_to(ZOO)
        if path.is_dir():
            place.mkdir(parents=True, exist_ok=True)
        elif path.name in ("muybridge.json", "model_index.json"):
            told = json.loads(path.read_text(encoding="utf-8"))
            if "sampling" in told:
                told["sampling"]["num_inference_steps"] = 2
            if told.get("sampling", {}).get("num_frames") == 16:
                told["sampling"]["num_frames"] = 4
            place.write_text(json.dumps(told), encoding="utf-8")
        else:
            place.symlink_to(path)
    return folder


def furnish(folder: Path, home: Path) -> None:
    """Everything that a page may take for granted."""
    for name, shape in OWN.items():
        write_video(moving_square(*shape), folder / name, 8)
    mask = np.zeros((1, 64, 64, 3), np.uint8)
    mask[:, 16:48, 16:48] = 255
    write_video(mask, folder / "car.png", 8)
    write_video(mask[:, 8:56, :].repeat(2, 2)[:, :, :80], folder / "hole.png", 8)
    (folder / "my-clips").mkdir()
    for i in range(6):
        write_video(moving_square(16, 32, 32, 3 * i), folder / "my-clips" / f"{i}.mp4", 8)
        (folder / "my-clips" / f"{i}.txt").write_text(f"a square, the {i}th")
    (folder / "films").mkdir()
    film = np.concatenate([moving_square(40, 72, 96), 255 - moving_square(40, 72, 96, 9)])
    write_video(film, folder / "films" / "film.mp4", 16)
    sd15 = user_folders.stable_diffusion(home / "models" / "stable-diffusion-v1-5")
    (sd15 / "muybridge.json").write_text('{"sampling": {"num_inference_steps": 2}}')
    save_file(kohya(Parts(sd15)), folder / "style.safetensors")
    (folder / "recipes").mkdir()
    for path in (ROOT / "recipes").glob("*.yaml"):
        small = small_recipe(yaml.safe_load(path.read_text(encoding="utf-8")))
        (folder / "recipes" / path.name).write_text(yaml.safe_dump(small), encoding="utf-8")


def fresh(prepared: Path, folder: Path) -> Path:
    """A folder of its own for one page."""
    shutil.copytree(prepared, folder, symlinks=True)
    return folder
