"""Captions of clips by models: of a picture, of the whole clip, and both merged by a language model, as in Stable Video
Diffusion.

Every model comes from a folder of transformers (safetensors; nothing is fetched). Decoding is greedy, so that a clip
has the same caption in every run. Source: 2311.15127 appendix C (CoCa on the middle frame, VideoBLIP, a language model
over both, drawn 2 : 1 : 1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from muybridge.errors import UserError
from muybridge.models.text.language_model import MAX_TOKENS, LanguageModel
from muybridge.models.text.scorers import ImageTextScorer
from muybridge.models.weights.opening import open_encoder
from muybridge.nn.frames import from_uint8
from muybridge.texts import lines_of, read_text

#: Pictures of a clip that a clip captioner is shown, if its model does not say.
SHOWN = 6
ASK = "Describe in one sentence what happens in these frames of a video."
MERGE = (
    "Merge these two descriptions of one video into one sentence.\nA picture of it: {picture}\nThe video: "
    "{clip}\nMerged: "
)
#: The merger that needs no model: both descriptions side by side.
JOIN = "join"


class _FromFolder:
    """A model of transformers that turns pictures into words."""

    def __init__(self, folder: str):
        from transformers import AutoModelForImageTextToText, AutoProcessor

        path = _existing(folder)
        try:
            self.model: Any = open_encoder(AutoModelForImageTextToText, path)
            self.processor: Any = AutoProcessor.from_pretrained(str(path), local_files_only=True)
        except (OSError, ValueError) as error:
            raise UserError(f"{folder}: not a captioning model of transformers: {error}") from error

    @torch.no_grad()
    def _words(self, inputs: Mapping[str, Any]) -> str:
        made = self.model.generate(**inputs, max_new_tokens=MAX_TOKENS, do_sample=False)
        asked = inputs.get("input_ids")
        if asked is not None and torch.equal(made[:, : asked.shape[1]], asked):
            made = made[:, asked.shape[1] :]
        return " ".join(self.processor.batch_decode(made, skip_special_tokens=True)[0].split())

    def _ask(self, pictures: list[Image.Image]) -> str:
        """A model that holds conversations is asked."""
        content: list[dict[str, Any]] = [{"type": "image", "image": p} for p in pictures]
        inputs = self.processor.apply_chat_template(
            [{"role": "user", "content": [*content, {"type": "text", "text": ASK}]}],
            add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
        )  # fmt: skip
        return self._words(inputs)

    @property
    def talks(self) -> bool:
        return getattr(self.processor, "chat_template", None) is not None


class PictureCaptioner(_FromFolder):
    """Describes the middle picture: BLIP, BLIP-2, GIT, or a model that is asked (LLaVA and its like)."""

    name = "picture"

    def caption(self, pictures: Sequence[np.ndarray], path: str) -> str:
        middle = Image.fromarray(pictures[len(pictures) // 2])
        if self.talks:
            return self._ask([middle])
        return self._words(self.processor(images=middle, return_tensors="pt"))


class ClipCaptioner(_FromFolder):
    """Describes the whole clip from evenly spaced pictures: a GIT trained on video, or a model that is asked.

    Raises:
        UserError: a model that takes one picture.
    """

    name = "clip"

    def __init__(self, folder: str):
        super().__init__(folder)
        self.count = int(getattr(self.model.config, "num_image_with_embedding", None) or 0)
        if not self.count and not self.talks:
            raise UserError(
                f"{folder}: describes one picture; give it as picture captioner, or one trained on video here"
            )

    def caption(self, pictures: Sequence[np.ndarray], path: str) -> str:
        places = np.linspace(0, len(pictures) - 1, self.count or SHOWN).round().astype(int)
        if not self.count:
            places = np.unique(places)
        shown = [Image.fromarray(pictures[i]) for i in places]
        if not self.count:
            return self._ask(shown)
        inputs = dict(self.processor(images=shown, return_tensors="pt"))
        inputs["pixel_values"] = inputs["pixel_values"][None]
        return self._words(inputs)


class RetrievalCaptioner:
    """The nearest of known captions, by the scorer's embedding of the middle picture ("picture") or of all of them
    ("clip").

    Args:
        vocabulary: a text file, one caption a line.
    """

    def __init__(self, scorer: ImageTextScorer, vocabulary: str, name: str = "picture"):
        self.name = name
        lines = [line.strip() for line in lines_of(read_text(_existing(vocabulary)))]
        self.captions = [line for line in lines if line]
        if not self.captions:
            raise UserError(f"{vocabulary}: no caption in it; write one a line")
        self.scorer, self.table = scorer, scorer.embed_texts(self.captions)

    def caption(self, pictures: Sequence[np.ndarray], path: str) -> str:
        shown = pictures if self.name == "clip" else [pictures[len(pictures) // 2]]
        rows = self.scorer.embed_pictures(from_uint8(np.stack(shown)).transpose(0, 1))
        return self.captions[int((rows.mean(0) @ self.table.T).argmax())]


class Merger:
    """Two descriptions as one: a language model of transformers from a folder, or "join", which sets them side by
    side."""

    name = "merged"

    def __init__(self, folder: str = JOIN):
        self.model = None if folder == JOIN else LanguageModel(folder)

    def merge(self, picture: str, clip: str) -> str:
        """One sentence; what two equal descriptions say is said once."""
        if self.model is None or picture == clip:
            return picture if picture == clip else f"{picture}; {clip}"
        return self.model(MERGE.format(picture=picture, clip=clip))


def _existing(path: str) -> Path:
    if not Path(path).exists():
        raise UserError(
            f"{path}: nothing there; models for captions are folders on this machine, vocabularies text files"
        )
    return Path(path)
