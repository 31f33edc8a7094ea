"""Making a video again from the record stored in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from muybridge.configuration import from_mapping
from muybridge.errors import UserError, nearest
from muybridge.library.catalogue import find_model
from muybridge.library.index import changed_sampling
from muybridge.making.base import Cache, Made, Making, Read, Run, open_pipeline
from muybridge.making.continued import Extend, Interpolate, UpsampleFps
from muybridge.making.controlled import Control
from muybridge.making.edited import Edit, Instruct, Restyle
from muybridge.making.from_words import Animate, Generate, Zero
from muybridge.making.joined import Blend, Connect, Loop
from muybridge.making.painted import Inpaint, Outpaint
from muybridge.making.record import check_record, check_same_model, todays
from muybridge.making.regions import Cinemagraph
from muybridge.making.upscaled import SuperResolve, Upscale
from muybridge.making.used import check_unchanged
from muybridge.nn.devices import BALANCED

OF_COMMANDS: tuple[type[Making], ...] = (
    Generate, Extend, Interpolate, Animate, UpsampleFps, Zero, Control, Instruct, Edit, Restyle, Upscale, SuperResolve,
    Loop, Connect, Blend, Inpaint, Outpaint, Cinemagraph,
)  # fmt: skip
MAKINGS: dict[str, type[Making]] = {cls.command: cls for cls in OF_COMMANDS}


def making_of(record: dict[str, Any], where: str) -> Making:
    """The command of a record with its options.

    Raises:
        UserError: an unknown command or option, or a value out of range.
    """
    if record["command"] not in MAKINGS:
        raise UserError(
            f"{where}: its record names the command {record['command']!r}; {nearest(record['command'], MAKINGS)}"
        )
    return from_mapping(MAKINGS[record["command"]], record["options"], f"{where}: its record's options")


def replay(
    record: dict[str, Any],
    read: Read,
    where: str = "record",
    model: str = "",
    device: str = "auto",
    cache: Cache = None,
    watching: Callable[[int], Callable[[Any], None]] | None = None,
) -> Made:
    """Make the video of a record again.

    Args:
        record: as `making.record.record_of` wrote it, or in the form of older versions.
        where: the file it was read from, for messages.
        model: use this model in place of the one named, if it moved.
        watching: told the number of steps, gives what is told each step.

    Raises:
        UserError: a damaged record, or a model, a LoRA, a source or another file that is not the one the video was
            made with.
    """
    check_record(record, where)
    check_unchanged(record.get("files", {}), read)  # before an option is taken for words, or for a folder
    record = todays(record)
    making, name = making_of(record, where), model or record["model"]
    check_same_model(record, name)
    precision = record.get("precision", "fp32")
    memory = record.get("memory", BALANCED)
    motion = record.get("motion") or {}
    where_motion = str(motion.get("file", ""))
    pipeline = open_pipeline(making, name, device, precision, record.get("picture", ""), memory, motion=where_motion)
    if pipeline.motion != motion:
        raise UserError(f"{where_motion} has changed since this video was made with it")
    for entry in record.get("inversions", []):
        if pipeline.use_inversion(entry["file"], entry["token"])["sha256"] != entry["sha256"]:
            raise UserError(f"{entry['file']} has changed since this video was made with it")
    for entry in record.get("lora", []):
        pipeline.merge_again(entry)
    # the model's default may have changed since then; what ran is in the record
    ran, changed = record["sampling"], changed_sampling(find_model(name))
    then = {key: ran[key] for key in changed if key in ran and key in making.reads}
    given = {**then, **record["given"]}
    run = Run(pipeline, name, record["seed"], given, record.get("source", ""), read, cache)
    run.source_sha256 = record.get("source_sha256", "")
    run.source_mean = record.get("source_mean", False)
    if watching is not None:
        run.on_step = watching(making.total_steps(run))
    return making.make(run)
