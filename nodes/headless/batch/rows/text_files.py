"""Text of a table, decoded; a file in another encoding is explained."""

import codecs
from pathlib import Path

from ...errors import UsageError

_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Byte order marks and their encodings. That of UTF-32 begins with that of UTF-16, so it comes first."""


def read_text(path: Path, encoding: str | None = None) -> str:
    """Read a text file.

    Args:
        path: The file.
        encoding: Its encoding; None for that of its byte order mark, else UTF-8.
    Raises:
        UsageError: The file cannot be opened, is not in that encoding, or there is no such encoding.
    """
    data = read_bytes(path)
    mark = next((name for start, name in _MARKS.items() if data.startswith(start)), "utf-8")
    name = encoding or mark
    try:
        return data.decode(name).removeprefix("\ufeff")
    except LookupError as error:
        raise UsageError(
            f"--encoding is {encoding!r}; expected a name such as utf-8, latin-1, cp1252 or utf-16."
        ) from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = f"byte 0x{data[error.start]:02X}" if error.start < len(data) else "the end"
        raise UsageError(f"{path} is not {name.upper()} ({byte} at line {line}): {_advice(data, encoding)}") from error


def read_bytes(path: Path) -> bytes:
    """Return the content of a table. Raises: UsageError if the file cannot be opened."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be opened: {error.strerror or error}. Give the path of a table.") from error


def _advice(data: bytes, encoding: str | None) -> str:
    if encoding is not None:
        return "give its own encoding with --encoding, or save it as UTF-8."
    guess = "utf-16-le" if data[1:40:2].count(0) > len(data[1:40:2]) // 2 else "latin-1"
    return f"save it as UTF-8, or pass its encoding, such as --encoding {guess}."
