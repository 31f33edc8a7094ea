"""Self-attention of a picture network whose frames look at each other: one processor, and a table of who looks at whom.

The frames of a video are folded into the batch, [B F, N, C]. For frame i, row i of a key table [F, K] names the frames
whose tokens are its keys and values. Sources: 2303.13439 eq. 8 ("first"), 2212.11565 section 3.2 ("first_previous"),
2305.13077 section 3.1 ("full").
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from muybridge.nn.frame_attention_modes import MODES


def key_frames(mode: str, frames: int) -> Tensor | None:
    """Whose tokens each frame attends to, [F, K]; None for each frame's own.

    Args:
        mode: "own", "first", "first_previous" (the first and the one before; not itself) or "full" (all frames).

    Raises:
        ValueError: an unknown mode.
    """
    frame = torch.arange(frames)
    if mode == "own":
        return None
    if mode == "first":
        return torch.zeros(frames, 1, dtype=torch.long)
    if mode == "first_previous":
        return torch.stack([torch.zeros_like(frame), (frame - 1).clamp(min=0)], 1)
    if mode == "full":
        return frame.expand(frames, frames)
    raise ValueError(f"unknown frame attention {mode!r}; expected one of {', '.join(MODES)}")


class Processor:
    """What diffusers calls in place of a layer's own attention; one object serves every layer of a network."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        **unused: Any,
    ) -> Tensor:
        if attention_mask is not None:
            raise ValueError(f"{type(self).__name__} takes no mask")
        return self.attend(attn, hidden_states, encoder_hidden_states)

    def attend(self, attn: Attention, hidden_states: Tensor, text: Tensor | None) -> Tensor:
        """hidden_states [B F, N, C] and, in cross-attention, text [B F, L, D] -> like hidden_states."""
        raise NotImplementedError


class FrameAttention(Processor):
    """For self-attention layers: frames look at each other.

    Keys and values are projected once a key frame, and never leave their video: rows of the batch do not mix. With a
    table whose rows are all the same, the queries of all frames go through one call.

    Attributes:
        keys: the table [F, K], or None for plain self-attention.
    """

    def __init__(self, keys: Tensor | None = None):
        self.keys = keys

    def attend(self, attn: Attention, hidden_states: Tensor, text: Tensor | None) -> Tensor:
        if text is not None:
            raise ValueError("frames look at each other in self-attention only, without a mask")
        rows, tokens, _ = hidden_states.shape
        frames = 1 if self.keys is None else len(self.keys)
        if rows % frames:
            raise ValueError(f"a batch of {rows} rows is no whole number of videos of {frames} frames")
        query = attn.to_q(hidden_states)
        if self.keys is None:
            key, value = attn.to_k(hidden_states), attn.to_v(hidden_states)
        elif bool((self.keys == self.keys[:1]).all()):
            video = hidden_states.unflatten(0, (-1, frames))
            seen = video if self.keys.shape[1] == frames else video[:, self.keys[0]]
            seen = seen.flatten(1, 2)
            query, key, value = query.reshape(-1, frames * tokens, query.shape[-1]), attn.to_k(seen), attn.to_v(seen)
        else:
            key, value = (
                projected.unflatten(0, (-1, frames))[:, self.keys].flatten(0, 1).flatten(1, 2)
                for projected in (attn.to_k(hidden_states), attn.to_v(hidden_states))
            )
        return _attended(attn, query, key, value, hidden_states)


class SharedText(Processor):
    """For cross-attention layers when all frames of a video have the same text.

    Keys and values are projected once a video in place of once a frame; the result is the same.

    Attributes:
        frames: F; rows of the batch read the text of their video's first frame.
        videos: B where frames follow from it, as they must where time is resampled between layers; 0 where they do not.
    """

    def __init__(self, frames: int = 1):
        self.frames, self.videos = frames, 0

    def attend(self, attn: Attention, hidden_states: Tensor, text: Tensor | None) -> Tensor:
        if text is None:
            raise ValueError("shared text is for cross-attention without a mask")
        frames = len(text) // self.videos if self.videos else self.frames
        text = text[::frames]  # [B, L, D], one a video
        if attn.norm_cross:
            text = attn.norm_encoder_hidden_states(text)
        single = single_read(attn, text)
        if single is not None:
            every = single.repeat_interleave(len(hidden_states) // len(text), 0).expand_as(hidden_states)
            return _finished(attn, every, hidden_states)
        query = attn.to_q(hidden_states)
        query = query.reshape(len(text), -1, query.shape[-1])  # [B, F N, C]
        return _attended(attn, query, attn.to_k(text), attn.to_v(text), hidden_states)


def single_read(attn: Attention, text: Tensor) -> Tensor | None:
    """What every query reads of a text [B, 1, D] of one token, [B, 1, C]: its value, whatever the query.

    Returns:
        None for longer texts, and under gradients, where every weight shall have one.
    """
    if text.shape[1] != 1 or torch.is_grad_enabled():
        return None
    read: Tensor = attn.to_out[1](attn.to_out[0](attn.to_v(text)))
    return read


def _attended(attn: Attention, query: Tensor, key: Tensor, value: Tensor, hidden_states: Tensor) -> Tensor:
    """Attention and the layer's output projection; queries may be folded in any way that keeps their order."""
    query, key, value = (t.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for t in (query, key, value))
    out = scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    return _finished(attn, attn.to_out[1](attn.to_out[0](out.reshape(*hidden_states.shape[:2], -1))), hidden_states)


def _finished(attn: Attention, out: Tensor, hidden_states: Tensor) -> Tensor:
    """The layer's residual connection and scale, where it has them."""
    if attn.residual_connection:
        out = out + hidden_states
    scale = float(attn.rescale_output_factor)
    return out if scale == 1 else out / scale


def set_frame_attention(network: nn.Module, attention: FrameAttention | SharedText) -> dict[str, Any]:
    """Give every self- or cross-attention layer (attn1, attn2) of a U-Net or ControlNet this processor.

    Returns:
        The former processors of all layers.
    """
    ending = "attn1.processor" if isinstance(attention, FrameAttention) else "attn2.processor"
    former: dict[str, Any] = dict(network.attn_processors)  # type: ignore[arg-type]
    own = {name: attention if name.endswith(ending) else old for name, old in former.items()}
    network.set_attn_processor(own)  # type: ignore[operator]
    return former
