"""Our pipelines against diffusers' in turn, each run in a process of its own: `python -m benchmarks.against_diffusers`
for AnimateDiff.

emoji-video (16 frames of 64x64, 20 steps; as it comes, guided in every step, and in bf16) against diffusers'
AnimateDiffPipeline of the same U-Net widths with random weights and a text encoder of the same size, as many steps.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.emoji import TWENTY
from muybridge.library.catalogue import find_model, sampling_of
from muybridge.library.parts import load_picture_unet
from muybridge.opening.sampling import load_pipeline
from muybridge.pipelines.peak import peak_bytes
from muybridge.pipelines.settings import SamplingConfig

RESULTS = Path(__file__).with_name("animatediff.json")
#: Words and layers of the text encoder that ours opens; theirs gets a random one of the same size.
MINILM = (30522, 6)
PROMPT = "rocket, fluent style"
#: As it comes, guided in every step as diffusers' is, and in bf16.
OURS = ("ours", "ours, guided throughout", "ours, bf16")


def peak() -> float:
    """Peak resident memory of this process, GB; not that of the one that started it, as getrusage's may be."""
    return peak_bytes(torch.device("cpu")) / 1e9


def in_turn(module: str, folder: Path, count: int, ours: tuple[str, ...] = ("ours",)) -> dict[str, Any]:
    """Run `python -m MODULE one --whose NAME --folder FOLDER` alternately for each of ours and "diffusers"; medians,
    and ratios to diffusers'."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in (*ours, "diffusers")}
    for _ in range(count):
        for whose, rows in runs.items():
            command = [sys.executable, "-W", "ignore", "-m", module, "one", "--whose", whose, "--folder", str(folder)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(done.stderr[-2000:])
            rows.append(json.loads(done.stdout.splitlines()[-1]))
            print(whose, rows[-1], flush=True)
    middle = {w: {k: float(np.median([r[k] for r in rows])) for k in rows[0]} for w, rows in runs.items()}
    theirs = middle["diffusers"]
    for name in ours:
        middle[name]["times as fast"] = theirs["seconds"] / middle[name]["seconds"]
        middle[name]["share of the peak memory"] = middle[name]["peak"] / theirs["peak"]
    return {"runs": count, **middle}


def stable_diffusion_folder(
    folder: Path, unet: Any = None, vae: Any = None, words: int = 4, layers: int = 2, half: bool = False
) -> Path:
    """Random weights in Stable Diffusion's layout, 1.5's widths unless networks are given.

    Args:
        words, layers: of the text encoder: its vocabulary and depth.
        half: files in half precision.
    """
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(0)
    folder.mkdir(parents=True)
    known = {"<|startoftext|>": 0, "<|endoftext|>": 1, "a</w>": 2, "a": 3}
    (folder / "vocab.json").write_text(json.dumps(known))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77)
    unet = unet or UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    width = int(unet.config.cross_attention_dim)
    text = CLIPTextConfig(
        vocab_size=words, hidden_size=width, num_hidden_layers=layers, num_attention_heads=12,
        intermediate_size=4 * width,
        bos_token_id=0, eos_token_id=1, pad_token_id=1, projection_dim=width,
    )  # fmt: skip
    vae = vae or AutoencoderKL(
        block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4, sample_size=512,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False, set_alpha_to_one=False,
        steps_offset=1,
    )  # fmt: skip
    made = StableDiffusionPipeline(
        vae=vae, text_encoder=CLIPTextModel(text), tokenizer=tokenizer, unet=unet, scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    (made.to(torch.float16) if half else made).save_pretrained(str(folder))
    return folder


def one_clip(whose: str, folder: Path, repeats: int = 3) -> dict[str, float]:
    """A warm clip of 16 frames: seconds, peak memory of the process, network calls."""
    torch.set_num_threads(2)
    settings = SamplingConfig(**{**sampling_of(find_model("emoji-video")), **TWENTY})
    calls = [0]
    if whose.startswith("ours"):
        video: Any = load_pipeline("emoji-video", precision="bf16" if whose.endswith("bf16") else "fp32")
        options = {**TWENTY, **({"guidance_start": 0.0, "guidance_end": 1.0} if "throughout" in whose else {})}
        forward = video.network.forward
        video.network.forward = lambda *a, **k: (calls.__setitem__(0, calls[0] + 1), forward(*a, **k))[1]

        def make() -> Any:
            return video(PROMPT, seed=0, **options)

    else:
        from diffusers import AnimateDiffPipeline, MotionAdapter, UNet2DConditionModel

        config = UNet2DConditionModel.load_config(str(folder / "unet"))
        adapter = MotionAdapter(
            block_out_channels=config["block_out_channels"], motion_norm_num_groups=config["norm_num_groups"],
            motion_layers_per_block=config["layers_per_block"], motion_num_attention_heads=5, conv_in_channels=None,
        )  # fmt: skip
        theirs = AnimateDiffPipeline.from_pretrained(str(folder), motion_adapter=adapter, local_files_only=True)
        theirs.set_progress_bar_config(disable=True)

        def make() -> Any:
            return theirs(
                "a", num_frames=settings.num_frames, height=settings.height, width=settings.width,
                num_inference_steps=settings.num_inference_steps, guidance_scale=settings.guidance_scale,
            )  # fmt: skip

    make()
    calls[0], seconds = 0, []
    for _ in range(repeats):
        begin = time.perf_counter()
        make()
        seconds.append(time.perf_counter() - begin)
    return {"seconds": float(np.median(seconds)), "peak": peak(), "network calls": calls[0] / repeats}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", default="all", choices=["all", "one"])
    parser.add_argument("--count", type=int, default=3)
    parser.add_argument("--whose", default="ours")
    parser.add_argument("--folder", type=Path, default=Path())
    arguments = parser.parse_args()
    if arguments.what == "one":
        print(json.dumps(one_clip(arguments.whose, arguments.folder)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        image: Any = load_pipeline("emoji-image")
        folder = stable_diffusion_folder(Path(scratch) / "model", load_picture_unet("emoji-image"), image.vae, *MINILM)
        figures = in_turn("benchmarks.against_diffusers", folder, arguments.count, OURS)
    RESULTS.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
