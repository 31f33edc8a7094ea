"""docs/weights.md: file kind x command, each cell run on random weights in the real layout:
`python -m benchmarks.weights`.

A cell says that the command ran and that its pipeline gave diffusers' numbers (same latents, float32, 1e-4), or that it
ran where diffusers has no counterpart, or with which message it was refused.
"""

from __future__ import annotations

import json
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

from benchmarks import weights_compared as compared
from benchmarks.weights_compared import PIXELS, PROMPT, SIDE
from muybridge.cli.main import app

PAGE = Path(__file__).parents[1] / "docs" / "weights.md"
LEAST = 1e-4
#: Stable Video: diffusers carries latents at the scale of sigma, 700, in float32, and loses three digits by it.
LEAST_AT_700 = 5e-4
SMALL = ("--height", SIDE, "--width", SIDE)
FEW = ("--steps", 2)


Make = Callable[[Path], dict[str, Any]]


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        name: as the table has it.
        make: writes it into a folder, and returns what `--model` ("model") and further `options` are, by what its
            commands are compared with diffusers (`compared`: those of picture models by default), and where its parts
            lie as a folder of diffusers (`beside`).
    """

    name: str
    make: Make


def _stable_diffusion(folder: Path, **how: Any) -> dict[str, Any]:
    from tests import user_folders

    return {"model": user_folders.stable_diffusion(folder / "sd", scheduler="DDIMScheduler", **how)}


def _xl(folder: Path) -> dict[str, Any]:
    from tests import user_folders

    return {"model": user_folders.stable_diffusion_xl(folder / "xl")}


def _one_file(family: str, folder: Path) -> dict[str, Any]:
    from muybridge.models.text.clip_vocabulary import VARIABLE
    from tests.single_files import single_file
    from tests.systems.test_single_files import folder_of

    os.environ[VARIABLE] = str(folder / "own" / "tokenizer")
    own = folder_of(family, folder / "own")
    return {"model": single_file(own, folder / "model.safetensors", family), "beside": own}


def _instruct(folder: Path) -> dict[str, Any]:
    from diffusers import UNet2DConditionModel

    found = _stable_diffusion(folder)
    unet = UNet2DConditionModel.from_pretrained(found["model"] / "unet")
    torch.manual_seed(4)
    UNet2DConditionModel(**{**unet.config, "in_channels": 8}).save_pretrained(found["model"] / "unet")
    index = json.loads((found["model"] / "model_index.json").read_text())
    index["_class_name"] = "StableDiffusionInstructPix2PixPipeline"
    (found["model"] / "model_index.json").write_text(json.dumps(index))
    return {**found, "compared": {"instruct": compared.instruct}}


def _stable_video(folder: Path) -> dict[str, Any]:
    from tests import user_folders

    found = {"model": user_folders.stable_video(folder / "svd"), "alive": True}
    return {**found, "beside": user_folders.stable_diffusion(folder / "sd"), "compared": {"animate": compared.animate}}


def _moved(make: Make, folder: Path) -> dict[str, Any]:
    from tests.systems.test_motion_modules import adapter

    found = {**make(folder), "motion_module": adapter(folder / "motion"), "compared": compared.MOVING}
    return {**found, "options": ["--motion-module", found["motion_module"]]}


def _lora(found: dict[str, Any], layer: str, width: int, folder: Path) -> dict[str, Any]:
    """A LoRA of one layer, in diffusers' names, and what PEFT would make of it."""
    from safetensors.torch import save_file

    made = torch.Generator().manual_seed(7)
    down, up = (torch.randn(s, generator=made) * 0.3 for s in ((2, width), (width, 2)))
    file = folder / "lora.safetensors"
    save_file({f"unet.{layer}.lora_A.weight": down, f"unet.{layer}.lora_B.weight": up}, file)
    options = [*found.get("options", []), "--lora", file]
    return {**found, "lora": file, "changes": {layer: up @ down}, "options": options}


def _with_lora(folder: Path) -> dict[str, Any]:
    return _lora(_stable_diffusion(folder), "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q", 32, folder)


def _with_motion_lora(folder: Path) -> dict[str, Any]:
    layer = "down_blocks.0.motion_modules.0.transformer_blocks.0.attn1.to_q"
    return _lora(_moved(_stable_diffusion, folder), layer, 32, folder)


def _with_word(folder: Path) -> dict[str, Any]:
    from safetensors.torch import save_file

    word = torch.randn(1, 32, generator=torch.Generator().manual_seed(8))
    save_file({"Fox": word}, folder / "word.safetensors")
    found = _stable_diffusion(folder)
    return {**found, "embedding": folder / "word.safetensors", "options": ["--embedding", folder / "word.safetensors"]}


def _variant(kind: str, folder: Path) -> dict[str, Any]:
    """The same weights in shards (beside them the plain ones, for diffusers), or in half precision alone."""
    import shutil

    from tests.systems.test_user_folders import WHOLE, as_variant

    found = _stable_diffusion(folder)
    shutil.copytree(found["model"], folder / "plain")
    for part, stem in WHOLE.items():
        as_variant(found["model"] / part, kind, stem)
    return {**found, **({"beside": folder / "plain"} if kind == "shards" else {"variant": kind})}


def _half_present(folder: Path) -> dict[str, Any]:
    import shutil

    found = _stable_diffusion(folder)
    shutil.copytree(found["model"], folder / "plain")
    shutil.rmtree(found["model"] / "text_encoder")
    return {**found, "beside": folder / "plain", "compared": {}}


def _consistency(folder: Path) -> dict[str, Any]:
    from diffusers import UNet2DConditionModel

    from tests import user_folders
    from tests.systems.test_few_steps import folder_with

    model = folder_with(folder / "lcm", _class_name="LCMScheduler", original_inference_steps=50)
    network = UNet2DConditionModel.from_pretrained(model / "unet")
    torch.manual_seed(3)
    UNet2DConditionModel(**{**network.config, "time_cond_proj_dim": 256}).save_pretrained(model / "unet")
    index = json.loads((model / "model_index.json").read_text())
    index |= {"_class_name": "LatentConsistencyModelPipeline", "scheduler": ["diffusers", "LCMScheduler"]}
    (model / "model_index.json").write_text(json.dumps(index))
    plain = user_folders.stable_diffusion(folder / "plain")  # its U-Net is the ControlNet's
    return {"model": model, "beside": plain, "compared": {"generate": compared.few_steps}}


KINDS = [
    Kind("Stable Diffusion 1.5 folder", _stable_diffusion),
    Kind("Stable Diffusion 2.1 folder (v-prediction)", partial(_stable_diffusion, prediction="v_prediction")),
    Kind("Stable Diffusion XL folder", _xl),
    Kind("1.5 in shards", partial(_variant, "shards")),
    Kind("1.5 in half precision (fp16 files) alone", partial(_variant, "fp16")),
    Kind("1.5 without its text encoder", _half_present),
    Kind("1.5 as a single file", partial(_one_file, "1")),
    Kind("2.1 as a single file", partial(_one_file, "2")),
    Kind("XL as a single file", partial(_one_file, "xl")),
    Kind("1.5 with a LoRA", _with_lora),
    Kind("1.5 with a textual inversion", _with_word),
    Kind("1.5 with motion modules", partial(_moved, _stable_diffusion)),
    Kind("1.5 with motion modules and a MotionLoRA", _with_motion_lora),
    Kind("XL with motion modules", partial(_moved, _xl)),
    Kind("latent consistency folder", _consistency),
    Kind("InstructPix2Pix folder", _instruct),
    Kind("Stable Video folder", _stable_video),
]
COMMANDS = ("generate", "animate", "zero", "control", "instruct", "restyle", "extend", "interpolate", "inpaint")
#: `edit` takes what `tune` made.
TUNED = ("tune", "edit")


def arguments_of(command: str, found: dict[str, Any], place: Path) -> list[Any]:
    """A command's arguments and options for what a kind is."""
    clip, picture = place / "clip.npy", place / "picture.png"
    side = ("--height", 64, "--width", 64) if found.get("alive") else SMALL
    frames = ["--num-frames", 3]
    given: dict[str, list[Any]] = {
        "generate": [PROMPT, *side, "--num-frames", 3 if "motion_module" in found else 1],
        "animate": [picture, *side, "--num-frames", 4 if found.get("alive") else 3],
        "zero": [PROMPT, *side, "--num-frames", 2],
        "control": [clip, PROMPT, "--control-net", place / "net", "--method", "zero", *side],
        "instruct": [clip, "make it red", *side],
        "restyle": [clip, "--content", PROMPT, "--strength", 0.5, *side],
        "extend": [clip, "--prompt", PROMPT, "--add-frames", 2, *frames],
        "interpolate": [clip, "--prompt", PROMPT, *frames],
        "inpaint": [clip, "--prompt", PROMPT, "--mask", "0,0,.5,1", *side],
        "tune": [clip, "--caption", PROMPT, "--train-steps", 1, "--iterations", 1, "--num-frames", 2, *side],
        "edit": [place / "tuned" / "model", "a Cat"],
    }
    if command == "edit":
        return [command, *given[command], "-o", place / "edit.npy"]
    options = ["--model", found["model"], *(o for o in found.get("options", []) if command != "tune")]
    end = ["--folder", place / "tuned"] if command == "tune" else ["-o", place / f"{command}.npy"]
    return [command, *given[command], *FEW, *options, *end]


def _beside(found: dict[str, Any], place: Path) -> None:
    """The clip, the picture and the ControlNet that commands get."""
    from diffusers import ControlNetModel, UNet2DConditionModel

    from muybridge.data.video_io import write_video
    from tests.conftest import randomise

    frames = np.random.default_rng(1).integers(0, 255, (2, SIDE, SIDE, 3), dtype=np.uint8)
    write_video(frames, place / "clip.npy", 8.0, {})
    Image.fromarray(PIXELS).save(place / "picture.png")
    whole = found.get("beside", found["model"]) / "unet"
    unet = UNet2DConditionModel.from_pretrained(whole, variant=found.get("variant"), torch_dtype=torch.float32)
    net = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 16))
    randomise(net, 0.1).save_pretrained(place / "net")
    found["control_net"] = place / "net"


def cell(command: str, found: dict[str, Any], place: Path) -> str:
    """What a command did with a kind.

    Raises:
        RuntimeError: it broke, or diffusers' numbers are missed.
    """
    if command == "edit" and not (place / "tuned" / "model").is_dir():
        return "nothing tuned"
    done = CliRunner().invoke(app, [str(a) for a in arguments_of(command, found, place)])
    if done.exit_code not in (0, 2):
        raise RuntimeError(f"{command}: {done.output}") from done.exception
    if done.exit_code == 2:
        message = " ".join(done.output.split()).rpartition("error: ")[2]
        return f"no: {message.replace(str(found['model']), 'MODEL').replace(str(place), 'PLACE')}"
    compare = found.get("compared", compared.PICTURES).get(command)
    missed = None if compare is None else compared.difference(compare, found)
    if missed is None:
        return "runs"
    if missed > (LEAST_AT_700 if found.get("alive") else LEAST):
        raise RuntimeError(f"{command} --model {found['model']}: {missed:.1e} from diffusers' latents")
    return "**equal**"


def rows(kinds: Sequence[Kind] = KINDS) -> list[list[str]]:
    """The table's rows; raises where diffusers' numbers are missed."""
    out = []
    for kind in kinds:
        with tempfile.TemporaryDirectory() as scratch:
            place = Path(scratch)
            os.environ["MUYBRIDGE_CACHE"] = str(place / "cache")
            found = kind.make(place)
            _beside(found, place)
            out.append([kind.name, *(cell(command, found, place) for command in (*COMMANDS, *TUNED))])
        print(out[-1], flush=True)
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
    lines = ["| | " + " | ".join(f"`{c}`" for c in (*COMMANDS, *TUNED)) + " |"]
    lines += ["|---" * (len(lines[0].split("|")) - 2) + "|", *("| " + " | ".join(row) + " |" for row in table)]
    notes = [f"{i}. {value.removeprefix('no: ')}" for i, value in enumerate(told, 1)]
    return INTRODUCTION + "\n".join(lines) + "\n\nWhat the user is told:\n\n" + "\n".join(notes) + "\n" + OTHERS


INTRODUCTION = """# Weights that people own: which command takes which file

Written by `python -m benchmarks.weights`, which runs every cell on tiny random weights in the real layout; a test runs it again and compares.
**Equal**: the command ran to its end, and its latents are those of diffusers' own pipeline of that kind (`benchmarks/weights_compared.py` names it), from the same noise, prompt and
negative prompt, to 1e-4 in float32 (Stable Video 5e-4: diffusers carries latents at the scale of sigma, 700). Runs: it ran to its end, and diffusers has no counterpart.
`--model` takes the path as it is; `muybridge models import PATH` says what a file is and the command that uses it. Every command that draws from words takes `--negative`; where nothing would read it (no prompt,
a network that is told the guidance scale, a picture in place of words) it is refused, and at guidance 1 a note says so.
`loop` and `connect` take what `extend` takes, `outpaint` what `inpaint` takes; `upsample-fps`, `upscale`, `super-resolve` and `cinemagraph` take models that were trained here for it.

"""  # noqa: E501
OTHERS = """
## Beside the table

| file | how | compared |
|---|---|---|
| LoRAs and their kin, in every format | `--lora FILE[:SCALE]` | [loras.md](loras.md); XL's two text halves too |
| MotionLoRA in the original's names | `--lora FILE` beside `--motion-module` | `tests/systems/test_motion_modules.py` |
| textual inversion of several vectors, and XL's (`clip_l`, `clip_g`) | `--embedding FILE[:WORD]` | `tests/systems/test_user_words.py` |
| prompts of more than 77 tokens | read in pieces of 75, all attended to, and said | the same |
| ControlNet: folder, or single file in CompVis' names | `control --control-net PATH` | `tests/systems/test_single_files.py` |
| latent consistency models, turbo's kind | known by their scheduler: 4 steps, their sampler and guidance | `tests/systems/test_few_steps.py` |
| a preset of one's own | `muybridge.json` in the folder: `{"sampling": {"num_inference_steps": 8, "sampler": "unipc"}}` | the same |
| 2.x as a single file | `models convert FILE FOLDER --prediction v_prediction`: the file does not say what it predicts | `tests/systems/test_single_files.py` |

A single file is written once as a folder into the cache (`MUYBRIDGE_CACHE`). It has no tokenizer: CLIP's vocabulary is taken from the folder in
`MUYBRIDGE_CLIP_TOKENIZER` or from the table of merges in an installed `open_clip_torch` (`pip install --no-deps open_clip_torch`).

What leaves: `muybridge models export MODEL FOLDER` writes an image model as a whole folder, motion modules as a `MotionAdapter`, an image-to-video
network of Stable Video's layout as a `UNetSpatioTemporalConditionModel`, and a decoder with time that was trained from Stable Video's own as an
`AutoencoderKLTemporalDecoder` (one that was trained from a picture autoencoder begins with a convolution that this class does not have, and is refused); ControlNets are
saved as diffusers keeps them. `tests/systems/test_export.py` loads them there.

Training behind such folders: `model: {image: FOLDER}` of `video_ldm`, `tune_a_video`, `control_net`, `gen1` (`tests/systems/test_user_folders.py`); `stable_video` with a Stable Video folder writes
one again, whole, which diffusers and `animate` open; `camera_lora` with `model: {base: STABLE_VIDEO_FOLDER}` writes a LoRA in the names of diffusers' U-Net
(`tests/systems/test_stable_video_tasks.py` compares both with that U-Net).

Every command says of a model that is not a bundled one which choice of memory it runs under and the predicted peak before the first network call, and the measured one at the end;
`muybridge plan COMMAND ...` stops before that call. Of cascades each stage is counted when it is opened.

Not read: pickled files (`.ckpt`, `.bin`, `.pt`), inpainting networks of 9 channels, PIA, IP-Adapters. AnimateDiff v1's own U-Net pooled group norms over
frames, and its code normalises motion modules frame by frame; like diffusers, this one does neither.
"""  # noqa: E501


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
