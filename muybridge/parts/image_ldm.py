"""The image model that video systems start from: latent diffusion in Stable Diffusion's layout (2112.10752).

The folder it writes is a diffusers `StableDiffusionPipeline` but for the text encoder, which stays where it is
installed; `muybridge models export` adds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn

from muybridge.errors import UserError
from muybridge.files import write_json
from muybridge.learning.contract import TrainingBatch
from muybridge.learning.latent_diffusion import LatentDiffusion
from muybridge.library.index import INDEX, write_settings
from muybridge.models import built
from muybridge.models.text.encoder import TextConfig
from muybridge.pipelines.latents import LatentPipeline, predict_frames

#: model_index.json: a StableDiffusionPipeline whose text encoder and tokenizer are handed to it, or added by the
#: export.
DIFFUSERS_INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "BertModel"],
    "tokenizer": ["transformers", "BertTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "safety_checker": [None, None],
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
}


class ImageLDM(LatentDiffusion):
    """The system: a UNet2DConditionModel on latents of pictures.

    Args:
        model: {"autoencoder": ..., ...arguments of UNet2DConditionModel}.
    """

    name = "image_ldm"
    distils = True

    def __init__(self, model: Mapping[str, Any], diffusion: Mapping[str, Any] | None, text: TextConfig | None):
        values = dict(model)
        if "autoencoder" not in values:
            raise UserError("model.autoencoder: name the latent space: a bundled part (emoji-image/vae) or a folder")
        super().__init__(str(values.pop("autoencoder")), diffusion, text)
        self.model_config = values

    def build(self) -> nn.Module:
        made: nn.Module = built(UNet2DConditionModel, self.model_config)
        return made

    def predict(
        self, model: nn.Module, z: Tensor, index: Tensor, tokens: Tensor, batch: TrainingBatch, **told: Any
    ) -> Tensor:
        return predict_frames(model, z, index, tokens, **told)  # type: ignore[arg-type]

    def pipeline(self, model: nn.Module, sampling: Mapping[str, Any]) -> LatentPipeline:
        return LatentPipeline(model, self.space.vae, self.scheduler, **self.own_settings(sampling))

    def save(self, model: Any, folder: Path, sampling: Mapping[str, Any]) -> None:
        model.save_pretrained(str(folder / "unet"))
        vae = self.space.vae.to(model.dtype)
        vae.save_pretrained(str(folder / "vae"))
        self.space.vae.float()
        DDIMScheduler(**self.scheduler).save_pretrained(str(folder / "scheduler"))
        write_settings(folder, self.own_settings(sampling))
        write_json(folder / INDEX, DIFFUSERS_INDEX)
