"""docs/weights.md: file kind x command, each cell run on random weights in the real layout:
`python -m benchmarks.weights`.

A cell says that the command ran and that its pipeline gave diffusers' numbers (same latents, float32, 1e-4), or that it
ran where diffusers has no counterpart, or with which message it was refused.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from typer.testing import CliRunner

from muybridge.cli.main import app
from muybridge.diffusion.noise import Noise
from muybridge.opening.sampling import load_pipeline

PAGE = Path(__file__).parents[1] / "docs" / "weights.md"
PROMPT, SIDE, STEPS = "a Fox", 16, 2
LEAST = 1e-4
#: Stable Video: diffusers carries latents at the scale of sigma, 700, in float32, and loses three digits by it.
LEAST_AT_700 = 5e-4
SMALL = ("--height", SIDE, "--width", SIDE)
FEW = ("--steps", STEPS)


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        name: as the table has it.
        make: writes it into a folder, and returns what `--model` and further options are.
        theirs: diffusers' pipeline of it, by the options; None where there is none.
    """

    name: str
    make: Callable[[Path], dict[str, Any]]
    theirs: Callable[[dict[str, Any]], Any] | None = None


def _stable_diffusion(folder: Path, **how: Any) -> dict[str, Any]:
    from tests import user_folders

    return {"model": user_folders.stable_diffusion(folder / "sd", scheduler="DDIMScheduler", **how)}


def _xl(folder: Path) -> dict[str, Any]:
    from tests import user_folders

    return {"model": user_folders.stable_diffusion_xl(folder / "xl")}


def _with_motion(make: Callable[[Path], dict[str, Any]], folder: Path) -> dict[str, Any]:
    from tests.systems.test_motion_modules import adapter

    return {**make(folder), "motion_module": adapter(folder / "motion")}


def _one_file(family: str, folder: Path) -> dict[str, Any]:
    from muybridge.models.text.clip_vocabulary import VARIABLE
    from tests.single_files import single_file
    from tests.systems.test_single_files import folder_of

    os.environ[VARIABLE] = str(folder / "own" / "tokenizer")
    own = folder_of(family, folder / "own")
    return {"model": single_file(own, folder / "model.safetensors", family), "beside": own}


def _instruct(folder: Path) -> dict[str, Any]:
    import json

    from diffusers import UNet2DConditionModel

    found = _stable_diffusion(folder)
    unet = UNet2DConditionModel.from_pretrained(found["model"] / "unet")
    torch.manual_seed(4)
    UNet2DConditionModel(**{**unet.config, "in_channels": 8}).save_pretrained(found["model"] / "unet")
    index = json.loads((found["model"] / "model_index.json").read_text())
    index["_class_name"] = "StableDiffusionInstructPix2PixPipeline"
    (found["model"] / "model_index.json").write_text(json.dumps(index))
    return found


def _stable_video(folder: Path) -> dict[str, Any]:
    from tests import user_folders

    return {"model": user_folders.stable_video(folder / "svd")}


def _quiet(pipeline: Any, **table: Any) -> Any:
    from diffusers import DDIMScheduler

    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, **table)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _picture(kind: str, found: dict[str, Any]) -> Any:
    """diffusers' latents of one picture."""
    import diffusers

    none = {"safety_checker": None, "feature_extractor": None} if kind == "StableDiffusionPipeline" else {}
    theirs = _quiet(getattr(diffusers, kind).from_pretrained(found.get("beside", found["model"]), **none))
    start = Noise([5])((4, 1, 8, 8), "start")[:, :, 0]
    how = {"height": SIDE, "width": SIDE, "num_inference_steps": STEPS, "guidance_scale": 3.0}
    return theirs(PROMPT, latents=start, output_type="latent", **how).images[:, :, None]


def _video(kind: str, found: dict[str, Any]) -> Any:
    """diffusers' latents of a video by motion modules."""
    import diffusers

    adapter = diffusers.MotionAdapter.from_pretrained(found["motion_module"])
    none = {"feature_extractor": None} if kind == "AnimateDiffPipeline" else {}
    theirs = getattr(diffusers, kind).from_pretrained(found["model"], motion_adapter=adapter, **none)
    _quiet(theirs, beta_schedule="linear")
    if kind == "AnimateDiffSDXLPipeline":  # see tests/systems/test_motion_modules.py
        image = diffusers.UNet2DConditionModel.from_pretrained(found["model"] / "unet")
        theirs.unet.add_embedding.load_state_dict(image.add_embedding.state_dict())
    start = Noise([5])((4, 3, 8, 8), "start")
    how = {"height": SIDE, "width": SIDE, "num_inference_steps": STEPS, "guidance_scale": 3.0, "num_frames": 3}
    return theirs(PROMPT, latents=start, output_type="latent", **how).frames


def _alive(found: dict[str, Any]) -> Any:
    """diffusers' latents of Stable Video, from the picture that the command gets."""
    from diffusers import StableVideoDiffusionPipeline
    from diffusers.pipelines.stable_video_diffusion import pipeline_stable_video_diffusion as published

    theirs = StableVideoDiffusionPipeline.from_pretrained(found["model"])
    theirs.set_progress_bar_config(disable=True)
    grain, former = Noise([5])((3, 1, 64, 64), "picture")[:, :, 0], published.randn_tensor
    published.randn_tensor = lambda shape, **k: grain
    try:
        return theirs(
            Image.fromarray(PIXELS), fps=7, motion_bucket_id=127, noise_aug_strength=0.02, height=64, width=64,
            latents=Noise([5])((4, 4, 8, 8), "start").transpose(1, 2).clone(), num_frames=4, output_type="latent",
            min_guidance_scale=1.0, max_guidance_scale=1.0, num_inference_steps=STEPS,
        ).frames.transpose(1, 2)  # fmt: skip
    finally:
        published.randn_tensor = former


PIXELS = (np.random.default_rng(0).random((64, 64, 3)) * 255).astype(np.uint8)
KINDS = [
    Kind("Stable Diffusion 1.5 folder", _stable_diffusion, partial(_picture, "StableDiffusionPipeline")),
    Kind(
        "Stable Diffusion 2.1 folder (v-prediction)", partial(_stable_diffusion, prediction="v_prediction"),
        partial(_picture, "StableDiffusionPipeline"),
    ),
    Kind("Stable Diffusion XL folder", _xl, partial(_picture, "StableDiffusionXLPipeline")),
    Kind("1.5 as a single file", partial(_one_file, "1"), partial(_picture, "StableDiffusionPipeline")),
    Kind("XL as a single file", partial(_one_file, "xl"), partial(_picture, "StableDiffusionXLPipeline")),
    Kind("1.5 with motion modules", partial(_with_motion, _stable_diffusion), partial(_video, "AnimateDiffPipeline")),
    Kind("XL with motion modules", partial(_with_motion, _xl), partial(_video, "AnimateDiffSDXLPipeline")),
    Kind("InstructPix2Pix folder", _instruct),
    Kind("Stable Video folder", _stable_video, _alive),
]  # fmt: skip
COMMANDS = ("generate", "animate", "zero", "control", "instruct", "restyle", "extend", "tune")


def arguments_of(command: str, found: dict[str, Any], place: Path) -> list[Any]:
    """A command's arguments and options for what a kind is."""
    clip, picture = place / "clip.npy", place / "picture.png"
    side = ("--height", 64, "--width", 64) if found.get("alive") else SMALL
    given: dict[str, list[Any]] = {
        "generate": [PROMPT, *side, "--num-frames", 3 if "motion_module" in found else 1],
        "animate": [picture, *side, "--num-frames", 4 if found.get("alive") else 3],
        "zero": [PROMPT, *side, "--num-frames", 2],
        "control": [clip, PROMPT, "--control-net", place / "net", "--method", "zero", *side],
        "instruct": [clip, "make it red", *side],
        "restyle": [clip, "--content", PROMPT, "--strength", 0.5, *side],
        "extend": [clip, "--prompt", PROMPT, "--add-frames", 2],
        "tune": [clip, "--caption", PROMPT, "--train-steps", 1, "--iterations", 1, "--num-frames", 2, *side],
    }
    model = ["--model", found["model"]]
    motion = ["--motion-module", found["motion_module"]] if "motion_module" in found and command != "tune" else []
    end = ["--folder", place / "tuned"] if command == "tune" else ["-o", place / f"{command}.npy"]
    return [command, *given[command], *FEW, *model, *motion, *end]


def _beside(found: dict[str, Any], place: Path) -> None:
    """The clip, the picture and the ControlNet that commands get."""
    from diffusers import ControlNetModel, UNet2DConditionModel

    from muybridge.data.video_io import write_video

    frames = np.random.default_rng(1).integers(0, 255, (2, SIDE, SIDE, 3), dtype=np.uint8)
    write_video(frames, place / "clip.npy", 8.0, {})
    Image.fromarray(PIXELS).save(place / "picture.png")
    folder = found.get("beside", found["model"]) / "unet"
    if found.get("alive"):
        return
    unet = UNet2DConditionModel.from_pretrained(folder)
    ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 16)).save_pretrained(place / "net")


def difference(kind: Kind, found: dict[str, Any]) -> float:
    """The largest difference between our latents and diffusers', relative to theirs where those are large."""
    assert kind.theirs is not None
    with torch.no_grad():
        expected = kind.theirs(found)
    ours: Any = load_pipeline(str(found["model"]), "cpu", motion=str(found.get("motion_module", "")))
    if found.get("alive"):
        picture = torch.from_numpy(PIXELS).permute(2, 0, 1)[None].float() / 127.5 - 1
        how = {"height": 64, "width": 64, "num_frames": 4, "num_inference_steps": STEPS, "guidance_scale": 1.0}
        got = ours(picture, seed=5, output="latents", **how).samples
    else:
        how = {"height": SIDE, "width": SIDE, "num_inference_steps": STEPS, "guidance_scale": 3.0, "sampler": "ddim"}
        got = ours(PROMPT, seed=5, num_frames=expected.shape[2], output="latents", **how).samples
    return float((got - expected).abs().max() / max(1.0, float(expected.abs().max())))


def cell(command: str, found: dict[str, Any], place: Path) -> str:
    """What a command did with a kind."""
    done = CliRunner().invoke(app, [str(a) for a in arguments_of(command, found, place)])
    if done.exit_code == 0:
        return "runs"
    if done.exit_code != 2:
        raise RuntimeError(f"{command}: {done.output}") from done.exception
    message = " ".join(done.output.split()).rpartition("error: ")[2]
    return f"no: {message.replace(str(found['model']), 'MODEL').replace(str(place), 'PLACE')}"


def rows(kinds: Sequence[Kind] = KINDS) -> list[list[str]]:
    """The table's rows; raises where diffusers' numbers are missed."""
    out = []
    for kind in kinds:
        with tempfile.TemporaryDirectory() as scratch:
            place = Path(scratch)
            os.environ["MUYBRIDGE_CACHE"] = str(place / "cache")
            found = kind.make(place)
            found["alive"] = "Stable Video" in kind.name
            _beside(found, place)
            cells = {command: cell(command, found, place) for command in COMMANDS}
            if kind.theirs is not None:
                missed = difference(kind, found)
                if missed > (LEAST_AT_700 if found["alive"] else LEAST):
                    raise RuntimeError(f"{kind.name}: {missed:.1e} from diffusers' latents")
                main = "animate" if found["alive"] else "generate"
                cells[main] = f"{cells[main]}, equal to diffusers"
            out.append([kind.name, *cells.values()])
    return out


def page() -> str:
    """The page, from a run of every cell."""
    table, told = rows(), []
    for row in table:
        for i, value in enumerate(row):
            if value.startswith("no: "):
                if value not in told:
                    told.append(value)
                row[i] = f"no ({told.index(value) + 1})"
    lines = ["| | " + " | ".join(f"`{c}`" for c in COMMANDS) + " |", "|---" * (len(COMMANDS) + 1) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in table]
    notes = [f"{i}. {value.removeprefix('no: ')}" for i, value in enumerate(told, 1)]
    return INTRODUCTION + "\n".join(lines) + "\n\nWhat the user is told:\n\n" + "\n".join(notes) + "\n" + OTHERS


INTRODUCTION = """# Weights that people own: which command takes which file

Written by `python -m benchmarks.weights`, which runs every cell on tiny random weights in the real layout; a test runs it again and compares.
"Equal to diffusers": the pipeline's latents are those of diffusers' own pipeline, from the same noise, to 1e-4 in float32 (Stable Video 5e-4: diffusers carries latents at the scale of sigma, 700). "Runs": the command ran
to its end, and diffusers has no counterpart, or the numbers are compared in the tests of that system (ControlNets and Text2Video-Zero:
`tests/systems/test_zero_shot.py`). `--model` takes the path as it is; `muybridge models import PATH` says what a file is and the command that uses it.

"""  # noqa: E501
OTHERS = """
## Beside the table

| file | how | compared |
|---|---|---|
| LoRAs and their kin | `--lora FILE[:SCALE]` | [loras.md](loras.md); XL's two text halves too |
| MotionLoRA | `--lora FILE` beside `--motion-module` | diffusers' names and the original's, `tests/systems/test_motion_modules.py` |
| textual inversion | `--embedding FILE[:WORD]` (one vector or several; XL's `clip_l` and `clip_g`) | `tests/systems/test_user_words.py` |
| prompts of more than 77 tokens | read in pieces of 75, all attended to, and said | the same |
| ControlNet: folder, or single file in CompVis' names | `control --control-net PATH` | `tests/systems/test_single_files.py` |
| latent consistency models, turbo's kind | known by their scheduler: 4 steps, their sampler and guidance | `tests/systems/test_few_steps.py` |
| a preset of one's own | `muybridge.json` in the folder: `{"sampling": {"num_inference_steps": 8, "sampler": "unipc"}}` | the same |
| 2.x as a single file | `models convert FILE FOLDER --prediction v_prediction`: the file does not say what it predicts | `tests/systems/test_single_files.py` |

A single file is written once as a folder into the cache (`MUYBRIDGE_CACHE`). It has no tokenizer: CLIP's vocabulary is taken from the folder in
`MUYBRIDGE_CLIP_TOKENIZER` or from the table of merges in an installed `open_clip_torch` (`pip install --no-deps open_clip_torch`).

What leaves: `muybridge models export MODEL FOLDER` writes an image model as a whole folder, motion modules as a `MotionAdapter`, and an image-to-video
network of Stable Video's layout as a `UNetSpatioTemporalConditionModel`; ControlNets are saved as diffusers keeps them. `tests/systems/test_export.py` loads them there.

Not read: pickled files (`.ckpt`, `.bin`, `.pt`), inpainting networks of 9 channels, PIA, IP-Adapters. AnimateDiff v1's own U-Net pooled group norms over
frames, and its code normalises motion modules frame by frame; like diffusers, this one does neither.
"""  # noqa: E501


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
