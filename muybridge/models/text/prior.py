"""From words to the embedding of a picture: diffusion priors (2204.06125 section 2.2), as a plain MLP and as a causal
transformer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import ConfigMixin, ModelMixin, PriorTransformer
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import get_timestep_embedding
from torch import Tensor, nn
from torch.nn.functional import normalize, pad

from muybridge.diffusion.noise import Noise
from muybridge.diffusion.samplers import sample_ddim
from muybridge.diffusion.schedule import CosineSchedule
from muybridge.diffusion.tables import level_grid
from muybridge.errors import UserError
from muybridge.files import read_mapping
from muybridge.models.weights.opening import open_part

TIME_CHANNELS = 64
#: Levels the prior trains on and samples over.
SCHEDULE = CosineSchedule(-8.0, 8.0)
STEPS, DRAWS = 16, 4
Answer = Callable[[Tensor, Tensor], Tensor]


def drawn(answer: Answer, noise: Tensor) -> Tensor:
    """Picture embeddings [B, D] of unit length, by DDIM from noise [B, D]."""
    *_, last = sample_ddim(answer, noise, level_grid(SCHEDULE, STEPS))
    return normalize(last.z, dim=-1)


def best_of_draws(answer: Answer, words: Tensor, seed: int, draws: int) -> Tensor:
    """A picture embedding [1, D] of unit length: of a few draws the one whose product with the words' is largest.

    Source: 2204.06125 section 2.2.

    Args:
        answer: (z [draws, D], log-SNR [draws]) -> x_hat, of unit variance.
        words: their embedding [1, D].
    """
    found = drawn(answer, Noise([seed + i for i in range(draws)])((words.shape[1],), "prior").to(words))
    return found[(found @ words[0]).argmax()][None]


class ContentPrior(ModelMixin, ConfigMixin):
    """Denoises a picture embedding, scaled to unit variance, under a text embedding; predicts the clean one.

    Args:
        width: of both embeddings.
        hidden: of the layers.
    """

    @register_to_config
    def __init__(self, width: int = 256, hidden: int = 512):
        super().__init__()
        self.enter = nn.Linear(2 * width + TIME_CHANNELS, hidden)
        self.middle = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, hidden))
            for _ in range(2)
        )
        self.leave = nn.Linear(hidden, width)

    def forward(self, z: Tensor, lam: Tensor, words: Tensor) -> Tensor:
        """z [B, D] noisy, lam [B] log-SNR, words [B, D] of unit length -> x_hat [B, D]."""
        scaled = words * words.shape[1] ** 0.5
        time = get_timestep_embedding(lam.float() * 50, TIME_CHANNELS).to(z)
        h = self.enter(torch.cat([z, scaled, time], 1))
        for layer in self.middle:
            h = h + layer(h)
        out: Tensor = self.leave(h)
        return out

    #: whether it is told words one by one beside their embedding
    reads_tokens = False

    @torch.no_grad()
    def picture_embedding(self, words: Tensor, seed: int = 0, draws: int = DRAWS) -> Tensor:
        """A picture embedding [1, D] of unit length for words [1, D]: the best by words of a few draws."""
        rows = words.expand(draws, -1)
        return best_of_draws(lambda z, lam: self(z, lam.to(z), rows), words, seed, draws)


class CausalPrior(ModelMixin, ConfigMixin):
    """The prior of unCLIP: a transformer that reads

        [ words, one by one ; their embedding ; the level ; the noisy picture embedding ; a learned query ]

    with a causal mask, and says the clean embedding, scaled to unit variance, at the query. diffusers' PriorTransformer
    is that network. Source: 2204.06125 section 2.2 and appendix C.

    Args:
        width: of both embeddings.
        token_dim: of words one by one.
        max_length: words at most.
        layers, heads, attention_head_dim: of the transformer.
    """

    reads_tokens = True

    @register_to_config
    def __init__(
        self,
        width: int = 256,
        token_dim: int = 384,
        max_length: int = 24,
        layers: int = 4,
        heads: int = 4,
        attention_head_dim: int = 32,
    ):
        super().__init__()
        self.words = nn.Linear(token_dim, width)
        self.transformer = PriorTransformer(heads, attention_head_dim, layers, width, max_length)

    def forward(self, z: Tensor, lam: Tensor, words: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """z [B, D] noisy, lam [B] log-SNR, words [B, D] of unit length, tokens [B, L, token_dim] and which of them are
        real, bool [B, L] -> x_hat [B, D]."""
        length = self.config.max_length
        if tokens.shape[1] > length:
            tokens, mask = tokens[:, :length], mask[:, :length]
        room = length - tokens.shape[1]
        tokens, mask = pad(self.words(tokens.to(z)), (0, 0, 0, room)), pad(mask, (0, room))
        scaled = words.to(z) * words.shape[1] ** 0.5
        out: Tensor = self.transformer(z, lam * 50, scaled, tokens, mask).predicted_image_embedding
        return out

    @torch.no_grad()
    def picture_embedding(
        self, words: Tensor, seed: int = 0, draws: int = DRAWS, *, tokens: Tensor, mask: Tensor
    ) -> Tensor:
        """As ContentPrior's, told the words one by one too: tokens [1, L, token_dim], mask [1, L]."""
        told = words.expand(draws, -1), tokens.expand(draws, -1, -1), mask.expand(draws, -1)
        return best_of_draws(lambda z, lam: self(z, lam.to(z), *told), words, seed, draws)


def open_prior(folder: Path) -> ContentPrior | CausalPrior:
    """A prior from its folder.

    Raises:
        UserError: another model, or weights that are not whole.
    """
    kind = read_mapping(folder / "config.json").get("_class_name")
    known: dict[str, type[ContentPrior | CausalPrior]] = {"ContentPrior": ContentPrior, "CausalPrior": CausalPrior}
    found = known.get(str(kind))
    if found is None:
        raise UserError(f"{folder}: a {kind}, expected a prior from words to a picture's embedding")
    return open_part(found, folder)
