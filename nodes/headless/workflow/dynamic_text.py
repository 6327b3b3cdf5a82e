"""Resolve dynamic text as ComfyUI's page does: choices in text prompts, and fields of nodes in file names."""

import random
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_PIECE = re.compile(r"\\.|[{}|]|[^\\{}|]+|\\", re.DOTALL)
_DEEPEST = 100
_FIELD = re.compile(r"%([^%]+)%")
_NOT_IN_NAMES = re.compile(r'[/?<>\\:*|"\x00-\x1f\x7f]')
_DATE_PART = re.compile(r"yyyy|yy|MM?|dd?|hh?|mm?|ss?")


def resolve_choices(text: str, choose: Callable[[Sequence[list[str]]], list[str]] = random.choice) -> str:
    """Remove comments (/* */ and //) from a text prompt and take one choice of each {this|that}.

    Backslashes escape braces and bars: \\{, \\}, \\|.

    Args:
        text: The text prompt.
        choose: Takes one of several choices, each a list of pieces of text.
    """
    blocks: list[list[list[str]]] = [[[]]]  # open braces, each with its choices so far; the first is the text itself
    for piece in _PIECE.findall(_COMMENT.sub("", text)):
        if piece == "{" and len(blocks) <= _DEEPEST:
            blocks.append([[]])
        elif piece == "}" and len(blocks) > 1:
            _close(blocks, choose)
        elif piece == "|" and len(blocks) > 1:
            blocks[-1].append([])
        else:
            blocks[-1][-1].append(piece[1:] if piece in (r"\{", r"\}", r"\|") else piece)
    while len(blocks) > 1:
        _close(blocks, choose)
    return "".join(blocks[0][0])


def fill_file_name(text: str, value_of: Callable[[str, str], Any], now: datetime | None = None) -> str:
    """Replace %Node.field% and %date:yyyy-MM-dd% in a file name. Any other %word% is left as it is.

    Args:
        text: The file name.
        value_of: Returns the value of a field by the node's class or title and the field's name; None for no field.
        now: Time for dates; None for the current time.
    """

    def replaced(match: re.Match[str]) -> str:
        name, *fields = match[1].split(".")
        if len(fields) == 1:
            value = value_of(name, fields[0])
            return match[0] if value is None else _NOT_IN_NAMES.sub("_", _shown(value))
        if name.startswith("date:"):
            return _date(name.removeprefix("date:"), now or datetime.now())
        return match[0]

    return _FIELD.sub(replaced, text)


def _close(blocks: list[list[list[str]]], choose: Callable[[Sequence[list[str]]], list[str]]) -> None:
    chosen = choose(blocks.pop())
    blocks[-1][-1] += chosen


def _shown(value: Any) -> str:
    """Format a value as JavaScript prints it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _date(pattern: str, now: datetime) -> str:
    numbers = {"M": now.month, "d": now.day, "h": now.hour, "m": now.minute, "s": now.second}

    def part(match: re.Match[str]) -> str:
        token = match[0]
        if token[0] == "y":
            return f"{now.year:04}"[-len(token) :]
        return f"{numbers[token[0]]:0{len(token)}}"

    return _DATE_PART.sub(part, pattern)
