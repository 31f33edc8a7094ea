"""Commands made from dataclasses: every option is a field of what it makes, of the sampling settings, or of `Common`
below."""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from muybridge.cli.console import WATCHER, command, steps_bar
from muybridge.cli.given import CONTEXT, check_read, given_options
from muybridge.cli.lora_option import embedding_file, lora_file
from muybridge.cli.outputs import check_length, check_outputs
from muybridge.cli.peaks import told_memory
from muybridge.cli.writing import told_of, write_made
from muybridge.configuration import Settings, setting, setting_of
from muybridge.errors import Notice, UserError
from muybridge.files import next_free
from muybridge.making.base import Making, Run
from muybridge.making.record import UPSCALE_METHODS
from muybridge.making.upscaling import Upscaling
from muybridge.nn.devices import AUTO, BALANCED, MEMORY, PRECISIONS
from muybridge.pipelines.settings import SamplingConfig


@dataclass(frozen=True, kw_only=True)
class OnDevice(Settings):
    """What every command that runs a network takes."""

    device: str = setting(AUTO, "auto (the accelerator, if there is one), cpu, cuda, cuda:1, mps")


@dataclass(frozen=True, kw_only=True)
class Common(OnDevice):
    """What every command that makes a video takes beside its own options."""

    model: str = setting("", "a bundled model, or the folder of a saved one")
    seed: int = setting(0, "one number, one video: the same seed gives the same frames")
    precision: str = setting(
        "fp32", "bf16 and fp16 (GPUs) halve the memory of weights; bf16 is faster where it is built in",
        choices=tuple(PRECISIONS),
    )  # fmt: skip
    memory: str = setting(
        "",
        "low: less memory for some time; balanced: as without it; fast: more memory where that is faster. The "
        "predicted peak is said before the run and the measured one after it; of a model of your own always",
        choices=("", *MEMORY),
    )
    compile: bool = setting(False, "compile the network's blocks at their first call: for long runs")
    motion_module: str = setting(
        "", "AnimateDiff's motion modules, a .safetensors file or a MotionAdapter's folder, behind a picture model"
    )
    lora: tuple[str, ...] = setting((), "a LoRA: FILE or a bundled one, with :SCALE or without; may be repeated")
    embedding: tuple[str, ...] = setting((), "a textual inversion: FILE, or FILE:WORD to name it so; may be repeated")
    upscale: int = setting(1, "enlarge the written frames by a whole factor", low=1, high=64)
    upscale_method: str = setting(
        "", "model: the network that was made for this model, 4 times; repeat: pixels are repeated, any factor. By "
        "default model where the factor is 4 and such a network is bundled, else repeat",
        choices=("", *UPSCALE_METHODS),
    )  # fmt: skip
    upscaler: str = setting("", "the network that enlarges, in place of the model's: a bundled one or a folder")

    def check(self, paths: Sequence[Path], reads: Iterable[Path], model: str) -> Upscaling:
        """Refuse what cannot be written or applied, before anything heavy is loaded; returns what enlarges.

        Args:
            reads: the files and folders that are read beside the LoRAs and the upscaler.

        Raises:
            UserError: `check_outputs`, a LoRA or an upscaler that is not there, options that do not fit each other.
        """
        upscaling = Upscaling.chosen(self.upscale, self.upscale_method, self.upscaler, model)
        read = [*reads, *(lora_file(text)[0] for text in self.lora)]
        read += [Path(self.motion_module).expanduser()] if self.motion_module else []
        read += [embedding_file(text)[0] for text in self.embedding]
        check_outputs(paths, [*read, *([upscaling.folder] if upscaling.network else [])])
        return upscaling

    def loaded(self, making: Making, model: str, picture: str = "") -> Any:
        """The opened pipeline, its LoRAs merged."""
        from muybridge.making.base import open_pipeline

        how = (self.device, self.precision, picture, self.memory or BALANCED, self.compile, self.motion_module)

        def open_it() -> Any:
            return open_pipeline(making, model, *how)

        watcher = WATCHER.get()
        pipeline = watcher.opened((making.zero_shot, model, *how), open_it) if watcher else open_it()
        for text in self.embedding:
            pipeline.use_inversion(*embedding_file(text))
        for text in self.lora:
            pipeline.use_lora(*lora_file(text))
        return pipeline


def option(known: dataclasses.Field[Any], hint: Any, default: Any = ...) -> inspect.Parameter:
    """A command-line option made from a dataclass field."""
    about = setting_of(known)
    own: Any = known.default if default is ... else default
    if own is dataclasses.MISSING:
        made: Any = known.default_factory
        own = inspect.Parameter.empty if made is dataclasses.MISSING else made()
    limits = ", ".join(str(c) for c in about.choices if c != "") if about.choices else about.range_text()
    first = about.help.partition(" ")[0]
    text = about.help if first in about.choices else about.help[:1].upper() + about.help[1:]
    text += (f" ({limits})" if limits else "") + "."
    annotation = _typed(hint)
    if is_pairs(hint):
        own = [f"{name:g}={value:g}" for name, value in own] if own is not dataclasses.MISSING and own else []
    elif typing.get_origin(hint) is tuple and typing.get_args(hint)[-1] is Ellipsis:
        own = list(own) if own else []
    flag = "--" + (about.flag or known.name.replace("_", "-"))
    flags = [f"{flag}/--no-{flag.removeprefix('--')}"] if annotation is bool else [flag]
    flags += [f"-{about.short}"] if about.short else []
    return inspect.Parameter(
        known.name, inspect.Parameter.KEYWORD_ONLY, default=own,
        annotation=Annotated[annotation, typer.Option(*flags, help=text)],
    )  # fmt: skip


def argument(name: str, kind: Any, help: str, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    """A positional argument."""
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, typer.Argument(help=help)]
    )


def output_option(default: str) -> inspect.Parameter:
    """--output of a command that makes a video; None where it is not given."""
    help = f"The file to write: .mp4, .gif, .webp, .npy; .png for a picture. {default}, or the next free name."
    annotation = Annotated[Path | None, typer.Option("--output", "-o", help=help)]
    return inspect.Parameter("output", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def is_pairs(hint: Any) -> bool:
    """Whether a field holds numbers by name, or pairs of numbers: NAME=NUMBER on the command line, repeated."""
    if typing.get_origin(hint) is dict:
        return typing.get_args(hint)[1] is float
    arguments = typing.get_args(hint)
    return typing.get_origin(hint) is tuple and typing.get_origin(arguments[0]) is tuple and Ellipsis in arguments


def pairs_of(texts: Sequence[str], hint: Any) -> Any:
    """NAME=NUMBER, ... as such a field holds them.

    Raises:
        UserError: a text of another form.
    """
    named = typing.get_origin(hint) is dict
    out: list[tuple[Any, float]] = []
    for text in texts:
        name, _, value = text.partition("=")
        try:
            out.append((name if named else float(name), float(value)))
        except ValueError:
            raise UserError(f"{text!r}: expected NAME=NUMBER, such as {'motion=0.25' if named else '5=0.9'}") from None
    return dict(out) if named else tuple(out)


def _typed(hint: Any) -> Any:
    """A field's type as typer takes it: lists for tuples of any length, and None left to the default."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        inner = next(h for h in typing.get_args(hint) if h is not type(None))
        return inner | None
    if is_pairs(hint):
        return list[str]
    if typing.get_origin(hint) is tuple and typing.get_args(hint)[-1] is Ellipsis:
        return list[typing.get_args(hint)[0]]  # type: ignore[misc]
    return hint


def options_of(cls: type, leave_out: Sequence[str] = (), only: Sequence[str] | None = None) -> list[inspect.Parameter]:
    """An option for each field of a dataclass that is not an argument."""
    hints = typing.get_type_hints(cls)
    fields = [f for f in dataclasses.fields(cls) if f.name not in leave_out and (only is None or f.name in only)]
    fields = [f for f in fields if not dataclasses.is_dataclass(hints[f.name])]  # they have options of their own
    return [option(f, hints[f.name]) for f in fields]


def sampling_options(reads: Sequence[str]) -> list[inspect.Parameter]:
    """An option for each sampling setting that a command reads; None leaves the model's own."""
    hints = typing.get_type_hints(SamplingConfig)
    return [option(f, hints[f.name] | None, None) for f in dataclasses.fields(SamplingConfig) if f.name in reads]


def values_of(cls: type, values: dict[str, Any]) -> dict[str, Any]:
    """What of a command's values are fields of a dataclass; lists become tuples."""
    hints = typing.get_type_hints(cls)
    chosen = {f.name: values[f.name] for f in dataclasses.fields(cls) if f.name in values}
    return {n: pairs_of(v, hints[n]) if is_pairs(hints[n]) else _as_tuple(v) for n, v in chosen.items()}


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def with_signature(function: Callable[..., Any], parameters: Sequence[inspect.Parameter], help: str) -> Any:
    """A command with these parameters, each once."""
    unique = {p.name: p for p in reversed(parameters)}
    ordered = [unique[name] for name in dict.fromkeys(p.name for p in parameters)]
    made = command(function)
    made.__signature__ = inspect.Signature(ordered)  # type: ignore[attr-defined]
    made.__annotations__ = {p.name: p.annotation for p in ordered}
    made.__doc__ = help
    return made


def add_command(
    app: typer.Typer,
    cls: type[Making],
    arguments: Sequence[inspect.Parameter],
    default: str,
    example: str,
    model: Callable[[Path, str], str] | None = None,
) -> None:
    """Add a command that makes one video.

    Args:
        arguments: positional ones; of those that are not fields of `cls`, the first is its source.
        default: name of the file where none is given.
        example: shown in the help.
        model: from the source's path and the option's value to the model's name; the option's value by default.
    """
    fields = {f.name for f in dataclasses.fields(cls)}
    sources = [a.name for a in arguments if a.name not in fields]

    def run(context: typer.Context, output: Path | None, **values: Any) -> None:
        common = Common(**values_of(Common, values))
        making = cls(**values_of(cls, values))
        given = given_options(context)
        check_read(given, making.unread(given), [*own, *sampled, *named])
        settings = {name: values[name] for name in cls.reads if name in values and name not in fields}
        settings = {name: cls.defaults.get(name) if value is None else value for name, value in settings.items()}
        path = Path(values[sources[0]]) if sources else Path()
        name = model(path, common.model) if model else common.model or cls.default_model
        source = path if cls.source_kind else None
        _make(context, making, common, name, source, settings, output or next_free(Path(default)))

    own = options_of(cls, [a.name for a in arguments])
    taken = {p.name for p in own} | {a.name for a in arguments}
    sampled = [p for p in sampling_options(cls.reads) if p.name not in taken]
    named = [p for p in options_of(Common) if p.name not in taken]
    text = f"{inspect.getdoc(cls)}\n\n[bold]{example}[/bold]"
    app.command(cls.command)(
        with_signature(run, [CONTEXT, *arguments, output_option(default), *own, *sampled, *named], text)
    )


def _make(
    context: typer.Context,
    making: Making,
    common: Common,
    model: str,
    source: Path | None,
    settings: dict[str, Any],
    output: Path,
) -> None:
    chosen = making.check(model, settings)
    if source is not None and not source.is_file():
        raise UserError(f"no {making.source_kind} at {source}")
    upscaling = common.check([output], [*([source] if source else []), *making.files(model)], model)
    check_length([output], lambda: making.length(chosen, lambda most: _frames_in(source, most)))
    tell(making.notices(chosen, common.seed))
    pipeline = common.loaded(making, model)

    from muybridge.data.video_io import read_video
    from muybridge.files import cache_folder

    run = Run(pipeline, model, common.seed, settings, read=read_video, cache=cache_folder() / "structure")
    run.source = str(source.resolve()) if source is not None else ""
    total = making.total_steps(run)
    with told_memory(pipeline, common, model, context):
        with steps_bar("sampling", total) as advance:
            run.on_step = advance
            made = making.make(run)
        count, height, width = write_made(made, output, upscaling, common.device, pipeline)
    typer.echo(f"{output}: {count} frames of {width}x{height} at {made.fps:g} fps{told_of(upscaling)}")


def _frames_in(source: Path | None, most: int) -> int:
    """How many frames a file has, counted up to a number."""
    from muybridge.data.video_io import read_video

    return len(read_video(source, most).frames) if source is not None else 0


def tell(notices: Iterable[str]) -> None:
    """Each notice as a line of its own."""
    for line in notices:
        warnings.warn(line, Notice, stacklevel=2)
