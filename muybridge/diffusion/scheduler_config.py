"""What of a diffusers scheduler's config can be read as a noise table, and what is refused rather than misread."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from muybridge.errors import UserError, nearest

#: Schedulers that share one noise process, sqrt(ᾱ_i) x + sqrt(1 - ᾱ_i) ε over a beta table, and the spacing each has
#: where its config names none. Which solver walks the table is our `sampler` setting, not the class.
DEFAULT_SPACING = {
    "DDIMScheduler": "leading",
    "DDIMInverseScheduler": "leading",
    "DDPMScheduler": "leading",
    "PNDMScheduler": "leading",
    "CogVideoXDDIMScheduler": "leading",
    "CogVideoXDPMScheduler": "leading",
    "DPMSolverMultistepScheduler": "linspace",
    "UniPCMultistepScheduler": "linspace",
    "DEISMultistepScheduler": "linspace",
    "EulerDiscreteScheduler": "linspace",
    "EulerAncestralDiscreteScheduler": "linspace",
    "HeunDiscreteScheduler": "linspace",
    "LCMScheduler": "leading",
}
#: What networks predict, as far as such schedulers know.
OF_TABLES = ("epsilon", "sample", "v_prediction")
#: The scheduler of latent consistency models.
LCM = "LCMScheduler"
#: Grids over the noise levels that are not built here.
OTHER_GRIDS = ("use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas", "use_flow_sigmas")


def spacing_of(config: Mapping[str, Any]) -> str:
    """The config's spacing, or its class's; "leading" where it names neither."""
    given = config.get("timestep_spacing")
    return str(given or DEFAULT_SPACING.get(config.get("_class_name", "DDIMScheduler"), "leading"))


def check_scheduler(config: Mapping[str, Any]) -> None:
    """Refuse a config that a noise table does not express.

    Raises:
        UserError: a scheduler of another noise process (flow matching, EDM), a grid that is not read here, or settings
            whose samples are not finite: at zero terminal SNR eps says nothing of x, and leading spacing never visits
            that end.
    """
    name = config.get("_class_name")
    if name is not None and name not in DEFAULT_SPACING:
        raise UserError(f"scheduler {name}: its noise process is no beta table; {nearest(name, DEFAULT_SPACING)}")
    for key in OTHER_GRIDS:
        if config.get(key):
            raise UserError(f"scheduler: {key} is not read here; set it to false, or use_karras_sigmas in its place")
    if config.get("final_sigmas_type", "zero") != "zero":
        raise UserError(
            f"scheduler: final_sigmas_type {config['final_sigmas_type']!r} is not read here; set it to 'zero'"
        )
    kind, zero_snr = config.get("prediction_type", "epsilon"), config.get("rescale_betas_zero_snr", False)
    if kind not in OF_TABLES:
        raise UserError(f"scheduler: unknown prediction type {kind!r}; expected one of {', '.join(OF_TABLES)}")
    if zero_snr and kind == "epsilon":
        raise UserError(
            "scheduler: rescale_betas_zero_snr needs prediction_type v_prediction or sample: where the SNR is zero, "
            "eps says nothing of the data"
        )
    if zero_snr and spacing_of(config) == "leading":
        raise UserError(
            "scheduler: rescale_betas_zero_snr needs timestep_spacing trailing or linspace: "
            "leading never visits the zero-SNR end"
        )
    if zero_snr and config.get("use_karras_sigmas") and config.get("sigma_max") is None:
        raise UserError(
            "scheduler: use_karras_sigmas with rescale_betas_zero_snr needs a sigma_max: the table's is infinite"
        )
    if name == "EulerDiscreteScheduler" and config.get("use_karras_sigmas") and spacing_of(config) != "linspace":
        raise UserError("scheduler: Euler's Karras grid is read with timestep_spacing linspace only")
