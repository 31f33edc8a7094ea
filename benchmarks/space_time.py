"""Make-A-Video and Lumiere, measured: `python -m benchmarks.space_time NAME...` (results in space_time.json).

Make-A-Video: rates (does motion from frame to frame fall as the asked rate rises), between (frame interpolation against
a linear blend), super_resolution (flicker with and without time, with shared and with own noise). Lumiere: windows
(seams of super-resolution), levels (memory and time of five times the frames, time halved or not), start (temporal
resampling that begins as the identity or at random), phase (periodic motion in one pass, or through key frames),
cinemagraph, memory (super-resolution of longer videos).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel

from benchmarks.against_diffusers import peak
from benchmarks.emoji import TWENTY
from benchmarks.picture_to_video import clips_of
from benchmarks.world_vdm import RECIPE
from muybridge.data.registry import make_source
from muybridge.diffusion.windows import windows_of
from muybridge.evaluation.motion import frame_differences, mean_frame_difference, seam_ratio
from muybridge.files import cache_folder, write_json
from muybridge.library.index import write_settings
from muybridge.library.inflated import save_unet
from muybridge.models.inflated_unet import InflatedUNet
from muybridge.models.super_resolution import enlarged, reduced
from muybridge.nn.frames import from_uint8, to_uint8
from muybridge.opening.sampling import load_pipeline
from muybridge.systems.lumiere.masks import cinemagraph_mask
from muybridge.systems.video_ldm.long_video import interpolate_latents
from muybridge.training.recipe import load_recipe
from muybridge.training.trainer import Trainer

RESULTS = Path(__file__).with_name("space_time.json")
RATES = (2.0, 4.0, 8.0, 15.0, 30.0)


def stage_of(model: str, number: int) -> Any:
    """A stage of a bundled whole, alone; -1 is the last."""
    whole: Any = load_pipeline(model)
    return whole.opened(number % len(whole.names))


def loops(recipe: str, count: int) -> tuple[list[str], list[np.ndarray]]:
    """Captions and clips, evenly chosen among a recipe's training clips."""
    source = make_source(load_recipe(RECIPE.with_name(f"{recipe}.yaml")).data, "train")
    rows = [int(i) for i in np.linspace(0, len(source) - 1, count)]
    return [source.caption_of(i) for i in rows], [source.clip(i).frames for i in rows]


def rates(model: str, count: int) -> dict[str, Any]:
    """Mean frame difference of the decoder's videos, grey levels, at five asked rates."""
    decoder = stage_of(model, 0)
    captions, _ = loops("emoji-make-a-video-2-video", count)
    moved = {}
    for fps in RATES:
        made = decoder(captions, seed=0, fps=fps, batch_size=4).frames
        moved[f"{fps:g}"] = float(np.mean([mean_frame_difference(f) for f in made]))
    places = np.argsort(np.argsort(list(moved.values())))
    rank = float(np.corrcoef(np.arange(len(RATES)), places)[0, 1])
    return {"captions": count, "frame difference": moved, "rank correlation": rank}


#: Sharp things that move as a whole, on plain grounds; scenes that no recipe trains on.
MOVING = {
    "source": "sprites", "num_frames": 16, "seed": 9, "num_clips": 1000, "backgrounds": ["white", "plain"],
    "loops": 0.0, "related": 0.0, "counted": 0.0, "several": 0.0, "plain": 0.0,
    "motions": ["left", "right", "up", "down", "towards", "away", "bouncing", "orbiting", "jumping"],
}  # fmt: skip


def between(model: str, count: int) -> dict[str, Any]:
    """Squared error of 1 (mean over given-away frames), both sides after the latents' round trip: of held-out loops, of
    the half of them that moves more, and of sharp moving things."""
    network = stage_of(model, 1)
    skip, frames = network.config.skip, network.settings().num_frames
    moving = make_source(MOVING, "validation")
    sets = {
        "loops": clips_of("emoji-make-a-video-2-video", "validation", count),
        "sharp moving things": [moving.clip(i).frames for i in range(count)],
    }
    found: dict[str, Any] = {"clips": count, "skip": skip}
    for name, clips in sets.items():
        rows = np.array([_errors(network, clip[:frames], number, skip) for number, clip in enumerate(clips)])
        fast = rows[:, 2] >= np.median(rows[:, 2])
        for part, chosen in ((name, slice(None)), (f"{name}, the half that moves more", fast)):
            found[part] = dict(zip(("network", "linear blend"), map(float, rows[chosen, :2].mean(0)), strict=True))
    return found


def _errors(network: Any, clip: np.ndarray, seed: int, skip: int) -> tuple[float, float, float]:
    """Of the network, of a linear blend, and how much a clip's given frames differ."""
    truth, inner = from_uint8(clip)[None], [i for i in range(len(clip)) if i % skip]
    back = network.to_pixels(network.to_samples(truth)).clamp(-1, 1)
    made = network.raise_video(truth[:, :, ::skip], [None], seed, fps=8.0).samples.clamp(-1, 1)
    mixed = [torch.lerp(back[:, :, i - i % skip], back[:, :, i - i % skip + skip], i % skip / skip) for i in inner]
    true = back[:, :, inner]
    ours, blend = (float((v - true).square().mean() / 4) for v in (made[:, :, inner], torch.stack(mixed, 2)))
    return ours, blend, mean_frame_difference(clip[::skip])


def flicker(made: torch.Tensor, plain: torch.Tensor) -> float:
    """Mean difference of frame differences of two videos [1, 3, F, H, W] in [-1, 1], grey levels."""
    return float((made.diff(dim=2) - plain.diff(dim=2)).abs().mean() * 127.5)


def super_resolution(model: str, count: int) -> dict[str, Any]:
    """How far frame differences are from those of the enlarged small video, and from the true ones."""
    video = stage_of(model, -1)
    picture: Any = load_pipeline(str(video_picture(video)))
    rows: dict[str, list[tuple[float, float]]] = {}
    for number, clip in enumerate(clips_of("emoji-make-a-video-5-sr-time", "validation", count)):
        true = from_uint8(clip)[None]
        small = reduced(true, 2, 0.6)
        plain, frames = enlarged(small, 2), list(small[0].transpose(0, 1).unsqueeze(2))
        apart = torch.stack(frames)  # [F, 3, 1, h, w]: frames as videos of their own
        seeds = [1000 * number + i for i in range(len(frames))]
        made = {
            "with time": video.raise_video(small, [None], number).samples,
            "the same network, every frame alone": _rejoined(video.raise_video(apart, [None] * len(frames), seeds)),
            "pictures' network, own noise": picture.raise_video(small, [None], number, noise_correlation=0.0).samples,
            "pictures' network, one noise": picture.raise_video(small, [None], number, noise_correlation=1.0).samples,
        }  # fmt: skip
        for name, found in made.items():
            found = found.clamp(-1, 1).cpu()
            rows.setdefault(name, []).append((flicker(found, plain), flicker(found, true)))
    means = {name: [float(v) for v in np.mean(found, 0)] for name, found in rows.items()}
    own, one = (means[f"pictures' network, {kind} noise"][0] for kind in ("own", "one"))
    return {
        "clips": count, "against the enlarged, and against the true one": means,
        "lowered by one noise": 1 - one / own,
    }  # fmt: skip


def _rejoined(made: Any) -> torch.Tensor:
    """Videos of one frame [F, 3, 1, H, W] -> one video."""
    out: torch.Tensor = made.samples[:, :, 0].transpose(0, 1)[None]
    return out


def video_picture(video: Any) -> Path:
    """The picture network of a super-resolver with time, written as a model of its own."""
    folder = Path(tempfile.mkdtemp()) / "picture"
    save_unet(video.network.to_image_model(), folder, "SuperResolutionPipeline")
    write_settings(folder, {k: video.config[k] for k in ("scheduler", "making", "sampling")})
    return folder


def windows(model: str, count: int) -> dict[str, Any]:
    """Seam ratio where the set of windows changes, of true clips made small and large again; that of the clips
    themselves beside it."""
    network = stage_of(model, -1)
    size, found = network.making.window, {}
    chosen = clips_of("emoji-lumiere-sr", "validation", count)
    clips = [c[np.resize([*range(len(c)), *range(len(c) - 2, 0, -1)], 44)] for c in chosen]  # to and fro
    for overlap in (0, 2):
        network.making = replace(network.making, overlap=overlap)
        parts = windows_of(44, size, overlap)
        seams = sorted({e for w in parts for e in (w.start - 1, w.stop - 1) if 0 <= e < 43})
        ratios = []
        for number, clip in enumerate(clips):
            small = reduced(from_uint8(clip)[None], 2, 0.6)
            made = network.raise_video(small, [None], number)
            plain = to_uint8(enlarged(small, 2))[0]
            # what was added to the small video: its own motion makes no seam
            added = np.clip(made.frames[0].astype(int) - plain + 128, 0, 255).astype(np.uint8)
            ratios.append((seam_ratio(made.frames[0], seams), seam_ratio(added, seams), seam_ratio(clip, seams)))
        mean = np.mean(ratios, 0)
        found[f"overlap {overlap}"] = dict(zip(("video", "what was added", "true clip"), map(float, mean), strict=True))
    return {"clips": count, "frames": 44, "window": size} | found


def in_process(what: str, *values: object) -> dict[str, float]:
    """`one` of this module in a process of its own."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.space_time", "one", what, *map(str, values)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def one_level(levels: str, frames: str) -> dict[str, float]:
    """A pass of a small network of three scales, twice; the second one's seconds and the process' peak."""
    torch.manual_seed(0)
    picture = UNet2DConditionModel(
        sample_size=32, block_out_channels=(64, 128, 192), layers_per_block=1, norm_num_groups=16,
        cross_attention_dim=64, attention_head_dim=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    network = InflatedUNet.from_image_model(picture, {"type": "lumiere", "levels": int(levels), "layers": 2}).eval()
    inputs = torch.randn(1, 4, int(frames), 32, 32), torch.tensor([500]), torch.randn(1, 8, 64)
    with torch.no_grad():
        network(*inputs)
        began = time.perf_counter()
        network(*inputs)
    return {"seconds": time.perf_counter() - began, "peak": peak()}


def levels(model: str, count: int) -> dict[str, Any]:
    """16 and 80 frames of 32x32 latents at L = 2 and 0, in turn, medians of `count` runs; a process without a pass is
    taken off its peak."""
    runs: dict[str, list[dict[str, float]]] = {}
    for _ in range(count):
        for halved in (2, 0):
            for frames in (4, 16, 80):
                runs.setdefault(f"L {halved}, {frames}", []).append(in_process("level", halved, frames))
    middle = {n: {k: float(np.median([r[k] for r in rows])) for k in rows[0]} for n, rows in runs.items()}
    return {"runs": count, **middle} | {
        f"L {h}, 80 over 16": {k: middle[f"L {h}, 80"][k] / middle[f"L {h}, 16"][k] for k in ("seconds", "peak")}
        for h in (2, 0)
    }


def start(model: str, count: int) -> dict[str, Any]:
    """Held-out error of emoji-lumiere's recipe without its conditional form at step 0 and after `count` steps."""
    recipe, found = load_recipe(RECIPE.with_name("emoji-lumiere.yaml")), {}
    training = replace(
        recipe.training, steps=count, batch_size=2, validate_every=count, validation_clips=16, sample_every=0,
        checkpoint_every=count, threads=torch.get_num_threads(),
    )  # fmt: skip
    for kind in ("identity", "random"):
        temporal = {**recipe.model["temporal"], "resampling": kind}
        made = replace(
            recipe, training=training, model={**recipe.model, "temporal": temporal},
            diffusion={k: v for k, v in (recipe.diffusion or {}).items() if k != "tasks"},
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as scratch:
            trainer = Trainer(made, Path(scratch) / kind, cache=cache_folder() / "benchmarks")
            trainer.prepare()
            batch = trainer.held_out.first(8, trainer.accelerator.device)
            with torch.no_grad():
                before = float(trainer.system.losses(trainer.model, batch).error.mean())
            trainer.run()
            with torch.no_grad():
                after = float(trainer.system.losses(trainer.model, batch).error.mean())
        found[kind] = {"step 0": before, f"step {count}": after}
    return found


def uneven(frames: np.ndarray) -> float:
    """Root mean square of how far the phase of a video's strongest periodic part is from even progress, radians.

    The part: of the frames' first principal component in time, the strongest frequency of at least one period; the
    phase is that of the component's analytic signal around it.
    """
    flat = frames.reshape(len(frames), -1).astype(float)
    flat -= flat.mean(0)
    component = np.linalg.svd(flat, full_matrices=False)[0][:, 0]
    spectrum = np.fft.fft(component)
    best = 1 + int(np.abs(spectrum[1 : len(frames) // 2]).argmax())
    kept = np.zeros_like(spectrum)
    near = slice(max(1, best - 1), best + 2)
    kept[near] = spectrum[near]
    phase = np.unwrap(np.angle(np.fft.ifft(kept)))
    even = np.polyval(np.polyfit(np.arange(len(frames)), phase, 1), np.arange(len(frames)))
    return float(np.sqrt(np.mean((phase - even) ** 2)))


def phase(model: str, count: int) -> dict[str, Any]:
    """48 frames in one pass, and 48 of the 49 that emoji-between puts between 13 of emoji-video, of loops' captions;
    real loops of 48 frames beside them. Network calls are those of one frame."""
    base, keys, filling = stage_of(model, 0), load_pipeline("emoji-video"), load_pipeline("emoji-between")
    captions, clips = loops("emoji-lumiere", count)
    one = [base(c, seed=i).frames[0] for i, c in enumerate(captions)]
    other = []
    for i, caption in enumerate(captions):
        latents = keys(caption, seed=i, num_frames=13, output="latents", **TWENTY).samples
        made = filling.to_pixels(interpolate_latents(filling, latents, caption, i))
        other.append(to_uint8(made)[0][:48])
    named = {"one pass": one, "key frames and frames between": other, "real loops": clips}
    return {"captions": count} | {
        name: {
            "unevenness, radians": float(np.median([uneven(v) for v in videos])),
            "frame difference": float(np.mean([mean_frame_difference(v) for v in videos])),
            "largest over mean frame difference": float(
                np.median([(d := frame_differences(v)).max() / max(d.mean(), 1e-9) for v in videos])
            ),
        }
        for name, videos in named.items()
    }


def cinemagraph(model: str, count: int) -> dict[str, Any]:
    """Deviation over time outside and inside the lower half of held-out pictures, grey levels."""
    base = stage_of(model, 0)
    outside, inside = [], []
    for number, clip in enumerate(clips_of("emoji-lumiere", "validation", count)):
        region = np.zeros((1, 64, 64), bool)
        region[:, 32:] = True
        video = from_uint8(clip[:1])[None].expand(-1, -1, base.settings().num_frames, -1, -1)
        mask = cinemagraph_mask(torch.from_numpy(np.repeat(region, video.shape[2], 0)))[None]
        moved = base.fill(video, mask, "", number).frames[0].astype(float).std(0).mean(-1)
        outside.append(moved[:32].max())
        inside.append(moved[32:].mean())
    return {"pictures": count, "outside, largest": float(np.max(outside)), "inside, mean": float(np.mean(inside))}


def one_length(model: str, frames: str) -> dict[str, float]:
    """Super-resolution of a still video, two steps: seconds and the process' peak."""
    network, began = stage_of(model, -1), time.perf_counter()
    network.raise_video(torch.zeros(1, 3, int(frames), 64, 64), [None], 0, num_inference_steps=2)
    return {"seconds": time.perf_counter() - began, "peak": peak()}


def memory(model: str, count: int) -> dict[str, Any]:
    """Peak of super-resolution at 48 and 240 frames."""
    found = {frames: in_process("length", model, frames) for frames in (48, 240)}
    return {
        **{f"{k} frames": v for k, v in found.items()},
        "ratio of the peaks": found[240]["peak"] / found[48]["peak"],
    }


#: name -> what measures, the model, and how many.
MEASURES: dict[str, tuple[Callable[[str, int], dict[str, Any]], str, int]] = {
    "rates": (rates, "emoji-make-a-video", 16), "between": (between, "emoji-make-a-video", 24),
    "super_resolution": (super_resolution, "emoji-make-a-video", 12), "windows": (windows, "emoji-lumiere", 8),
    "levels": (levels, "", 3), "start": (start, "", 60), "phase": (phase, "emoji-lumiere", 12),
    "cinemagraph": (cinemagraph, "emoji-lumiere", 6), "memory": (memory, "emoji-lumiere", 1),
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", help=f"of {', '.join(MEASURES)}")
    parser.add_argument("--model", default="", help="a folder in place of the bundled model")
    parser.add_argument("--count", type=int, default=0)
    told = parser.parse_args(arguments)
    if told.names[0] == "one":
        what, *values = told.names[1:]
        print(json.dumps({"level": one_level, "length": one_length}[what](*values)))
        return
    for name in told.names:
        measure, model, count = MEASURES[name]
        found = measure(told.model or model, told.count or count)
        print(json.dumps({name: found}, indent=1), flush=True)
        kept = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
        write_json(RESULTS, {**kept, name: found})


if __name__ == "__main__":
    main()
