"""The names that a model was trained on: a prompt of which no word stands among them is told, with the nearest of them.

A file `vocabulary.safetensors` in the model's folder: the names' embeddings, half precision [N, E], and the names in
its metadata.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from muybridge.errors import Notice, UserError
from muybridge.files import whole_file
from muybridge.models.weights.packaged import VOCABULARY

#: Names at most; the shortest are kept.
MOST_NAMES = 4096
#: How many of the nearest are named.
NAMED = 5
#: Words that say nothing of what is shown.
FUNCTION_WORDS = frozenset(
    ["a", "an", "the", "this", "that", "these", "those", "and", "or", "but", "of", "in", "on", "at", "to",
     "from", "with", "without", "by", "for", "as", "is", "are", "be", "it", "its", "his", "her", "their", "my",
     "your", "our", "no", "not", "into", "onto", "over", "under", "up", "down", "out", "off", "there", "here",
     "some", "any", "all", "one"]
)  # fmt: skip


def words_of(text: str) -> set[str]:
    """The words of a text that say what is shown, in small letters, in the singular as far as an s makes the plural."""
    found = {w for w in re.findall(r"[^\W\d_]+", text.lower()) if len(w) > 1 and w not in FUNCTION_WORDS}
    return {w[:-1] if len(w) > 3 and w.endswith("s") and not w.endswith("ss") else w for w in found}


@dataclass(frozen=True)
class Vocabulary:
    """Names and their embeddings.

    Attributes:
        names: as captions say them.
        pooled: their pooled embeddings, unit length, [N, E].
    """

    names: tuple[str, ...]
    pooled: Tensor

    @cached_property
    def words(self) -> frozenset[str]:
        return frozenset().union(*(words_of(name) for name in self.names))

    def knows(self, prompt: str) -> bool:
        """Whether a word of the prompt stands in a name."""
        return bool(words_of(prompt) & self.words)

    def nearest(self, pooled: Tensor) -> list[str]:
        """The names whose embeddings are nearest to a prompt's, [E], by their cosine."""
        places = (self.pooled.float() @ pooled.float()).argsort(descending=True)
        return [self.names[i] for i in places[:NAMED].tolist()]

    def tell_what_is_unknown(self, prompt: str, pooled: Tensor) -> None:
        """A `Notice` where no word of a prompt stands in a name."""
        if not self.knows(prompt):
            near = ", ".join(repr(name) for name in self.nearest(pooled))
            warnings.warn(
                f"no word of the prompt {prompt[:60]!r} stands in the captions that this model was trained on; the "
                f"nearest that it knows: {near}",
                Notice,
                stacklevel=3,
            )

    def save(self, folder: Path) -> None:
        """Write the file into a model's folder."""
        with whole_file(folder / VOCABULARY) as unfinished:
            save_file({"pooled": self.pooled.half()}, unfinished, {"names": json.dumps(self.names)})

    @classmethod
    def load(cls, folder: Path) -> Vocabulary | None:
        """That of a model's folder; None where it has none.

        Raises:
            UserError: the file is damaged.
        """
        path = folder / VOCABULARY
        if not path.is_file():
            return None
        try:
            with safe_open(str(path), "pt") as file:
                names, pooled = tuple(map(str, json.loads(file.metadata()["names"]))), file.get_tensor("pooled")
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path}: not a vocabulary ({error}); remove it, or export the model again") from error
        if pooled.ndim != 2 or len(names) != len(pooled):
            raise UserError(f"{path}: {len(names)} names for embeddings of shape {list(pooled.shape)}; remove it")
        return cls(names, pooled)


def chosen(names: Sequence[str]) -> list[str]:
    """Names to keep: each once, the shortest `MOST_NAMES`, in alphabetical order."""
    return sorted(sorted(set(names), key=lambda n: (len(n), n))[:MOST_NAMES])
