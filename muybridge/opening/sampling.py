"""Opening saved models for sampling. Safetensors only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from muybridge.errors import UserError, nearest
from muybridge.library.catalogue import DEFAULT_MODEL, check_weights, find_model
from muybridge.library.index import index_of
from muybridge.nn.devices import AUTO, BALANCED, FAST, MEMORY, device_named, dtype_named
from muybridge.opening.offers import offered

if TYPE_CHECKING:
    from muybridge.pipelines.base import VideoPipeline
    from muybridge.pipelines.latents import LatentPipeline
    from muybridge.pipelines.zero_shot import ZeroShotPipeline


def load_pipeline(
    name: str = DEFAULT_MODEL,
    device: str = AUTO,
    picture: str = "",
    precision: str = "fp32",
    zero_shot: bool = False,
    memory: str = BALANCED,
    compiled: bool = False,
    motion: str = "",
) -> VideoPipeline:
    """Open a model for sampling on a device.

    Args:
        name: a bundled model, or a folder: what `save_pretrained` or `muybridge train` wrote, or a Stable Diffusion
            model.
        device: "auto" (the machine's accelerator, else its CPU), "cpu", "cuda", "cuda:1", "mps", ...
        picture: for temporal layers behind a picture model: put them behind this one instead (2304.08818 section 4.2: a
            model tuned on a subject or a style moves without further training).
        precision: "fp32", "bf16" or "fp16": the latter halve the memory of the network's weights. The autoencoder and
            the text encoder stay in float32, and so does what the sampler computes.
        memory: "low", "balanced" or "fast" (`pipelines.memory.WHAT_IT_DOES`).
        motion: an AnimateDiff motion module's file or folder, put behind a picture model.
        compiled: compile the network's blocks, which takes its time at the first call.
        zero_shot: open an image model as a pipeline for videos without training (`pipelines.zero_shot`).

    Raises:
        UserError: unknown, incomplete, damaged, or pickled weights; a device or precision that is not there.
    """
    from muybridge.models.weights.opening import check_filled
    from muybridge.nn.resting import weights_at_rest

    folder = find_model(name)
    index = index_of(folder)
    check_weights(folder, index)
    where = device_named(device)
    dtype = dtype_named(precision, where)
    if memory not in MEMORY:
        raise UserError(f"unknown memory {memory!r}; {nearest(memory, MEMORY)}")
    cls = offered("OPENS", str(index.get("_class_name")), str(folder))
    if zero_shot:
        cls = _zero_shot_of(cls, name, motion)
    if picture and not cls.takes_picture_model:
        raise UserError(
            f"{folder}: a {cls.__name__} is whole; only temporal layers behind a picture model take another "
            f"picture model"
        )
    try:
        with weights_at_rest(memory != FAST and not compiled):
            pipeline: VideoPipeline = cls.from_folder(folder, dtype, **({"picture": picture} if picture else {}))
    except UserError:
        raise
    except Exception as error:  # diffusers and safetensors raise many kinds for damaged files
        raise UserError(f"{folder}: the model cannot be opened: {error}") from error
    if motion:
        from muybridge.pipelines.motion_modules import with_motion

        pipeline = with_motion(cast("LatentPipeline", pipeline), motion)
    check_filled(folder, pipeline.network)
    pipeline.know_names(folder, picture)
    return pipeline.ready(where, precision, dtype).run_with(memory, compiled, where)


def _zero_shot_of(cls: type, name: str, motion: str) -> type:
    """The pipeline for videos without training, of an image model's class."""
    from muybridge.pipelines.zero_shot import ZeroShotPipeline

    if motion:
        raise UserError(
            "--motion-module: this command ties a picture model's frames together by itself, without motion modules; "
            "leave it out, or use `generate`, or `restyle --strength`"
        )
    if not issubclass(ZeroShotPipeline, cls):
        raise UserError(f"{name}: not an image model; give a bundled one (emoji-image) or a Stable Diffusion folder")
    return ZeroShotPipeline


def load_zero_shot(name: str, device: str = AUTO, precision: str = "fp32") -> ZeroShotPipeline:
    """A bundled image model, or a user's Stable Diffusion folder, for videos without training; see `load_pipeline`.

    Raises:
        UserError: no image model, or a damaged one.
    """
    made: Any = load_pipeline(name, device, precision=precision, zero_shot=True)
    return made
