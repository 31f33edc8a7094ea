"""A camera motion taught to an image-to-video model: low-rank adapters in its temporal attention, all else frozen.

Source: 2311.15127 appendix D (rank 16; subsets of clips with horizontal motion, zoom, and none). Differs from the paper: the clips get their
motion from a virtual camera (data.camera) in place of a curated set.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from muybridge.errors import UserError
from muybridge.models.inflated_unet import InflatedUNet
from muybridge.models.text_encoder import TextConfig
from muybridge.nn.low_rank import add_adapters, is_adapter
from muybridge.systems.loading import LORA, find_model, open_whole_network
from muybridge.systems.stable_video import StableVideo


class CameraLoRA(StableVideo):
    """The system.

    Args:
        model: {"base": an image-to-video model, bundled or a folder, "rank": of the adapters}.
        diffusion: as of StableVideo.
    """

    name = "camera_lora"

    def __init__(self, model: Mapping[str, Any], diffusion: Mapping[str, Any] | None, text: TextConfig | None):
        values = dict(model)
        if "base" not in values:
            raise UserError(
                "model.base: name the image-to-video model that learns a camera motion (emoji-animate, or a folder)"
            )
        self.base, self.rank = str(values.pop("base")), int(values.pop("rank", 16))
        if values or self.rank < 1:
            raise UserError(f"model: known are base and rank (at least 1); got {dict(model)}")
        settings = json.loads((find_model(self.base) / "muybridge.json").read_text(encoding="utf-8"))
        super().__init__({"image": settings["image"], "scorer": settings["scorer"]}, diffusion, text)

    def build(self) -> InflatedUNet:
        network: InflatedUNet = open_whole_network(find_model(self.base) / "network", InflatedUNet)
        if not add_adapters(network, self.rank, in_temporal_attention):
            raise UserError(f"model.base: {self.base} has no temporal attention to adapt")
        return network

    def trainable(self, model: nn.Module) -> Sequence[tuple[str, nn.Parameter]]:
        return [(n, p) for n, p in model.named_parameters() if is_adapter(n)]

    def save(self, model: Any, folder: Path, sampling: Mapping[str, Any]) -> None:
        """The adapters alone, in diffusers' names; `--lora FOLDER/pytorch_lora_weights.safetensors` applies them."""
        folder.mkdir(parents=True, exist_ok=True)
        kept = {n: p.detach().contiguous() for n, p in model.named_parameters() if is_adapter(n)}
        save_file(kept, folder / LORA)
        (folder / "config.json").write_text(
            json.dumps({"base": self.base, "rank": self.rank}, indent=1) + "\n", encoding="utf-8"
        )


def in_temporal_attention(name: str) -> bool:
    """Queries, keys, values and output of the attention over frames."""
    return name.startswith("temporal.attentions.") and ".attn1.to_" in name
