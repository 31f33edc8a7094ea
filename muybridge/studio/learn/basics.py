"""Lessons on noise: schedules, the forward process, the circle on which v and DDIM live, guidance."""

from __future__ import annotations

import math

import torch

from muybridge.diffusion.guidance import classifier_free
from muybridge.diffusion.prediction import target_of, to_x
from muybridge.diffusion.process import diffuse
from muybridge.diffusion.samplers import sample_ddim
from muybridge.diffusion.schedule import (
    CosineSchedule,
    Schedule,
    alpha_of,
    per_sample,
    phi_of,
    schedule_from_name,
    sigma_of,
)
from muybridge.diffusion.tables import sampling_grid, time_grid
from muybridge.studio.learn.clips import WORDS, example, knows_all, knows_words, noise_like, of_words
from muybridge.studio.learn.drawing import plot, strip
from muybridge.studio.learn.lesson import Lesson, Shown, Slider

#: Schedules with a finite range, as most systems have them; the flow's ends are infinite.
NAMES = ("cosine", "linear", "uniform", "flow")
#: What the lessons sample with.
WALK: Schedule = CosineSchedule(-12.0, 12.0)


def schedules(name: str, kappa: float, time: float) -> Shown:
    """λ(t) of a schedule, and a clip at that level."""
    schedule = schedule_from_name(name, {"kappa": kappa})
    times = time_grid(60).flip(0)[1:-1]
    here = torch.tensor([time], dtype=torch.float64)
    lam = schedule(here)
    alpha, sigma = float(alpha_of(lam)), float(sigma_of(lam))
    x = example()
    label = name if kappa == 1 else f"{name}, shifted by log {kappa:g}"
    lines = [(label, list(zip(times.tolist(), schedule(times).tolist(), strict=True)))]
    if kappa != 1:
        plain = schedule_from_name(name)
        lines.append((name, list(zip(times.tolist(), plain(times).tolist(), strict=True))))
    formula = (
        rf"\lambda({time:.2f}) = \log\frac{{\alpha^2}}{{\sigma^2}} = {round(float(lam), 2) + 0.0:.2f}, \quad "
        rf"\alpha = {alpha:.3f}, \quad \sigma = {sigma:.3f}"
    )
    return Shown(
        formula, plot(lines, [("now", time, float(lam))], "t", "log-SNR λ"),
        strip("the clip at this level", diffuse(x, noise_like(x), lam)),
    )  # fmt: skip


def forward(lam: float) -> Shown:
    """z = α x + σ ε."""
    x, level = example(), torch.tensor([lam], dtype=torch.float64)
    eps = noise_like(x)
    levels = torch.linspace(-12, 12, 80, dtype=torch.float64)
    curves = [(name, list(zip(levels.tolist(), f(levels).tolist(), strict=True)))
              for name, f in (("α", alpha_of), ("σ", sigma_of))]  # fmt: skip
    alpha, sigma = float(alpha_of(level)), float(sigma_of(level))
    z = diffuse(x, eps, level)
    return Shown(
        rf"z = \alpha x + \sigma \epsilon = {alpha:.3f}\, x + {sigma:.3f}\, \epsilon, \quad \alpha^2 + \sigma^2 = 1",
        plot(curves, [("α", lam, alpha), ("σ", lam, sigma)], "log-SNR λ", "α and σ"),
        strip("x", x) + strip("z", z) + strip("what the best denoiser makes of z, E[x | z]", knows_all()(z, level)),
    )


def circle(steps: float, step: float) -> Shown:
    """The angle φ of a level, v = dz/dφ, and DDIM walking along the arc."""
    count = int(steps)
    place = min(int(step), count)
    x = example()
    lams = sampling_grid(WALK, count)
    z = noise_like(x)
    states = list(sample_ddim(knows_all(), z, lams))
    seen, estimate = (z, knows_all()(z, per_sample(lams[0], z))) if place == 0 else (
        states[place - 1].z, states[place - 1].x)  # fmt: skip
    here = lams[place : place + 1]
    phi = float(phi_of(here))
    arc = torch.linspace(-14, 14, 80, dtype=torch.float64)
    angles = [(math.cos(a), math.sin(a)) for a in phi_of(arc).tolist()]
    walk = [(float(alpha_of(lam)), float(sigma_of(lam))) for lam in lams]
    one, other = torch.tensor([[1.0]]), torch.tensor([[0.0]])  # x̂ and ε̂ as the axes: v is the tangent
    across, along = (float(target_of(a, b, here, "v_prediction")) for a, b in ((one, other), (other, one)))
    tangent = [(math.cos(phi), math.sin(phi)), (math.cos(phi) + 0.4 * across, math.sin(phi) + 0.4 * along)]
    told = rf"\phi = {phi:.3f}, \quad z = \cos\phi\, x + \sin\phi\, \epsilon, \quad v = \frac{{dz}}{{d\phi}} = "
    return Shown(
        told + rf"{math.cos(phi):.3f}\, \epsilon - {math.sin(phi):.3f}\, x",
        plot(
            [("z at every φ", angles), (f"DDIM's {count} steps", walk), ("v", tangent)],
            [("now", math.cos(phi), math.sin(phi))], "share of x", "share of ε", square=True,
        ),
        strip(f"z after step {place}", seen) + strip("x̂ of that step", estimate),
    )  # fmt: skip


def guidance(scale: float) -> Shown:
    """x̂ = x̂(∅) + g (x̂(c) - x̂(∅))."""
    x = of_words()[:1]
    level = torch.tensor([-3.0], dtype=torch.float64)
    z = diffuse(example(), noise_like(x), level)
    wanted = of_words().flatten(1)

    def apart(g: float) -> float:
        """How far the guided estimate is from the nearest clip of the caption."""
        made = classifier_free(knows_words(), knows_all(), g)(z, level).flatten(1)
        return float((made - wanted).square().mean(1).min().sqrt())

    scales = [i / 2 for i in range(17)]
    walked = list(
        sample_ddim(classifier_free(knows_words(), knows_all(), scale), noise_like(x), sampling_grid(WALK, 8))
    )
    return Shown(
        rf"\hat x = \hat x(\varnothing) + g\,(\hat x(c) - \hat x(\varnothing)), \quad g = {scale:.1f}",
        plot(
            [("distance of the estimate", [(g, apart(g)) for g in scales])], [("now", scale, apart(scale))],
            "guidance scale g", f'distance from a clip of "{WORDS}"',
        ),
        strip("the guided estimate at λ = -3", classifier_free(knows_words(), knows_all(), scale)(z, level))
        + strip(f'drawn with g = {scale:.1f}, c = "{WORDS}"', walked[-1].z),
    )  # fmt: skip


def predictions(lam: float) -> Shown:
    """What ε, x and v say of each other: an error in each, as an error in x̂."""
    levels = torch.linspace(-10, 10, 80, dtype=torch.float64)
    kinds = ("epsilon", "sample", "v_prediction")
    one = torch.ones(1, dtype=torch.float64)

    def error(kind: str, level: torch.Tensor) -> float:
        """By how much x̂ changes when the network's output does by 1."""
        return abs(float(to_x(one, 0 * one, level[None], kind) - to_x(0 * one, 0 * one, level[None], kind)))

    x, level = example(), torch.tensor([lam], dtype=torch.float64)
    eps = noise_like(x)
    curves = [(kind, [(float(v), math.log10(error(kind, v))) for v in levels]) for kind in kinds]
    told = ", \\quad ".join(
        rf"\left|\frac{{d\hat x}}{{d\hat {symbol}}}\right| = {error(kind, level[0]):.3g}"
        for kind, symbol in zip(kinds, ("\\epsilon", "x", "v"), strict=True)
    )
    return Shown(
        told,
        plot(curves, [("now", lam, math.log10(error("v_prediction", level[0])))], "log-SNR λ", "log10 |dx̂ / d output|"),
        strip("z", diffuse(x, eps, level))
        + strip("v, which the network predicts", target_of(x, eps, level, "v_prediction")),
    )  # fmt: skip


LEVEL = Slider("lam", "log-SNR λ", -10, 10, 0.0, 0.1)
LESSONS = (
    Lesson(
        "Noise schedules and log-SNR",
        "A schedule says how noisy time t is. Shifting it by log κ gives larger videos more noise.",
        (Slider("name", "schedule", choices=NAMES, start="cosine"), Slider("kappa", "κ", 0.25, 16, 1.0, 0.25),
         Slider("time", "time t", 0.01, 0.99, 0.5)),
        schedules, "diffusion.schedule.schedule_from_name, diffusion.process.diffuse", "2107.00630, 2301.11093",
    ),
    Lesson(
        "The forward process", "Data and noise are mixed; their squared shares add up to one.", (LEVEL,), forward,
        "diffusion.process.diffuse, diffusion.oracle.finite_denoiser", "2204.03458 eq. 1",
    ),
    Lesson(
        "What the network predicts", "The same error of the network is a different error of x̂ at every level.",
        (LEVEL,), predictions, "diffusion.prediction.to_x, target_of", "2202.00512 section 4",
    ),
    Lesson(
        "The circle: v, and DDIM walking along it",
        "At angle φ, z is cos φ x + sin φ ε. The velocity v is the tangent; DDIM goes along the arc in straight steps.",
        (Slider("steps", "steps", 1, 24, 6, 1), Slider("step", "after step", 0, 24, 3, 1)), circle,
        "diffusion.samplers.sample_ddim, diffusion.schedule.phi_of", "2202.00512 appendix D, 2010.02502 eq. 12",
    ),
    Lesson(
        "Classifier-free guidance", "More guidance goes further than the caption alone: nearer at first, then too far.",
        (Slider("scale", "guidance scale g", 0, 8, 1.0, 0.1),), guidance,
        "diffusion.guidance.classifier_free", "2207.12598 eq. 6",
    ),
)  # fmt: skip
