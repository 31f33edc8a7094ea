"""`make bench`: ratios of things measured in turn within this one process; seconds on a shared machine say nothing.

Writes benchmarks/results.json and prints a table. Each ratio is of medians over interleaved rounds.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from muybridge.models.transformer import SpacetimeTransformer
from muybridge.models.unet3d import UNet3DModel
from muybridge.nn.layout import suit_cpu

ROUNDS = 7
FRAMES, SIZE, BATCH = 8, 32, 1
GEMM_SIDE = 2048


def medians(jobs: dict[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """Median seconds of each job, run in turn so that noise falls on all alike; the first round warms up."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(rounds + 1):
        for name, job in jobs.items():
            began = time.perf_counter()
            job()
            if number:
                times[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in times.items()}


def training_step(model: torch.nn.Module, *inputs: torch.Tensor) -> Callable[[], None]:
    def step() -> None:
        model.zero_grad(set_to_none=True)
        model(*inputs).square().mean().backward()

    return step


def count_flops(job: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        job()
    return int(counter.get_total_flops())


def gemm() -> tuple[Callable[[], object], int]:
    a, b = torch.randn(GEMM_SIDE, GEMM_SIDE), torch.randn(GEMM_SIDE, GEMM_SIDE)
    return lambda: a @ b, 2 * GEMM_SIDE**3


def peer_unet() -> torch.nn.Module:
    """video-diffusion-pytorch's U-Net. Its package imports torchvision for a data loader that is not used here."""
    stub = types.ModuleType("torchvision")
    for name in ("transforms", "utils"):
        setattr(stub, name, types.ModuleType(f"torchvision.{name}"))
    stub.transforms.ToTensor = lambda: None  # type: ignore[attr-defined]  # called at import, for a default argument
    sys.modules.setdefault("torchvision", stub)
    from video_diffusion_pytorch import Unet3D

    return Unet3D(dim=32, dim_mults=(1, 2, 4), channels=3)


def against_peer() -> dict[str, float]:
    """Equal base width, multipliers, frames, size; attention over space and over time at every level in both."""
    theirs = peer_unet().train()
    ours = UNet3DModel(
        sample_size=SIZE,
        base_channels=32,
        channel_multipliers=(1, 2, 4),
        blocks_per_level=1,
        attention_resolutions=(8, 16, 32),
        attention_head_dim=32,
        embedding_dim=128,
        embedding_layers=2,
    )
    suit_cpu(ours)
    video, lam = torch.randn(BATCH, 3, FRAMES, SIZE, SIZE), torch.randn(BATCH)
    index = torch.randint(0, 1000, (BATCH,))

    def forward(model: torch.nn.Module, *inputs: torch.Tensor) -> Callable[[], object]:
        def run() -> object:
            with torch.no_grad():
                return model(*inputs)

        return run

    step = medians({"ours": training_step(ours, video, lam), "theirs": training_step(theirs, video, index)})
    ahead = medians({"ours": forward(ours, video, lam), "theirs": forward(theirs, video, index)})
    counts = [sum(p.numel() for p in m.parameters()) for m in (ours, theirs)]
    return {
        "parameters_ours": counts[0],
        "parameters_theirs": counts[1],
        "parameters_ratio": counts[0] / counts[1],
        "training_step_speedup": step["theirs"] / step["ours"],
        "forward_speedup": ahead["theirs"] / ahead["ours"],
    }


def against_gemm() -> dict[str, float]:
    """Achieved FLOP/s of training steps over the machine's matrix product rate."""
    unet = UNet3DModel(
        sample_size=32,
        base_channels=64,
        channel_multipliers=(1, 2, 4),
        blocks_per_level=1,
        attention_resolutions=(8, 16),
        attention_head_dim=32,
        embedding_dim=256,
        embedding_layers=2,
    )
    transformer = SpacetimeTransformer(layers=4, width=768, heads=12, in_channels=4, out_channels=4)
    suit_cpu(unet)
    suit_cpu(transformer)
    lam = torch.randn(2)
    product, product_flops = gemm()
    jobs = {
        "unet": training_step(unet, torch.randn(2, 3, 8, 32, 32), lam),
        "gemm": product,
        "transformer": training_step(transformer, torch.randn(2, 4, 8, 16, 16), lam),
    }
    flops = {"unet": count_flops(jobs["unet"]), "transformer": count_flops(jobs["transformer"]), "gemm": product_flops}
    seconds = medians(jobs)
    rate = {name: flops[name] / seconds[name] for name in jobs}
    return {
        "gemm_gflops": rate["gemm"] / 1e9,
        "unet_over_gemm": rate["unet"] / rate["gemm"],
        "transformer_over_gemm": rate["transformer"] / rate["gemm"],
    }


def against_frames() -> dict[str, float]:
    """Cost of a forward pass against the number of frames, and the exponent fitted to it."""
    unet = UNet3DModel(
        sample_size=16,
        base_channels=32,
        channel_multipliers=(1, 2),
        blocks_per_level=1,
        attention_resolutions=(8,),
        attention_head_dim=32,
        embedding_dim=128,
        embedding_layers=2,
    ).to(memory_format=torch.channels_last)
    joint = SpacetimeTransformer(layers=2, width=192, heads=6)
    factorised = SpacetimeTransformer(layers=2, width=192, heads=6, attention="factorised")
    out: dict[str, float] = {}
    counts = (8, 16, 32, 64)
    for name, model, channels in (("unet", unet, 3), ("joint", joint, 4), ("factorised", factorised, 4)):

        def job(frames: int, model: torch.nn.Module = model, channels: int = channels) -> Callable[[], object]:
            video, lam = torch.randn(1, channels, frames, 16, 16), torch.zeros(1)

            def run() -> object:
                with torch.no_grad():
                    return model(video, lam)

            return run

        seconds = medians({str(n): job(n) for n in counts}, 5)
        for n in counts:
            out[f"{name}_{n}_frames_over_8"] = seconds[str(n)] / seconds["8"]
        logs = [(math.log(n), math.log(seconds[str(n)])) for n in counts]
        mean_x, mean_y = (statistics.mean(v) for v in zip(*logs, strict=True))
        top = sum((x - mean_x) * (y - mean_y) for x, y in logs)
        out[f"{name}_exponent"] = top / sum((x - mean_x) ** 2 for x, _ in logs)
    return out


def start_up() -> dict[str, float]:
    """Cold processes in turn: `--help` and a refusal against `import typer` and a bare typer command, a short
    `generate` against `import torch`."""
    bare = "import typer; app = typer.Typer(); app.command()(lambda a: None); app([], standalone_mode=False)"
    out = Path(tempfile.mkdtemp()) / "cold.mp4"

    def process(*arguments: str, rc: int = 0) -> Callable[[], object]:
        def run() -> None:
            done = subprocess.run([sys.executable, *arguments], capture_output=True)
            assert done.returncode == rc or rc < 0, done.stderr[-500:]

        return run

    command = ("-m", "muybridge.cli.main")
    jobs = {
        "python": process("-c", "pass"),
        "typer": process("-c", "import typer"),
        "typer_command": process("-c", bare, rc=-1),
        "torch": process("-c", "import torch"),
        "help": process(*command, "--help"),
        "refusal": process(*command, "generate", "unicorn", "--steps", "0", rc=2),
        "generate": process(*command, "generate", "unicorn, fluent style", "--steps", "2", "-o", str(out)),
    }
    seconds = medians(jobs, rounds=5)
    return {
        **{f"{name}_seconds": value for name, value in seconds.items()},
        "refusal_over_typer": seconds["refusal"] / seconds["typer"],
        "refusal_over_a_typer_command": seconds["refusal"] / seconds["typer_command"],
        "generate_over_torch": seconds["generate"] / seconds["torch"],
    }


def linear_kernels() -> dict[str, float]:
    """Forward and backward of a linear layer as torch computes it and as a 1 x 1 convolution
    (nn.layout.ConvolvedLinear)."""
    from muybridge.nn.layout import ConvolvedLinear, linears_by_convolution

    out: dict[str, float] = {"chosen_on_this_machine": float(linears_by_convolution())}
    for rows, inside, outside in ((4096, 160, 1280), (8192, 320, 2560)):
        plain, convolved = torch.nn.Linear(inside, outside), torch.nn.Linear(inside, outside)
        convolved.__class__ = ConvolvedLinear
        x = torch.randn(rows, inside, requires_grad=True)
        seconds = medians({"plain": training_step(plain, x), "convolved": training_step(convolved, x)})
        out[f"{rows}x{inside}x{outside}_times_as_fast"] = seconds["plain"] / seconds["convolved"]
    return out


PARTS = {
    "linear": linear_kernels,
    "peer": against_peer,
    "gemm": against_gemm,
    "frames": against_frames,
    "start": start_up,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=f"of {', '.join(PARTS)}")
    arguments = parser.parse_args()
    path = Path(__file__).parent / "results.json"
    results = json.loads(path.read_text()) if path.is_file() else {}
    for name in arguments.parts:
        results[name] = PARTS[name]()
        for key, value in results[name].items():
            print(f"{name:8s} {key:34s} {value:14,.3f}")
    path.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
