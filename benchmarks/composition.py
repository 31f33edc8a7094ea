"""Does a model compose? `python -m benchmarks.composition --model NAME --output FIGURES.json --picture SHEET.png`.

Prompts of `sprites` with held-out combinations, in free phrasing (one thing with its motion and background; two things
in a relation), and sentences of unknown words around a known thing, judged by `benchmarks.judges`: programs that share
no weights and no code with the model. Beside every figure stand its bar and the judges' ceiling: what they call right
of the true scenes of the same prompts, and of these after the model's autoencoder. An image model is asked for
pictures, and no motion.

The judges are fitted on the first call (some minutes on one core) and kept in the cache folder. `--calibrate N` fits
them and measures them on N scenes of the validation split, with their confusions, and samples nothing.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.judges.clips import scenes_for_judges
from benchmarks.judges.panel import Panel, Verdict, rights
from benchmarks.judges.prompts import Case, pair_cases, sentence_cases, single_cases
from benchmarks.judges.sheet import write_sheet
from muybridge.files import write_json
from muybridge.nn.frames import from_uint8, to_uint8
from muybridge.opening.sampling import load_pipeline

Array = np.ndarray
#: What is asked for, by kind of prompt: name -> share.
BARS: dict[str, dict[str, float]] = {
    "one thing": {"thing": 0.75, "motion": 0.75, "background": 0.85, "all": 0.60},
    "two things": {"both present": 0.60},
    "sentences": {"thing": 0.70},
}


def judged(panel: Panel, cases: list[Case], videos: list[Array], accepted: list[set[str]]) -> list[dict[str, Any]]:
    """A row a video: what is right, and what the judges saw."""
    rows = []
    for case, video, motions in zip(cases, videos, accepted, strict=True):
        verdict = panel.judge(video, case.concepts)
        rows.append({"right": rights(verdict, case.told, motions, len(video) > 1), "seen": verdict})
    return rows


def shares(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Share of the videos in which each is right; a relation's among those that show both things."""
    out: dict[str, float] = {}
    for name in rows[0]["right"]:
        among = [r["right"] for r in rows if name != "relation, of those" or r["right"]["both present"]]
        out[name] = float(np.mean([r[name] for r in among])) if among else 0.0
    return out


def round_trip(pipeline: Any, videos: list[Array]) -> list[Array]:
    """The videos as the model's own autoencoder gives them back; none where it works on pixels."""
    space = getattr(pipeline, "space", None)
    if space is None:
        return []
    with torch.no_grad():
        return [to_uint8(space.decode(space.encode(from_uint8(v)[None])[0]))[0] for v in videos]


def measure(panel: Panel, pipeline: Any, cases: list[Case], arguments: argparse.Namespace, tell: str) -> dict[str, Any]:
    """Sample a kind of prompt and judge it, beside its ceilings."""
    began, videos = time.monotonic(), []
    for i in range(0, len(cases), arguments.batch_size):
        some = [c.prompt for c in cases[i : i + arguments.batch_size]]
        videos += list(pipeline(some, seed=arguments.seed + i, batch_size=arguments.batch_size).frames)
    seconds = time.monotonic() - began
    truths = [c.truth()[: len(v)] for c, v in zip(cases, videos, strict=True)]
    accepted = [
        panel.motions_as_seen(t, c.told["things"][0]["motion"]) if len(t) > 1 else {""}
        for c, t in zip(cases, truths, strict=True)
    ]
    rows = judged(panel, cases, videos, accepted)
    figures: dict[str, Any] = {
        "count": len(cases),
        "right": shares(rows),
        "true scenes": shares(judged(panel, cases, truths, accepted)),
        "either of two motions is right of": sum(len(a) > 1 for a in accepted),
        "sampling seconds": round(seconds, 1),
        "videos": [_row(c, r) for c, r in zip(cases, rows, strict=True)],
    }
    back = round_trip(pipeline, truths[: arguments.round_trips])
    if back:
        found = judged(panel, cases[: len(back)], back, accepted[: len(back)])
        figures["true scenes after the autoencoder"] = shares(found) | {"count": len(back)}
    if arguments.picture:
        path = arguments.picture.with_stem(f"{arguments.picture.stem}-{tell.replace(' ', '-')}")
        write_sheet(videos[:24], [c.prompt for c in cases[:24]], path)
    return figures


def _row(case: Case, row: dict[str, Any]) -> dict[str, Any]:
    seen: Verdict = row["seen"]
    told = case.told
    return {
        "prompt": case.prompt, "right": row["right"], "concepts": case.concepts,
        "motion": told["things"][0]["motion"], "background": [told["background"], *told["background_colours"]],
        "seen": {"ranks": list(seen.ranks), "thing": seen.best, "count": seen.count, "motion": seen.motion,
                 "relation": seen.relation, "background": [seen.backdrop.name, *seen.backdrop.colours]},
    }  # fmt: skip


def calibrate(panel: Panel, count: int) -> dict[str, Any]:
    """The judges on true scenes of the validation split: how often they are right, and what they take for what."""
    source = scenes_for_judges("validation", **panel.changes)
    sums: dict[str, list[bool]] = {}
    wrong: dict[str, Counter[str]] = {"thing": Counter(), "motion": Counter(), "background": Counter(),
                                      "relation": Counter()}  # fmt: skip
    for index in range(count):
        told, frames = source.describe(index), source.clip(index).frames
        if told["layout"] not in ("one", "related"):
            continue
        thing = told["things"][0]
        case = Case(told["caption"], told, lambda frames=frames: frames)
        verdict = panel.judge(frames, case.concepts)
        motions = panel.motions_as_seen(frames, thing["motion"])
        right = rights(verdict, told, motions, True)
        for name, value in right.items():
            if name != "relation, of those" or right["both present"]:
                sums.setdefault(f"{told['layout']}: {name}", []).append(value)
        if told["layout"] == "one":
            sums.setdefault(f"one: thing, {thing['size']}", []).append(right["thing"])
            sums.setdefault(f"one: thing, {thing['motion']}", []).append(right["thing"])
            _count(wrong["thing"], right["thing"], thing["concept"], verdict.best)
            _count(wrong["motion"], right["motion"], thing["motion"], verdict.motion)
        elif right["both present"]:
            _count(wrong["relation"], right["relation, of those"], told["relation"], verdict.relation)
        seen = " ".join((verdict.backdrop.name, *(verdict.backdrop.colours if told["background_colours"] else ())))
        _count(
            wrong["background"], right["background"], " ".join((told["background"], *told["background_colours"])), seen
        )
    return {
        "right": {name: {"share": float(np.mean(v)), "count": len(v)} for name, v in sorted(sums.items())},
        "taken for another": {name: dict(found.most_common(25)) for name, found in wrong.items()},
    }


def _count(found: Counter[str], right: bool, wanted: str, seen: str) -> None:
    if not right:
        found[f"{wanted} -> {seen}"] += 1


def table(figures: dict[str, Any]) -> str:
    """The figures as lines: what, share, bar, ceilings, and whether the bar is met."""
    lines = [f"{'':34}{'right':>8}{'bar':>8}{'true':>8}{'round trip':>12}"]
    for kind, bars in BARS.items():
        found = figures.get(kind)
        if found is None:
            continue
        lines.append(f"{kind}, {found['count']}")
        for name, value in found["right"].items():
            if name in bars or (kind, name) not in (("sentences", "background"), ("sentences", "motion"),
                                                    ("sentences", "all")):  # fmt: skip
                bar, back = bars.get(name), found.get("true scenes after the autoencoder", {}).get(name)
                lines.append(
                    f"  {name:32}{value:8.1%}{f'{bar:.0%}' if bar else '':>8}{found['true scenes'][name]:8.1%}"
                    f"{f'{back:.1%}' if back is not None else '':>12}"
                    f"{'' if bar is None else '  pass' if value >= bar else '  below'}"
                )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="emoji-video")
    parser.add_argument("--singles", type=int, default=200, help="held-out prompts of one thing")
    parser.add_argument("--pairs", type=int, default=100, help="held-out prompts of two things in a relation")
    parser.add_argument("--sentences", type=int, default=100, help="sentences around a known thing")
    parser.add_argument(
        "--round-trips", type=int, default=100, help="true scenes put through the autoencoder, of each kind"
    )
    parser.add_argument("--calibrate", type=int, default=0, help="only measure the judges, on so many true scenes")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture", type=Path, default=None, help="sheets of the first 24 videos of each kind")
    parser.add_argument("--output", type=Path, default=None)
    arguments = parser.parse_args()
    panel = Panel()
    if arguments.calibrate:
        figures = calibrate(panel, arguments.calibrate)
        print(json.dumps(figures, indent=1))
    else:
        pipeline: Any = load_pipeline(arguments.model)
        frames = pipeline.settings().num_frames
        figures = {"model": arguments.model, "seed": arguments.seed}
        for kind, draw, count in (("one thing", single_cases, arguments.singles),
                                  ("two things", pair_cases, arguments.pairs),
                                  ("sentences", sentence_cases, arguments.sentences)):  # fmt: skip
            if count:
                figures[kind] = measure(panel, pipeline, draw(count, frames), arguments, kind)
        print(table(figures))
    if arguments.output:
        write_json(arguments.output, figures)


if __name__ == "__main__":
    main()
