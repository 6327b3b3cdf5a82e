"""Read tables of inputs: JSON lines, CSV and Parquet."""

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..extras import require

Value = str | int | float | bool
"""Types of a cell."""


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


def read_table(path: Path) -> Table:
    """Read a table, whose format is that of its suffix.

    Args:
        path: A .jsonl, .csv or .parquet file.
    Raises:
        UsageError: The file cannot be opened, has another suffix, is damaged, or has no rows.
    """
    readers: dict[str, Callable[[Path], Iterator[tuple[str, dict[str, Any]]]]]
    readers = {".jsonl": _json_lines, ".csv": _csv, ".parquet": _parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UsageError(f"{path} cannot be read as a table; expected a name ending in {', '.join(readers)}.")
    try:
        found = list(reader(path))
    except OSError as error:
        raise UsageError(f"{path} cannot be opened: {error.strerror or error}. Give the path of a table.") from error
    if not found:
        raise UsageError(f"{path} is empty; expected at least one row, such as {_EXAMPLE}.")
    rows = [{name: _value(cell, name, path, place) for name, cell in row.items()} for place, row in found]
    rows = [{name: value for name, value in row.items() if value is not None} for row in rows]
    columns = list(dict.fromkeys(name for _, row in found for name in row))
    if not columns:
        raise UsageError(f"{path} has no columns; expected rows such as {_EXAMPLE}.")
    return Table(str(path), columns, rows, [place for place, _ in found])


_EXAMPLE = '{"id": "heart", "Prompt.value": "a red heart on a white background", "seed": 1}'


def _json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                text = line.decode("utf-8-sig").strip()
                row = json.loads(text, parse_constant=_no_constant) if text else None
            except UnicodeDecodeError as error:
                raise UsageError(f"{path}, line {number}: not UTF-8 text (byte {error.start} of the line).") from error
            except json.JSONDecodeError as error:
                raise UsageError(
                    f"{path}, line {number}: not JSON: {error.msg} at column {error.colno}; expected {_EXAMPLE}."
                ) from error
            except (ValueError, RecursionError) as error:
                raise UsageError(f"{path}, line {number}: not JSON that can be read: {error}.") from error
            if row is None and not text:
                continue
            if not isinstance(row, dict):
                raise UsageError(f"{path}, line {number}: got {text[:60]}; expected an object such as {_EXAMPLE}.")
            yield f"line {number}", row


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _csv(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            columns = next(reader, [])
            twice = next((name for name in columns if columns.count(name) > 1), None)
            if twice is not None:
                raise UsageError(f"{path}: the column {twice!r} is there twice; expected unique names.")
            for cells in reader:
                if not cells:
                    continue
                if len(cells) != len(columns):
                    raise UsageError(
                        f"{path}, line {reader.line_num}: {len(cells)} fields; expected {len(columns)} "
                        f'({", ".join(columns)}). A text with a comma in it goes between quotes: "...".'
                    )
                yield f"line {reader.line_num}", {name: cell or None for name, cell in zip(columns, cells, strict=True)}
        except csv.Error as error:
            raise UsageError(f"{path}, line {reader.line_num}: not CSV: {error}.") from error
        except UnicodeDecodeError as error:
            raise UsageError(f"{path}: not UTF-8 text after line {reader.line_num}. Save it as UTF-8.") from error


def _parquet(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    require("pyarrow", "batch")
    import pyarrow
    from pyarrow import parquet

    with path.open("rb") as file:
        try:
            table = parquet.read_table(file)
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            raise UsageError(f"{path} is not a Parquet file that can be read: {error}.") from error
    for number, row in enumerate(table.to_pylist(), 1):
        yield f"row {number}", row


def _value(cell: Any, name: str, path: Path, place: str) -> Value | None:
    """Return a cell, or raise UsageError if its type is none of `Value`."""
    if cell is None or isinstance(cell, (str, int, float, bool)):
        return cell
    kind = type(cell).__name__
    raise UsageError(f"{path}, {place}: {name!r} is of the type {kind}; expected a text, a number, or true or false.")
