"""What differs between pipelines: in pixels or in latents, told words or pictures, by one network or another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from muybridge.diffusion.conditioning import frame_mask
from muybridge.models.guided import takes_guidance
from muybridge.pipelines.settings import SamplingConfig


class PipelineHooks:
    """What a pipeline says of itself; `VideoPipeline` does the rest."""

    device: Any
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
    #: what else `condition` takes, by name; given to a call beside the settings
    told_by: tuple[str, ...] = ()
    #: times as many frames a second as it is given that its `raise_video` makes, the given ones among them; 1 for none
    raises_rate = 1
    #: whether its `animated` brings a picture to life, its first frame
    animates_pictures = False
    #: whether its `fill` makes the parts of a video that are not given
    fills_regions = False
    #: whether its picture network's weights may be drawn towards a style's
    takes_styles = False
    #: whether it draws from words alone, as `generate` does
    draws_from_words = True
    #: how often a network has drawn one video's step since the pipeline was opened, each branch of guidance counted
    evaluations = 0

    @property
    def takes_guidance(self) -> bool:
        """Whether the network is told the guidance scale, as one distilled from a guided network: one call a step."""
        return takes_guidance(getattr(self, "network", None))

    @property
    def learns_variance(self) -> bool:
        """Whether the network also says the variance of a step (diffusion.learned_variance)."""
        return bool(getattr(getattr(getattr(self, "network", None), "config", None), "learned_variance", False))

    @property
    def prediction_type(self) -> str:
        """What the network predicts: "epsilon", "sample" or "v_prediction"."""
        raise NotImplementedError

    def predict(self, z: Tensor, lam: Tensor, condition: Any) -> Tensor:
        """The network's own output at log-SNR lam [B]; one that takes guidance also takes `guidance`, the scale [B]."""
        raise NotImplementedError

    def null(self, condition: Any, negative_prompt: str = "") -> Any:
        """The condition of guidance's unconditional branch; for None, that of a call without prompts.

        Raises:
            UserError: a negative prompt for a model that takes none.
        """
        raise NotImplementedError

    def levels(self, steps: int, sampler: str = "ddim") -> Tensor:
        """Log-SNR [steps + 1] from noisy to clean, as this sampler walks; float64 on the CPU."""
        raise NotImplementedError

    def working_settings(self, **overrides: Any) -> SamplingConfig:
        """Settings of the size that videos are given to it at: those that it samples with."""
        own: SamplingConfig = self.settings(**overrides)  # type: ignore[attr-defined]
        return own

    def levels_for(self, settings: SamplingConfig) -> Tensor:
        """The levels of a run: those of its steps and sampler, and where a model shifts them by size, of its size."""
        return self.levels(settings.num_inference_steps, settings.sampler)

    @property
    def trained_with_given_frames(self) -> bool:
        """Whether the network was trained with frames that are given clean, as a noise level a frame says."""
        return False

    @property
    def frames_per_latent(self) -> int:
        """How many frames one of what is sampled stands for: T, and then 1 + k T frames are sampled as 1 + k."""
        return 1

    def nearest_rate(self, fps: float) -> float:
        """Of the rates that its network may be told, the nearest to one, frames a second."""
        return fps

    def length_for(self, frames: int) -> int:
        """The fewest frames, at least so many, of which it can draw a video."""
        return frames + (1 - frames) % self.frames_per_latent

    def known_samples(self, pixels: Tensor, places: Sequence[int]) -> tuple[Tensor, Tensor]:
        """What is sampled of the frames at some places of [1, 3, F, H, W], and a mask that is True where it is given;
        the other frames are not looked at, or are zero."""
        return self.to_samples(pixels), frame_mask(places, pixels.shape[2])

    @property
    def multiple(self) -> int:
        """Sides of its videos, in pixels, are multiples of this."""
        return 8

    def steps_of(self, settings: SamplingConfig) -> int:
        """Sampling steps of one video, as progress counts them."""
        return settings.num_inference_steps

    def sample_shape(self, settings: SamplingConfig) -> tuple[int, ...]:
        """[C, F, H, W] of what is sampled."""
        raise NotImplementedError

    def to_pixels(self, samples: Tensor) -> Tensor:
        """What is sampled -> [B, 3, F, H, W]."""
        return samples

    def seen(self, samples: Tensor) -> Tensor:
        """As `to_pixels`, with a gradient: for guidance by what is seen of a sample."""
        return samples

    def to_samples(self, pixels: Tensor) -> Tensor:
        """[B, 3, F, H, W] in [-1, 1] -> what is sampled, on the pipeline's device."""
        return pixels.to(self.device)
