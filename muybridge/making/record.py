"""What is stored in a video so that it can be made again: everything that its frames depend on, by name, value and
hash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muybridge import __version__
from muybridge.errors import UserError
from muybridge.library.catalogue import find_model, model_hash
from muybridge.making.used import KINDS, hashes, whole_name
from muybridge.nn.devices import LOW
from muybridge.pipelines.settings import DEFAULTS, SamplingConfig, recorded_settings

if TYPE_CHECKING:
    import numpy as np

    from muybridge.making.base import Making, Run

#: Form of the records that are written; 1 is what came before "form" was there.
FORM = 2
#: How frames are enlarged: by a network, always so many times, or by repeated pixels.
UPSCALE_METHODS = MODEL, REPEAT = ("model", "repeat")
BY_NETWORK = 4
#: Places whose contents are recorded by hash beside them.
HASHED = ("model", "picture")


def frames_hash(frames: np.ndarray) -> str:
    """SHA-256 of the frames before encoding."""
    import numpy as np

    return hashlib.sha256(repr(frames.shape).encode() + np.ascontiguousarray(frames).tobytes()).hexdigest()


def record_of(making: Making, run: Run, settings: SamplingConfig) -> dict[str, Any]:
    """Version, command with its options, model by hash, and the settings that ran."""
    pipeline = run.pipeline
    record: dict[str, Any] = {
        "muybridge": __version__,
        "form": FORM,
        "command": making.command,
        "options": plain(asdict(making.placed())),
        "model": whole_name(run.model),
        "model_hash": model_hash(find_model(run.model)),
        "seed": run.seed,
        "sampling": asdict(settings),
        "given": plain(run.settings),
    }
    used = making.uses(run.model)
    if used:
        record["files"] = hashes(used, run.read)
    if pipeline.loras:
        record["lora"] = pipeline.loras
    if pipeline.motion:
        record["motion"] = pipeline.motion
    if pipeline.inversions:
        record["inversions"] = pipeline.inversions
    if pipeline.precision != "fp32":
        record["precision"] = pipeline.precision
    if pipeline.memory == LOW:  # the others make the same frames but for rounding
        record["memory"] = LOW
    if pipeline.swapped:
        record |= {"picture": whole_name(pipeline.swapped), "picture_hash": model_hash(find_model(pipeline.swapped))}
    return record


def plain(value: Any) -> Any:
    """Lists for tuples, as JSON gives them back."""
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, list | tuple) else value


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """In what the record of a file differs from that of a video that is wanted, a line each; empty where they make the
    same frames. Where a model lies is no difference, nor is which of the settings that ran had been given, nor an
    option that says nothing ("") where an older record has none."""
    pairs = [dict(_flat(plain(record))) for record in (found, wanted)]
    names = sorted({name for pair in pairs for name in pair})
    own = {f"sampling.{name}": value for name, value in DEFAULTS.items()}  # of settings that are newer than a record
    there, here = ({n: None if (v := p.get(n, own.get(n))) == "" else v for n in names} for p in pairs)
    return [
        f"{name} is {_short(there[name])}, would be {_short(here[name])}" for name in names if there[name] != here[name]
    ]


def check_made_so(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any], option: str) -> None:
    """Refuse a file that is there with another record than that of the video that is wanted.

    Args:
        option: that names the folder.

    Raises:
        UserError: says in what they differ.
    """
    other = differences(found, wanted)
    if other:
        raise UserError(
            f"{path}: is there already, made otherwise: {'; '.join(other[:4])}; nothing was changed. Give another "
            f"{option}, or move it away"
        )


def _flat(record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What decides over frames, each option and setting by its name."""
    for name, value in record.items():
        if name in ("frames_sha256", "given") or name in HASHED:
            continue
        if isinstance(value, Mapping):
            yield from ((f"{name}.{key}", inner) for key, inner in value.items())
        else:
            yield name, value


def _short(value: Any) -> str:
    text = "not there" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def check_record(record: Mapping[str, Any], where: str) -> None:
    """Refuse what is no record, before anything is opened.

    Raises:
        UserError: a part is missing or of another kind.
    """
    if "frames_sha256" not in record:
        raise UserError(f"{where}: no record of muybridge is stored in it")
    kinds: dict[str, type | tuple[type, ...]] = {
        "command": str, "model": str, "model_hash": str, "seed": int, "sampling": dict, "frames_sha256": str,
    }  # fmt: skip
    kinds |= {"options": dict} if record.get("form") == FORM else {}
    for name, kind in kinds.items():
        if not isinstance(record.get(name), kind):
            raise UserError(f"{where}: its record is damaged: {name} is {record.get(name)!r}")
    sometimes = {"source": str, "lora": list, "precision": str, "picture": str, "upscale": int, "files": dict}
    sometimes |= {"upscale_method": str, "upscaler": str, "source_mean": bool}
    sometimes |= {"inversions": list, "motion": dict, "memory": str}
    for name, kind in sometimes.items():
        if name in record and not isinstance(record[name], kind):
            raise UserError(f"{where}: its record is damaged: {name} is {record[name]!r}")
    for name, about in record.get("files", {}).items():
        if not isinstance(about, dict) or about.get("kind") not in KINDS or not isinstance(about.get("hash"), str):
            raise UserError(f"{where}: its record is damaged: files holds {about!r} of {name}")
    if not 1 <= record.get("upscale", 1) <= 64:
        raise UserError(f"{where}: its record is damaged: upscale is {record['upscale']}")
    network, method = record.get("upscaler"), record.get("upscale_method")
    whole = network in record.get("files", {}) and record.get("upscale") == BY_NETWORK if network else network is None
    if not whole or method not in ((MODEL,) if network else (None, REPEAT)):
        raise UserError(f"{where}: its record is damaged: upscale_method is {method!r}, and upscaler {network!r}")


def todays(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record in today's form: those of form 1 kept prompt, options and settings in other places, under other
    names."""
    command = record["command"]
    if command == "upsample-fps" and "height" not in record.get("options", {}):  # always the model's own, square
        own = {side: record["sampling"][side] for side in ("height", "width")}
        record = {**record, "options": {**record.get("options", {}), **own}}
    if record.get("form") == FORM:
        return dict(record)
    old = dict(record.get("options", {}))
    given = dict(record.get("given_settings", record["sampling"]))
    options = {**old, **({"prompt": record["prompt"]} if "prompt" in record else {})}
    options.pop("config", None)
    if "negative" in options:
        options["negative_prompt"] = options.pop("negative")
    if command == "zero":  # the paper's sign: where content comes from
        options["motion"] = [-x for x in old["motion"]]
    if command == "animate":
        options = {"motion": old["motion_bucket"], "noise": old["noise_augmentation"]}
    if command == "upsample-fps":
        given = {"num_inference_steps": given["num_inference_steps"]}
    if command == "control":
        options = {"prompt": record["prompt"], "negative_prompt": old.get("negative", ""), **_old_control(old)}
        options["own_size"] = True
    if command == "instruct":
        options["own_size"] = True
        options["instruction"] = options.pop("prompt")
    if command == "restyle":
        options["own_size"] = True
        options["content"] = old.get("picture") or options.pop("prompt")
        options = {k: v for k, v in options.items() if k not in ("picture", "prompt")}
        if "level" in options:
            options["structure_level"] = options.pop("level")
        if "strength" in old:  # what the sampler reads was recorded, but not read
            given = {k: v for k, v in given.items() if k not in ("eta", "gamma", "corrector")}
            given |= {"gamma": 0.0} if record["sampling"].get("sampler") == "ancestral" else {}
    return {**record, "form": FORM, "options": options, "given": recorded_settings({"sampler": None, **given})}


def _old_control(old: Mapping[str, Any]) -> dict[str, Any]:
    config = dict(old["config"])
    kept = {"control": [f"{c['structure']}:{c['scale']}" for c in old["controls"]], "method": old["method"]}
    kept["control_net"] = [c["net"] for c in old["controls"]]
    return kept if old["method"] == "zero" else {**kept, **config}


def check_same_model(record: Mapping[str, Any], name: str) -> None:
    """Refuse a model that is not the one a video was made with.

    Raises:
        UserError: another hash.
    """
    if model_hash(find_model(name)) != record["model_hash"]:
        raise UserError(f"{name} is not the model this video was made with (its hash was {record['model_hash']})")
    swapped = record.get("picture", "")
    if swapped and model_hash(find_model(swapped)) != record.get("picture_hash"):
        raise UserError(f"{swapped} is not the picture model this video was made with")
