"""How a video is drawn: the settings of a run, checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from muybridge.configuration import Settings, check_request, new_names, setting
from muybridge.errors import UserError, nearest

MAX_STEPS = 1000
#: Frames that motion modules were trained on, and make unless told otherwise.
MOTION_FRAMES = 16
#: Which settings each sampler reads beside the common ones, by its name in diffusion.samplers.SAMPLERS.
READ_BY: dict[str, tuple[str, ...]] = {
    "ddim": ("eta",),
    "ancestral": ("gamma", "corrector_step_size", "resample_steps"),
    "dpmpp_2m": (),
    "dpmpp_2m_sde": (),
    "distilled": (),
    "euler": (),
    "unipc": (),
    "consistency": (),
}
#: Settings that only some samplers read.
OF_SAMPLERS = tuple(name for names in READ_BY.values() for name in names)
#: Samplers whose steps add noise of a size of their own; "ddim" does with eta above 0.
NOISY = ("dpmpp_2m_sde", "distilled", "consistency")
THRESHOLDS = ("static", "dynamic", "none")


@dataclass(frozen=True)
class SamplingConfig(Settings):
    """How a video is drawn from a model; a model's own defaults lie in its folder."""

    renamed: ClassVar[Mapping[str, str]] = {"corrector": "corrector_step_size"}

    num_frames: int = setting(16, "frames of the video", low=1)
    height: int = setting(64, "pixels", low=1)
    width: int = setting(64, "pixels", low=1)
    fps: float = setting(8.0, "frames a second that the file is shown at", above=0, high=240)
    num_inference_steps: int = setting(32, "sampling steps", low=1, high=MAX_STEPS, flag="steps")
    sampler: str = setting("ddim", "how noise becomes a video", choices=tuple(READ_BY))
    guidance_scale: float = setting(2.0, "1 is off; higher follows the words more", low=0, high=100)
    guidance_start: float = setting(0.0, "share of the run before which nothing is guided", low=0, below=1)
    guidance_end: float = setting(
        1.0, "share of the run from which on nothing is guided: those steps cost less", above=0, high=1
    )
    guidance_rescale: float = setting(
        0.0,
        "how far the guided estimate's spread is pulled back to the unguided one's (phi of 2305.08891)",
        low=0,
        high=1,
    )
    context_scale: float = setting(
        1.0, "higher follows the given frames more; 1 is off and takes half the network calls", low=0, high=100
    )
    reuse: float = setting(
        0.0,
        "share of the steps whose deep features are foreseen from earlier ones, which makes them several times as fast",
        low=0,
        high=0.9,
    )
    eta: float = setting(0.0, "noise that ddim adds: 0 none, 1 as much as ancestral sampling", low=0, high=1)
    gamma: float = setting(0.3, "variance of ancestral steps, from the lower bound (0) to the upper (1)", low=0, high=1)
    corrector_step_size: float = setting(
        0.0, "a Langevin step of this size after each ancestral step; 0 is off", low=0, high=1
    )
    resample_steps: int = setting(
        1, "passes of each ancestral step with its noise put back between them (RePaint)", low=1, high=100
    )
    noise_correlation: float = setting(
        0.0,
        "how much of its noise a frame shares with the others: as much as the model was trained with",
        low=0,
        high=1,
    )
    threshold: str = setting("static", "how the estimate is clipped (pixels); none for latents", choices=THRESHOLDS)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_request(self.width, self.height, "height and width")
        if not self.guidance_start < self.guidance_end:
            raise UserError(
                "guidance acts from a smaller to a larger share of the run within 0..1, got "
                f"guidance_start {self.guidance_start:g} to guidance_end {self.guidance_end:g}"
            )

    @property
    def guided_throughout(self) -> bool:
        return (self.guidance_start, self.guidance_end) == (0.0, 1.0)

    def sampler_options(self) -> dict[str, Any]:
        """The arguments of the sampler's function."""
        return {name: getattr(self, name) for name in READ_BY[self.sampler]}


DEFAULTS = {known.name: known.default for known in fields(SamplingConfig)}


def sampling_settings(own: Mapping[str, Any], given: Mapping[str, Any]) -> SamplingConfig:
    """A model's own settings with some replaced; None leaves one as it is.

    Raises:
        UserError: an unknown name, a value out of range, or one that the sampler does not read.
    """
    own = {name: value for name, value in new_names(SamplingConfig, own).items() if name in DEFAULTS}
    chosen = {name: value for name, value in new_names(SamplingConfig, given).items() if value is not None}
    for name in chosen:
        if name not in DEFAULTS:
            raise UserError(f"unknown sampling setting {name!r}; {nearest(name, DEFAULTS)}")
    made = SamplingConfig(**{**own, **chosen})
    for name in OF_SAMPLERS:
        if name in chosen and chosen[name] != DEFAULTS[name] and name not in READ_BY[made.sampler]:
            readers = ", ".join(sampler for sampler, read in READ_BY.items() if name in read)
            raise UserError(f"{name} {chosen[name]:g}: the sampler {made.sampler} does not read it; {readers} does")
    return made


def check_reads_variance(settings: SamplingConfig) -> None:
    """Refuse noise of another size than the network says itself.

    Raises:
        UserError: a sampler that adds noise and does not ask the network how much, or a gamma of one's own.
    """
    own = settings.eta > 0 if settings.sampler == "ddim" else settings.sampler in NOISY
    if own:
        raise UserError(
            f"sampler {settings.sampler}: this network learned how much noise a step has, and this sampler adds its "
            "own; take ancestral, or one that adds none, such as ddim with eta 0"
        )
    if settings.sampler == "ancestral" and settings.gamma != DEFAULTS["gamma"]:
        raise UserError(f"gamma {settings.gamma:g}: this network learned the variance of its steps; leave gamma out")


def recorded_settings(sampling: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in a video's record, without those that its sampler never read (older records hold them all)."""
    values = new_names(SamplingConfig, sampling)
    read = READ_BY.get(str(values.get("sampler")), OF_SAMPLERS)
    return {name: value for name, value in values.items() if name not in OF_SAMPLERS or name in read}


def only_with(sampler: str, given: Mapping[str, Any], what: str, also: Iterable[str] = ()) -> dict[str, Any]:
    """Settings for something that always walks by one sampler.

    Raises:
        UserError: another sampler was asked for.
    """
    if given.get("sampler") not in (None, sampler, *also):
        raise UserError(f"sampler {given['sampler']!r}: {what} always samples with {sampler}; leave the sampler out")
    return {**given, "sampler": sampler}
