"""Video without training, measured: `python -m benchmarks.zero_shot flicker|speed|memory|tune|restyle`.

flicker: flow-warped error with exact flow and frame consistency (emoji-clip) on drawn scenes, for independent frames,
Text2Video-Zero and ControlVideo under the same ControlNet. speed: Text2Video-Zero against diffusers' deprecated
pipeline on the same random weights of Stable Diffusion 1.5's width, files in half precision, both computing in float32,
each alternately in a process of its own. memory:
ControlVideo's peak at 20 and at 100 frames. tune: Tune-A-Video on real loops. restyle: Gen-1's levels and omega_t.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.against_diffusers import in_turn, peak, stable_diffusion_folder
from benchmarks.emoji import Judge
from muybridge.data.emoji import EmojiConfig, EmojiSource, group_of
from muybridge.data.world import WorldConfig, WorldSource
from muybridge.evaluation.consistency import frame_consistency, warped_error
from muybridge.evaluation.motion import psnr
from muybridge.files import ZOO
from muybridge.library.catalogue import find_part, sampling_of
from muybridge.models.text.scorers import open_scorer
from muybridge.models.vision.control import Control, open_control_net
from muybridge.models.vision.optical_flow import flow_between
from muybridge.models.vision.structure import control_pictures, estimator_named
from muybridge.nn.frames import from_uint8
from muybridge.opening.sampling import load_zero_shot
from muybridge.pipelines.zero_shot import View, ZeroShotPipeline
from muybridge.systems.control_video.sampling import ControlVideoConfig, control_video
from muybridge.systems.text2video_zero.sampling import ZeroConfig, text_to_video_zero

RESULTS = Path(__file__).with_name("zero_shot.json")
FRAMES = 8


def flicker(count: int) -> dict[str, Any]:
    pipeline = load_zero_shot("emoji-image")
    folder = find_part("emoji-edges")
    net, scorer = open_control_net(folder), open_scorer(find_part("emoji-clip"))
    source = WorldSource(WorldConfig(num_frames=FRAMES, num_clips=400, sizes=("large",), two_things=0.0))
    methods: dict[str, Any] = {
        "independent frames": "own-noise",
        "Text2Video-Zero": "zero",
        "ControlVideo": ControlVideoConfig(),
        "ControlVideo, no smoother": ControlVideoConfig(smooth_at=None),
        "ControlVideo, first-frame attention, no smoother": ControlVideoConfig(attention="first", smooth_at=None),
        "ControlVideo, own-frame attention, no smoother": ControlVideoConfig(attention="own", smooth_at=None),
        "ControlVideo, linear smoother": ControlVideoConfig(interpolator="linear"),
    }
    scores: dict[str, list[tuple[float, float]]] = {name: [] for name in methods}
    told = {"num_inference_steps": 20, "guidance_scale": sampling_of(folder).get("guidance_scale")}
    size = {"num_frames": FRAMES, "height": 64, "width": 64, **told}
    for i in range(count):
        scene, _ = source.scene(i)
        flow, shown = scene.flow(), control_pictures(estimator_named("edges")(scene.frames()))
        prompt = ["red apple, fluent style", "soccer ball, fluent style", "gem stone, fluent style", "sun, noto style"][
            i % 4
        ]
        control = Control(net, shown)
        for name, method in methods.items():
            if isinstance(method, str):
                mode = "own" if method == "own-noise" else "first"
                config = ZeroConfig(attention=mode, motion_field=False)
                if method == "own-noise":
                    frames = np.concatenate([
                        _alone(pipeline, Control(net, shown[k : k + 1]), prompt, 100 * i + k, told)
                        for k in range(FRAMES)
                    ])  # fmt: skip
                else:
                    frames = text_to_video_zero(pipeline, prompt, i, config, controls=[control], **size).frames[0]
            else:
                frames = control_video(pipeline, prompt, [control], i, method, **size).frames[0]
            scores[name].append((warped_error(frames, flow), frame_consistency(scorer, frames)))
    return {
        name: {
            "warped error": float(np.mean([r[0] for r in rows])),
            "consistency": float(np.mean([r[1] for r in rows])),
        }
        for name, rows in scores.items()
    } | {"scenes": count}


def _alone(pipeline: ZeroShotPipeline, control: Control, prompt: str, seed: int, told: dict[str, Any]) -> np.ndarray:
    view = View(controls=[control])
    made: np.ndarray = pipeline(prompt, seed=seed, num_frames=1, view=view, **told).frames[0]
    return made


# --- against diffusers ----------------------------------------------------------------------------------------------

SIDE, STEPS = 256, 4


def one_run(whose: str, folder: Path) -> dict[str, float]:
    """Text2Video-Zero once, in this process: seconds of sampling and decoding, and peak memory beyond the start."""
    torch.set_num_threads(2)
    options = {"num_inference_steps": STEPS, "height": SIDE, "width": SIDE, "guidance_scale": 7.5}
    if whose == "ours":
        pipeline = load_zero_shot(folder)
        pipeline.condition(["", "a"], pipeline.settings())
        before = peak()
        begin = time.perf_counter()
        text_to_video_zero(pipeline, "a", 0, ZeroConfig(moved_at=0.5, joined_at=0.25), num_frames=FRAMES, **options)
    else:
        from diffusers import TextToVideoZeroPipeline

        theirs = TextToVideoZeroPipeline.from_pretrained(
            str(folder), local_files_only=True, safety_checker=None, feature_extractor=None, torch_dtype=torch.float32
        )
        theirs.set_progress_bar_config(disable=True)
        before = peak()
        begin = time.perf_counter()
        # the same steps: to step 2, joined at step 1
        theirs("a", video_length=FRAMES, t0=STEPS - 3, t1=STEPS - 2, **options)
    return {"seconds": time.perf_counter() - begin, "peak": peak(), "before": before}


def speed(count: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = stable_diffusion_folder(Path(scratch) / "sd15", half=True)
        return {"frames": FRAMES, "side": SIDE, "steps": STEPS} | in_turn("benchmarks.zero_shot", folder, count)


# --- memory of long videos ------------------------------------------------------------------------------------------


def memory_run(frames: int) -> dict[str, float]:
    torch.set_num_threads(2)
    pipeline = load_zero_shot("emoji-image")
    control = Control(open_control_net(find_part("emoji-edges")), torch.zeros(frames, 3, 64, 64))
    control_video(
        pipeline, "fox, fluent style", [control], 0, ControlVideoConfig(hierarchical=True), num_frames=frames,
        num_inference_steps=4,
    )  # fmt: skip
    return {"peak": peak()}


def memory(count: int) -> dict[str, Any]:
    found = {}
    for frames in (20, 100):
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.zero_shot", "long", "--frames", str(frames)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[f"{frames} frames, GB"] = json.loads(done.stdout.splitlines()[-1])["peak"]
    return found | {"ratio": found["100 frames, GB"] / found["20 frames, GB"]}


# --- one-shot tuning ------------------------------------------------------------------------------------------------

#: Loops (captions of the data) and the three things each becomes.
EDITS = {
    "fox": ("cat face", "panda", "lion"),
    "red heart": ("blue heart", "green heart", "purple heart"),
    "rocket": ("airplane", "sailboat", "bus"),
    "ghost": ("alien", "robot", "jack-o-lantern"),
    "smiling face with sunglasses": ("robot", "clown face", "alien"),
}


#: emoji-image knows its words without guidance, and guidance costs motion: of the edits of a heart the flow correlates
#: with the source's by .31 - .48 at 3, by .56 - .61 at 1, and the new subject is first in both.
EDIT_GUIDANCE = 1.0


def tune(count: int, steps: int = 200) -> dict[str, Any]:
    from muybridge.data.video_io import write_video
    from muybridge.opening.sampling import load_pipeline
    from muybridge.pipelines.inversion import invert, sample_from

    loops = EmojiSource(EmojiConfig("animations", 16, split="all"))
    captions = [e.caption for e in loops.entries]
    stills = [EmojiSource(EmojiConfig("stills", 1, styles=("fluent",), split=s)) for s in ("train", "validation")]
    judge, scratch = Judge(stills), Path("runs/tune-benchmark")  # kept: the command goes on
    scratch.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, edits in list(EDITS.items())[:count]:
        clip = loops.clip(captions.index(name))
        write_video(clip.frames, scratch / f"{name}.npy", clip.fps)
        folder = scratch / name
        command = [
            "tune", str(scratch / f"{name}.npy"), "--caption", f"{name}, fluent style", "--folder", str(folder),
            "--train-steps", str(steps), "--learning-rate", "3e-4", "--num-frames", "16", "--steps", "25",
        ]  # fmt: skip
        if not (folder / "model").is_dir():
            subprocess.run(
                [sys.executable, "-W", "ignore", "-m", "muybridge.cli.main", *command], check=True, capture_output=True
            )
        pipeline: Any = load_pipeline(str(folder / "model"))
        samples = pipeline.to_samples(from_uint8(clip.frames)[None])
        noise = invert(pipeline, samples, 5)
        same = sample_from(pipeline, noise, "", guidance_scale=1.0).frames[0]
        back = pipeline.to_pixels(samples)
        truth = ((back[0].clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 3, 0).numpy()
        flow = _flows(clip.frames)
        for edit in edits:
            made = sample_from(pipeline, noise, f"{edit}, fluent style", guidance_scale=EDIT_GUIDANCE).frames[0]
            write_video(made, scratch / f"{name}-{edit}.gif", clip.fps)
            rows.append(
                {
                    "loop": name, "edit": edit, "round trip, dB": psnr(same, truth),
                    "flow correlation": float(np.corrcoef(flow.ravel(), _flows(made).ravel())[0, 1]),
                    "rank of the new": judge.rank(made, group_of(edit)), "rank of the old": judge.rank(made,
                    group_of(name)),
                }
            )  # fmt: skip
            print(json.dumps(rows[-1]), flush=True)
    return {
        "rows": rows,
        "round trip, dB, lowest": min(r["round trip, dB"] for r in rows),
        "flow correlation, mean": float(np.mean([r["flow correlation"] for r in rows])),
        "new subject first": float(np.mean([r["rank of the new"] < 1 for r in rows])),
        "new subject first five": float(np.mean([r["rank of the new"] < 5 for r in rows])),
        "old subject first": float(np.mean([r["rank of the old"] < 1 for r in rows])),
        "pictures in": str(scratch),
    }


def _flows(frames: np.ndarray) -> np.ndarray:
    greys = frames.mean(-1).astype(np.uint8)
    return np.stack([flow_between(a, b) for a, b in zip(greys, greys[1:], strict=False)])


# --- structure and content ------------------------------------------------------------------------------------------


def restyle(count: int) -> dict[str, Any]:
    from muybridge.opening.sampling import load_pipeline
    from muybridge.systems.gen1.pipeline import depth_video

    pipeline: Any = load_pipeline("emoji-restyle")
    scorer, estimator = open_scorer(find_part("emoji-clip")), estimator_named("depth")
    loops = EmojiSource(EmojiConfig("animations", 8, split="validation"))
    chosen = np.linspace(0, len(loops) - 1, count).astype(int)
    levels: dict[int, list[float]] = {level: [] for level in (0, 2, 4, 6)}
    scales: dict[float, list[float]] = {scale: [] for scale in (0.5, 1.0, 1.5)}
    contents = ["robot, fluent style", "tiger face, fluent style", "red apple, fluent style", "alien, fluent style"]
    for number, index in enumerate(chosen):
        frames = loops.clip(int(index)).frames
        depth, words = depth_video(estimator(frames)), contents[number % len(contents)]
        for level in levels:
            made = pipeline(depth, words, number, level=level).frames[0]
            levels[level].append(float((depth_video(estimator(made)) - depth).abs().mean() / 2))
        for scale in scales:
            made = pipeline(depth, words, number, level=2, temporal_scale=scale).frames[0]
            scales[scale].append(frame_consistency(scorer, made))
    return {
        "clips": count,
        "depth error by level": {str(k): float(np.mean(v)) for k, v in levels.items()},
        "frame consistency by omega_t": {str(k): float(np.mean(v)) for k, v in scales.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["flicker", "speed", "memory", "tune", "restyle", "one", "long"])
    parser.add_argument("--count", type=int, default=4)
    parser.add_argument("--whose", default="ours")
    parser.add_argument("--folder", type=Path, default=Path())
    parser.add_argument("--frames", type=int, default=20)
    arguments = parser.parse_args()
    if arguments.what == "one":
        print(json.dumps(one_run(arguments.whose, arguments.folder)))
        return
    if arguments.what == "long":
        print(json.dumps(memory_run(arguments.frames)))
        return
    measure = {"flicker": flicker, "speed": speed, "memory": memory, "tune": tune, "restyle": restyle}[arguments.what]
    figures = measure(arguments.count)
    known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    known[arguments.what] = figures
    if arguments.what == "restyle":
        (ZOO / "emoji-restyle" / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    RESULTS.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
