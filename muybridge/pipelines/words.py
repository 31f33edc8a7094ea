"""The text encoder of a pipeline, opened at its first use, and what is merged into it and into the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from muybridge.errors import UserError
from muybridge.library.catalogue import find_model
from muybridge.models.text.encoder import TextConfig, TextEncoder, open_text_encoder, reads_with_clip
from muybridge.models.text.vocabulary import Vocabulary
from muybridge.nn.devices import FAST
from muybridge.nn.resting import weights_at_rest
from muybridge.nn.text_conditioning import TextCondition


class ReadsWords:
    """Embeds captions with the encoder that the config names; merges LoRAs.

    Attributes:
        network: what the pipeline samples with.
        config: `text_encoder`, `text_max_length`, and `lora`: what was merged before the model was tuned.
        loras: what was merged since it was opened, as a record holds it.
        inversions: words that its text encoder learned since then, likewise.
        vocabulary: the names that the network was trained on, where its folder says them.
    """

    network: Any
    config: Any
    allow_empty: bool
    #: whether captions longer than a CLIP text encoder reads at once are read in pieces: for networks that attend to
    #: any number of tokens
    reads_long_captions = False

    def __init__(self) -> None:
        super().__init__()
        self._encoder: TextEncoder | None = None
        self._embedded: dict[str, TextCondition] = {}
        self.loras: list[dict[str, Any]] = []
        self.inversions: list[dict[str, Any]] = []
        self.vocabulary: Vocabulary | None = None

    def use_lora(self, file: str | Path, scale: float = 1.0, text: bool = True) -> dict[str, Any]:
        """Merge a LoRA into the network, and its text half into the model's CLIP text encoder; what was merged is
        recorded with each video.

        Args:
            text: False leaves the text half out, as versions before this one did.

        Raises:
            UserError: a LoRA that cannot be read in full, or that does not fit.
        """
        from muybridge.models.weights.lora import apply_lora

        entry = apply_lora(self.network, Path(file), scale, self.clip_encoders if text else None)
        self.loras.append(entry)
        return entry

    def merge_again(self, entry: Mapping[str, Any]) -> None:
        """Merge what a record holds, as it was merged then.

        Raises:
            UserError: the file has changed since.
        """
        made = self.use_lora(str(entry["file"]), entry["scale"], text=bool(entry.get("text_layers")))
        if any(made.get(key) != entry.get(key) for key in ("sha256", "settings_sha256")):
            raise UserError(f"{entry['file']} has changed since this video was made with it")

    def clip_encoders(self) -> dict[str, nn.Module]:
        """The CLIP text encoders whose words the network is told, as LoRAs name them; none for a model without. What
        was embedded before is forgotten: their weights are about to change."""
        if not reads_with_clip(getattr(self.config, "text_encoder", None)):
            return {}
        self._embedded.clear()
        return self.encoder().clip_models()

    def use_inversion(self, file: str | Path, word: str = "") -> dict[str, Any]:
        """Take a textual inversion's word into the vocabulary; what was taken is recorded with each video.

        Args:
            word: that prompts name it by; by default what the file says, else its name.

        Raises:
            UserError: a file that cannot be read, or a model without a CLIP text encoder.
        """
        if not reads_with_clip(getattr(self.config, "text_encoder", None)):
            raise UserError(f"{file}: textual inversions are words of a CLIP text encoder, and this model has none")
        self._embedded.clear()
        entry = self.encoder().learn(Path(file), word)
        self.inversions.append(entry)
        return entry

    def encoder(self) -> TextEncoder:
        """The text encoder, opened once."""
        if self._encoder is None:
            merged = tuple(f"{e['file']}:{e['scale']!r}" for e in getattr(self.config, "lora", None) or ())
            config = TextConfig(self.config.text_encoder, self.config.text_max_length, merged)
            with weights_at_rest(getattr(self, "memory", FAST) != FAST):
                self._encoder = open_text_encoder(config)
        return self._encoder

    def know_names(self, folder: Path, picture: str = "") -> None:
        """Know the names that the network was trained on; temporal layers know what the picture model before them
        knows.

        Args:
            folder: the model's.
            picture: the picture model, where it is not the one that the folder names.
        """
        image = picture or str(getattr(self.config, "image", None) or "")
        self.vocabulary = Vocabulary.load(folder) or (Vocabulary.load(find_model(image)) if image else None)

    def _embed(self, prompts: Sequence[str | None]) -> TextCondition | None:
        if self.config.text_encoder is None or all(p is None for p in prompts):
            return None
        captions = [p for p in prompts if p is not None]
        if len(captions) != len(prompts):
            raise UserError("either every video of a call has a prompt or none has")
        # one caption at a time, so that a caption's embedding does not depend on its neighbours
        for caption in captions:
            if caption not in self._embedded:
                encoder = self.encoder()
                long = self.reads_long_captions and encoder.clip_pooling
                (encoder.tell_pieces if long else encoder.tell_what_is_left_out)(caption)
                self._embedded[caption] = encoder([caption], allow_empty=self.allow_empty, in_pieces=long)
                if self.vocabulary is not None and caption:
                    self.vocabulary.tell_what_is_unknown(caption, self._embedded[caption].pooled[0])
        return TextCondition.stack([self._embedded[c] for c in captions])


def check_negative(pipeline: Any, negative_prompt: str, has_words: bool = True) -> None:
    """Refuse a negative prompt where no branch of guidance would read it.

    Raises:
        UserError: a network that is told the scale of guidance, or one that draws without words.
    """
    if negative_prompt and not has_words:
        raise UserError(
            f"negative prompt {negative_prompt!r}: without a prompt this model is not guided; give a prompt too"
        )
    if negative_prompt and pipeline.takes_guidance:
        raise UserError(
            f"negative prompt {negative_prompt!r}: this network is told the guidance scale and draws once a step, so "
            "that nothing reads it; leave it out"
        )


class ToldLogSNR:
    """For pipelines whose network is one of ours: told log-SNR and captions, one of which it knows as no caption."""

    network: Any
    _embed: Any

    def predict(
        self, z: Tensor, lam: Tensor, condition: TextCondition | None, guidance: Tensor | None = None
    ) -> Tensor:
        output: Tensor = self.network(z, lam.float(), text=condition, guidance=guidance)
        return output

    def null(self, condition: TextCondition | None, negative_prompt: str = "") -> TextCondition | None:
        check_negative(self, negative_prompt, condition is not None)
        if negative_prompt and condition is not None:
            negative = self._embed([negative_prompt])
            assert negative is not None
            return TextCondition.stack([negative] * len(condition.pooled))
        return None if condition is None else condition.null()
