"""What every video network checks of its inputs, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from muybridge.diffusion.prediction import flow_input
from muybridge.errors import UserError
from muybridge.nn.text_conditioning import TextCondition


@dataclass(frozen=True)
class NetworkInputs:
    """What a video network is told.

    Attributes:
        sample: z [B, C, F, H, W]; of networks that take packs also a list of z [C, F, H, W] of different sizes, which
            do not see each other.
        log_snr: [B], or [B, F] for a noise level per frame; of a pack a list of them, [] or [F].
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

    sample: Any
    log_snr: Any
    text: TextCondition | None = None
    temporal_mask: Tensor | None = None
    frame_to_caption: Tensor | None = None
    condition: Tensor | None = None
    class_labels: Tensor | None = None
    condition_log_snr: Tensor | None = None
    guidance: Tensor | None = None


class VideoNetwork:
    """Base of the networks that predict a video: all are called the same way."""

    config: Any

    def forward(
        self,
        sample: Any,
        log_snr: Any,
        text: TextCondition | None = None,
        temporal_mask: Tensor | None = None,
        frame_to_caption: Tensor | None = None,
        condition: Tensor | None = None,
        class_labels: Tensor | None = None,
        condition_log_snr: Tensor | None = None,
        guidance: Tensor | None = None,
    ) -> Any:
        """Predict: z [B, C, F, H, W] -> [B, out_channels, F, H, W] in the space of `prediction_type`; of a pack a list.

        One that predicts a flow sees z_f in place of z (diffusion.prediction.flow_input).

        Args: as the attributes of NetworkInputs.

        Raises:
            UserError: data or a condition that do not fit the network.
        """
        if getattr(self.config, "prediction_type", "") == "flow":
            sample = _as_flow(sample, log_snr)
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

    def predict(self, inputs: NetworkInputs) -> Any:
        """The network itself."""
        raise NotImplementedError


def _as_flow(sample: Any, log_snr: Any) -> Any:
    if isinstance(sample, Tensor):
        return flow_input(sample, log_snr)
    return [flow_input(z[None], lam[None])[0] for z, lam in zip(sample, log_snr, strict=True)]


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
