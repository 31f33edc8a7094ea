"""Temporal layers behind another picture model: `python -m benchmarks.swap runs/emoji-openmoji/model`.

emoji-video's temporal layers, trained behind emoji-image, behind a picture model tuned on a held-out style
(recipes/emoji-openmoji.yaml). For captions with an animation: which style's still of that caption each frame is nearest
to, and whether the videos move as the data does, with the layers' own picture model and with the other.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.world_vdm import picture
from muybridge.data.emoji import EmojiConfig, EmojiSource
from muybridge.evaluation.motion import mean_frame_difference
from muybridge.models.vision.picture_features import PictureFeatures
from muybridge.nn.frames import from_uint8
from muybridge.opening.sampling import load_pipeline

RESULTS = Path(__file__).with_name("swap.json")
STYLE = "openmoji"
STYLES = ("fluent", "noto", "twemoji", "flat", STYLE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("picture_model")
    parser.add_argument("--count", type=int, default=32)
    parser.add_argument("--gif", type=Path, default=None)
    arguments = parser.parse_args()
    stills = {s: EmojiSource(EmojiConfig("stills", 1, styles=(s,))) for s in STYLES}
    places = {s: {e.caption: i for i, e in enumerate(source.entries)} for s, source in stills.items()}
    loops = EmojiSource(EmojiConfig("animations", 16))
    both = sorted({e.caption for e in loops.entries}.intersection(*places.values()))
    captions = random.Random(0).sample(both, min(arguments.count, len(both)))
    real = [mean_frame_difference(loops.clip(i).frames) for i in range(len(loops))]
    low, high = np.percentile(real, [5, 95])
    network = PictureFeatures()

    def features(frames: np.ndarray) -> torch.Tensor:
        return torch.nn.functional.normalize(network(from_uint8(frames).transpose(0, 1)), dim=1)

    results: dict[str, Any] = {"captions": len(captions), "data's 5th and 95th": [float(low), float(high)]}
    for name, model, words in (
        ("own picture model, fluent words", "", "fluent"),
        ("own picture model, words of the other style", "", STYLE),
        ("tuned picture model", arguments.picture_model, STYLE),
    ):
        pipeline: Any = load_pipeline("emoji-video", picture=model)
        videos = pipeline([f"{c}, {words} style" for c in captions], seed=0, batch_size=8).frames
        nearest: list[str] = []
        for caption, video in zip(captions, videos, strict=True):
            table = torch.cat([features(stills[s].clip(places[s][caption]).frames) for s in STYLES])
            nearest += [STYLES[i] for i in (features(video) @ table.T).argmax(1).tolist()]
        changes = [mean_frame_difference(v) for v in videos]
        results[name] = {
            "frames nearest to": {s: nearest.count(s) / len(nearest) for s in STYLES},
            "frame difference, median": float(np.median(changes)),
            "within the data's range": float(np.mean([low <= c <= high for c in changes])),
        }
        print(name, json.dumps(results[name]), flush=True)
        if model and arguments.gif:
            picture(videos[:16], arguments.gif, columns=8, scale=2)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
