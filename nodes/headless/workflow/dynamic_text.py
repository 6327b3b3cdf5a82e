"""Fill in the fields of nodes in file names as ComfyUI's page does."""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

_FIELD = re.compile(r"%([^%]+)%")
_NOT_IN_NAMES = re.compile(r'[/?<>\\:*|"\x00-\x1f\x7f]')
_LONGEST = 255
"""Most characters of a value in a file name; no name of a file is longer."""
_LONGEST_TEXT = 10 * _LONGEST
"""Most characters of a text in which fields are looked for."""
_DATE_PART = re.compile(r"yyyy|yy|MM?|dd?|hh?|mm?|ss?")


def fill_file_name(text: str, value_of: Callable[[str, str], Any], now: datetime | None = None) -> str:
    """Replace %Node.field% and %date:yyyy-MM-dd% in a file name. Any other %word% is left as it is.

    Args:
        text: The file name. One that is too long for a name is returned as it is.
        value_of: Returns the value of a field by the node's class or title and the field's name; None for no field.
        now: Time for dates; None for the current time.
    """

    def replaced(match: re.Match[str]) -> str:
        name, *fields = match[1].split(".")
        if len(fields) == 1:
            value = value_of(name, fields[0])
            return match[0] if value is None else _NOT_IN_NAMES.sub("_", _shown(value)[:_LONGEST])
        if name.startswith("date:"):
            return _date(name.removeprefix("date:"), now or datetime.now())
        return match[0]

    return _FIELD.sub(replaced, text) if len(text) <= _LONGEST_TEXT else text


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
