"""A user's CogVideoX folder, as diffusers keeps it: diffusers' transformer and autoencoder behind our denoise
contract, so that every command of this system works on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import torch
from torch import Tensor

from muybridge.diffusion.tables import DiscreteSchedule
from muybridge.errors import UserError
from muybridge.files import read_mapping
from muybridge.library.parts import table_settings
from muybridge.models.latent.space import open_whole
from muybridge.models.latent.video_space import open_space, space_of
from muybridge.models.text.encoder import TextEncoder
from muybridge.nn.text_conditioning import TextCondition
from muybridge.pipelines.settings import SamplingConfig
from muybridge.systems.sora.pipeline import LatentVideoPipeline

#: What the official pipeline samples with.
SAMPLING: dict[str, Any] = {
    "fps": 8.0, "num_inference_steps": 50, "guidance_scale": 6.0, "sampler": "ddim", "threshold": "none",
}  # fmt: skip


class CogVideoXFolder(LatentVideoPipeline):
    """Words to video with a user's weights: `muybridge generate --model FOLDER`; the other commands by reconstruction
    guidance or replacement.

    Args:
        network: a CogVideoXTransformer3DModel.
        vae: an AutoencoderKLCogVideoX.
        scheduler: the config of its scheduler.
        text_encoder: the folder of its T5.
        text_max_length, sampling: as in TextToVideoPipeline.
    """

    allow_empty = True

    def __init__(
        self,
        network: Any,
        vae: Any,
        scheduler: Mapping[str, Any],
        text_encoder: str,
        text_max_length: int,
        sampling: dict[str, Any],
    ):
        super().__init__()
        self.register_modules(network=network, vae=vae)
        self.register_to_config(
            scheduler=dict(scheduler),
            text_encoder=text_encoder,
            text_max_length=text_max_length,
            sampling=dict(sampling),
        )
        self.space = space_of(vae)
        self.table = DiscreteSchedule.from_config(scheduler)

    @classmethod
    def from_folder(cls, folder: Path, dtype: torch.dtype = torch.float32) -> Self:
        """Open transformer/, vae/, scheduler/ and, at the first prompt, text_encoder/ with tokenizer/.

        Raises:
            UserError: a part is missing, or a transformer that is told more than words.
        """
        from diffusers import CogVideoXTransformer3DModel

        for part in ("transformer", "vae", "scheduler", "text_encoder"):
            if not (folder / part).is_dir():
                raise UserError(f"{folder}: has no {part} folder; a CogVideoX model needs it")
        network = open_whole(CogVideoXTransformer3DModel, folder / "transformer").to(dtype)
        config: Any = network.config
        if config.patch_size_t is not None or config.in_channels != config.out_channels:
            raise UserError(
                f"{folder}: patches of {config.patch_size_t} frames and {config.in_channels} channels in, "
                f"{config.out_channels} out: only CogVideoX 1.0's models of words (2B, 5B) are sampled here"
            )
        space = open_space(folder / "vae")
        size = {side: getattr(config, f"sample_{side}") * space.shrink for side in ("height", "width")}
        scheduler = read_mapping(folder / "scheduler" / "scheduler_config.json")
        text = str((folder / "text_encoder").resolve())
        sampling = {**SAMPLING, **size, "num_frames": int(config.sample_frames)}
        return cls(network, space.vae, table_settings(scheduler), text, int(config.max_text_seq_length), sampling)

    @property
    def prediction_type(self) -> str:
        return str(self.config.scheduler.get("prediction_type", "epsilon"))

    def encoder(self) -> TextEncoder:
        """T5 as CogVideoX was trained with it: padding is read like words."""
        made = super().encoder()
        made.reads_padding = True
        return made

    def condition(self, prompts: Sequence[str | None], settings: SamplingConfig) -> TextCondition:
        return self._words(["" if p is None else p for p in prompts])

    def _words(self, captions: Sequence[str]) -> TextCondition:
        text = self._embed(captions)
        assert text is not None
        return text

    def null(self, condition: Any, negative_prompt: str = "") -> Any:
        return self._words([negative_prompt] * len(condition.pooled))

    def levels(self, steps: int, sampler: str = "ddim") -> Tensor:
        return self.table.inference_levels(steps, sampler)

    def predict(self, z: Tensor, lam: Tensor, condition: TextCondition, guidance: Tensor | None = None) -> Tensor:
        """diffusers' layout is [B, F, C, H, W], and its network is told the table's index."""
        index = self.table.index_of(lam).to(z.device, torch.float32)
        out: Tensor = self.network(
            z.transpose(1, 2), condition.tokens.to(z), index, image_rotary_emb=self._rotary(z), return_dict=False
        )[0]
        return out.transpose(1, 2)

    def _rotary(self, z: Tensor) -> Any:
        """Rotary positions as diffusers' pipeline makes them; None for the model with a table of its own."""
        if not self.network.config.use_rotary_positional_embeddings:
            return None
        from diffusers import CogVideoXPipeline

        owner: Any = SimpleNamespace(vae_scale_factor_spatial=self.space.shrink, transformer=self.network)
        height, width = (side * self.space.shrink for side in z.shape[3:])
        return CogVideoXPipeline._prepare_rotary_positional_embeddings(owner, height, width, z.shape[2], z.device)
