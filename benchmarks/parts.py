"""The small networks beside the models, on data they were not trained on: `python -m benchmarks.parts`.

depth: error on composites, against their mean depth. interpolator: error of middle frames, against the mean of both
neighbours and optical flow. prior: likeness to the pictures' embeddings, of its answers and of the bare words'. edges,
depth ControlNets: does the drawn picture have the structure it was shown, beside the same words without it. upscaler:
ST-LPIPS and error to the art at four times the size, frame differences as a share of the art's, and seconds, beside
bicubic interpolation and repeated pixels; `--folder` measures one that is not bundled.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.world_vdm import RECIPE
from muybridge.data.emoji import EmojiConfig, EmojiSource
from muybridge.data.registry import make_source
from muybridge.files import ZOO
from muybridge.library.catalogue import find_part, sampling_of
from muybridge.models.latent.perceptual import perceptual_distance
from muybridge.models.latent.space import LatentSpace
from muybridge.models.text.encoder import TextConfig, TextEncoder
from muybridge.models.text.prior import ContentPrior
from muybridge.models.text.scorers import SmallScorer, open_scorer
from muybridge.models.vision.control import Control, open_control_net
from muybridge.models.vision.frame_interpolation import along_flow, interpolator_named, linear
from muybridge.models.vision.structure import control_pictures, estimator_named
from muybridge.models.vision.upscaler import SCALE, bicubic, box_averaged, open_upscaler, upscaled_chunks
from muybridge.nn.frames import enlarge, from_uint8, to_uint8
from muybridge.opening.sampling import load_zero_shot
from muybridge.parts.content_prior import likeness
from muybridge.pipelines.zero_shot import View
from muybridge.training.recipe import load_recipe


def held_out(recipe: str, count: int) -> torch.Tensor:
    """Clips [N, 3, F, H, W] in [0, 1] of a recipe's validation split."""
    source = make_source(load_recipe(RECIPE.with_name(f"{recipe}.yaml")).data, "validation")
    chosen = np.linspace(0, len(source) - 1, min(count, len(source))).astype(int)
    return torch.stack([from_uint8(source.clip(int(i)).frames) for i in chosen]) / 2 + 0.5


@torch.no_grad()
def depth(count: int) -> dict[str, Any]:
    clips = held_out("depth", count)
    network: Any = estimator_named("depth")
    said = network.network(clips[:, :, 0] * 2 - 1)[:, 0]
    right = clips[:, 0, 1]
    return {
        "pictures": len(clips),
        "error of inverse depth, of 1": float((said - right).abs().mean()),
        "of the mean depth": float((right.mean(0) - right).abs().mean()),
        "correlation": float(torch.corrcoef(torch.stack([said.flatten(), right.flatten()]))[0, 1]),
    }


@torch.no_grad()
def interpolator(count: int) -> dict[str, Any]:
    clips = held_out("interpolator", count)
    first, middle, last = clips.unbind(2)
    methods = {"learned": interpolator_named("learned"), "mean of both": linear, "optical flow": along_flow}
    return {"triples": len(clips)} | {
        f"error, of 1: {name}": float((made(first, last) - middle).abs().mean()) for name, made in methods.items()
    }


def prior(count: int) -> dict[str, Any]:
    network = ContentPrior.from_pretrained(str(find_part("emoji-prior")), local_files_only=True).float().eval()
    scorer = open_scorer(find_part("emoji-clip"))
    assert isinstance(scorer, SmallScorer)
    out: dict[str, Any] = {}
    for name, split in (("seen", "train"), ("unseen", "validation")):
        source = EmojiSource(EmojiConfig("stills", 1, styles=("fluent",), split=split))
        chosen = np.linspace(0, len(source) - 1, min(count, len(source))).astype(int)
        pictures = torch.stack([from_uint8(source.clip(int(i)).frames)[:, 0] for i in chosen])
        made, bare = likeness(network, scorer, [source.caption_of(int(i)) for i in chosen], pictures)
        out[name] = {"captions": len(chosen), "prior's answer": made, "the words themselves": bare}
    return out


def control(structure: str, count: int) -> dict[str, Any]:
    pipeline, estimator = load_zero_shot("emoji-image"), estimator_named(structure)
    folder = find_part(f"emoji-{structure}")
    network, guidance = open_control_net(folder), sampling_of(folder).get("guidance_scale")
    source = EmojiSource(EmojiConfig("stills", 1, styles=("fluent",), split="validation"))
    chosen = np.linspace(0, len(source) - 1, min(count, len(source))).astype(int)
    found: dict[str, list[float]] = {}
    for number, index in enumerate(chosen):
        clip = source.clip(int(index))
        given = estimator(clip.frames)
        made: dict[str, np.ndarray] = {}
        for words, told in ((clip.caption, ""), ("", ", no words")):
            how: dict[str, Any] = {"seed": number, "num_frames": 1, "guidance_scale": guidance}
            view = View(controls=[Control(network, control_pictures(given))])
            made[f"with it{told}"] = pipeline(words, view=view, **how).frames[0]
            made[f"without it{told}"] = pipeline(words, **how).frames[0]
        coded = pipeline.space.encode(from_uint8(clip.frames)[None])[0]
        made["the picture itself, encoded and decoded"] = to_uint8(pipeline.space.decode(coded))[0]
        for name, picture in made.items():
            found.setdefault(name, []).append(_likeness(structure, given[0], estimator(picture)[0]))
    what = "overlap of outlines, within a pixel" if structure == "edges" else "correlation of depth"
    return {"pictures": len(chosen)} | {f"{what}: {name}": float(np.mean(rows)) for name, rows in found.items()}


def _likeness(structure: str, given: np.ndarray, made: np.ndarray) -> float:
    """F1 of outlines, a pixel off allowed; or the correlation of two depth maps."""
    if structure == "depth":
        return float(np.corrcoef(given.ravel(), made.ravel())[0, 1]) if made.std() > 0 and given.std() > 0 else 0.0
    a, b = (torch.from_numpy(p)[None, None] > 0.5 for p in (given, made))
    wide_a, wide_b = (torch.nn.functional.max_pool2d(p.float(), 3, 1, 1) > 0.5 for p in (a, b))
    hit = float((b & wide_a).sum()) / max(1, int(b.sum())), float((a & wide_b).sum()) / max(1, int(a.sum()))
    return 2 * hit[0] * hit[1] / max(1e-9, sum(hit))


@torch.no_grad()
def upscaler(count: int, folder: Path) -> dict[str, Any]:
    """Of bare box averages, and of those that went through the autoencoder that the recipe names."""
    recipe = load_recipe(RECIPE.with_name("emoji-upscaler.yaml"))
    source = make_source(recipe.data, "validation")
    chosen = np.linspace(0, len(source) - 1, min(count, len(source))).astype(int)
    network, space = open_upscaler(folder), LatentSpace.open(find_part(recipe.model["autoencoder"]))
    distance, encoder = perceptual_distance(), TextEncoder(recipe.text or TextConfig())
    rows: dict[str, list[list[float]]] = {}
    for clip in (source.clip(int(i)) for i in chosen):
        high = from_uint8(clip.frames)
        low = box_averaged(high)
        text, wanted = encoder([clip.caption]).pooled, high.transpose(0, 1)
        for kind, given in (("art", low), ("autoencoded", space.decode(space.encode(low[None])[0])[0])):
            shown, began = to_uint8(given[None])[0], time.perf_counter()
            by_network = np.concatenate(list(upscaled_chunks(network, shown, text)))
            seconds = time.perf_counter() - began
            smooth = to_uint8(bicubic(from_uint8(shown).transpose(0, 1)).transpose(0, 1)[None])[0]
            for name, made in (("network", by_network), ("bicubic", smooth), ("repeated", enlarge(shown, SCALE))):
                answer = from_uint8(made).transpose(0, 1)
                look = torch.cat([distance(a, b) for a, b in zip(answer.split(2), wanted.split(2), strict=True)])
                error, moves = (answer - wanted).abs().mean(), answer.diff(dim=0).abs().mean()
                flicker = float(moves / wanted.diff(dim=0).abs().mean().clamp(min=1e-4))
                rows.setdefault(f"{name}, {kind}", []).append([float(look.mean()), float(error) / 2, flicker, seconds])
    names = ("ST-LPIPS", "error, of 1", "frame differences, of the art's")
    found = {kind: dict(zip(names, np.mean(row, 0).tolist(), strict=False)) for kind, row in rows.items()}
    timed = float(np.mean([r[3] for r in rows["network, art"]]))
    return {"clips": len(chosen), "seconds for a clip": timed, **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="all by default")
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--folder", type=Path, help="of an upscaler that is not bundled; its figures are only printed")
    arguments = parser.parse_args()
    count, wanted = arguments.count, arguments.names
    measures: dict[str, Callable[[], Any]] = {
        "depth": lambda: depth(8 * count),
        "interpolator": lambda: interpolator(8 * count),
        "emoji-prior": lambda: prior(4 * count),
        "emoji-edges": lambda: control("edges", count),
        "emoji-depth": lambda: control("depth", count),
    }
    if arguments.folder:
        print(json.dumps(upscaler(count, arguments.folder), indent=1))
        return
    if (ZOO / "emoji-upscaler").is_dir():
        measures["emoji-upscaler"] = lambda: upscaler(count, ZOO / "emoji-upscaler")
    if unknown := set(wanted) - set(measures):
        parser.error(f"unknown {', '.join(sorted(unknown))}; known: {', '.join(measures)}")
    measured = {name: measure() for name, measure in measures.items() if name in (wanted or measures)}
    for name, figures in measured.items():
        (ZOO / name / "figures.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(measured, indent=1))


if __name__ == "__main__":
    main()
