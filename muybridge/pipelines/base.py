"""What every pipeline of this project shares: settings, prompts, guidance, and the run of a sampler."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from diffusers import DiffusionPipeline
from torch import Tensor

from muybridge.diffusion.conditioning import Known, Measurement, given_frames, reconstruction_guidance
from muybridge.diffusion.guidance import Scale, classifier_free, guidance_interval, with_threshold
from muybridge.diffusion.learned_variance import LearnedVariance
from muybridge.diffusion.noise import Noise
from muybridge.diffusion.prediction import Denoise, to_x
from muybridge.diffusion.samplers import sampler_named
from muybridge.diffusion.schedule import alpha_of, per_sample, sigma_of
from muybridge.errors import UserError
from muybridge.models.weights.opening import cast
from muybridge.nn.frames import to_uint8
from muybridge.nn.layout import suit_cpu
from muybridge.nn.reuse import reusing
from muybridge.pipelines.hooks import PipelineHooks
from muybridge.pipelines.memory import WithinMemory, check_fits
from muybridge.pipelines.running import OnStep, VideoOutput, seeds_of, without_gradients
from muybridge.pipelines.settings import SamplingConfig, check_reads_variance, sampling_settings
from muybridge.pipelines.words import ReadsWords


class VideoPipeline(ReadsWords, WithinMemory, PipelineHooks, DiffusionPipeline):  # type: ignore[misc]
    """Words to video with any network of this project: settings, prompts, guidance, and the run of a sampler.

    Subclasses register their parts and config (`text_encoder`, `text_max_length`, `sampling` among it) and say what
    differs between pixels and latents. The text encoder is loaded at the first prompt and is not part of the saved
    folder. What a network is told is closed over by the denoiser, not kept on the pipeline.
    """

    def __init__(self) -> None:
        super().__init__()
        #: the picture model that stands in for the one the temporal layers were trained behind
        self.swapped = ""
        #: FOLDER_OR_LORA:WEIGHT that its picture network was drawn towards (pipelines.style)
        self.styled = ""
        #: what the network was opened in (nn.devices.PRECISIONS)
        self.precision = "fp32"
        #: the motion modules behind its picture network, as a record holds them
        self.motion: dict[str, str] = {}
        #: what the network said last of its variance, where it learned one
        self.variance = LearnedVariance()

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

    def settings(self, **overrides: Any) -> SamplingConfig:
        """The model's settings with some replaced; None leaves one as it is.

        Raises:
            UserError: an unknown name, a value out of range, one that the sampler or this model does not read, or a
                video that is too large for this machine.
        """
        made = sampling_settings(self.config.sampling, overrides)
        if made.context_scale != 1 and not self.takes_known_frames:
            raise UserError(f"context_scale {made.context_scale:g}: this model takes no known frames; leave it at 1")
        if self.learns_variance:
            check_reads_variance(made)
        check_fits(self, made)
        return made

    @without_gradients
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        seed: int | Sequence[int] = 0,
        *,
        negative_prompt: str = "",
        **options: Any,
    ) -> VideoOutput:
        """Sample one video a prompt.

        Args:
            prompt: a caption or several; None samples without text.
            seed: one seed for each video, or one number: video i then has seed + i. A video depends on its own seed and
                prompt alone, not on the batch it is in.
            negative_prompt: what the videos shall not show: the caption of guidance's other branch.
            options: arguments of `draw`, what this pipeline's `condition` takes (`told_by`), and fields of
                SamplingConfig.

        Returns:
            VideoOutput; the i'th video belongs to the i'th prompt.

        Raises:
            UserError: settings or prompts that cannot be sampled.
        """
        told = {name: options.pop(name) for name in self.told_by if name in options}
        overrides, options = split_options(options)
        settings = self.settings(**overrides)
        prompts = [prompt] if isinstance(prompt, str) or prompt is None else list(prompt)
        condition = self.condition(prompts, settings, **told)
        null = self.null(condition, negative_prompt)
        return self.draw(condition, null, seeds_of(seed, len(prompts)), settings, **options)

    def draw(
        self,
        condition: Any,
        null: Any,
        seeds: Sequence[int],
        settings: SamplingConfig,
        *,
        batch_size: int = 1,
        known: Known | None = None,
        measurements: Sequence[Measurement] = (),
        guidance: Scale | None = None,
        on_step: OnStep | None = None,
        output: str = "pixels",
    ) -> VideoOutput:
        """Sample one video a row of a condition.

        Args:
            condition, null: what the network is told, and what guidance's other branch is told; None without text.
            batch_size: videos a network call; 1 is the same bit for bit whatever else is sampled. Above 1 the order of
                additions differs, by about 1e-5 at the end of a run; strong reconstruction guidance (w_r = 4 on half of
                the frames) amplifies that to 1e-2.
            known: frames (or any entries) that are given; see diffusion.conditioning.
            measurements: further views that are known, such as a low-resolution video.
            guidance: a scale that varies over the run or over frames; replaces guidance_scale.
            on_step: called with the sampler's state after each step.
            output: "pixels", or "latents": what was sampled, not decoded (its `frames` are empty).
        """
        if batch_size < 1:
            raise UserError(f"batch_size must be at least 1, got {batch_size}")
        if output not in ("pixels", "latents"):
            raise UserError(f"output: expected pixels or latents, got {output!r}")
        scale = settings.guidance_scale if guidance is None else guidance
        known = None if known is None else _moved(known, self.device)
        if known is not None and known.replace == "clean" and not self.trained_with_given_frames:
            raise UserError("given frames: this model was not trained with them; take reconstruction or replacement")
        parts = []
        for start in range(0, len(seeds), batch_size):
            rows = slice(start, start + batch_size)
            part, other = (None if c is None else c.rows(rows) for c in (condition, null))
            given = known if known is None or known.value.shape[0] == 1 else _rows(known, rows)
            denoise = self.denoiser(part, other, settings, scale)
            noise = Noise(seeds[rows], self.device, correlation=settings.noise_correlation)
            parts.append(self._sample(denoise, noise, settings, given, measurements, on_step))
        return self.finished(torch.cat(parts), output)

    def finished(self, samples: Tensor, output: str = "pixels") -> VideoOutput:
        """What was sampled, decoded.

        Raises:
            UserError: it is not finite.
        """
        if not bool(torch.isfinite(samples).all()):
            raise UserError(
                "sampling ended in values that are not finite; take precision fp32, less guidance, or another sampler "
                "(a model whose weights are damaged does this too)"
            )
        if output == "latents":
            return VideoOutput(frames=np.zeros((0, 0, 0, 0, 3), np.uint8), samples=samples)
        pixels = self.to_pixels(samples)
        return VideoOutput(frames=to_uint8(pixels), samples=pixels)

    def closed(self, condition: Any, **how: Any) -> Denoise:
        """Close the network and a condition over into denoise(z, lam) -> x_hat, in the network's own precision.

        Args:
            how: further arguments of `predict`.
        """
        condition = None if condition is None else condition.to(self.device)
        return lambda z, lam: self._estimate(z, lam, condition, **how)

    def told_scale(self, condition: Any, scale: Scale) -> Denoise:
        """The denoiser of a network that is told the guidance scale.

        Raises:
            UserError: a scale for each frame: the network is told one a video.
        """
        if isinstance(scale, Tensor) and scale.ndim:
            raise UserError("guidance: a distilled network is told one scale a video, not one a frame")
        condition = None if condition is None else condition.to(self.device)

        def denoise(z: Tensor, lam: Tensor) -> Tensor:
            lam = per_sample(lam, z)
            here = torch.as_tensor(scale(lam) if callable(scale) else scale, device=z.device).float().expand(len(z))
            return self._estimate(z, lam, condition, guidance=here)

        return denoise

    def _estimate(self, z: Tensor, lam: Tensor, condition: Any, **told: Any) -> Tensor:
        """x_hat from one call of the network; what it says of its variance goes to `variance`."""
        self.evaluations += len(z)
        output = self.predict(z.to(next(self.network.parameters()).dtype), lam, condition, **told).to(z.dtype)
        if self.learns_variance:
            output = self.variance.taken_from(output)
        return to_x(output, z, lam, self.prediction_type)

    def denoiser(self, condition: Any, null: Any, settings: SamplingConfig, scale: Scale) -> Denoise:
        """The guided denoiser of a condition, not yet thresholded."""
        if condition is None and not self.takes_guidance:
            return self.closed(null)
        if not settings.guided_throughout:
            scale = guidance_interval(scale, *self._guided_levels(settings))
        if self.takes_guidance:
            return self.told_scale(condition, scale)
        both = self.closed(type(condition).stack([condition, null])) if self.joins_branches else None
        branches = self.closed(condition), self.closed(null)
        return classifier_free(*branches, scale, settings.guidance_rescale, self.prediction_type, both)

    def run(
        self,
        denoise: Denoise,
        z: Tensor,
        lams: Tensor,
        settings: SamplingConfig,
        noise: Noise | None,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Walk a sampler from z along levels to the end; the one loop in which all videos are drawn."""
        denoise = with_threshold(denoise, settings.threshold)
        sampler = sampler_named(settings.sampler)
        options = settings.sampler_options()
        if self.learns_variance and "gamma" in options:
            options["gamma"] = self.variance
        with reusing(self.network, settings.reuse, len(lams) - 1) as reuse:
            for state in sampler(denoise, z, lams, noise, **options):
                reuse.next_step()
                if on_step:
                    on_step(state)
        result: Tensor = state.z
        return result

    def _guided_levels(self, settings: SamplingConfig) -> tuple[float, float]:
        """The log-SNR between which guidance acts: of steps from guidance_start to before guidance_end, shares of the
        run."""
        steps = settings.num_inference_steps
        first, behind = (math.ceil(share * steps - 1e-9) for share in (settings.guidance_start, settings.guidance_end))
        lams = self.levels_for(settings)
        low = -math.inf if first == 0 else float(lams[first])
        return low, math.inf if behind == steps else float(lams[behind - 1])

    def condition(self, prompts: Sequence[str | None], settings: SamplingConfig) -> Any:
        """What every network call of a run is told, one row a video; None for a model or a call without text."""
        return self._embed(prompts)

    def condition_on_video(self, prompt: str | None, video: Tensor, settings: SamplingConfig) -> Any:
        """What the network is told when a given video [1, 3, F, H, W] is drawn anew."""
        return self.condition([prompt], settings)

    def _sample(
        self,
        denoise: Denoise,
        noise: Noise,
        settings: SamplingConfig,
        known: Known | None,
        measurements: Sequence[Measurement],
        on_step: OnStep | None,
    ) -> Tensor:
        lams = self.levels_for(settings)
        if known is not None and known.replace == "clean":
            denoise = given_frames(denoise, known)
        elif known is not None or measurements:
            denoise = reconstruction_guidance(denoise, known, measurements, noise)
        z = noise(self.sample_shape(settings), "start")
        if known is not None:
            start = alpha_of(lams[0]) * known.value + sigma_of(lams[0]) * z
            z = torch.where(known.mask, start.to(z), z)
        out = self.run(denoise, z, lams, settings, noise, on_step)
        # known entries come back as they were, also where the last level is not quite clean
        return out if known is None else torch.where(known.mask, known.value.to(out), out)


def split_options(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Keywords of a call: (fields of SamplingConfig, arguments of `VideoPipeline.draw`)."""
    drawing = inspect.signature(VideoPipeline.draw).parameters
    overrides = {name: value for name, value in options.items() if name not in drawing}
    return overrides, {name: value for name, value in options.items() if name in drawing}


def _rows(known: Known, rows: slice) -> Known:
    mask = known.mask if known.mask.shape[0] == 1 else known.mask[rows]
    return Known(known.value[rows], mask, known.weight, known.replace)


def _moved(known: Known, device: torch.device) -> Known:
    return Known(known.value.to(device), known.mask.to(device), known.weight, known.replace)
