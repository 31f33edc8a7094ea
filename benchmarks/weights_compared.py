"""What each command draws from a user's files against diffusers' pipeline of the same kind, for `benchmarks.weights`:
the largest difference of their latents.

Every pair starts from the same noise and has the same prompt, negative prompt and steps, in float32 with DDIM.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from muybridge.diffusion.noise import Noise
from muybridge.opening.sampling import load_pipeline

PROMPT, NEGATIVE, SIDE, SCALE = "a Fox", "blue", 16, 3.0
SIZE: dict[str, Any] = {"height": SIDE, "width": SIDE}
#: Of each command's run, so that what it does half way (joining, redrawing) falls on a step.
STEPS = {"generate": 2, "animate": 2, "zero": 20, "control": 2, "instruct": 2, "restyle": 4}
FRAMES = 2
PIXELS = (np.random.default_rng(0).random((64, 64, 3)) * 255).astype(np.uint8)

Found = dict[str, Any]


def noise(purpose: str, step: int = 0, frames: int = 1) -> Tensor:
    """Our draws of latents, [F, 4, h, w]."""
    return Noise([5])((4, frames, 8, 8), purpose, step)[0].transpose(0, 1).clone()


def is_xl(found: Found) -> bool:
    return (found.get("beside", found["model"]) / "text_encoder_2").is_dir()


def opened(found: Found, kind: str, **parts: Any) -> Any:
    """diffusers' pipeline of a folder, with its LoRA and its learned word, walking by DDIM."""
    import diffusers
    from diffusers.pipelines import deprecated  # noqa: F401 (the classes that have moved there)

    none = {} if "XL" in kind or "Animate" in kind else {"safety_checker": None}
    none |= {} if "XL" in kind else {"feature_extractor": None}
    none |= {"variant": found["variant"], "torch_dtype": torch.float32} if "variant" in found else {}
    made = getattr(diffusers, kind).from_pretrained(found.get("beside", found["model"]), **none, **parts)
    table = {"beta_schedule": "linear"} if "Animate" in kind else {}
    made.scheduler = diffusers.DDIMScheduler.from_config(made.scheduler.config, **table)
    made.set_progress_bar_config(disable=True)
    for layer, change in found.get("changes", {}).items():  # a LoRA, as PEFT merges it
        made.unet.get_submodule(layer).weight.data += change
    if "embedding" in found:
        made.load_textual_inversion(str(found["embedding"]))
    if kind == "AnimateDiffSDXLPipeline":  # see tests/systems/test_motion_modules.py
        image = diffusers.UNet2DConditionModel.from_pretrained(found["model"] / "unet")
        made.unet.add_embedding.load_state_dict(image.add_embedding.state_dict())
    return made


def ours(found: Found, **how: Any) -> Any:
    """Our pipeline of the same, which ends in latents."""
    made: Any = load_pipeline(str(found["model"]), "cpu", motion=str(found.get("motion_module", "")), **how)
    if "embedding" in found:
        made.use_inversion(found["embedding"])
    if "lora" in found:
        made.use_lora(found["lora"])
    made.finished = lambda samples, *_: SimpleNamespace(samples=samples, frames=None)
    return made


@contextmanager
def drawing(pipeline: Any, draws: Sequence[Tensor]) -> Iterator[None]:
    """Within it diffusers' pipeline draws these tensors in turn."""
    import sys

    module: Any = sys.modules[type(pipeline).__module__]
    former, left = module.randn_tensor, iter(draws)
    module.randn_tensor = lambda *_, **__: next(left)
    try:
        yield
    finally:
        module.randn_tensor = former


def told(command: str) -> dict[str, Any]:
    """Of a call to diffusers' pipelines."""
    how = {"num_inference_steps": STEPS[command], "guidance_scale": SCALE, "output_type": "latent"}
    return {"prompt": PROMPT, "negative_prompt": NEGATIVE, **how}


def told_ours(command: str) -> dict[str, Any]:
    return {"num_inference_steps": STEPS[command], "guidance_scale": SCALE, "negative_prompt": NEGATIVE}


def each_frame(command: str) -> dict[str, Any]:
    """Where frames are rows of a batch."""
    how = told(command)
    return {**how, "prompt": [PROMPT] * FRAMES, "negative_prompt": [NEGATIVE] * FRAMES}


def seeing_first(rows: int, *networks: Any) -> None:
    """Frames see the first one's tokens, in diffusers' networks."""
    from diffusers.pipelines.deprecated.text_to_video_synthesis import pipeline_text_to_video_zero as published

    for network in networks:
        network.set_attn_processor(published.CrossFrameAttnProcessor2_0(batch_size=rows))


def generate(found: Found) -> tuple[Tensor, Tensor]:
    """(ours, diffusers'): one picture, or a video by motion modules."""
    import diffusers

    how = {**told("generate"), **SIZE}
    if "motion_module" in found:
        adapter = diffusers.MotionAdapter.from_pretrained(found["motion_module"])
        kind = "AnimateDiffSDXLPipeline" if is_xl(found) else "AnimateDiffPipeline"
        theirs, frames = opened(found, kind, motion_adapter=adapter), 3
        start = noise("start", frames=frames).transpose(0, 1)[None]
        expected = theirs(latents=start, num_frames=frames, **how).frames
    else:
        theirs, frames = opened(found, "StableDiffusionXLPipeline" if is_xl(found) else "StableDiffusionPipeline"), 1
        expected = theirs(latents=noise("start"), **how).images[:, :, None]
    got = ours(found)(PROMPT, 5, sampler="ddim", num_frames=frames, **SIZE, **told_ours("generate")).samples
    return got, expected


def few_steps(found: Found) -> tuple[Tensor, Tensor]:
    """(ours, diffusers') of a latent consistency model, by the preset of its folder."""
    from diffusers import LatentConsistencyModelPipeline
    from diffusers.schedulers import scheduling_lcm

    none: dict[str, Any] = {"safety_checker": None, "feature_extractor": None}
    theirs = LatentConsistencyModelPipeline.from_pretrained(found["model"], **none)
    theirs.set_progress_bar_config(disable=True)
    former, left = scheduling_lcm.randn_tensor, iter(range(10))
    scheduling_lcm.randn_tensor = lambda *_, **__: noise("sampler", next(left))
    try:
        how = {"num_inference_steps": 4, "output_type": "latent", **SIZE}
        expected = theirs(PROMPT, latents=noise("start"), **how).images[:, :, None]
    finally:
        scheduling_lcm.randn_tensor = former
    return ours(found)(PROMPT, 5, **SIZE).samples, expected


def zero(found: Found) -> tuple[Tensor, Tensor]:
    """(ours, diffusers'); its re-noising, which multiplies one factor too early, is put right."""
    from muybridge.systems.text2video_zero.sampling import text_to_video_zero

    kind = "TextToVideoZeroSDXLPipeline" if is_xl(found) else "TextToVideoZeroPipeline"
    theirs = opened(found, kind)

    def forward_loop(x_t0: Tensor, t0: int, t1: int, generator: Any) -> Tensor:
        kept = theirs.scheduler.alphas_cumprod[t1] / theirs.scheduler.alphas_cumprod[t0]
        again = torch.cat([noise("renoise", k + 1) for k in range(len(x_t0))])
        return kept.sqrt() * x_t0 + (1 - kept).sqrt() * again

    theirs.forward_loop = forward_loop
    joined, moved, steps = 1, 2, STEPS["zero"]
    how = {**told("zero"), "t0": steps - moved - 1, "t1": steps - joined - 1, "video_length": 3, **SIZE}
    expected = theirs(latents=noise("start"), **how).images
    got = text_to_video_zero(ours(found, zero_shot=True), PROMPT, 5, num_frames=3, **SIZE, **told_ours("zero"))
    return got.samples, expected.transpose(0, 1)[None]


def control(found: Found) -> tuple[Tensor, Tensor]:
    """(ours, diffusers'), by `--method zero`: frames of one noise that see the first."""
    from diffusers import ControlNetModel

    from muybridge.models.vision.control import Control
    from muybridge.systems.text2video_zero.sampling import text_to_video_zero

    net = ControlNetModel.from_pretrained(found["control_net"])
    kind = "StableDiffusionXLControlNetPipeline" if is_xl(found) else "StableDiffusionControlNetPipeline"
    theirs = opened(found, kind, controlnet=net)
    seeing_first(2, theirs.unet, theirs.controlnet)
    pictures = torch.rand(FRAMES, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
    start = noise("start").repeat(FRAMES, 1, 1, 1)
    expected = theirs(image=pictures, latents=start, **each_frame("control")).images
    shown = [Control(ControlNetModel.from_pretrained(found["control_net"]), pictures)]
    how = {"num_frames": FRAMES, **SIZE, **told_ours("control")}
    got = text_to_video_zero(ours(found, zero_shot=True), PROMPT, 5, controls=shown, **how)
    return got.samples, expected.transpose(0, 1)[None]


def instruct(found: Found) -> tuple[Tensor, Tensor]:
    """(ours, diffusers')."""
    from muybridge.systems.text2video_zero.instruct import instruct_video

    theirs = opened(found, "StableDiffusionInstructPix2PixPipeline")
    seeing_first(3, theirs.unet)
    video = clip()
    start = torch.cat([noise("start", k) for k in range(FRAMES)])
    how = {**each_frame("instruct"), "image_guidance_scale": 1.5}
    expected = theirs(image=video[0].transpose(0, 1) / 2 + 0.5, latents=start, **how).images
    got = instruct_video(ours(found, zero_shot=True), video, PROMPT, 5, 1.5, **told_ours("instruct"))
    return got.samples, expected.transpose(0, 1)[None]


def restyle(found: Found) -> tuple[Tensor, Tensor] | None:
    """(ours, diffusers'), by `--strength`: image to image, or video to video behind motion modules; diffusers has the
    latter not for XL."""
    import diffusers

    from muybridge.pipelines.redraw import redraw

    if "motion_module" in found and is_xl(found):
        return None
    mine, video = ours(found), clip()
    x = mine.to_samples(video)
    how = {**told("restyle"), "strength": 0.5}
    if "motion_module" in found:
        adapter = diffusers.MotionAdapter.from_pretrained(found["motion_module"])
        theirs = opened(found, "AnimateDiffVideoToVideoPipeline", motion_adapter=adapter)
        theirs.scheduler.set_timesteps(STEPS["restyle"])
        middle = theirs.scheduler.timesteps[STEPS["restyle"] // 2 :][:1]
        start = theirs.scheduler.add_noise(x, noise("start", frames=FRAMES).transpose(0, 1)[None], middle)
        expected = theirs(video=None, latents=start, **SIZE, **how).frames
    else:
        kind = "StableDiffusionXLImg2ImgPipeline" if is_xl(found) else "StableDiffusionImg2ImgPipeline"
        theirs = opened(found, kind)
        with drawing(theirs, [noise("start", frames=FRAMES)]):
            rows = {**each_frame("restyle"), "strength": 0.5, "image": x[0].transpose(0, 1)}
            expected = theirs(**rows).images.transpose(0, 1)[None]
    got = redraw(mine, video, PROMPT, 0.5, 5, sampler="ddim", **told_ours("restyle"))
    return got.samples, expected


def clip() -> Tensor:
    """[1, 3, F, H, W] in [-1, 1]."""
    return torch.rand(1, 3, FRAMES, SIDE, SIDE, generator=torch.Generator().manual_seed(4)) * 2 - 1


def animate(found: Found) -> tuple[Tensor, Tensor]:
    """(ours, diffusers') of Stable Video, from the picture that the command gets, relative to the largest value."""
    from diffusers import StableVideoDiffusionPipeline

    theirs = StableVideoDiffusionPipeline.from_pretrained(found["model"])
    theirs.set_progress_bar_config(disable=True)
    grain, frames = Noise([5])((3, 1, 64, 64), "picture")[:, :, 0], 4
    with drawing(theirs, [grain]):
        expected = theirs(
            Image.fromarray(PIXELS), fps=7, motion_bucket_id=127, noise_aug_strength=0.02, height=64, width=64,
            latents=noise("start", frames=frames)[None].clone(), num_frames=frames, output_type="latent",
            min_guidance_scale=1.0, max_guidance_scale=SCALE, num_inference_steps=STEPS["animate"],
        ).frames.transpose(1, 2)  # fmt: skip
    picture = torch.from_numpy(PIXELS).permute(2, 0, 1)[None].float() / 127.5 - 1
    how = {"height": 64, "width": 64, "num_frames": frames, "num_inference_steps": STEPS["animate"]}
    got = ours(found)(picture, 5, first_guidance=1.0, guidance_scale=SCALE, **how).samples
    return got, expected


Compare = Callable[[Found], tuple[Tensor, Tensor] | None]
#: Of picture models, alone and behind motion modules.
PICTURES: dict[str, Compare] = {"generate": generate, "zero": zero, "control": control, "restyle": restyle}
MOVING: dict[str, Compare] = {"generate": generate, "restyle": restyle}


def difference(compare: Compare, found: Found) -> float | None:
    """The largest difference of latents, relative to theirs where those are large; None without a counterpart."""
    with torch.no_grad():
        pair = compare(found)
    if pair is None:
        return None
    got, expected = pair
    return float((got - expected).abs().max() / max(1.0, float(expected.abs().max())))
