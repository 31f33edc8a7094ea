"""An autoencoder together with its critic: what is trained when a latent space is made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from muybridge.errors import UserError
from muybridge.models.latent.causal_autoencoder import CausalAutoencoder
from muybridge.models.latent.critics import PatchCritic, critic_losses
from muybridge.models.latent.space import shrink_of
from muybridge.models.latent.video_autoencoder import VideoAutoencoder, read_decoder
from muybridge.models.latent.video_space import open_space, time_of
from muybridge.nn.frames import batch_to_frames, frames_to_batch

#: How fast the running mean square of the latents follows.
SCALE_MEMORY = 0.99


@dataclass(frozen=True)
class Reconstruction:
    """What one pass gives, per sample.

    Attributes:
        sample: [B, 3, F, H, W], the decoded frames.
        kl: [B], KL of the posterior to N(0, I), mean over latent values.
        maker, judge: [B], adversarial losses (critics.critic_losses).
    """

    sample: Tensor
    kl: Tensor
    maker: Tensor
    judge: Tensor


class AutoencoderWithCritic(nn.Module):
    """Encodes, draws, decodes and judges in one call, so that one optimizer and any number of processes can train it.

    Args:
        vae: of pictures (frames are folded into its batch), one whose decoder knows time, or one of videos.
        critic: judges the decoded video.
    """

    latent_power: Tensor  # running mean square of the latents

    def __init__(self, vae: AutoencoderKL | VideoAutoencoder | CausalAutoencoder, critic: PatchCritic):
        super().__init__()
        self.vae, self.critic = vae, critic
        self.register_buffer("latent_power", torch.ones(()))

    def enable_gradient_checkpointing(self) -> None:
        self.vae.enable_gradient_checkpointing()

    def forward(self, video: Tensor, noise: Tensor) -> Reconstruction:
        """video [B, 3, F, H, W] in [-1, 1]; noise as `latent_shape` says, standard normal."""
        mean, std, kl = self.encode(video)
        latents = mean + std * noise
        if self.training:
            with torch.no_grad():
                self.latent_power.lerp_(latents.square().mean(), 1 - SCALE_MEMORY)
        sample = self.decode(latents)
        maker, judge = critic_losses(self.critic, video, sample)
        return Reconstruction(sample, kl, maker, judge)

    def encode(self, video: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and standard deviation of the latents, [B, C, F', h, w] each, unscaled, and the KL to N(0, I), [B]."""
        batch = len(video)
        if isinstance(self.vae, CausalAutoencoder):
            posterior = self.vae.encode(video).latent_dist
            mean, std = posterior.mean, posterior.std
        else:
            posterior = self.vae.encode(frames_to_batch(video)).latent_dist
            mean, std = batch_to_frames(posterior.mean, batch), batch_to_frames(posterior.std, batch)
        power = posterior.mean.square() + posterior.var - 1 - posterior.logvar
        kl = 0.5 * power.flatten(1).mean(1).unflatten(0, (batch, -1)).mean(1)
        return mean, std, kl

    def start_from(self, folder: Path) -> None:
        """Take a saved autoencoder's weights, or a saved temporal decoder's; the critic stays as it is.

        Raises:
            UserError: none is there, or its weights do not fit.
        """
        if isinstance(self.vae, VideoAutoencoder):
            read_decoder(self.vae, folder)
            return
        saved = open_space(folder).vae
        try:
            self.vae.load_state_dict(saved.state_dict())
        except RuntimeError as error:
            raise UserError(
                f"{folder}: its weights do not fit this recipe's autoencoder: {str(error)[:500]}"
            ) from error

    @property
    def picture(self) -> AutoencoderKL:
        """The picture autoencoder inside."""
        return self.vae if isinstance(self.vae, AutoencoderKL) else self.vae.image

    def decode(self, latents: Tensor) -> Tensor:
        """[B, C, F', h, w], unscaled -> [B, 3, F, H, W]."""
        if not isinstance(self.vae, AutoencoderKL):
            return self.vae.decode(latents)
        decoded: Any = self.vae.decode(frames_to_batch(latents))
        return batch_to_frames(decoded.sample, len(latents))

    def latent_shape(self, video: Tensor) -> tuple[int, int, int, int]:
        """[C, F', h, w] of one sample's latents."""
        picture: Any = self.picture
        shrink, time = shrink_of(picture), time_of(self.vae)
        frames = 1 + (video.shape[2] - 1) // time
        return (picture.config.latent_channels, frames, video.shape[3] // shrink, video.shape[4] // shrink)
