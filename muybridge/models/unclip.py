"""A user's unCLIP folder (diffusers' UnCLIPPipeline and StableUnCLIPPipeline): how its decoder is told a picture's
embedding, its prior, and its noise table.

No caption goes to the decoder: where its layers expect one they are given the empty one, as both pipelines do when they
vary a picture.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import PriorTransformer, UNet2DConditionModel
from diffusers.models.embeddings import get_timestep_embedding
from torch import Tensor, nn
from torch.nn.functional import normalize

from muybridge.diffusion.noise import Noise
from muybridge.diffusion.samplers import sample_ddim
from muybridge.diffusion.tables import DiscreteSchedule
from muybridge.errors import UserError
from muybridge.files import read_mapping
from muybridge.models.weights.opening import open_encoder, open_part

#: Where each layout keeps its parts: the decoder, its table, the prior's words.
UNCLIP, STABLE_UNCLIP = "UnCLIPPipeline", "StableUnCLIPPipeline"
PARTS = {
    UNCLIP: {"unet": "decoder", "scheduler": "decoder_scheduler", "words": ""},
    STABLE_UNCLIP: {"unet": "unet", "scheduler": "scheduler", "words": "prior_"},
}
PRIOR_STEPS, PRIOR_GUIDANCE, PRIOR_RANGE = 25, 4.0, 5.0


def kind_of(folder: Path) -> str:
    """UNCLIP, STABLE_UNCLIP, or "" for another folder."""
    index = folder / "model_index.json"
    kind = str(read_mapping(index).get("_class_name")) if index.is_file() else ""
    return kind if kind in PARTS else ""


def open_decoder(folder: Path) -> UNet2DConditionModel:
    """The picture network of such a folder, float32."""
    part = PARTS[kind_of(folder)]["unet"]
    return open_part(UNet2DConditionModel, folder / part)


def table_of(folder: Path) -> dict[str, Any]:
    """The decoder's noise table in the words of a diffusers scheduler's config. UnCLIPScheduler's betas are always
    those of `squaredcos_cap_v2`, and its steps spread over the whole table."""
    kind = kind_of(folder)
    config = read_mapping(folder / PARTS[kind]["scheduler"] / "scheduler_config.json")
    return readable_table(config)


def readable_table(config: dict[str, Any]) -> dict[str, Any]:
    """A scheduler's config without what is no table; UnCLIPScheduler's as another class has it."""
    config = {k: v for k, v in config.items() if k != "_diffusers_version"}
    if config.get("_class_name") != "UnCLIPScheduler":
        return {"prediction_type": "epsilon", **config}
    return {
        "num_train_timesteps": config.get("num_train_timesteps", 1000), "beta_schedule": "squaredcos_cap_v2",
        "prediction_type": config.get("prediction_type", "epsilon"), "timestep_spacing": "linspace",
    }  # fmt: skip


class Words(NamedTuple):
    """What a CLIP text encoder says: an embedding [B, E], tokens [B, L, D], and which are real, bool [B, L]."""

    pooled: Tensor
    tokens: Tensor
    mask: Tensor


def read_words(folder: Path, prefix: str, texts: list[str], pad: bool = True) -> Words:
    """Texts by a folder's own tokenizer and text encoder, which are let go afterwards.

    Args:
        prefix: of the two parts' names.
        pad: to the tokenizer's full length.
    """
    from transformers import AutoTokenizer, CLIPTextModel, CLIPTextModelWithProjection

    tokenizer = AutoTokenizer.from_pretrained(str(folder / f"{prefix}tokenizer"), local_files_only=True)
    where = folder / f"{prefix}text_encoder"
    projects = "CLIPTextModelWithProjection" in read_mapping(where / "config.json").get("architectures", [""])
    encoder: Any = CLIPTextModelWithProjection if projects else CLIPTextModel
    model = open_encoder(encoder, where)
    given = tokenizer(texts, padding="max_length" if pad else True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        out = model(given.input_ids)
    pooled = out.text_embeds if projects else out.pooler_output
    return Words(pooled, out.last_hidden_state, given.attention_mask.bool())


class StableUnCLIPTelling(nn.Module):
    """The embedding as class label, beside the sinusoid of its noise's level; the empty caption as text.

    The embedding is told without noise, at level 0 (diffusers adds the table's first step).
    """

    def __init__(self, folder: Path):
        super().__init__()
        self.empty = nn.Parameter(read_words(folder, "", [""]).tokens, requires_grad=False)

    def forward(self, embedding: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings [B, E] and which of them are told, bool [B] -> (text [B, L, D], class labels [B, 2 E])."""
        level = get_timestep_embedding(embedding.new_zeros(len(embedding)), embedding.shape[1], True, 0)
        labels = torch.cat([embedding, level.to(embedding)], 1) * kept[:, None].to(embedding)
        return self.empty.to(embedding).expand(len(embedding), -1, -1), labels


class UnCLIPTelling(nn.Module):
    """The embedding through the folder's projection: added to the time embedding, and as four tokens before the empty
    caption's; one that is not told is the projection's learned one."""

    def __init__(self, folder: Path):
        super().__init__()
        from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel

        self.project = open_part(UnCLIPTextProjModel, folder / "text_proj")
        words = read_words(folder, "", [""], pad=False)
        self.pooled = nn.Parameter(words.pooled, requires_grad=False)
        self.empty = nn.Parameter(words.tokens, requires_grad=False)
        self.requires_grad_(False)

    def forward(self, embedding: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings [B, E] and which of them are told, bool [B] -> (text [B, 4 + L, D], class labels [B, T])."""
        self.to(embedding.device)
        nothing = self.project.learned_classifier_free_guidance_embeddings[None].to(embedding)
        rows, count = torch.where(kept[:, None], embedding, nothing), len(embedding)
        tokens, labels = self.project(
            image_embeddings=rows,
            prompt_embeds=self.pooled.expand(count, -1),
            text_encoder_hidden_states=self.empty.expand(count, -1, -1),
            do_classifier_free_guidance=False,
        )
        return tokens, labels


class UnCLIPPrior:
    """The folder's own prior: words to CLIP's embedding of a picture, as it is (not of unit length)."""

    def __init__(self, folder: Path):
        self.folder, self.prefix = folder, PARTS[kind_of(folder)]["words"]
        self.network = open_part(PriorTransformer, folder / "prior")
        config = readable_table(read_mapping(folder / "prior_scheduler" / "scheduler_config.json"))
        if config["prediction_type"] != "sample":
            raise UserError(f"{folder}: its prior predicts {config['prediction_type']}; expected sample")
        self.table = DiscreteSchedule.from_config(config)

    @torch.no_grad()
    def embedding_of(self, prompt: str, seed: int, draws: int) -> Tensor:
        """A picture's embedding [1, E]: of a few guided draws the one whose product with the words' is largest."""
        words = read_words(self.folder, self.prefix, ["", prompt])
        told = [t.repeat_interleave(draws, 0) for t in words]
        noise = Noise([seed + i for i in range(draws)])((words.pooled.shape[1],), "prior")

        def answer(z: Tensor, lam: Tensor) -> Tensor:
            index = self.table.index_of(lam).float().expand(len(z)).repeat(2)
            both = self.network(torch.cat([z, z]), index, *told).predicted_image_embedding
            bare, guided = both.chunk(2)
            return (bare + PRIOR_GUIDANCE * (guided - bare)).clamp(-PRIOR_RANGE, PRIOR_RANGE)

        *_, last = sample_ddim(answer, noise, self.table.inference_levels(PRIOR_STEPS))
        made = self.network.post_process_latents(last.z.float())
        likeness = normalize(made, dim=-1) @ normalize(words.pooled[1], dim=-1)
        return made[likeness.argmax()][None]
