"""A picture model whose frames look at each other and follow control pictures: what the systems without training
share."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from muybridge.errors import UserError
from muybridge.models.vision.control import Control, residuals_of
from muybridge.nn.frame_attention import FrameAttention, SharedText, key_frames, set_frame_attention
from muybridge.nn.text_conditioning import TextCondition
from muybridge.pipelines.latents import LatentPipeline, predict_frames
from muybridge.pipelines.settings import SamplingConfig


@dataclass(frozen=True, eq=False)
class View:
    """What the network sees in a call beside words.

    Attributes:
        keys: who looks at whom, a table of nn.frame_attention; None for nobody.
        control_keys: the same within the ControlNets.
        frames: which frames of the video are sampled, [F]; None for all.
        controls: ControlNets and what they are shown.
        beside: further input channels [1, C, F, h, w] of the network (InstructPix2Pix' picture).
    """

    keys: Tensor | None = None
    control_keys: Tensor | None = None
    frames: Tensor | None = None
    controls: Sequence[Control] = ()
    beside: Tensor | None = None


@dataclass(frozen=True)
class ViewedText:
    """Words, and what else the network sees; one row a video."""

    text: TextCondition
    view: View = View()

    def rows(self, which: slice) -> ViewedText:
        return replace(self, text=self.text.rows(which))

    def to(self, device: Any) -> ViewedText:
        return replace(self, text=self.text.to(device))

    def seen(self, **changes: Any) -> ViewedText:
        """The same words under another view."""
        return replace(self, view=replace(self.view, **changes))

    @staticmethod
    def stack(parts: Sequence[ViewedText]) -> ViewedText:
        """Several batches as one, all under the first one's view."""
        return replace(parts[0], text=TextCondition.stack([p.text for p in parts]))


class ZeroShotPipeline(LatentPipeline):
    """An image model for videos, with frozen weights.

    Every self-attention layer gets our processor for good; under the plain `View` it is plain self-attention, so that
    the pipeline is then the image pipeline.
    """

    in_windows = True
    told_by = ("view",)

    def prepare(self) -> None:
        self.attention, self.control_attention = FrameAttention(), FrameAttention()
        self.shared_text = SharedText()
        set_frame_attention(self.network, self.attention)
        set_frame_attention(self.network, self.shared_text)
        # the processors are shared by all calls: one at a time
        self._lock = threading.RLock()

    def condition(self, prompts: Sequence[str | None], settings: SamplingConfig, view: View = View()) -> ViewedText:
        for control in view.controls:
            self._check(control)
        return ViewedText(super().condition(prompts, settings), view)

    def null(self, condition: Any, negative_prompt: str = "") -> Any:
        return replace(condition, text=super().null(condition.text, negative_prompt))

    def predict(self, z: Tensor, lam: Tensor, condition: Any, guidance: Tensor | None = None) -> Tensor:
        view, tokens, index = condition.view, condition.text.tokens.to(z), self.index_of(lam, z)
        frames = z.shape[2]
        if view.beside is not None:
            more = view.beside if view.frames is None else view.beside[:, :, view.frames.to(view.beside.device)]
            z = torch.cat([z, more.to(z).expand(len(z), -1, -1, -1, -1)], 1)

        def residuals(folded: Tensor, at: Tensor, words: Tensor, **more: Any) -> Any:
            return residuals_of(view.controls, folded, at, words, view.frames, **more)

        with self._applied(view, frames):
            more = self.beside_words(condition.text, z)
            return predict_frames(self.network, z, index, tokens, residuals, guidance, **more)

    @contextmanager
    def _applied(self, view: View, frames: int) -> Iterator[None]:
        """Our attention processors under a view, within one call of the network."""
        with self._lock:
            self._check_processors()
            for control in view.controls:
                set_frame_attention(control.network, self.control_attention)
                set_frame_attention(control.network, self.shared_text)
            self.attention.keys, self.control_attention.keys = view.keys, view.control_keys
            self.shared_text.frames = frames
            try:
                yield
            finally:
                self.attention.keys = self.control_attention.keys = None
                self.shared_text.frames = 1

    def _check_processors(self) -> None:
        own = (self.attention, self.shared_text)
        strange = [n for n, p in self.network.attn_processors.items() if not any(p is mine for mine in own)]
        if strange:
            raise UserError(
                f"the attention processor of {strange[0]} is not the one by which frames look at each other: "
                f"attention slicing, xformers or set_attn_processor has replaced it; leave them off"
            )

    def _check(self, control: Control) -> None:
        """Refuse a ControlNet of another model's widths."""
        for name in ("block_out_channels", "cross_attention_dim", "in_channels"):
            got, wanted = control.network.config[name], self.network.config[name]
            if got != wanted:
                raise UserError(f"this ControlNet has {name} {got}, the image model {wanted}: it belongs to another")

    def keys(self, mode: str, frames: int) -> Tensor | None:
        """A key table by name.

        Raises:
            UserError: an unknown one.
        """
        try:
            return key_frames(mode, frames)
        except ValueError as error:
            raise UserError(str(error)) from error
