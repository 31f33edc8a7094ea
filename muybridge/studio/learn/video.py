"""Lessons on time: given frames, temporal layers, motion in noise, long videos in windows, cascades."""

from __future__ import annotations

import math

import torch

from muybridge.diffusion.conditioning import Known, frame_mask, reconstruction_guidance
from muybridge.diffusion.motion_field import REFERENCE_SIZE, move
from muybridge.diffusion.noise import Noise
from muybridge.diffusion.oracle import finite_denoiser
from muybridge.diffusion.process import augment_condition, diffuse
from muybridge.diffusion.samplers import sample_ddim
from muybridge.diffusion.schedule import alpha_of, sigma_of
from muybridge.diffusion.tables import sampling_grid
from muybridge.diffusion.windows import windowed, windows_of
from muybridge.nn.frames import batch_to_frames, frames_to_batch, resized
from muybridge.nn.temporal import AlphaBlender
from muybridge.studio.learn.basics import WALK
from muybridge.studio.learn.clips import FRAMES, SIDE, clips, example, knows_all, noise_like
from muybridge.studio.learn.drawing import plot, strip
from muybridge.studio.learn.lesson import Lesson, Shown, Slider


def given_frames(weight: float, known: float) -> Shown:
    """Reconstruction guidance: some frames are known, the others are drawn to fit."""
    x = example()
    given = Known(x, frame_mask(range(int(known)), FRAMES), weight, "posterior")
    start = torch.where(given.mask, alpha_of(WALK(torch.ones(1))).float() * x, 0) + noise_like(x)

    def drawn(w: float, steps: int) -> torch.Tensor:
        told = Known(x, given.mask, w, "posterior")
        denoise = reconstruction_guidance(knows_all(), told, (), Noise([0]))
        *_, last = sample_ddim(denoise, start, sampling_grid(WALK, steps))
        return last.z

    def missed(video: torch.Tensor) -> float:
        """How far the drawn frames are from those of the clip that goes on so."""
        return float((video - x)[:, :, int(known) :].square().mean().sqrt())

    weights = [0.0, 1.0, 2.0, 4.0, 8.0, 12.0]
    made = drawn(weight, 8)
    return Shown(
        rf"\tilde x^b = \hat x^b - \frac{{w_r\, \alpha}}{{2}} \nabla_{{z^b}} \left\| x^a - \hat x^a(z) \right\|^2,"
        rf" \quad w_r = {weight:.1f}",
        plot(
            [("error of the new frames", [(w, missed(drawn(w, 4))) for w in weights])],
            [("now", weight, missed(made))], "weight w_r", "RMS distance",
        ),
        strip(f"given: the first {int(known)} frames", x[:, :, : int(known)]) + strip("drawn", made),
    )  # fmt: skip


def temporal_mix(logit: float) -> Shown:
    """Video LDM's mix of frames that stand alone and frames that know each other."""
    x, level = example(), torch.tensor([-4.0], dtype=torch.float64)
    z = diffuse(x, noise_like(x), level)
    pictures = finite_denoiser(frames_to_batch(clips()[0]))
    alone = batch_to_frames(pictures(frames_to_batch(z), level.expand(FRAMES)), 1)
    together = knows_all()(z, level)
    blender = AlphaBlender(float(logit))
    with torch.no_grad():
        mixed = blender(alone, together)
        shares = [(a / 4, float(AlphaBlender(a / 4)(torch.ones(1), torch.zeros(1)))) for a in range(-24, 25)]
        alpha = float(blender(torch.ones(1), torch.zeros(1)))
    return Shown(
        rf"z' = \alpha\, z_{{\mathrm{{spatial}}}} + (1 - \alpha)\, z_{{\mathrm{{temporal}}}}, \quad "
        rf"\alpha = \mathrm{{sigmoid}}({logit:.2f}) = {alpha:.3f}",
        plot([("α", shares)], [("now", logit, alpha)], "a", "α"),
        strip("each frame alone", alone) + strip("all frames together", together) + strip("mixed", mixed),
    )


def motion_latents(x: float, y: float) -> Shown:
    """Text2Video-Zero: frame k's noise is frame 0's, moved by k δ."""
    first = example()[:, :, :1]
    scale = REFERENCE_SIZE / SIDE  # the flow is counted in pixels of a frame of 512
    moved = [move(first, (-k * x * scale, -k * y * scale)) for k in range(FRAMES)]
    path = [(k * x, -k * y) for k in range(FRAMES)]
    return Shown(
        rf"\delta^k = \lambda\,(k - 1)\,(\delta_x, \delta_y) = (k - 1)\,({x:.1f}, {y:.1f}), \quad "
        r"x_T^k = W_k(x_T^1)",
        plot([("where the content goes", path)], [("frame 12", *path[-1])], "pixels right", "pixels up"),
        strip("one picture's latents, moved (here the picture itself, to be seen)", torch.cat(moved, 2)),
    )


def multi_diffusion(size: float, overlap: float) -> Shown:
    """Long videos in windows, averaged where they overlap."""
    window, shared = int(size), min(int(overlap), int(size) - 1)
    x = example()
    windows = windows_of(FRAMES, window, shared)
    data = clips()[0]
    denoise = windowed(lambda w: finite_denoiser(data[:, :, w]), FRAMES, window, shared)
    *_, last = sample_ddim(denoise, noise_like(x), sampling_grid(WALK, 8))
    counts = [(f, sum(w.start <= f < w.stop for w in windows)) for f in range(FRAMES)]
    bars = [(f"frames {w.start}-{w.stop - 1}", [(w.start, i + 1.0), (w.stop - 1, i + 1.0)])
            for i, w in enumerate(windows[:3])]  # fmt: skip
    return Shown(
        rf"J^*_f = \frac{{1}}{{|\{{w : f \in w\}}|}} \sum_{{w \ni f}} \Phi_w(J_w)_f, \quad "
        rf"{len(windows)} \text{{ windows of }} {window}\text{{, }}{shared}\text{{ shared}}",
        plot([("windows that see the frame", counts), *bars], (), "frame", "windows"),
        strip("drawn in windows", last.z),
    )


def cascade(stage: float, signal: float) -> Shown:
    """A cascade: each stage is shown the smaller video, with noise on it, and is told how much."""
    x, place = example(), int(stage)
    sides = [SIDE // 4, SIDE // 2, SIDE][: place + 1]
    small = [resized(x, side, side) for side in sides]
    seen = resized(small[max(0, place - 1)], SIDE, SIDE)
    level = torch.tensor([math.log(signal)], dtype=torch.float64)
    noisy = augment_condition(seen, noise_like(x, "augmentation"), level)

    def missed(ratio: float) -> float:
        """How far what the stage is shown is from what the stage before made."""
        told = torch.tensor([math.log(ratio)], dtype=torch.float64)
        return float((augment_condition(seen, noise_like(x, "augmentation"), told) - seen).square().mean().sqrt())

    errors = [(s / 2, missed(s / 2)) for s in range(1, 41)]
    frames = [strip(f"{v.shape[-1]}x{v.shape[-1]}", resized(v, SIDE, SIDE)) for v in small]
    if place:
        frames.insert(place, strip(f"what stage {place + 1} is shown of it", noisy))
    return Shown(
        rf"c' = \alpha_a c + \sigma_a n = {float(alpha_of(level)):.3f}\, c + {float(sigma_of(level)):.3f}\, n, \quad "
        rf"\lambda_a = \log {signal:.1f}",
        plot(
            [("how far c' is from c", errors)],
            [("now", signal, missed(signal))],
            "signal-to-noise ratio",
            "RMS distance",
        ),
        "".join(frames),
    )


LESSONS = (
    Lesson(
        "Reconstruction guidance", "Given frames pull on the others through the denoiser's gradient.",
        (Slider("weight", "weight w_r", 0, 12, 4.0, 0.5), Slider("known", "given frames", 1, 11, 4, 1)), given_frames,
        "diffusion.conditioning.reconstruction_guidance", "2204.03458 eq. 7",
    ),
    Lesson(
        "Temporal mix", "New temporal layers begin with no say: α near 1 leaves each frame to itself.",
        (Slider("logit", "mix factor a", -6, 6, 0.5, 0.25),), temporal_mix, "nn.temporal.AlphaBlender",
        "2304.08818 section 3.1",
    ),
    Lesson(
        "Motion latents", "An image model's video moves because its noise does.",
        (Slider("x", "δ to the right, pixels a frame", -2, 2, 1.0, 0.1),
         Slider("y", "δ down, pixels a frame", -2, 2, 0.0, 0.1)),
        motion_latents, "diffusion.motion_field.move", "2303.13439 eq. 6",
    ),
    Lesson(
        "MultiDiffusion windows", "Each window is denoised alone; what overlaps is averaged, so that windows agree.",
        (Slider("size", "window, frames", 2, 12, 6, 1), Slider("overlap", "shared frames", 0, 10, 3, 1)),
        multi_diffusion, "diffusion.windows.windowed", "2302.08113 eq. 5, 2401.12945 section 3.2",
    ),
    Lesson(
        "A cascade, stage by stage", "Noise on what a stage is shown makes it forgive the stage before.",
        (Slider("stage", "stage", 0, 2, 1, 1),
         Slider("signal", "signal-to-noise ratio of the condition", 0.5, 20, 3.0, 0.5)),
        cascade, "diffusion.process.augment_condition", "2106.15282, 2210.02303",
    ),
)  # fmt: skip
