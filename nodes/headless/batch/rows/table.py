"""Read tables of inputs: JSON lines, CSV, Parquet, and texts with a prompt in each line."""

import csv
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from wuerstchen_core.files.untrusted import parse_json

from ...errors import UsageError
from ...extras import require
from .limits import MAX_CELL, MAX_CELLS, MAX_CHARACTERS, MAX_COLUMNS, MAX_NAME, MAX_ROWS, shown, too_many
from .text_files import lines_of, read_bytes

Value = str | int | float | bool
"""Types of a cell."""
ID, SEED, PROMPT, NEGATIVE = "id", "seed", "prompt", "negative"
"""Columns that are no NODE.input: the row's id, every seed, and the workflow's prompts."""

_DELIMITERS = ",;\t"
_LONGEST_WORDS = 40


@dataclass(frozen=True)
class Table:
    """Table of inputs.

    Attributes:
        name: Path of the file, for messages.
        columns: Columns of all rows, in the order of their first appearance.
        rows: {column: value} of each row, without the cells that are null (in CSV: empty).
        places: Position of each row in the file, such as "line 3" or "row 3".
    """

    name: str
    columns: list[str]
    rows: list[dict[str, Value]]
    places: list[str]


_Rows = Iterator[tuple[str, dict[str, Any]]]
"""Place and cells of each row."""


def read_table(path: Path, encoding: str | None = None) -> Table:
    """Read a table, whose format is that of its suffix.

    Args:
        path: A .jsonl, .csv, .txt or .parquet file.
        encoding: Encoding of a text file; None for that of its byte order mark, else UTF-8.
    Raises:
        UsageError: The file cannot be opened, has another suffix, is damaged, or has no rows or too many.
    """
    readers: dict[str, Callable[[Path, str | None], _Rows]]
    readers = {".jsonl": _json_lines, ".csv": _csv, ".txt": _prompts, ".parquet": _parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UsageError(f"{path} cannot be read as a table; expected a name ending in {', '.join(readers)}.")
    rows: list[dict[str, Value]] = []
    places: list[str] = []
    columns: dict[str, None] = {}
    cells = characters = 0
    for place, row in reader(path, encoding):
        columns.update(dict.fromkeys(row))
        long = next((name for name in row if len(name) > MAX_NAME), None)
        if long is not None:
            raise UsageError(
                f"{path}, {place}: the column {long[:60]!r}... has {len(long):,} characters; the most is {MAX_NAME}."
            )
        rows.append({name: _value(cell, name, path, place) for name, cell in row.items() if cell is not None})
        places.append(place)
        cells += len(rows[-1])
        characters += sum(len(cell) for cell in rows[-1].values() if isinstance(cell, str))
        counts = (
            (len(rows), "rows", MAX_ROWS),
            (len(columns), "columns", MAX_COLUMNS),
            (cells, "cells", MAX_CELLS),
            (characters, "characters", MAX_CHARACTERS),
        )
        for count, what, most in counts:
            if count > most:
                raise UsageError(too_many(str(path), what, most))
    if not rows:
        raise UsageError(f"{path} is empty; expected at least one row, such as {_EXAMPLE}.")
    if not columns:
        raise UsageError(f"{path} has no columns; expected rows such as {_EXAMPLE}.")
    return Table(str(path), list(columns), rows, places)


_EXAMPLE = '{"id": "heart", "prompt": "a red heart on a white background", "seed": 1}'


def _texts(path: Path, encoding: str | None) -> list[tuple[int, str]]:
    """Return the lines that are not empty, each with its number. Raises: UsageError, also if they are too many."""
    stripped = ((number, line.strip()) for number, line in enumerate(lines_of(path, encoding), 1))
    texts = [(number, text) for number, text in stripped if text]
    if len(texts) > MAX_ROWS:
        raise UsageError(too_many(str(path), "rows", MAX_ROWS))
    return texts


def _json_lines(path: Path, encoding: str | None) -> _Rows:
    for number, text in _texts(path, encoding):
        try:
            row = parse_json(text, _no_constant)
        except json.JSONDecodeError as error:
            raise UsageError(
                f"{path}, line {number}: not JSON: {error.msg} at column {error.colno}; expected {_EXAMPLE}."
            ) from error
        except ValueError as error:
            raise UsageError(f"{path}, line {number}: not JSON that can be read: {error}.") from error
        if not isinstance(row, dict):
            raise UsageError(f"{path}, line {number}: got {text[:60]}; expected an object such as {_EXAMPLE}.")
        yield f"line {number}", row


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _csv(path: Path, encoding: str | None) -> _Rows:
    lines = lines_of(path, encoding)
    header = next(lines, "")
    delimiter = _delimiter(header)
    reader = csv.reader(chain([header], lines), strict=True, delimiter=delimiter)
    try:
        columns = next(reader, [])
        if len(columns) > MAX_COLUMNS:
            raise UsageError(too_many(str(path), "columns", MAX_COLUMNS))
        twice = next((name for name in columns if columns.count(name) > 1), None)
        if twice is not None:
            raise UsageError(f"{path}: the column {twice[:60]!r} is there twice; expected unique names.")
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(columns):
                raise UsageError(
                    f"{path}, line {reader.line_num}: {len(cells)} fields; expected {len(columns)} "
                    f'({shown(columns)}). A text with {_NAMES[delimiter]} in it goes between quotes: "...".'
                )
            yield f"line {reader.line_num}", {name: cell or None for name, cell in zip(columns, cells, strict=True)}
    except csv.Error as error:
        reason = "a quote is not closed" if "unexpected end" in str(error) else error
        raise UsageError(f"{path}, line {reader.line_num}: not CSV: {reason}.") from error


_NAMES = {",": "a comma", ";": "a semicolon", "\t": "a tab"}


def _delimiter(header: str) -> str:
    """Return the comma, semicolon or tab that divides the header into the most columns; a comma if none does."""
    try:
        return max(_DELIMITERS, key=lambda each: len(next(csv.reader([header], delimiter=each), [])))
    except csv.Error:  # reading the table says what is wrong
        return ","


def _prompts(path: Path, encoding: str | None) -> _Rows:
    """Read a prompt from each line. Ids are made of the texts, so that they stay when lines are inserted."""
    times: dict[str, int] = {}
    for number, text in _texts(path, encoding):
        times[text] = times.get(text, 0) + 1
        again = "" if times[text] == 1 else f"-{times[text]}"
        yield f"line {number}", {ID: _id_of(text) + again, PROMPT: text}


def _id_of(text: str) -> str:
    """Return an id such as "a-red-heart-1f0c2b9a": the first words of a text, and a digest of all of it."""
    words = "-".join(re.findall(r"\w+", text))[:_LONGEST_WORDS].strip("-")
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{words}-{digest}" if words else digest


def _parquet(path: Path, _: str | None) -> _Rows:
    require("pyarrow", "batch")
    from .parquet import read_rows

    for number, row in enumerate(read_rows(path, read_bytes(path)), 1):
        yield f"row {number}", row


def _value(cell: Any, name: str, path: Path, place: str) -> Value:
    """Return a cell. Raises: UsageError if its type is none of `Value`, or its text is too long."""
    where = f"{path}, {place}: {name[:60]!r}"
    if not isinstance(cell, (str, int, float, bool)):
        raise UsageError(f"{where} is of the type {type(cell).__name__}; expected a text, a number, or true or false.")
    if isinstance(cell, str) and len(cell) > MAX_CELL:
        raise UsageError(f"{where} has {len(cell):,} characters; expected at most {MAX_CELL:,}.")
    if isinstance(cell, str) and "\0" in cell:
        raise UsageError(f"{where} has a null character in it, which is part of no text. Remove it.")
    return cell
