"""One denoising step of Stable Video at its real widths, ours against diffusers', each in a process of its own in turn:
`python -m benchmarks.stable_video` (results in stable_video.json).

Random weights of UNetSpatioTemporalConditionModel's defaults (1.5 billion parameters), 14 frames of 256x128, guided;
both read one folder of weights in half precision, as the published ones are, and compute in float32: "ours" widens a
weight for its layer's pass, "ours, widened once" when it is read, as `--memory fast` does.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.against_diffusers import in_turn, peak

RESULTS = Path(__file__).with_name("stable_video.json")
FRAMES, HEIGHT, WIDTH = 14, 16, 32  # latents of 256x128 pixels
SIGMA = 10.0
OURS = ("ours", "ours, widened once")


def write_folder(folder: Path) -> Path:
    """The U-Net's folder, random weights."""
    from diffusers import UNetSpatioTemporalConditionModel

    torch.manual_seed(0)
    made = UNetSpatioTemporalConditionModel(num_frames=FRAMES, num_attention_heads=(5, 10, 20, 20))
    made.half().save_pretrained(str(folder / "unet"))
    return folder


@torch.no_grad()
def one(whose: str, folder: Path) -> dict[str, float]:
    """Seconds of one guided step after a first one, and the process' peak."""
    torch.set_num_threads(2)
    torch.manual_seed(1)
    z = torch.randn(1, 8, FRAMES, HEIGHT, WIDTH)
    words, told = torch.randn(1, 1, 1024), torch.tensor([[6.0, 127.0, 0.02]])
    level = 0.25 * torch.tensor([SIGMA]).log()
    if whose == "diffusers":
        from diffusers import UNetSpatioTemporalConditionModel

        theirs: Any = UNetSpatioTemporalConditionModel.from_pretrained(str(folder / "unet"), local_files_only=True)

        def step() -> Any:  # its pipeline joins both branches in one call
            both = torch.cat([z, z]).transpose(1, 2)
            return theirs(both, level, torch.cat([0 * words, words]), added_time_ids=torch.cat([told, told])).sample
    else:
        from muybridge.models.weights.stable_video import SCALARS, load_stable_video_unet
        from muybridge.nn.layout import suit_cpu
        from muybridge.nn.resting import weights_at_rest

        with weights_at_rest(whose == "ours"):
            ours = load_stable_video_unet(folder / "unet").requires_grad_(False)
        suit_cpu(ours)
        given = {name: told[:, i].repeat(2) for i, name in enumerate(SCALARS)}

        def step() -> Any:
            both = torch.cat([z, z])
            return ours(both, level.repeat(2), torch.cat([0 * words, words]), conditions=given).sample

    step()
    began = time.perf_counter()
    step()
    return {"seconds": time.perf_counter() - began, "peak": peak()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", default="all", choices=["all", "one"])
    parser.add_argument("--whose", default="ours")
    parser.add_argument("--folder", type=Path, default=Path())
    parser.add_argument("--count", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.what == "one":
        print(json.dumps(one(arguments.whose, arguments.folder)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        figures = in_turn("benchmarks.stable_video", write_folder(Path(scratch)), arguments.count, OURS)
    RESULTS.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
