"""What is measured of each video while its frames are at hand, and what a model's videos come to together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from muybridge.errors import UserError
from muybridge.evaluation.consistency import consistency_of, warped_difference
from muybridge.evaluation.frechet import clip_features, frechet_distance
from muybridge.evaluation.motion import mean_frame_difference, order_ratio
from muybridge.files import read_mapping

#: Clips of a reference that are looked at, at most; half of them are held against the other half.
REFERENCES = 200
#: Fewer videos have no distance worth a number.
FEWEST = 8


class Measurer:
    """Networks that measure: features of pictures, and a scorer.

    Args:
        scorer: a bundled one or a folder; "" for none.
    """

    def __init__(self, scorer: str):
        from muybridge.library.catalogue import find_part
        from muybridge.models.text.scorers import open_scorer
        from muybridge.models.vision.picture_features import PictureFeatures

        self.network = PictureFeatures()
        self.scorer = open_scorer(find_part(scorer)) if scorer else None

    def measured(self, frames: np.ndarray, fps: float) -> dict[str, Any]:
        """Of one video, uint8 [F, H, W, 3]: size, motion (mean frame difference, grey levels), flicker (the same along
        the flow), order (`order_ratio`), its features, and its embedding."""
        row: dict[str, Any] = {"size": list(frames.shape[:3]), "fps": fps}
        if len(frames) > 1:
            features = clip_features(self.network, [frames])
            row |= {
                "motion": mean_frame_difference(frames), "flicker": warped_difference(frames),
                "order": order_ratio(frames), "features": {
                    "motion": features.motion[0].tolist(), "appearance": features.appearance[0].tolist(),
                },
            }  # fmt: skip
        if self.scorer is not None:
            from muybridge.nn.frames import from_uint8

            rows = self.scorer.embed_pictures(from_uint8(frames).transpose(0, 1))
            row["embedding"] = rows.mean(0).tolist()
            row["consistency"] = consistency_of(rows)
        return row


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """What was measured of each video of a model's folder, in order."""
    return [read_mapping(path) for path in sorted(folder.glob("[0-9]*.json"))]


def summary(rows: Sequence[Mapping[str, Any]], words: np.ndarray | None, reference: Any) -> dict[str, Any]:
    """A model's figures: medians over its videos, its peak, and how it stands to words and to real clips.

    Args:
        words: unit rows of the captions in the scorer's space [N, D], one a video; None without a scorer.
        reference: ClipFeatures of real clips; None without.
    """

    def median(name: str) -> float | None:
        found = [row[name] for row in rows if name in row]
        return float(np.median(found)) if found else None

    figures: dict[str, Any] = {"way": rows[0]["way"], "videos": len(rows), "size": rows[0]["size"]}
    figures |= {name: median(name) for name in ("seconds", "evaluations", "motion", "flicker", "order", "consistency")}
    figures["peak"] = max((row["peak"] for row in rows if "peak" in row), default=None)
    if words is not None:
        figures["words"] = share_first(np.array([row["embedding"] for row in rows]), words)
    moving = [row["features"] for row in rows if "features" in row]
    if reference is not None and len(moving) >= FEWEST:
        for name in ("motion", "appearance"):
            own = np.array([features[name] for features in moving])
            figures[f"{name} distance"] = frechet_distance(getattr(reference, name), own)
    return figures


def share_first(videos: np.ndarray, words: np.ndarray) -> float:
    """The share of videos that are nearest to their own caption; the same caption twice is one."""
    scores = videos @ words.T
    own = np.take_along_axis(scores, np.arange(len(videos))[:, None], 1)[:, 0]
    return float(np.mean(own >= scores.max(1) - 1e-6))


def data_of(place: str) -> dict[str, Any]:
    """The `data` section of real clips: of a recipe, or a folder's.

    Raises:
        UserError: neither.
    """
    from muybridge.documents import read_yaml

    path = Path(place).expanduser()
    try:
        data = {"source": "folder", "path": str(path)} if path.is_dir() else read_yaml(path).get("data")
    except UserError as error:
        raise UserError(f"--reference: expected a folder of videos, or a recipe with data; {error}") from None
    if not isinstance(data, dict):
        raise UserError(f"--reference {place}: expected a folder of videos, or a recipe with data")
    return data


def reference_of(place: str, size: Sequence[int]) -> tuple[Any, dict[str, float]]:
    """Features of real clips, and how far their two halves are from each other.

    Args:
        place: a folder of videos, or a recipe whose data are meant.
        size: frames, height and width that videos of a folder are read at.

    Raises:
        UserError: no data there, or too few clips.
    """
    import random

    from muybridge.data.registry import make_source
    from muybridge.evaluation.frechet import ClipFeatures
    from muybridge.models.vision.picture_features import PictureFeatures

    read_as = dict(zip(("num_frames", "height", "width"), size, strict=True))
    source = make_source(data_of(place) | (read_as if Path(place).expanduser().is_dir() else {}))
    order = random.Random(1).sample(range(len(source)), min(REFERENCES, len(source)))
    clips = [frames for frames in (source.clip(i).frames for i in order) if len(frames) > 1]
    if len(clips) < 2 * FEWEST:
        raise UserError(f"--reference {place}: {len(clips)} clips of several frames; at least {2 * FEWEST} are wanted")
    found = clip_features(PictureFeatures(), clips)
    half = len(clips) // 2
    first, second = (ClipFeatures(found.appearance[s], found.motion[s]) for s in (slice(half), slice(half, None)))
    floor = {f"{n} distance": frechet_distance(getattr(first, n), getattr(second, n)) for n in ("motion", "appearance")}
    return found, {**floor, "motion": float(np.median([mean_frame_difference(c) for c in clips]))}
