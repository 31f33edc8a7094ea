"""How the frames that were made are enlarged when they are written: by a network that belongs to the model, or by
repeated pixels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muybridge.errors import UserError
from muybridge.files import ZOO, read_mapping
from muybridge.library.catalogue import find_part, model_hash
from muybridge.library.index import CONFIG, settings_of
from muybridge.making.record import BY_NETWORK, MODEL, REPEAT
from muybridge.making.used import FOLDER, whole_name
from muybridge.nn.devices import AUTO, device_named

if TYPE_CHECKING:
    import numpy as np


def belonging_to(model: str) -> str:
    """The bundled upscaler that was made for a model; "" where there is none.

    The upscaler says so, in its `made_for`: a line in the model's own folder would change its hash, and with it the
    videos that can be replayed.
    """
    for path in sorted(ZOO.glob(f"*/{CONFIG}")):
        kind, folder = read_mapping(path).get("_class_name"), path.parent
        if kind == "VideoUpscaler" and model in settings_of(folder).get("made_for", ()):
            return folder.name
    return ""


@dataclass(frozen=True)
class Upscaling:
    """What enlarges the frames.

    Attributes:
        factor: how many times as high and as wide; 1 leaves them as they are.
        network: the name or folder of an upscaler; "" repeats pixels.
    """

    factor: int = 1
    network: str = ""

    @classmethod
    def chosen(cls, factor: int, method: str, network: str, model: str) -> Upscaling:
        """What the options of a command ask for.

        Args:
            method: "model", "repeat", or "": "model" where the factor is 4 and a bundled upscaler was made for the
                model, else "repeat".
            network: an upscaler in place of the one that was made for the model; "" for none.
            model: what the frames are made with.

        Raises:
            UserError: options that do not fit each other, or an upscaler that is not there.
        """
        if network and method == REPEAT:
            raise UserError("--upscaler: not read here, --upscale-method repeat repeats pixels")
        if factor == 1 and (method or network):
            option = "--upscaler" if network else "--upscale-method"
            raise UserError(f"{option}: not read here, nothing is enlarged; add --upscale {BY_NETWORK}")
        if factor != BY_NETWORK and (network or method == MODEL):
            raise UserError(f"--upscale {factor}: a network enlarges {BY_NETWORK} times; --upscale-method repeat any")
        if not network and method != REPEAT and factor == BY_NETWORK:
            network = belonging_to(model)
            if not network and method == MODEL:
                raise UserError(
                    f"--upscale-method model: no bundled upscaler was made for {model}; name one with --upscaler, or "
                    "leave it at repeat"
                )
        made = cls(factor, whole_name(network))
        if network:
            check_upscaler(made.folder)
        return made

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Upscaling:
        """What a record holds; repeated pixels where it says no method, as those did that were written before there
        was one."""
        return cls(record.get("upscale", 1), record.get("upscaler", ""))

    @property
    def folder(self) -> Path:
        """Where the network lies.

        Raises:
            UserError: it is not there.
        """
        return find_part(self.network)

    def told(self) -> str:
        """How the frames are enlarged, in words; "" where they are not."""
        if self.factor == 1:
            return ""
        return f"enlarged {self.factor} times by {self.network or 'repeated pixels'}"

    def recorded(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """A record with what enlarges the frames: the network by its hash, among the files that a replay looks at
        again."""
        if not self.network:
            return {**record, "upscale": self.factor}
        files = {**record.get("files", {}), self.network: {"kind": FOLDER, "hash": model_hash(self.folder)}}
        method = {"upscale": self.factor, "upscale_method": MODEL, "upscaler": self.network}
        return {**record, **method, "files": files}

    def enlarged(self, frames: np.ndarray, words: str, device: str = AUTO, pipeline: Any = None) -> Enlarged:
        """The frames as they are written, computed as they are read.

        Args:
            frames: uint8 [F, H, W, 3].
            words: the caption, "" for none.
            device: where the network runs.
            pipeline: its text encoder is taken where it is the one that the network was trained with.
        """
        return Enlarged(frames, self, words, device, pipeline)

    @cached_property
    def opened(self) -> Any:
        """The network, opened once."""
        from muybridge.models.vision.upscaler import open_upscaler

        return open_upscaler(self.folder)


@dataclass(frozen=True)
class Enlarged:
    """Frames that are enlarged while they are read, one chunk after another; the fields are `Upscaling.enlarged`'s."""

    frames: np.ndarray
    upscaling: Upscaling
    words: str = ""
    device: str = AUTO
    pipeline: Any = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """[F, H, W, 3] of what is read."""
        count, height, width, channels = self.frames.shape
        return count, height * self.upscaling.factor, width * self.upscaling.factor, channels

    @property
    def dtype(self) -> Any:
        return self.frames.dtype

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[np.ndarray]:
        """One frame after another, uint8 [H, W, 3]."""
        from muybridge.nn.frames import enlarge

        if not self.upscaling.network:
            yield from (enlarge(self.frames[i : i + 1], self.upscaling.factor)[0] for i in range(len(self)))
            return
        from muybridge.models.vision.upscaler import upscaled_chunks

        network = self.upscaling.opened.to(device_named(self.device))
        for chunk in upscaled_chunks(network, self.frames, self._caption()):
            yield from chunk

    def whole(self) -> np.ndarray:
        """All of them, uint8 [F, H, W, 3]."""
        import numpy as np

        return np.stack(list(self))

    def _caption(self) -> Any:
        """The caption's pooled embedding [1, E], by the encoder that the network was trained with; None for none."""
        settings = settings_of(self.upscaling.folder)
        if not self.words or not settings.get("text_encoder"):
            return None
        from muybridge.models.text.encoder import TextConfig, open_text_encoder

        wanted, own = TextConfig(settings["text_encoder"], settings["text_max_length"]), self.pipeline
        read = {name: getattr(getattr(own, "config", None), name, None) for name in ("text_encoder", "text_max_length")}
        same = read == {"text_encoder": wanted.encoder, "text_max_length": wanted.max_length}
        encoder = own.encoder() if same else open_text_encoder(wanted)
        return encoder([self.words]).pooled


def check_upscaler(folder: Path) -> None:
    """Refuse what is no whole upscaler, from its names and shapes alone.

    Raises:
        UserError: another network's folder, or weights that are missing or damaged.
    """
    from muybridge.models.weights.found import shapes_of, weight_files

    kind = read_mapping(folder / CONFIG).get("_class_name")
    if kind != "VideoUpscaler":
        raise UserError(f"{folder}: a {kind}, no upscaler of muybridge (VideoUpscaler)")
    for file in weight_files(folder):
        shapes_of(file)


def words_of(record: Mapping[str, Any]) -> str:
    """What the frames of a record show, in its own words; "" where it was told a picture, or nothing."""
    options = record.get("options", {})
    content = options.get("content")
    return str(options.get("prompt") or (content if content and content not in record.get("files", {}) else "") or "")
