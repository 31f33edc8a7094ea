"""What is scored: functions from a source's record and its small pictures to the same record with more columns.

A model behind an interface (image-text similarity, aesthetics, captions, text detection) is one more scorer; a failed
one leaves its own columns empty, with a line in the clip's problems.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np
from PIL import Image

from muybridge.curation.motion import measure_motion
from muybridge.curation.scores import colourfulness, exposure, fingerprint, sharpness, text_area
from muybridge.curation.settings import ScoreSettings
from muybridge.data.captions import Report, caption_beside
from muybridge.errors import UserError

T = TypeVar("T")
#: How often each kind of caption stands for its clip (2311.15127: CoCa, VideoBLIP, the merged one); others count as the
#: first.
SHARES = {"picture": 0.5, "clip": 0.25, "merged": 0.25}


class Captioner(Protocol):
    """Describes a clip from the pictures that were looked at, two a second."""

    name: str

    def caption(self, pictures: Sequence[np.ndarray], path: str) -> str:
        """A sentence, "" if it has none. pictures uint8 [h, w, 3]."""
        ...


class Scoring:
    """The scoring stage with its models loaded.

    Args:
        settings: which scores.
        captioners: further ones, beside what the settings say; each of their captions may be drawn in training.
        threads: clips scored at once.
    """

    def __init__(self, settings: ScoreSettings, captioners: Sequence[Captioner] = (), threads: int = 1):
        self.settings = settings
        self.captioners, self.threads = list(captioners), threads
        self.pictures = None
        if settings.scorer:
            from muybridge.curation.models import EmbeddingScores

            self.pictures = EmbeddingScores(settings.scorer, settings.aesthetic_head)
            if settings.captions == "retrieval":
                from muybridge.curation.captioners import RetrievalCaptioner

                self.captioners += [
                    RetrievalCaptioner(self.pictures.scorer, settings.vocabulary, name) for name in ("picture", "clip")
                ]
        if settings.picture_captioner or settings.clip_captioner:
            from muybridge.curation.captioners import ClipCaptioner, PictureCaptioner

            if settings.picture_captioner:
                self.captioners.append(PictureCaptioner(settings.picture_captioner))
            if settings.clip_captioner:
                self.captioners.append(ClipCaptioner(settings.clip_captioner))
        self.merger = None
        if settings.merger:
            from muybridge.curation.captioners import Merger

            self.merger = Merger(settings.merger)
        if settings.captions == "sidecar":
            self.captioners.append(Sidecar())

    @property
    def models(self) -> bool:
        """Whether anything but picture measures runs; models are called by one thread."""
        return bool(
            self.pictures or self.merger or self.settings.text or any(c.name != "sidecar" for c in self.captioners)
        )

    def __call__(self, record: dict[str, Any], jpegs: list[bytes]) -> dict[str, Any]:
        """Score every clip of a source that is long enough to be one."""
        looked = np.asarray(record["probe"]["looked"])

        def score(clip: dict[str, Any]) -> None:
            inside = np.flatnonzero((looked >= clip["start"] - 1e-6) & (looked < clip["end"] - 1e-6))
            pictures = [np.asarray(Image.open(io.BytesIO(jpegs[i])).convert("RGB")) for i in inside]
            clip["stages"]["score"] = self.settings.version()
            if not clip["keep"]:
                return
            if not pictures:
                clip["problems"].append({"stage": "score", "kind": "unseen", "message": "no picture falls into it"})
                return
            self._score(clip, pictures, looked[inside].tolist())

        if self.models:
            for clip in record["clips"]:
                score(clip)
        else:  # OpenCV works outside Python's lock
            with ThreadPoolExecutor(self.threads) as pool:
                list(pool.map(score, record["clips"]))
        record["stages"]["score"] = self.settings.version()
        return record

    def _score(self, clip: dict[str, Any], pictures: list[np.ndarray], seconds: list[float]) -> None:
        chosen = [pictures[0], pictures[len(pictures) // 2], pictures[-1]]
        scores: dict[str, float | None] = {}
        motion = self._attempt(clip, "motion", partial(measure_motion, pictures, seconds, self.settings.flow))
        if motion is not None:
            scores |= {k: round(v, 6) for k, v in asdict(motion).items()}
            clip["motion_kind"] = motion.kind
        elif len(pictures) < 2:
            told = "fewer than two looked-at pictures"
            clip["problems"].append({"stage": "motion", "kind": "too short", "message": told})
        measures: dict[str, Any] = {"sharpness": sharpness, "colourfulness": colourfulness, "exposure": exposure}
        for name, measure in measures.items():
            values = self._attempt(clip, name, partial(_each, measure, chosen))
            if values is not None:
                scores[name] = round(min(values), 4)  # one bad end spoils a clip
        if self.settings.text:
            values = self._attempt(clip, "text", partial(_each, text_area, chosen))
            if values is not None:
                scores["text"] = round(max(values), 5)
        clip["fingerprint"] = self._attempt(clip, "fingerprint", partial(_each, fingerprint, chosen)) or []
        clip["scores"] = scores
        self._describe(clip, pictures, chosen)

    def _describe(self, clip: dict[str, Any], pictures: list[np.ndarray], chosen: list[np.ndarray]) -> None:
        for captioner in self.captioners:
            self._add_caption(clip, captioner.name, partial(captioner.caption, pictures, clip["path"]))
        told = {c["name"]: c["text"] for c in clip["captions"]}
        if self.merger is not None and "picture" in told and "clip" in told:
            self._add_caption(clip, self.merger.name, partial(self.merger.merge, told["picture"], told["clip"]))
        if clip["captions"]:
            weights = [SHARES.get(c["name"], SHARES["picture"]) for c in clip["captions"]]
            for caption, weight in zip(clip["captions"], weights, strict=True):
                caption["share"] = round(weight / sum(weights), 4)
        if self.pictures is not None:
            self._attempt(clip, "embedding", partial(self.pictures.add, clip, chosen))

    def _add_caption(self, clip: dict[str, Any], name: str, make: Callable[[], str]) -> None:
        text = self._attempt(clip, "caption", make, name)
        if text:
            clip["captions"].append({"name": name, "text": text})

    @staticmethod
    def _attempt(clip: dict[str, Any], stage: str, make: Callable[[], T], name: str = "") -> T | None:
        """What a measure gives; one that fails costs its own column alone, with a line in the clip's problems.

        Raises:
            UserError: what would fail for every clip, such as a missing package.
        """
        try:
            return make()
        except UserError:
            raise
        except Exception as error:
            told = f"{name}: " * bool(name) + f"{type(error).__name__}: {error}"
            clip["problems"].append({"stage": stage, "kind": "failed", "message": told})
            return None


def _each(measure: Callable[[np.ndarray], T], pictures: Sequence[np.ndarray]) -> list[T]:
    return [measure(p) for p in pictures]


class Sidecar:
    """The caption beside the footage (`data.captions.caption_beside`)."""

    name = "sidecar"

    def __init__(self) -> None:
        self.root: Any = None

    def caption(self, pictures: Sequence[np.ndarray], path: str) -> str:
        if self.root is None:
            return ""
        report: Report = []
        words = caption_beside(self.root / path, report, path)
        if report:
            raise ValueError(report[0]["reason"])
        return " ".join(words.split())
