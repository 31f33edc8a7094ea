"""Text as people's editors save it: UTF-8 with or without a mark, UTF-16 and UTF-32 by theirs; nothing else is
guessed."""

from __future__ import annotations

import codecs
from pathlib import Path

from muybridge.errors import UserError

#: A file's first bytes -> how it is encoded. UTF-32's begin as UTF-16's do, so they are asked for first.
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
#: Bytes; no caption and no list of captions of a data set that fits a laptop is larger.
MOST_BYTES = 2**28


def text_of(data: bytes, name: str) -> str:
    """The text that a file's bytes hold, without its mark; line ends as they are.

    Args:
        name: of the file, for the message.

    Raises:
        UserError: other bytes; the message names the first that does not fit.
    """
    encoding = next((encoding for mark, encoding in MARKS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        wrong = f"byte 0x{data[error.start]:02x} at {error.start}" if error.start < len(data) else "its end"
        raise UserError(
            f"{name}: {wrong} is not {encoding.removesuffix('-sig').upper()}; save the file as UTF-8"
        ) from error
    if "\0" in text:
        raise UserError(f"{name}: holds zero bytes, as UTF-16 without its mark does; save the file as UTF-8")
    return text


def lines_of(text: str) -> list[str]:
    """Lines as editors show them: other separators of Unicode, such as U+2028, are part of a caption."""
    return text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")


def read_text(path: Path, name: str = "") -> str:
    """The text of a file (`text_of`).

    Args:
        name: what the message calls it; its path by default.

    Raises:
        UserError: it cannot be read, is too large, or no text.
    """
    name = name or str(path)
    try:
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise UserError(f"{name}: cannot be read ({error.strerror})") from error
    if len(data) > MOST_BYTES:
        raise UserError(f"{name}: is larger than {MOST_BYTES >> 20} MiB; split it")
    return text_of(data, name)
