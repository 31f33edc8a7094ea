"""What every pipeline of this project shares: settings, prompts, guidance, and the run of a sampler."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import BaseOutput
from torch import Tensor

from muybridge.diffusion.conditioning import Known, Measurement, reconstruction_guidance
from muybridge.diffusion.guidance import Scale, classifier_free, thresholded, within
from muybridge.diffusion.noise import Noise
from muybridge.diffusion.prediction import Denoise, to_x
from muybridge.diffusion.samplers import SamplerState, sampler_named
from muybridge.diffusion.schedule import alpha_of, sigma_of
from muybridge.errors import UserError, nearest
from muybridge.models.text.encoder import TextConfig, TextEncoder
from muybridge.models.weights.opening import cast
from muybridge.nn.frames import to_uint8
from muybridge.nn.layout import suit_cpu
from muybridge.nn.text_conditioning import TextCondition
from muybridge.pipelines.settings import SamplingConfig

#: Values of a video that a network sees whole, and of one that is sampled in windows: what grows with it then is the video itself.
MAX_VALUES, MAX_VALUES_IN_WINDOWS = 2**25, 2**29


@dataclass
class VideoOutput(BaseOutput):
    """Sampled videos.

    Attributes:
        frames: uint8 [B, F, H, W, 3].
        samples: float [B, C, F, H, W] in [-1, 1], before rounding.
    """

    frames: np.ndarray
    samples: Tensor


class VideoPipeline(DiffusionPipeline):
    """Words to video with any network of this project: settings, prompts, guidance, and the run of a sampler.

    Subclasses register their parts and config (`text_encoder`, `text_max_length`, `sampling` among it) and say what differs
    between pixels and latents. The text encoder is loaded at the first prompt and is not part of the saved folder.
    """

    def __init__(self) -> None:
        super().__init__()
        self._encoder: TextEncoder | None = None
        self._embedded: dict[str, TextCondition] = {}
        #: LoRAs merged into the network, as a recipe records them
        self.loras: list[dict[str, Any]] = []
        #: the picture model that stands in for the one the temporal layers were trained behind
        self.swapped = ""
        #: what the network was opened in (nn.devices.PRECISIONS)
        self.precision = "fp32"

    def use_lora(self, file: str | Path, scale: float = 1.0) -> dict[str, Any]:
        """Merge an image LoRA into the network; what was merged is recorded in recipes.

        Raises:
            UserError: a model without a picture network, or a LoRA that does not fit.
        """
        from muybridge.models.weights.lora import apply_lora

        entry = apply_lora(self.network, Path(file), scale)
        self.loras.append(entry)
        return entry

    def ready(self, device: torch.device, precision: str, dtype: torch.dtype) -> Self:
        """Frozen, in evaluation mode, in its precision, on its device, laid out for it."""
        cast(self.network, dtype).requires_grad_(False).eval()
        self.precision = precision
        self.set_progress_bar_config(disable=True)
        if device.type != "cpu":
            return self.to(device)
        for part in (self.network, getattr(self, "vae", None)):
            if part is not None:
                suit_cpu(part)
        return self

    #: whether its temporal layers can stand behind another picture model than their own
    takes_picture_model = False
    #: whether guidance's two branches may share a network call (their conditions are plain rows)
    joins_branches = False
    #: whether "" is a prompt (the null caption of Stable Diffusion's layout)
    allow_empty = False
    #: whether long videos go through the network in pieces, so that its memory does not follow their length
    in_windows = False
    #: whether frames can be told to the network as a condition, and context guidance makes sense
    takes_known_frames = False

    def settings(self, **overrides: Any) -> SamplingConfig:
        """The model's settings with some replaced; None leaves one as it is.

        Raises:
            UserError: an unknown name, or a value out of range.
        """
        known = [f.name for f in fields(SamplingConfig)]
        for name in overrides:
            if name not in known:
                raise UserError(f"unknown sampling setting {name!r}; {nearest(name, known)}")
        given = {k: v for k, v in overrides.items() if v is not None}
        made = SamplingConfig(**{**self.config.sampling, **given})
        if made.context_scale != 1 and not self.takes_known_frames:
            raise UserError(f"context_scale {made.context_scale:g}: this model takes no known frames; leave it at 1")
        most = MAX_VALUES_IN_WINDOWS if self.in_windows else MAX_VALUES
        if made.num_frames * made.height * made.width * 3 > most:
            raise UserError(
                f"{made.num_frames} frames of {made.height}x{made.width} are too large"
                + (
                    "; take fewer or smaller frames"
                    if self.in_windows
                    else " for one pass; sample fewer or smaller frames and use `extend` for length"
                )
            )
        return made

    @torch.inference_mode(
        False
    )  # a caller's would make embeddings and levels that reconstruction guidance cannot go through
    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        seed: int | Sequence[int] = 0,
        *,
        batch_size: int = 1,
        known: Known | None = None,
        measurements: Sequence[Measurement] = (),
        guidance: Scale | None = None,
        on_step: Callable[[SamplerState], None] | None = None,
        output: str = "pixels",
        **overrides: Any,
    ) -> VideoOutput:
        """Sample one video a prompt.

        Args:
            prompt: a caption or several; None samples without text.
            seed: one seed for each video, or one number: video i then has seed + i. A video depends on its own seed and
                prompt alone, not on the batch it is in.
            batch_size: videos a network call; 1 is the same bit for bit whatever else is sampled. Above 1 the order of additions
                differs, by about 1e-5 at the end of a run; strong reconstruction guidance (w_r = 4 on half of the frames)
                amplifies that to 1e-2.
            known: frames (or any entries) that are given; see diffusion.conditioning.
            measurements: further views that are known, such as a low-resolution video.
            guidance: a scale that varies over the run or over frames; replaces guidance_scale.
            on_step: called with the sampler's state after each step.
            output: "pixels", or "latents": what was sampled, not decoded (its `frames` are empty).
            overrides: fields of SamplingConfig.

        Returns:
            VideoOutput; the i'th video belongs to the i'th prompt.

        Raises:
            UserError: settings or prompts that cannot be sampled.
        """
        settings = self.settings(**overrides)
        prompts = [prompt] if isinstance(prompt, str) or prompt is None else list(prompt)
        seeds = [seed + i for i in range(len(prompts))] if isinstance(seed, int) else list(seed)
        if len(seeds) != len(prompts):
            raise UserError(f"{len(prompts)} prompts but {len(seeds)} seeds: give one seed each, or a single one")
        if batch_size < 1:
            raise UserError(f"batch_size must be at least 1, got {batch_size}")
        condition = self.condition(prompts, settings)
        parts = []
        for start in range(0, len(prompts), batch_size):
            rows = slice(start, start + batch_size)
            part_known = known if known is None or known.value.shape[0] == 1 else _rows(known, rows)
            part = None if condition is None else condition.rows(rows)
            scale = settings.guidance_scale if guidance is None else guidance
            parts.append(self._sample(part, seeds[rows], settings, scale, part_known, measurements, on_step))
        samples = torch.cat(parts)
        if output == "latents":
            return VideoOutput(frames=np.zeros((0, 0, 0, 0, 3), np.uint8), samples=samples)
        samples = self.to_pixels(samples)
        return VideoOutput(frames=to_uint8(samples), samples=samples)

    def denoiser(self, text: TextCondition | None, settings: SamplingConfig, scale: Scale) -> Denoise:
        """Close network, caption and guidance over into denoise(z, lam) -> x_hat, not yet thresholded."""
        kind = self.prediction_type
        dtype = next(self.network.parameters()).dtype

        def branch(condition: TextCondition | None) -> Denoise:
            def denoise(z: Tensor, lam: Tensor) -> Tensor:
                return to_x(self.predict(z.to(dtype), lam, condition).to(z.dtype), z, lam, kind)

            return denoise

        if text is None:
            return branch(self.null_text(None))
        text = text.to(self.device)
        null = self.null_text(text)
        if not settings.guided_throughout:
            scale = within(scale, *self._guided_levels(settings))
        both = branch(type(text).stack([text, null])) if self.joins_branches else None
        return classifier_free(branch(text), branch(null), scale, settings.guidance_rescale, kind, both)

    def _guided_levels(self, settings: SamplingConfig) -> tuple[float, float]:
        """The log-SNR between which guidance acts: of steps whose share of the run lies from guidance_start to before guidance_end."""
        steps = settings.num_inference_steps
        first, behind = (math.ceil(share * steps - 1e-9) for share in (settings.guidance_start, settings.guidance_end))
        lams = self.levels(steps, settings.sampler)
        low = -math.inf if first == 0 else float(lams[first])
        return low, math.inf if behind == steps else float(lams[behind - 1])

    # --- what differs between pixels and latents ------------------------------------------------------------------

    def condition(self, prompts: Sequence[str | None], settings: SamplingConfig) -> TextCondition | None:
        """What every network call of a run is told, one row a video."""
        return self._embed(prompts)

    def condition_on_video(self, prompt: str | None, video: Tensor, settings: SamplingConfig) -> Any:
        """What the network is told when a given video [1, 3, F, H, W] is drawn anew."""
        return self.condition([prompt], settings)

    @property
    def prediction_type(self) -> str:
        """What the network predicts: "epsilon", "sample" or "v_prediction"."""
        raise NotImplementedError

    def predict(self, z: Tensor, lam: Tensor, text: Any) -> Tensor:
        """The network's own output at log-SNR lam [B]."""
        raise NotImplementedError

    def null_text(self, text: Any) -> Any:
        """The condition of guidance's unconditional branch; for None, that of a call without prompts."""
        raise NotImplementedError

    def levels(self, steps: int, sampler: str = "ddim") -> Tensor:
        """Log-SNR [steps + 1] from noisy to clean, as this sampler walks; float64 on the CPU."""
        raise NotImplementedError

    def sample_shape(self, settings: SamplingConfig) -> tuple[int, ...]:
        """[C, F, H, W] of what is sampled."""
        raise NotImplementedError

    def to_pixels(self, samples: Tensor) -> Tensor:
        """What is sampled -> [B, 3, F, H, W]."""
        return samples

    def to_samples(self, pixels: Tensor) -> Tensor:
        """[B, 3, F, H, W] in [-1, 1] -> what is sampled."""
        return pixels

    # ----------------------------------------------------------------------------------------------------------------

    def _sample(
        self,
        text: TextCondition | None,
        seeds: Sequence[int],
        settings: SamplingConfig,
        scale: Scale,
        known: Known | None,
        measurements: Sequence[Measurement],
        on_step: Callable[[SamplerState], None] | None,
    ) -> Tensor:
        noise = Noise(seeds, self.device)
        lams = self.levels(settings.num_inference_steps, settings.sampler)
        denoise = self.denoiser(text, settings, scale)
        if known is not None or measurements:
            denoise = reconstruction_guidance(denoise, known, measurements, noise)
        denoise = thresholded(denoise, settings.threshold)
        z = noise(self.sample_shape(settings), "start")
        if known is not None:
            start = alpha_of(lams[0]) * known.value + sigma_of(lams[0]) * z
            z = torch.where(known.mask, start.to(z), z)
        sampler = sampler_named(settings.sampler)
        accepted = inspect.signature(sampler).parameters
        options = {n: getattr(settings, n) for n in ("eta", "gamma", "corrector") if n in accepted}
        for state in sampler(denoise, z, lams, noise, **options):
            if on_step:
                on_step(state)
        if known is None:
            return state.z
        # DDIM on a table that keeps a little noise at its end leaves it in what is known, too
        return torch.where(known.mask, known.value.to(state.z), state.z)

    def _embed(self, prompts: Sequence[str | None]) -> TextCondition | None:
        if self.config.text_encoder is None or all(p is None for p in prompts):
            return None
        captions = [p for p in prompts if p is not None]
        if len(captions) != len(prompts):
            raise UserError("either every video of a call has a prompt or none has")
        if self._encoder is None:
            self._encoder = TextEncoder(TextConfig(self.config.text_encoder, self.config.text_max_length))
        # one caption at a time, so that a caption's embedding does not depend on its neighbours
        for caption in captions:
            if caption not in self._embedded:
                self._embedded[caption] = self._encoder([caption], allow_empty=self.allow_empty)
        return TextCondition.stack([self._embedded[c] for c in captions])


def _rows(known: Known, rows: slice) -> Known:
    mask = known.mask if known.mask.shape[0] == 1 else known.mask[rows]
    return Known(known.value[rows], mask, known.weight, known.replace)
