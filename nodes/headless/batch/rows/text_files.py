"""Text of a table, decoded and divided into lines; a file in another encoding is explained."""

import codecs
import re
from collections.abc import Iterator
from pathlib import Path

from wuerstchen_core.files import untrusted

from ...errors import UsageError

MAX_LINES = 1_000_000
"""Most lines of a table, also empty ones."""
MAX_LINE = 1_000_000
"""Most characters of a line."""
_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Byte order marks and their encodings. That of UTF-32 begins with that of UTF-16, so it comes first."""
_NO_ENCODINGS = frozenset({"idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape"})
"""Python's codecs that no text file is in. Some take a time that grows with the square of the length."""
_LINE = re.compile(r"[^\r\n]*(?:\r\n?|\n)|[^\r\n]+")


def lines_of(path: Path, encoding: str | None = None) -> Iterator[str]:
    """Yield the lines of a text file, each with the characters that end it. Arguments as for `read_text`.

    Raises:
        UsageError: There are too many lines, one is too long, or as for `read_text`.
    """
    text = read_text(path, encoding)
    for number, match in enumerate(_LINE.finditer(text), 1):
        if number > MAX_LINES:
            raise UsageError(f"{path} has more than {MAX_LINES:,} lines, the most of a table. Divide it.")
        if match.end() - match.start() > MAX_LINE:
            raise UsageError(f"{path}, line {number} is longer than {MAX_LINE:,} characters. Is it a table?")
        yield match[0]


def read_text(path: Path, encoding: str | None = None) -> str:
    """Read a text file.

    Args:
        path: The file.
        encoding: Its encoding; None for that of its byte order mark, else UTF-8.
    Raises:
        UsageError: The file cannot be opened, is too large, is not in that encoding, or there is no such encoding.
    """
    data = read_bytes(path)
    mark = next((name for start, name in _MARKS.items() if data.startswith(start)), "utf-8")
    name = mark if encoding is None else _checked(encoding)
    try:
        text = data.decode(name).removeprefix("\ufeff")
    except LookupError as error:  # a codec that is not of texts, such as base64
        raise _no_encoding(name) from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = f"byte 0x{data[error.start]:02X}" if error.start < len(data) else "the end"
        raise UsageError(f"{path} is not {name.upper()} ({byte} at line {line}): {_advice(data, encoding)}") from error
    except UnicodeError as error:
        raise UsageError(f"{path} is not {name.upper()} ({error}): {_advice(data, encoding)}") from error
    try:
        untrusted.check_text(text)
    except ValueError as error:
        raise UsageError(f"{path} is no text: {error}. Save it as UTF-8.") from error
    return text


def read_bytes(path: Path) -> bytes:
    """Return the content of a table. Raises: UsageError if the file cannot be opened, or is too large."""
    try:
        return untrusted.read_bytes(path, untrusted.MAX_TEXT_BYTES)
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{path} cannot be opened: {reason}. Give the path of a table.") from error


def _checked(encoding: str) -> str:
    """Return the name of an encoding of texts. Raises: UsageError."""
    try:
        if codecs.lookup(encoding).name in _NO_ENCODINGS:
            raise LookupError(encoding)
    except (LookupError, ValueError) as error:  # ValueError: characters that no name has
        raise _no_encoding(encoding) from error
    return encoding


def _no_encoding(name: str) -> UsageError:
    return UsageError(f"--encoding is {name[:40]!r}; expected a name such as utf-8, latin-1, cp1252 or utf-16.")


def _advice(data: bytes, encoding: str | None) -> str:
    if encoding is not None:
        return "give its own encoding with --encoding, or save it as UTF-8."
    guess = "utf-16-le" if data[1:40:2].count(0) > len(data[1:40:2]) // 2 else "latin-1"
    return f"save it as UTF-8, or pass its encoding, such as --encoding {guess}."
