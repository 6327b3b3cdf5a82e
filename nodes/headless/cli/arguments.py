"""Parser of the command line: readable messages for bad values, and near matches for misspelled words."""

import argparse
import difflib
import math
import re
import shlex
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from ..errors import did_you_mean
from ..report import write_out

_LONGEST = 36_500 * 86_400
"""Longest time in seconds: a century."""


class Parser(argparse.ArgumentParser):
    """Parser that reports bad usage in one line that says what to do, with the exit code 2."""

    def error(self, message: str) -> NoReturn:
        end = "" if message.endswith(("?", ".")) else "."
        self.exit(2, f"wuerstchen: error: {message}{end} See `{self.prog} --help`.\n")

    def print_help(self, file: Any = None) -> None:
        """Print the help text to stdout. argparse itself is silent where that fails."""
        if file is not None:
            super().print_help(file)
            return
        write_out(self.format_help())

    def read(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse the command line as `parse_args` does, with near matches for options that do not exist."""
        options, unknown = self.parse_known_args(arguments)
        if unknown:
            self._verb(getattr(options, "verb", None))._refuse(unknown)
        return options

    def verbs(self) -> dict[str, "Parser"]:
        """Return the parsers of the verbs, by name."""
        found = (action.choices for action in self._actions if isinstance(action, argparse._SubParsersAction))
        return dict(next(found, {}))

    def options(self) -> dict[str, argparse.Action]:
        """Return the options by each of their names, such as "--seed"."""
        return self._option_string_actions

    def _verb(self, name: str | None) -> "Parser":
        return self.verbs().get(name or "", self)

    def _refuse(self, unknown: list[str]) -> NoReturn:
        option = next((each for each in unknown if each.startswith("-")), None)
        if option is None:
            self.error(f"unexpected {shlex.join(unknown)}; put quotes around a text with spaces")
        name = option.partition("=")[0]
        near = difflib.get_close_matches(name.lstrip("-"), [each.lstrip("-") for each in self.options()], n=1)
        hint = f" Did you mean --{near[0]}?" if near else ""
        self.error(f"there is no option {name}.{hint}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        choices = [str(choice) for choice in action.choices]
        is_verb = isinstance(action, argparse._SubParsersAction)
        given = f"there is no verb {value!r}; " if is_verb else ""
        got = "" if is_verb else f", got {shlex.quote(str(value))}"
        message = f"{given}expected one of {', '.join(choices)}{got}. {did_you_mean(str(value), choices)}".strip()
        raise argparse.ArgumentError(None if is_verb else action, message)


def whole_number(least: int, most: int = 2**31) -> Callable[[str], int]:
    """Return a type of options: a whole number from `least` to `most`."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least:
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, got {shlex.quote(text)}")
        if number > most:
            raise argparse.ArgumentTypeError(f"expected a whole number of at most {most}, got {shlex.quote(text)}")
        return number

    return read


count = whole_number(1)
"""Type of options that count something."""
threads = whole_number(1, 1024)
"""Type of numbers of threads."""


def guidance(text: str) -> float:
    """Read a guidance scale, 0 or more."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number of at least 0, got {shlex.quote(text)}")
    return number


def share(text: str) -> float:
    """Read a share, above 0 and at most 1."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0 and at most 1, got {shlex.quote(text)}")
    return number


def size(text: str) -> tuple[int, int]:
    """Read a width and a height, "512x768"."""
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT in pixels, such as 512x768, got {shlex.quote(text)}")
    return int(width), int(height)


def duration(text: str) -> float:
    """Read a length of time, such as "7d", "12h" or "30m", and return seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([dhms])", text.strip().lower())
    if match is None:
        raise argparse.ArgumentTypeError(f"expected a time such as 7d, 12h, 30m or 45s, got {shlex.quote(text)}")
    seconds = _finite(match[1]) * {"d": 86400, "h": 3600, "m": 60, "s": 1}[match[2]]
    if seconds > _LONGEST:
        raise argparse.ArgumentTypeError(f"expected a time of at most 36500d, got {shlex.quote(text)}")
    return seconds


def byte_count(text: str) -> int:
    """Read a size, such as "5GB" or "500 MB", and return bytes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)b?", text.strip().lower())
    if match is None:
        raise argparse.ArgumentTypeError(f"expected a size such as 500MB or 5GB, got {shlex.quote(text)}")
    return int(_finite(match[1]) * 1000 ** " kmgt".index(match[2] or " "))


def _finite(digits: str) -> float:
    """Return a number of digits and a dot; one with more than 18 digits is no size and no time."""
    if len(digits) > 18:
        raise argparse.ArgumentTypeError(f"expected at most 18 digits, got {len(digits)}")
    return float(digits)
