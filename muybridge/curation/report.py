"""The report of a run as one HTML page that needs nothing else: counts, histograms, pictures of kept and dropped
clips."""

from __future__ import annotations

import base64
from collections import Counter
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from muybridge.curation.select import FILTERS
from muybridge.files import write_text

if TYPE_CHECKING:
    from muybridge.curation.pipeline import Curation, Outcome

BARS = 30
SHOWN = 24
STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse}td,th{padding:.2rem .7rem;border-bottom:1px solid #ddd;text-align:left}
.sheet{display:flex;flex-wrap:wrap;gap:.6rem}.sheet figure{margin:0;width:10rem}.sheet img{width:100%}
figcaption{font-size:12px;color:#555;overflow-wrap:anywhere}svg{background:#f6f6f6}.bad{fill:#d66}.good{fill:#69b}"""


def first_reason(clip: dict[str, Any]) -> str:
    """A reason in one or two words, for counting."""
    return clip["reasons"][0].split(":")[0].split(" of ")[0] if clip["reasons"] else ""


def summary(outcome: Outcome) -> list[tuple[str, int]]:
    """What a run came to, line by line: every file and every clip is in exactly one line of its part."""
    clips = outcome.clips
    unusable = Counter(s["problem"].get("kind", "no clip") for s in outcome.sources if not s["clips"])
    partly = sum(bool(s["clips"] and s["problem"]) for s in outcome.sources)
    lines = [
        ("files", len(outcome.sources)),
        ("  further copies of them", sum(len(s["twins"]) for s in outcome.sources)),
    ]
    lines += [(f"  unusable: {kind}", count) for kind, count in sorted(unusable.items())]
    lines += [("  used as far as they go", partly)] if partly else []
    lines += [("transitions", sum(len(s["zones"]) for s in outcome.sources)), ("clips", len(clips))]
    lines += [("  kept", sum(c["keep"] for c in clips))]
    dropped = Counter(first_reason(c) for c in clips if not c["keep"])
    lines += [(f"  dropped: {reason}", count) for reason, count in dropped.most_common()]
    return lines + ([("decisions by hand that could not be followed", len(outcome.unmet))] if outcome.unmet else [])


def histogram(values: list[float], threshold: float | None, bad: str) -> str:
    """An SVG of a score's values; what the threshold drops is red."""
    counts, edges = np.histogram(values, BARS)
    top = max(1, int(counts.max()))
    bars = []
    for i, count in enumerate(counts):
        middle = (edges[i] + edges[i + 1]) / 2
        gone = threshold is not None and (middle < threshold if bad == "low" else middle > threshold)
        high = 80 * count / top
        bars.append(
            f'<rect class="{"bad" if gone else "good"}" x="{i * 12}" y="{80 - high:.1f}" width="11" '
            f'height="{high:.1f}"/>'
        )
    said = "no threshold" if threshold is None else f"threshold {threshold:.4g}"
    return (
        f'<svg width="{BARS * 12}" height="80">{"".join(bars)}</svg>'
        f"<br><small>{edges[0]:.4g} to {edges[-1]:.4g}, {said}, {len(values)} clips</small>"
    )


def sheet(run: Curation, clips: list[dict[str, Any]], score: str = "") -> str:
    """Pictures of clips with what was decided, or with one score."""
    figures = []
    for clip in clips[:SHOWN]:
        data = run.picture_of(clip)
        image = f'<img src="data:image/jpeg;base64,{base64.b64encode(data).decode()}">' if data else ""
        words = clip["captions"][0]["text"] if clip["captions"] else ""
        note = f"{score} {clip['scores'][score]:.4g}" if score else "; ".join(clip["reasons"]) or words
        figures.append(
            f"<figure>{image}<figcaption>{escape(clip['path'])} {clip['start']:.1f}-{clip['end']:.1f} "
            f"s<br>{escape(note)}<br><code>{clip['clip_id']}</code>"
            "</figcaption></figure>"
        )
    return f'<div class="sheet">{"".join(figures)}</div>'


def write_report(run: Curation, outcome: Outcome, path: Path) -> Path:
    """Write the page."""
    rows = "".join(f"<tr><td>{escape(n).replace('  ', '&emsp;')}</td><td>{c:,}</td></tr>" for n, c in summary(outcome))
    parts = [f"<h1>{escape(run.footage.name)}</h1><table>{rows}</table><h2>Scores</h2>"]
    for name, (bad, _) in FILTERS.items():
        values = [c["scores"][name] for c in outcome.clips if c["scores"].get(name) is not None]
        if values:
            parts.append(f"<h3>{name}</h3>{histogram(values, outcome.thresholds.get(name), bad)}")
    kept = [c for c in outcome.clips if c["keep"]]
    parts.append(f"<h2>Kept</h2>{sheet(run, kept)}")
    reasons = Counter(first_reason(c) for c in outcome.clips if not c["keep"])
    for reason, count in reasons.most_common():
        gone = [c for c in outcome.clips if not c["keep"] and first_reason(c) == reason]
        parts.append(f"<h2>Dropped: {escape(reason)} ({count})</h2>{sheet(run, gone)}")
    why = "no such clip with these settings, or one that cannot be kept"
    lines = [f"<tr><td>{escape(name)}</td><td>decided by hand: {why}</td></tr>" for name in outcome.unmet]
    for source in outcome.sources:
        if source["problem"]:
            said = f"{source['problem']['kind']}: {source['problem']['message']}"
            lines.append(f"<tr><td>{escape(source['path'])}</td><td>{escape(said)}</td></tr>")
        lines += [
            f"<tr><td>{escape(t)}</td><td>the same bytes as {escape(source['path'])}</td></tr>" for t in source["twins"]
        ]
    if lines:
        parts.append(f"<h2>Files and decisions</h2><table>{''.join(lines)}</table>")
    write_text(path, _page("curation", parts))
    return path


def _page(title: str, parts: list[str]) -> str:
    return f"<!doctype html><meta charset=utf-8><title>{title}</title><style>{STYLE}</style>{''.join(parts)}"


def write_tuning(run: Curation, outcome: Outcome, path: Path) -> Path:
    """What each filter alone would do: its histogram, how many it keeps, and the clips on both sides of its
    threshold."""
    clips = [c for c in outcome.clips if c["scores"]]
    parts = [f"<h1>{escape(run.footage.name)}: what each filter would do</h1>"]
    for name, (bad, share) in FILTERS.items():
        scored = sorted((c for c in clips if c["scores"].get(name) is not None), key=lambda c: c["scores"][name])
        if not scored:
            continue
        values = [c["scores"][name] for c in scored]
        threshold = outcome.thresholds.get(name)
        parts.append(f"<h2>{name}</h2>{histogram(values, threshold, bad)}")
        if threshold is None:
            parts.append(f"<p>off; by default the worst {100 * share:.0f} % go</p>")
            continue
        below = [c for c in scored if c["scores"][name] < threshold]
        above = [c for c in scored if c["scores"][name] >= threshold]
        kept, gone = (above, below) if bad == "low" else (below, above)
        parts.append(f"<p>keeps {len(kept)} of {len(scored)}</p><h3>just below</h3>{sheet(run, below[-8:], name)}")
        parts.append(f"<h3>just above</h3>{sheet(run, above[:8], name)}")
        parts.append(f"<h3>the worst</h3>{sheet(run, gone[:8] if bad == 'low' else gone[::-1][:8], name)}")
    write_text(path, _page("tuning", parts))
    return path
