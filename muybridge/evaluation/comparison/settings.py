"""What a comparison is told; light enough for the command line."""

from __future__ import annotations

from dataclasses import dataclass

from muybridge.configuration import Settings, setting


@dataclass(frozen=True, kw_only=True)
class Comparison(Settings):
    """What is compared, and by what."""

    seed: int = setting(0, "video i of every model has SEED + i")
    steps: int = setting(0, "sampling steps in place of each model's own; 0 keeps those", low=0, high=1000)
    picture_model: str = setting("emoji-image", "draws the first frame for models that are told a picture and no words")
    scorer: str = setting(
        "", "an image-text scorer, emoji-clip or a CLIP folder: how often a video is nearest to its own caption"
    )
    reference: str = setting(
        "", "real clips to compare motion and appearance with: a folder of videos, or a recipe whose data are meant"
    )
