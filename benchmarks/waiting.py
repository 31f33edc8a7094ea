"""How torch's OpenMP threads should wait for each other: a training step alone, and beside one busy process.

    python -m benchmarks.waiting

Every way of waiting has a process of its own (libgomp reads it once, when torch is loaded); they take turns step by
step, so that what else the machine does falls on all alike. Prints milliseconds a step (medians over the rounds), and
writes benchmarks/waiting.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

WAYS = {
    "spinning (torch's default)": {},
    "GOMP_SPINCOUNT=10000": {"GOMP_SPINCOUNT": "10000"},
    "GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"},
    "passive": {"OMP_WAIT_POLICY": "passive"},
}
#: Base width, side, frames, batch and steps a turn.
NETWORKS = {"tiny": (16, 16, 4, 2, 8), "larger": (48, 32, 8, 1, 2)}


def serve(threads: int) -> None:
    """A process that times steps of a network each time it is told one's name."""
    import torch

    from muybridge.models.unet3d import UNet3DModel
    from muybridge.nn.layout import keep_freed_memory, suit_cpu

    torch.set_num_threads(threads)
    keep_freed_memory()
    made = {}
    for name, (width, side, frames, batch, _) in NETWORKS.items():
        torch.manual_seed(0)
        network = UNet3DModel(
            sample_size=side, base_channels=width, channel_multipliers=(1, 2), blocks_per_level=1,
            attention_resolutions=(side // 2,),
            attention_head_dim=16, embedding_dim=64, embedding_layers=2, norm_groups=8,
        )  # fmt: skip
        suit_cpu(network)
        made[name] = network, torch.optim.AdamW(network.parameters()), torch.randn(batch, 3, frames, side, side)
    print("ready", flush=True)
    for line in sys.stdin:
        name = line.strip()
        network, optimizer, x = made[name]
        times = []
        for _ in range(NETWORKS[name][4]):
            began = time.perf_counter()
            network(x, torch.zeros(len(x))).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            times.append(time.perf_counter() - began)
        print(json.dumps(times), flush=True)


def start(arguments: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    clean = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")}
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.waiting", *arguments], env={**clean, **environment},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--serve", type=int, default=0)
    given = parser.parse_args()
    if given.serve:
        serve(given.serve)
        return
    servers = {(way, n): start(["--serve", str(n)], values) for way, values in WAYS.items() for n in (1, 2)}
    found: dict[str, list[float]] = {}
    try:
        for server in servers.values():
            server.stdout.readline()
        for number in range(given.rounds + 1):
            for beside in (False, True):
                busy = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if beside else None
                for name in NETWORKS:
                    for (way, threads), server in servers.items():
                        server.stdin.write(f"{name}\n")
                        server.stdin.flush()
                        times = json.loads(server.stdout.readline())
                        if number:  # the first round warms up
                            key = (
                                f"{name}, {threads} thread{'s' * (threads > 1)}, {'beside one' if beside else 'alone'}"
                            )
                            found.setdefault(f"{key}|{way}", []).extend(times)
                if busy is not None:
                    busy.kill()
                    busy.wait()
    finally:
        for server in servers.values():
            server.kill()
            server.wait()
    table = {key: round(1000 * statistics.median(times), 1) for key, times in found.items()}
    Path("benchmarks/waiting.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    print("| milliseconds a step | " + " | ".join(WAYS) + " |\n|---|" + "---|" * len(WAYS))
    for key in dict.fromkeys(k.split("|")[0] for k in table):
        print(f"| {key} | " + " | ".join(f"{table[f'{key}|{way}']:.0f}" for way in WAYS) + " |")


if __name__ == "__main__":
    main()
