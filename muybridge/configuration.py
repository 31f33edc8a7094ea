"""Settings as frozen dataclasses: each is spelled once, with help, range and default; all else is made from it.

    @dataclass(frozen=True)
    class Noise(Settings):
        where: ClassVar[str] = "diffusion"
        drop: float = setting(0.1, "how often a caption is dropped", low=0, below=1)

YAML sections, command-line options and tables in the docs come from the same fields. An unknown key is an error that
names the nearest one; so is a value of another type, out of range, or not finite.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from muybridge.errors import UserError, nearest

T = TypeVar("T")
#: Pixels of one picture, read or made: more are refused before anything is allocated. 11,585 x 11,585.
MOST_PIXELS = 2**27


def check_request(width: int, height: int, where: str) -> None:
    """Refuse to make pictures of more than MOST_PIXELS.

    Raises:
        UserError: says what was asked for.
    """
    if width * height > MOST_PIXELS:
        raise UserError(
            f"{where}: {width}x{height} pixels are more than the {MOST_PIXELS / 1e6:.0f} million that a picture may "
            "have; ask for fewer"
        )


@dataclass(frozen=True)
class Setting:
    """What is known of a field beside its type and default.

    Attributes:
        help: one line, for `--help` and the docs.
        low, high: the value lies within, both included; of a list or a mapping, each of its items.
        above, below: the same, not included.
        choices: the values it may have; of a mapping, its keys.
        fewest, count: of a list, at least so many items, or just so many.
        flag: the command line's option, if it is not the field's name with dashes.
        short: the option's letter.
    """

    help: str = ""
    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None
    choices: Collection[str] = ()
    fewest: int = 0
    count: int = 0
    flag: str = ""
    short: str = ""

    def check(self, value: Any, name: str) -> None:
        """Refuse a value out of range.

        Raises:
            UserError: says what is allowed.
        """
        if isinstance(value, Mapping):
            for key, item in value.items():
                if self.choices and key not in self.choices:
                    raise UserError(f"{name}: unknown {key!r}; {nearest(str(key), self.choices)}")
                dataclasses.replace(self, choices=()).check(item, f"{name}.{key}")
            return
        if isinstance(value, (tuple, list)):
            if len(value) < self.fewest:
                known = f"; known: {', '.join(self.choices)}" if self.choices else ""
                raise UserError(f"{name}: at least {self.fewest} wanted, got {len(value)}{known}")
            if self.count and len(value) != self.count:
                raise UserError(f"{name} must be {self.count} values, got {shown(list(value))}")
            for item in value:
                self.check(item, name)
            return
        if self.choices and value not in self.choices:
            raise UserError(f"{name}: unknown {value!r}; {nearest(str(value), self.choices)}")
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{name} must be a finite number, got {value}")
        wrong = (
            (self.low is not None and value < self.low)
            or (self.high is not None and value > self.high)
            or (self.above is not None and value <= self.above)
            or (self.below is not None and value >= self.below)
        )
        if wrong:
            raise UserError(f"{name} must be {self.range_text()}, got {shown(value)}")

    def range_text(self) -> str:
        """The range in words; empty where there is none."""
        low = "" if self.low is None else f"at least {self.low:.12g}"
        low = low if self.above is None else f"above {self.above:.12g}"
        high = "" if self.high is None else f"at most {self.high:.12g}"
        high = high if self.below is None else f"below {self.below:.12g}"
        if self.low is not None and self.high is not None:
            return f"in {self.low:.12g}..{self.high:.12g}"
        return " and ".join(part for part in (low, high) if part)


def shown(value: Any) -> str:
    """A value for a message: never longer than a line, whatever was typed."""
    try:
        text = str(value)
    except ValueError:  # Python writes no number of more than 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= 60 else f"{text[:60]}..."


def setting(default: Any, help: str = "", **known: Any) -> Any:
    """A dataclass field with its `Setting`; a default of `...` is none: the value must be given."""
    metadata = {"setting": Setting(help, **known)}
    if default is ...:
        return field(metadata=metadata)
    if isinstance(default, (dict, list)):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def setting_of(known: dataclasses.Field[Any]) -> Setting:
    """The `Setting` of a field; an empty one where it was declared plainly."""
    found: Setting = known.metadata.get("setting", Setting())
    return found


class Settings:
    """Base of settings: checks every field's range when it is made.

    Attributes:
        where: the section in a file, for messages ("training").
        renamed: former names of fields, which old files may still use.
    """

    where: ClassVar[str] = ""
    renamed: ClassVar[Mapping[str, str]] = {}

    def __post_init__(self) -> None:
        for known in dataclasses.fields(self):  # type: ignore[arg-type]
            name = f"{self.where}.{known.name}" if self.where else known.name
            setting_of(known).check(getattr(self, known.name), name)


def from_names(cls: type, values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Some of a dataclass' fields, checked as `from_mapping` does, without those that are not given.

    Raises:
        UserError: an unknown key, or a value of another type.
    """
    made: Any = from_mapping(cls, values, where)
    return {name: getattr(made, name) for name in new_names(cls, values)}


def from_mapping(cls: type[T], values: Mapping[str, Any] | None, where: str) -> T:
    """Build a dataclass from a mapping, checking names and types; nested dataclasses are built the same way.

    Args:
        where: the place in the file, for messages ("training", "data").

    Raises:
        UserError: unknown or missing key, or a value of another type.
    """
    if values is None:
        values = {}
    if not isinstance(values, Mapping):
        raise UserError(f"{where}: expected keys and values, got {type(values).__name__} {shown(values)}")
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    values = new_names(cls, values)
    hints = typing.get_type_hints(cls)
    for key in values:
        if key not in fields:
            raise UserError(f"{where}: unknown key {key!r}; {nearest(str(key), fields)}")
    missing = [
        name
        for name, field in fields.items()
        if name not in values and field.default is field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise UserError(f"{where}: missing {', '.join(missing)}")
    return cls(**{key: _convert(value, hints[key], f"{where}.{key}") for key, value in values.items()})


def new_names(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """The same with former names of fields (`Settings.renamed`) replaced by today's."""
    renamed = getattr(cls, "renamed", {})
    return {renamed.get(key, key): value for key, value in values.items()}


def _convert(value: Any, hint: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return value if isinstance(value, hint) else from_mapping(hint, value, where)
    if origin in (types.UnionType, typing.Union):
        options = typing.get_args(hint)
        if value is None and type(None) in options:
            return None
        return _convert(value, next(o for o in options if o is not type(None)), where)
    if origin is tuple:
        return _convert_list(value, typing.get_args(hint), where)
    if origin is dict or hint is dict:
        if not isinstance(value, Mapping):
            raise UserError(f"{where}: expected keys and values, got {shown(value)}")
        return dict(value)
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise UserError(f"{where}: {shown(value)} is too large a number") from None
    if hint is float and isinstance(value, str):  # YAML reads 1e-4 as text
        try:
            return float(value)
        except ValueError:
            pass
    if isinstance(hint, type) and (not isinstance(value, hint) or (hint is int and isinstance(value, bool))):
        raise UserError(f"{where}: expected {hint.__name__}, got {shown(value)!r}")
    return value


def _convert_list(value: Any, items: tuple[Any, ...], where: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise UserError(f"{where}: expected a list, got {shown(value)}")
    if items[-1] is not Ellipsis and len(value) != len(items):
        raise UserError(f"{where}: expected {len(items)} values, got {len(value)}: {shown(list(value))}")
    return tuple(_convert(v, items[0] if items[-1] is Ellipsis else items[i], where) for i, v in enumerate(value))


def to_mapping(config: Any) -> dict[str, Any]:
    """A dataclass as plain JSON-able values."""
    return dataclasses.asdict(config)


def settings_table(cls: type) -> Iterator[tuple[str, str, str, str]]:
    """(name, default, range, help) of every setting, for the docs."""
    for known in dataclasses.fields(cls):
        about = setting_of(known)
        default = known.default
        if known.default_factory is not dataclasses.MISSING:
            default = known.default_factory()
        shown = "required" if default is dataclasses.MISSING else str(default)
        limits = ", ".join(about.choices) if about.choices else about.range_text()
        yield known.name, shown, limits, about.help
