"""Names of the images of a batch."""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from string import Formatter

from ...errors import UsageError
from ...output_files import INDEX_FORMAT
from .limits import shown
from .table import Value

DEFAULT_PATTERN = "{id}.png"
SUFFIX = ".png"
_LONGEST_VALUE, _LONGEST_PART, _LONGEST_NAME, _LONGEST_PATTERN = 80, 240, 1000, 2000
_DEVICES = frozenset(
    {"con", "prn", "aux", "nul", *(f"{kind}{number}" for kind in ("com", "lpt") for number in range(1, 10))}
)
"""Names that mean devices on Windows, with any suffix."""
_OWN_FIELDS = ("id", "index")


class NamePattern:
    """Pattern of the name of each row's first image; `numbered` names the others.

    Attributes:
        pattern: The pattern as it was given.

    Args:
        pattern: Path relative to the output folder that ends in .png, with the fields {id}, {index} (number of the
            row, from 1; takes a format such as {index:05}) and any column of the table, such as {seed} or
            {Prompt.value}. The text of a column is cut to 80 characters; characters other than letters, digits, spaces
            and _ . , = + - become _.
        columns: Columns of the table, without `id`.
    Raises:
        UsageError: The pattern is damaged, does not end in .png, or has an unknown field or format.
    """

    def __init__(self, pattern: str, columns: list[str]) -> None:
        self.pattern = pattern
        if len(pattern) > _LONGEST_PATTERN:
            raise UsageError(f"--name has {len(pattern)} characters; expected at most {_LONGEST_PATTERN}. {_EXPECTED}")
        try:
            self._parts = list(Formatter().parse(pattern))
        except ValueError as error:
            raise UsageError(f"--name is {pattern!r}: {error}. {_EXPECTED}") from error
        known = [*_OWN_FIELDS, *columns]
        for _, field, spec, conversion in self._parts:
            if field is None:
                continue
            if field not in known or conversion:
                fields = shown([f"{{{each}}}" for each in dict.fromkeys(known)])
                raise UsageError(f"--name is {pattern!r}: it has the field {{{field}}}; expected some of {fields}.")
            if spec and (field != "index" or not INDEX_FORMAT.fullmatch(spec)):
                raise UsageError(
                    f"--name is {pattern!r}: {{{field}:{spec}}} has a format; expected one of {{index}} only, such as "
                    "{index:05}, of at most 20 digits."
                )
        if not pattern.endswith(SUFFIX):
            raise UsageError(f"--name is {pattern!r}; pictures are PNGs, so expected a name ending in {SUFFIX}.")

    def name_of(self, row_id: str, index: int, cells: Mapping[str, Value]) -> str:
        """Return the name of a row's first image, with forward slashes.

        Args:
            row_id: Id of the row.
            index: Number of the row, from 1.
            cells: {column: value} of the row.
        Raises:
            UsageError: The name leads out of the output folder, or is no file name on every system.
        """
        name = "".join(
            literal + self._filled(field, spec, row_id, index, cells) for literal, field, spec, _ in self._parts
        )
        problem = _problem_of(name)
        if problem:
            raise UsageError(
                f"the name of its image would be {name[:300]!r}, which {problem}. Change its id or --name."
            )
        return name

    def _filled(self, field: str | None, spec: str | None, row_id: str, index: int, cells: Mapping[str, Value]) -> str:
        if field is None:
            return ""
        value = row_id if field == "id" else index if field == "index" else cells.get(field, "")
        text = format(value, spec or "") if field == "index" else str(value)
        return text if field in _OWN_FIELDS else re.sub(r"[^\w .,=+-]", "_", text)[:_LONGEST_VALUE].strip(" .")


def numbered(name: str, suffixes: list[str]) -> list[str]:
    """Return the names of all files of a row, such as `a.png`, `a_2.png`, `a_3.png`, `a.latent`.

    Args:
        name: Name of the first image.
        suffixes: Suffix of each file, in the order of saving.
    """
    stem = name.removesuffix(SUFFIX)
    earlier: list[str] = []
    names = []
    for suffix in suffixes:
        earlier.append(suffix)
        count = earlier.count(suffix)
        names.append(stem + ("" if count == 1 else f"_{count}") + suffix)
    return names


_EXPECTED = "Expected a name such as '{id}.png' or 'pictures/{index:05}_{seed}.png'."


def _problem_of(name: str) -> str | None:
    """Return why a name is refused, as the rest of a sentence; None for a good name."""
    path = PurePosixPath(name)
    parts = name.split("/")
    if path.is_absolute() or ".." in parts:
        return "leads out of the output folder"
    if any(part == "" or part.startswith(".") for part in parts):
        return "has a part that is empty or begins with a dot"
    if not name.isprintable() or "\\" in name:
        return "has a character that file names cannot have on every system"
    if any(part.partition(".")[0].strip(" ").casefold() in _DEVICES for part in parts):
        return "is that of a device on Windows"
    if any(len(part.encode()) > _LONGEST_PART for part in parts):
        return f"is longer than {_LONGEST_PART} bytes"
    if len(name.encode()) > _LONGEST_NAME:
        return f"is longer than {_LONGEST_NAME} bytes"
    return None
