"""Prompts written out before a model reads them, in the wording of the captions that it was trained on.

Sora's report turns short prompts into long captions by a language model, since its captions are long. The captions of
the models here are plain and short, so the rules that need no model make a prompt plainer: they take away what captions
never say and put words into the form that captions have.
"""

from __future__ import annotations

import re
from functools import lru_cache

from muybridge.models.text.language_model import LanguageModel
from muybridge.models.text.names import RULES

ASK = (
    "Rewrite this request for a video as one plain sentence that says what is seen and how it moves.\n"
    "Request: {prompt}\nSentence: "
)
#: (pattern, what takes its place), in this order; all on lower-case words.
CHANGES = (
    (r"^(please )?(show|draw|make|create|generate|give)( me)? ", ""),
    (r"\b(beautiful|stunning|amazing|high quality|hd|4k|8k|cinematic|masterpiece)\b,? ?", ""),
    (r"^(a|an|the) (short )?(video|clip|movie|animation|film|picture|image) (of|showing|with) ", ""),
    (r"\b(that|which) (moves|goes|travels|flies|slides) ", "moving "),
    (r"\b(moving|moves|going|goes|travels|travelling|flying|sliding) (to the )?(left|right|up|down)\b", r"moving \3"),
    (r"\b(going|moving) (upwards?|upward)\b", "moving up"),
    (r"\b(going|moving) (downwards?|downward)\b", "moving down"),
    (r"\b(rotating|turning around|that spins|which spins|spins)\b", "spinning"),
    (r"\b(that grows|which grows|grows|getting bigger|getting larger)\b", "growing"),
    (r"\b(that bounces|which bounces|bounces|jumping up and down)\b", "bouncing"),
    (r"\b(not moving|without moving|stationary|motionless)\b", "standing still"),
    (r"[.!?]+$", ""),
    (r"\s+", " "),
)  # fmt: skip
#: Words before which "an" stands.
VOWELS = "aeiou"


def by_rules(prompt: str) -> str:
    """A prompt in the plain wording of captions: "Show me a video of Red Circle going to the left!" is "a red circle
    moving left". Prompts in that wording already come back as they are."""
    words = prompt.strip().lower()
    for pattern, change in CHANGES:
        words = re.sub(pattern, change, words).strip(" ,")
    if not words:
        return prompt
    if re.match(r"(a|an|the|two|three|four|several|some|no) ", words) or "," in words or " " not in words:
        return words
    return f"{'an' if words[0] in VOWELS else 'a'} {words}"


def expanded(prompt: str, how: str) -> str:
    """A prompt as the model reads it.

    Args:
        how: "" leaves it, "rules", or the folder of a language model of transformers.

    Raises:
        UserError: no language model there. What it writes is taken as it is; nothing written leaves the prompt.
    """
    if not how:
        return prompt
    return by_rules(prompt) if how == RULES else _model(how)(ASK.format(prompt=prompt)) or prompt


@lru_cache(maxsize=1)
def _model(folder: str) -> LanguageModel:
    """Opened once for many prompts."""
    return LanguageModel(folder)
