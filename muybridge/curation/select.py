"""Which clips are kept: thresholds from shares or given outright, near duplicates, and a reason for every clip that
goes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from muybridge.configuration import shown
from muybridge.curation.settings import FILTERS, SelectSettings
from muybridge.documents import read_yaml
from muybridge.errors import UserError

#: What can be decided by hand.
DECISIONS = ("keep", "drop")


def thresholds_of(clips: Sequence[Mapping[str, Any]], settings: SelectSettings) -> dict[str, float]:
    """Score -> threshold. Shares are of the clips that have the score, before any other filter."""
    shares = {name: settings.drop.get(name, share) for name, (_, share) in FILTERS.items()}
    if settings.keep:
        shares = _scaled(clips, shares, settings)
    return _cut_at(clips, shares, settings)


def _cut_at(
    clips: Sequence[Mapping[str, Any]], shares: Mapping[str, float], settings: SelectSettings
) -> dict[str, float]:
    out = {}
    for name, (bad, _) in FILTERS.items():
        if name in settings.limits:
            out[name] = settings.limits[name]
            continue
        values = sorted(c["scores"][name] for c in clips if c["scores"].get(name) is not None)
        dropped = math.floor(shares[name] * len(values))  # worst 25 % of n: ceil(0.75 n) stay
        if not dropped:
            continue
        if bad == "high":
            values = values[::-1]
        out[name] = values[dropped]
    return out


def _scaled(
    clips: Sequence[Mapping[str, Any]], shares: Mapping[str, float], settings: SelectSettings
) -> dict[str, float]:
    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        scaled = {n: _stretch(s, middle) for n, s in shares.items()}
        kept = sum(not _against(c, _cut_at(clips, scaled, settings), "keep") for c in clips)
        low, high = (low, middle) if kept < settings.keep * len(clips) else (middle, high)
    return {n: _stretch(s, low) for n, s in shares.items()}


def _stretch(share: float, amount: float) -> float:
    """Half is the share itself; 0 drops nothing, 1 everything that has a filter at all."""
    return share * 2 * amount if amount <= 0.5 else share + (0.999 - share) * (2 * amount - 1) * (share > 0)


def _against(clip: Mapping[str, Any], thresholds: Mapping[str, float], unscored: str) -> list[str]:
    reasons = []
    for name, limit in thresholds.items():
        value = clip["scores"].get(name)
        if value is None:
            if unscored == "drop":
                reasons.append(f"{name}: not measured")
        elif FILTERS[name][0] == "low" and value < limit:
            reasons.append(f"{name}: {value:.4g}, at least {limit:.4g} wanted")
        elif FILTERS[name][0] == "high" and value > limit:
            reasons.append(f"{name}: {value:.4g}, at most {limit:.4g} wanted")
    return reasons


def read_decisions(path: str) -> dict[str, str]:
    """Clip id -> "keep" or "drop", as somebody decided by hand; nothing without a file.

    Raises:
        UserError: no such file, or another word.
    """
    found = read_yaml(Path(path), "list of decisions") if path else {}
    for clip_id, word in found.items():
        if word not in DECISIONS:
            raise UserError(f"{path}: {clip_id}: expected keep or drop, got {shown(word)}")
    return {str(clip_id): word for clip_id, word in found.items()}


def select(
    clips: list[dict[str, Any]], settings: SelectSettings, decisions: Mapping[str, str] | None = None
) -> dict[str, float]:
    """Decide for every clip, in place; returns the thresholds. The result does not depend on the clips' order.

    Args:
        decisions: clip id -> "keep" or "drop" by hand. Thresholds do not depend on them, so one clip's decision is no
            other's; but what is dropped is no twin of anything, and of twins the one that was kept by hand stays.
    """
    decisions = decisions or {}
    candidates = sorted((c for c in clips if c["keep"]), key=lambda c: c["clip_id"])
    thresholds = thresholds_of(candidates, settings)
    for clip in candidates:
        by_hand = decisions.get(clip["clip_id"])
        if by_hand == "drop":
            clip["reasons"].append("by hand: dropped")
        elif by_hand is None:
            clip["reasons"] += _against(clip, thresholds, settings.unscored)
    if settings.duplicates or settings.alike:
        _mark_duplicates([c for c in candidates if not c["reasons"]], settings, decisions)
    for clip in candidates:
        clip["keep"] = not clip["reasons"]
    return thresholds


def _mark_duplicates(clips: list[dict[str, Any]], settings: SelectSettings, decisions: Mapping[str, str]) -> None:
    """Of clips that look the same, by fingerprints or by embeddings, the largest and sharpest stays, and every one that
    was kept by hand."""
    clips = [c for c in clips if c["fingerprint"]]
    clips.sort(
        key=lambda c: (
            c["clip_id"] not in decisions,
            -c["width"] * c["height"],
            -(c["scores"].get("sharpness") or 0),
            c["clip_id"],
        )
    )
    if not clips:
        return
    bits = np.array([[int(h, 16) for h in c["fingerprint"]] for c in clips], dtype=np.uint64)
    rows = None
    if settings.alike and all(c.get("embedding") for c in clips):
        rows = np.array([c["embedding"] for c in clips])
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    kept: list[int] = []
    for i, clip in enumerate(clips):
        if clip["clip_id"] in decisions:
            kept.append(i)
            continue
        if kept and settings.duplicates:
            apart = np.bitwise_count(bits[kept] ^ bits[i]).sum(1) / (64 * bits.shape[1])
            if apart.min() <= settings.duplicates:
                twin = clips[kept[int(apart.argmin())]]["clip_id"]
                clip["reasons"].append(f"duplicate of {twin} ({100 * apart.min():.0f} % of the bits differ)")
                continue
        if kept and rows is not None:
            cosines = rows[kept] @ rows[i]
            if cosines.max() >= settings.alike:
                twin = clips[kept[int(cosines.argmax())]]["clip_id"]
                clip["reasons"].append(f"duplicate of {twin} (embeddings' cosine {cosines.max():.3f})")
                continue
        kept.append(i)
