"""docs/pictures/systems/*.svg: each system as boxes and arrows, drawn from the lists below.

python -m benchmarks.diagrams          writes them
"""

from __future__ import annotations

from html import escape
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "pictures" / "systems"
WIDTH, HEIGHT, GAP, MARGIN, TITLE = 148, 62, 34, 14, 20
#: What a box is filled with, by the mark its text begins with: "*" learns, "=" is frozen, anything else is data.
FILLS = {"*": "#ffe3c7", "=": "#dfe7f1"}
PLAIN = "#f4f4f0"
LEGEND = "orange: learns; blue: frozen; white: has no weights"
#: system -> rows of (what the row is, boxes from left to right; lines of a box are divided by a slash).
ROWS: dict[str, list[tuple[str, list[str]]]] = {
    "vdm": [
        ("one step of the sampler", [
            "noisy frames", "*convolution/within a frame", "*attention/over space", "*attention/over time",
            "estimate of/the clean frames",
        ]),
        ("with known frames", [
            "estimate", "error on the/known frames", "its gradient by/the noisy frames", "corrected/estimate",
        ]),
    ],
    "imagen-video": [
        ("words enter every stage; sizes as published", [
            "words", "*base/16 of 40x24", "*time x2/32 of 40x24", "*space x2/32 of 80x48", "*space x4/32 of 320x192",
        ]),
        ("each stage is given noised frames of the one before", [
            "32 of 320x192", "*time x2/64 of 320x192", "*time x2/128 of 320x192", "*space x4/128 of 1280x768",
        ]),
    ],
    "make-a-video": [
        ("words end at the prior", [
            "words", "*prior", "embedding/of a picture", "*decoder with time/F frames",
            "*frame interpolation/(F - 1) s + 1 frames",
        ]),
        ("super-resolution", ["frames", "*over all frames", "*frame by frame,/equal noise", "large video"]),
    ],
    "tune-a-video": [
        ("tuning, on one video", ["video and/its caption", "=picture model", "*queries, attention/over time"]),
        ("editing", ["video", "DDIM/backwards", "its noise", "tuned model,/new words", "edited video"]),
    ],
    "gen-1": [
        ("structure", ["your video", "=depth", "blur and halve/t_s times", "=encoder", "structure s"]),
        ("content", ["words", "*prior", "embedding of/a picture c", "*video model/given s and c", "restyled video"]),
    ],
    "text2video-zero": [
        ("frame 1", ["noise", "=picture model/from T to T'", "latent of frame 1"]),
        ("the others", [
            "that latent,/moved by W_k", "noised again/from T' to T", "=picture model, keys/of frame 1", "video",
        ]),
    ],
    "video-ldm": [
        ("behind every layer", [
            "frames", "=layer over space/of the picture model", "*layer over time", "*mix alpha", "frames",
        ]),
        ("long videos", ["key frames", "*prediction,/block by block", "*interpolation,/twice", "*decoder with time"]),
    ],
    "control-video": [
        ("structure", ["your video", "edges, depth/or poses", "=ControlNet"]),
        ("all frames at once", [
            "one noise", "=picture model, keys/of all frames", "estimate, every/other frame/interpolated", "new video",
        ]),
    ],
    "stable-video": [
        ("data and stages", ["pictures", "many curated/videos", "few good videos", "*the whole/network"]),
        ("a picture brought to life", [
            "picture", "its embedding,/its latents", "fps, motion bucket,/noise level", "*video model", "video",
        ]),
    ],
    "lumiere": [
        ("all frames in one pass", [
            "all frames", "=picture layer/*layer over time", "*halved in/space and time", "*attention over/few frames",
            "*doubled again",
        ]),
        ("super-resolution", ["small video", "overlapping/windows", "*each denoised", "their average/at every step"]),
    ],
    "sora": [
        ("compression", ["video or picture/of any size", "*causal/autoencoder", "latents", "patches are tokens"]),
        ("generation", [
            "noise of the/size wanted", "several clips/in one row", "*transformer, words/by cross-attention",
            "*decoder", "video",
        ]),
    ],
}  # fmt: skip


def box(text: str, x: int, y: int) -> str:
    fill, shown = FILLS.get(text[0], PLAIN), text.lstrip("*=")
    lines = [line.lstrip("*=") for line in shown.split("/")]
    first = y + HEIGHT // 2 - 8 * (len(lines) - 1) + 4
    middle = x + WIDTH // 2
    rows = "".join(f'<text x="{middle}" y="{first + 16 * i}">{escape(line)}</text>' for i, line in enumerate(lines))
    return f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="6" fill="{fill}" stroke="#555"/>{rows}'


def arrow(x: int, y: int) -> str:
    return f'<path d="M{x} {y}h{GAP - 8}m-6 -4l6 4l-6 4" fill="none" stroke="#555" stroke-width="1.4"/>'


def drawn(name: str) -> str:
    """The picture of a system."""
    rows, parts = ROWS[name], []
    for number, (title, boxes) in enumerate(rows):
        y = MARGIN + number * (HEIGHT + TITLE + GAP // 2)
        parts.append(f'<text x="{MARGIN}" y="{y + 8}" class="title">{escape(title)}</text>')
        for i, text in enumerate(boxes):
            x = MARGIN + i * (WIDTH + GAP)
            parts.append(box(text, x, y + TITLE))
            if i:
                parts.append(arrow(x - GAP + 2, y + TITLE + HEIGHT // 2))
    width = 2 * MARGIN + max(len(boxes) for _, boxes in rows) * (WIDTH + GAP) - GAP
    legend = MARGIN + len(rows) * (HEIGHT + TITLE + GAP // 2)
    parts.append(f'<text x="{MARGIN}" y="{legend}" class="title">{LEGEND}</text>')
    style = "text{font:13px sans-serif;text-anchor:middle;fill:#222}.title{text-anchor:start;font-style:italic}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {legend + MARGIN}" width="{width}">'
        f'<style>{style}</style><rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in ROWS:
        (FOLDER / f"{name}.svg").write_text(drawn(name), encoding="utf-8")


if __name__ == "__main__":
    main()
