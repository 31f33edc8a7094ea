"""What every video network checks of its inputs, in one place."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from muybridge.errors import UserError
from muybridge.nn.text_conditioning import TextCondition


@dataclass(frozen=True)
class NetworkInputs:
    """What a video network is told.

    Attributes:
        sample: z [B, C, F, H, W].
        log_snr: [B], or [B, F] for a noise level per frame.
        text: captions, one a sample, or K a sample together with `frame_to_caption`; None is unconditional.
        temporal_mask: bool [F, F] or [B, F, F], True where frame i may attend to frame j (`joint_mask` for a video
            followed by independent images).
        frame_to_caption: int64 [F], which of the K captions each frame has.
        condition: [B, condition_channels, F, H, W].
        condition_log_snr: [B], how noisy the condition was made (noise conditioning augmentation); of networks that are
            told.
        guidance: [B], the scale of the guided network that this one was distilled from; of networks that are told
            (`guidance_embedding`).
        class_labels: int64 [B], `num_classes` being the null class, of networks that have classes.
    """

    sample: Tensor
    log_snr: Tensor
    text: TextCondition | None = None
    temporal_mask: Tensor | None = None
    frame_to_caption: Tensor | None = None
    condition: Tensor | None = None
    class_labels: Tensor | None = None
    condition_log_snr: Tensor | None = None
    guidance: Tensor | None = None


class VideoNetwork:
    """Base of the networks that predict a video: all are called the same way."""

    def forward(
        self,
        sample: Tensor,
        log_snr: Tensor,
        text: TextCondition | None = None,
        temporal_mask: Tensor | None = None,
        frame_to_caption: Tensor | None = None,
        condition: Tensor | None = None,
        class_labels: Tensor | None = None,
        condition_log_snr: Tensor | None = None,
        guidance: Tensor | None = None,
    ) -> Tensor:
        """Predict: z [B, C, F, H, W] -> [B, out_channels, F, H, W] in the space of `prediction_type`.

        Args: as the attributes of NetworkInputs.

        Raises:
            UserError: data or a condition that do not fit the network.
        """
        return self.predict(
            NetworkInputs(
                sample,
                log_snr,
                text,
                temporal_mask,
                frame_to_caption,
                condition,
                class_labels,
                condition_log_snr,
                guidance,
            )
        )

    def predict(self, inputs: NetworkInputs) -> Tensor:
        """The network itself."""
        raise NotImplementedError


def check_condition(condition: Tensor | None, channels: int, network: str) -> None:
    """Refuse condition channels that the network has no weights for, and a condition that is missing.

    Raises:
        UserError: another number of channels than `channels`.
    """
    given = 0 if condition is None else condition.shape[1]
    if given != channels:
        raise UserError(f"this {network} takes {channels} condition channels, got {given}")


def check_told(given: Tensor | None, told: bool, name: str, setting: str) -> None:
    """Refuse what a network is not told, and the lack of what it must be told.

    Raises:
        UserError: says which, and the setting of the network that decides.
    """
    if (given is not None) != told:
        raise UserError(f"{name}: this network {'must be told one' if told else 'takes none'} ({setting})")


def check_text(text: TextCondition | None, pooled: int, tokens: int) -> None:
    """Refuse captions of another text encoder than the network was made for; a width of 0 is not read.

    Raises:
        UserError: embeddings of another width.
    """
    if text is None:
        return
    for name, wanted, given in (
        ("text_pooled_dim", pooled, text.pooled.shape[-1]),
        ("text_token_dim", tokens, text.tokens.shape[-1]),
    ):
        if wanted and given != wanted:
            raise UserError(
                f"model.{name} is {wanted}, but captions are embedded with {given} values: set it to {given}"
            )


def level_for_embedding(log_snr: Tensor, sample: Tensor) -> Tensor:
    """A log-SNR [B] or [B, F] from anywhere as [B, 1 or F], float32 on the data's device: what embeddings of the level
    take."""
    lam = log_snr.to(device=sample.device, dtype=torch.float32)
    return lam[:, None] if lam.ndim == 1 else lam


def one_per_patch(values: Tensor, patch: int, dim: int, what: str) -> Tensor:
    """One value for each `patch` frames along `dim`, of which there is one token.

    Raises:
        UserError: values that differ within a patch: the token could follow only one of them.
    """
    if patch == 1:
        return values
    groups = values.movedim(dim, -1).unflatten(-1, (-1, patch))  # [..., F / patch, patch]
    if not bool((groups == groups[..., :1]).all()):
        raise UserError(f"{what} must be the same within each patch of {patch} frames, which are one token")
    return groups[..., 0].movedim(-1, dim)
