"""The figures of the emoji models: `python -m benchmarks.emoji`.

Words: pictures (or videos) of 100 captions seen in training and 50 unseen, each judged by its nearest neighbours among
the stills of all captions, by picture features that share no weights with the model (MobileNetV2 of ImageNet). Sex and
skin-tone variants are one. The judge's own ceiling is given beside: true pictures after the latent space's round trip.

Motion, of a video model (`--motion N`): N captions of loops, drawn as videos and as independent pictures of its image
model. The share of videos whose mean frame difference lies between the 5th and 95th percentile of the data's, and
Frechet distances to other loops of the data.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.world_vdm import RECIPE, picture
from muybridge.data.emoji import EmojiConfig, EmojiSource, group_of
from muybridge.data.registry import make_source
from muybridge.data.video_io import write_strip
from muybridge.evaluation.consistency import warped_difference
from muybridge.evaluation.frechet import clip_features, frechet_distance
from muybridge.evaluation.motion import mean_frame_difference, order_ratio
from muybridge.files import ZOO
from muybridge.making.upscaling import Upscaling
from muybridge.models.vision.picture_features import PictureFeatures
from muybridge.nn.frames import from_uint8, to_uint8
from muybridge.opening.sampling import load_pipeline
from muybridge.pipelines.enlarged import reduced
from muybridge.training.recipe import Recipe, load_recipe

STYLE = "fluent"
#: How emoji-video was sampled before five steps of DDIM became its default: what is compared with others keeps it.
TWENTY: dict[str, Any] = {"sampler": "dpmpp_2m", "num_inference_steps": 20}


class Judge:
    """Ranks captions' groups by how near their stills are to a picture.

    Args:
        sources: stills of one style, of every caption.
    """

    def __init__(self, sources: list[EmojiSource]):
        self.network = PictureFeatures()
        rows, self.groups = [], []
        for source in sources:
            for i in range(len(source)):
                rows.append(from_uint8(source.clip(i).frames[:1])[:, 0])
                self.groups.append(source.entries[source.clips[i][0]].group)
        features = self.network(torch.stack(rows))
        self.mean, self.std = features.mean(0), features.std(0) + 1e-6
        self.table = self._unit(features)

    def _unit(self, features: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize((features - self.mean) / self.std, dim=1)

    def rank(self, frames: np.ndarray, group: str) -> int:
        """Place of the group among all, 0 the nearest; frames uint8 [F, H, W, 3] are averaged over time."""
        pictures = from_uint8(frames).transpose(0, 1)
        row = torch.nn.functional.normalize(self._unit(self.network(pictures)).mean(0), dim=0)
        seen: list[str] = []
        for i in (self.table @ row).argsort(descending=True).tolist():
            if self.groups[i] not in seen:
                seen.append(self.groups[i])
            if self.groups[i] == group:
                return len(seen) - 1
        raise ValueError(f"no still of {group}")


def shares(ranks: list[int]) -> dict[str, float]:
    return {
        "first": float(np.mean([r < 1 for r in ranks])),
        "first five": float(np.mean([r < 5 for r in ranks])),
        "count": len(ranks),
    }


def loops_of(config: dict[str, Any]) -> Any:
    """The loops among a recipe's data: the emoji animations, alone."""
    parts = config.get("of", [config])
    found = next((p for p in parts if p.get("kind") == "animations"), None)
    if found is None:
        raise SystemExit("--motion: the recipe's data have no emoji animations")
    return make_source({k: v for k, v in found.items() if k != "times"})


def motion_figures(
    recipe: Recipe, pipeline: Any, count: int, references: int = 200, alone: bool = True
) -> dict[str, Any]:
    """Does it move as the data moves: against other loops, beside real ones (the floor) and, with `alone`, independent
    pictures of the recipe's image model."""
    source = loops_of(recipe.data)
    order = random.Random(1).sample(range(len(source)), min(count + references, len(source)))
    chosen, others = order[:count], order[count:]
    captions = [source.caption_of(i) for i in chosen]
    videos = pipeline(captions, seed=0, batch_size=8).frames
    frames = videos.shape[1]
    sets = {"videos": list(videos), "real": [source.clip(i).frames for i in chosen]}
    if alone and recipe.model.get("image"):
        pictures: Any = load_pipeline(recipe.model["image"])
        single = pictures([c for c in captions for _ in range(frames)], seed=0, batch_size=32).frames
        sets["independent pictures"] = list(single.reshape(videos.shape))
    reference = [source.clip(i).frames for i in others]
    network = PictureFeatures()
    ground = clip_features(network, reference)
    low, high = np.percentile([mean_frame_difference(f) for f in reference + sets["real"]], [5, 95])
    figures: dict[str, Any] = {
        "clips": count,
        "references": len(others),
        "data's 5th and 95th": [float(low), float(high)],
    }
    for name, clips in sets.items():
        features = clip_features(network, clips)
        changes = [mean_frame_difference(f) for f in clips]
        figures[name] = {
            "frame difference": float(np.median(changes)),
            "share within": float(np.mean([low <= c <= high for c in changes])),
            "order": float(np.mean([order_ratio(c) for c in clips])),
            "warped difference": float(np.mean([warped_difference(c) for c in clips])),
            "motion distance": frechet_distance(ground.motion, features.motion),
            "appearance distance": frechet_distance(ground.appearance, features.appearance),
        }
    return figures


def twice_as_large(model: str, frames: np.ndarray, captions: Sequence[str]) -> np.ndarray:
    """Videos uint8 [B, F, H, W, 3] at twice their size: `--upscale 4` of the model, halved by box averages."""
    chosen, out = Upscaling.chosen(4, "", "", model), []
    for clip, caption in zip(frames, captions, strict=False):
        out.append(reduced(chosen.enlarged(clip, caption).whole(), 2, mean=True))
    return np.stack(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="emoji-image")
    parser.add_argument("--seen", type=int, default=100)
    parser.add_argument("--unseen", type=int, default=50)
    parser.add_argument("--motion", type=int, default=0)
    parser.add_argument("--recipe", type=Path, default=None, help="of the model, for --motion; its name's by default")
    parser.add_argument("--picture", type=Path, default=None)
    parser.add_argument("--output", type=Path, default=None)
    arguments = parser.parse_args()
    pipeline: Any = load_pipeline(arguments.model)
    stills = {
        split: EmojiSource(EmojiConfig("stills", 1, styles=(STYLE,), split=split)) for split in ("train", "validation")
    }
    judge = Judge(list(stills.values()))
    figures: dict[str, Any] = {"stills judged among": len(judge.groups), "groups": len(set(judge.groups))}
    for name, split, count in (("seen", "train", arguments.seen), ("unseen", "validation", arguments.unseen)):
        source = stills[split]
        chosen = random.Random(0).sample(range(len(source)), min(count, len(source)))
        captions = [source.caption_of(i) for i in chosen]
        groups = [group_of(source.entries[i].caption) for i in chosen]
        frames = pipeline(captions, seed=0, batch_size=10).frames
        figures[name] = shares([judge.rank(f, g) for f, g in zip(frames, groups, strict=True)])
        truth = torch.stack([from_uint8(source.clip(i).frames[:1]) for i in chosen])
        back = pipeline.space.decode(pipeline.space.encode(truth)[0])
        pixels = to_uint8(back)
        figures[f"{name}, true pictures"] = shares([judge.rank(f, g) for f, g in zip(pixels, groups, strict=True)])
        print(json.dumps({name: figures[name], "ceiling": figures[f"{name}, true pictures"]}))
        if arguments.picture and name == "seen":
            if frames.shape[1] > 1:
                shown = twice_as_large(arguments.model, frames[:24], captions)
                picture(shown, arguments.picture.with_suffix(".gif"), columns=8, scale=1)
            write_strip(frames[:24, 0].reshape(3, 8, *frames.shape[2:]), arguments.picture.with_suffix(".png"))
    if arguments.motion:
        recipe = load_recipe(arguments.recipe or RECIPE.with_name(f"{arguments.model}.yaml"))
        figures["motion"] = motion_figures(recipe, pipeline, arguments.motion)
        print(json.dumps(figures["motion"]))
    output = arguments.output or ZOO / arguments.model / "figures.json"
    output.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
