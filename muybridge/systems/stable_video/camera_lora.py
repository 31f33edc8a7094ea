"""Camera LoRAs of Stable Video Diffusion: a motion of the camera, learned by low-rank adapters alone (2311.15127
appendix D)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from safetensors.torch import save_file
from torch import nn

from muybridge.configuration import Settings, from_mapping, setting
from muybridge.errors import UserError
from muybridge.files import write_json
from muybridge.learning.picture_models import ToldByPictureSection
from muybridge.library.catalogue import LORA, find_model
from muybridge.library.index import CONFIG, settings_of
from muybridge.models.inflated_unet import InflatedUNet
from muybridge.models.weights.for_diffusers import stable_video_layers
from muybridge.models.weights.opening import open_network
from muybridge.models.weights.stable_video import load_stable_video_unet
from muybridge.nn.low_rank import add_adapters, is_adapter
from muybridge.systems.stable_video.published import published_folder
from muybridge.systems.stable_video.training import StableVideo


def in_temporal_attention(name: str) -> bool:
    """Queries, keys, values and output of the attention over frames."""
    return name.startswith("temporal.attentions.") and ".attn1.to_" in name


#: Which layers a camera LoRA adapts.
ADAPTED: dict[str, Callable[[str], bool]] = {"temporal_attention": in_temporal_attention, "all": lambda name: True}


@dataclass(frozen=True)
class CameraLoRASection(Settings):
    """A recipe's `model` section."""

    where: ClassVar[str] = "model"

    base: str = setting(
        ..., "the image-to-video model that learns a camera motion: emoji-animate, a folder that `train` wrote, or a "
        "user's Stable Video Diffusion folder"
    )  # fmt: skip
    rank: int = setting(16, "of the adapters", low=1, high=1024)
    layers: str = setting("temporal_attention", "which layers are adapted", choices=tuple(ADAPTED))


class CameraLoRA(StableVideo):
    """The system of its camera LoRAs: a motion of the camera taught by low-rank adapters in the temporal attention, all
    else frozen.

    Source: 2311.15127 appendix D (rank 16; subsets of clips with horizontal motion, zoom, and none). Differs from the
    paper: the clips get their motion from a virtual camera (data.camera) in place of a curated set.

    Attention over frames stays at its place, so adapters there (the paper's) can only call up motions that the base has
    seen.

    Args:
        model: fields of CameraLoRASection.
        diffusion: as of StableVideo.
    """

    name = "camera_lora"
    model_class = CameraLoRASection

    def read(self, model: Mapping[str, Any]) -> ToldByPictureSection:
        """The picture model and the scorer are those of the base."""
        section = from_mapping(CameraLoRASection, model, "model")
        self.base, self.rank, self.layers = section.base, section.rank, section.layers
        if published_folder(self.base):
            return ToldByPictureSection(self.base, "")
        settings = settings_of(find_model(self.base))
        return ToldByPictureSection(settings["image"], settings["scorer"])

    def build(self) -> InflatedUNet:
        if self.published:
            network = load_stable_video_unet(self.published / "unet")
        else:
            network = open_network(InflatedUNet, find_model(self.base) / "network")
        if not add_adapters(network, self.rank, ADAPTED[self.layers]):
            raise UserError(f"model.base: {self.base} has no {self.layers.replace('_', ' ')} to adapt")
        return network

    def trainable(self, model: nn.Module) -> Sequence[tuple[str, nn.Parameter]]:
        return [(n, p) for n, p in model.named_parameters() if is_adapter(n)]

    def save(self, model: Any, folder: Path, sampling: Mapping[str, Any]) -> None:
        """The adapters alone, in diffusers' names (of a user's Stable Video folder with `unet.` before them); `--lora
        FOLDER/pytorch_lora_weights.safetensors` applies them."""
        folder.mkdir(parents=True, exist_ok=True)
        kept = {n: p.detach().contiguous() for n, p in model.named_parameters() if is_adapter(n)}
        if self.published:
            theirs = stable_video_layers(model)
            layers = {n: re.split(r"\.(?=lora_[AB]\.)", n, maxsplit=1) for n in kept}
            kept = {f"unet.{theirs[layer]}.{rest}": kept[n] for n, (layer, rest) in layers.items()}
        save_file(kept, folder / LORA)
        write_json(folder / CONFIG, {"base": self.base, "rank": self.rank, "layers": self.layers})
