"""Find captioned pictures: a folder with a text file beside each, or a table of paths and captions."""

import csv
import errno
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, cast

from ..errors import InputError
from ..files.places import expanded
from ..files.untrusted import MAX_TEXT_BYTES, parse_json, read_bytes
from ..text.prompts import LONGEST

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})
"""Suffixes of pictures."""
PICTURE_COLUMNS = ("file_name", "picture", "image", "file", "path")
"""Names of the column of paths, best first. Paths are relative to the table."""
CAPTION_COLUMNS = ("caption", "text", "prompt")
"""Names of the column of captions, best first."""
MAX_COLUMNS = 1000
"""Most columns of a CSV table."""
MAX_LINE = 1_000_000
"""Most characters in a line of a table."""
_TABLES = (".jsonl", ".csv")
_CAPTION_BYTES = 4 * LONGEST + 3
"""Most bytes of a file with a caption: characters of four bytes each, and a byte order mark."""


class Captioned(NamedTuple):
    """A picture and what it shows.

    Attributes:
        path: The picture's file.
        caption: Its caption.
    """

    path: Path
    caption: str


def captioned_pictures(source: str | Path) -> list[Captioned]:
    """List captioned pictures in a fixed order.

    Args:
        source: A folder, searched with its subfolders, in which each picture has a .txt file of the same name beside
            it, or which holds a metadata.jsonl or metadata.csv; or such a table itself: JSON objects a line, or CSV
            with a header, with one of PICTURE_COLUMNS and one of CAPTION_COLUMNS.
    Raises:
        InputError: There are no captioned pictures, or a row of the table cannot be read.
    """
    path = expanded(source)
    if os.path.isdir(path):  # unlike `Path.is_dir` not an error where the name is too long
        tables = [path / f"metadata{suffix}" for suffix in _TABLES]
        table = next((table for table in tables if os.path.isfile(table)), None)
        found = _of_folder(path) if table is None else _of_table(table)
    elif path.suffix.lower() in _TABLES and os.path.isfile(path):
        found = _of_table(path)
    else:
        what = "is not a folder or a table" if os.path.exists(path) else "does not exist"
        raise InputError(
            f"{_short(path)} {what}; expected a folder of pictures with captions, or a .jsonl or .csv table of them. "
            "Check the path."
        )
    if not found:
        raise InputError(
            f"{path} holds no captioned image; expected pictures ({', '.join(sorted(SUFFIXES))}), each beside a .txt "
            "file of the same name that holds its caption, or a metadata.jsonl."
        )
    return found


def read_prompts(path: str | Path) -> tuple[str, ...]:
    """Return the prompts of a text file, one a line; empty lines are left out.

    Raises:
        InputError: It cannot be read, or holds none.
    """
    prompts = tuple(line.strip() for line in _read(expanded(path)).splitlines() if line.strip())
    if not prompts:
        raise InputError(f"{path} holds no prompt; expected one a line.")
    return prompts


def _of_folder(folder: Path) -> list[Captioned]:
    found: list[Captioned] = []
    for path in sorted(folder.rglob("*")):
        beside = path.with_suffix(".txt")
        if path.suffix.lower() in SUFFIXES and os.path.isfile(path) and os.path.isfile(beside):
            caption = _read(beside, _CAPTION_BYTES).strip()
            _check_caption(caption, str(beside))
            found.append(Captioned(path, caption))
    return found


def _of_table(table: Path) -> list[Captioned]:
    found: list[Captioned] = []
    for number, row in _rows(table):
        name, caption = _cell(row, PICTURE_COLUMNS), _cell(row, CAPTION_COLUMNS)
        if name is None or caption is None:
            absent = PICTURE_COLUMNS if name is None else CAPTION_COLUMNS
            raise InputError(
                f"{table}, line {number} has no {absent[0]}; expected a column of that name, or one of "
                f"{', '.join(absent[1:])}, with a text. It has: {_short(', '.join(map(repr, row)))}."
            )
        path = table.parent / name
        if not os.path.isfile(path):
            raise InputError(
                f"{table}, line {number} names {_short(repr(name))}, and {_short(path)} is not there, or no file. "
                "Check the path."
            )
        _check_caption(caption.strip(), f"{table}, line {number}")
        found.append(Captioned(path, caption.strip()))
    return found


def _rows(table: Path) -> Iterator[tuple[int, dict[str, object]]]:
    """Yield the number of each line with a row and the row."""
    lines = _lines(table)
    if table.suffix.lower() == ".csv":
        yield from _csv_rows(table, (line for _, line in lines))
        return
    for number, line in lines:
        if not line.strip():
            continue
        try:
            row: object = parse_json(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise InputError(
                f'{table}, line {number} is {line.rstrip()[:60]!r}; expected a JSON object such as {{"file_name": '
                '"1.png", "caption": "a red cat"}.'
            )
        yield number, cast("dict[str, object]", row)


def _csv_rows(table: Path, lines: Iterable[str]) -> Iterator[tuple[int, dict[str, object]]]:
    """Yield the number of the last line of each row and the row, without the columns that it lacks."""
    reader = csv.reader(lines)  # a DictReader fills short rows with every column of the header
    header: list[str] = []
    try:
        for row in reader:
            if not row:
                continue
            if header:
                yield reader.line_num, dict(zip(header, row, strict=False))
                continue
            header = row
            if len(header) > MAX_COLUMNS:
                raise InputError(
                    f"{table} has {len(header):,} columns; expected at most {MAX_COLUMNS:,}. Take out those that hold "
                    "no file name and no caption."
                )
    except csv.Error as error:
        raise InputError(
            f"{table}, line {reader.line_num} cannot be read as CSV: {error}. Check its quotes and its length."
        ) from error


def _lines(table: Path) -> Iterator[tuple[int, str]]:
    """Yield the number of each line, and the line with its end."""
    for number, line in enumerate(io.StringIO(_read(table), newline=""), 1):
        if len(line) > MAX_LINE:
            raise InputError(
                f"{table}, line {number} has {len(line):,} characters; expected at most {MAX_LINE:,}. Shorten it."
            )
        yield number, line


def _cell(row: dict[str, object], names: tuple[str, ...]) -> str | None:
    return next((value for name in names if isinstance(value := row.get(name), str) and value.strip()), None)


def _check_caption(caption: str, place: str) -> None:
    if len(caption) > LONGEST:
        raise InputError(
            f"{place} has a caption of {len(caption):,} characters; expected at most {LONGEST:,}. Shorten it."
        )


def _short(text: object) -> str:
    """Return a text, or its beginning where it is too long for a message."""
    return str(text) if len(str(text)) <= 300 else f"{str(text)[:300]}..."


def _read(path: Path, most: int = MAX_TEXT_BYTES) -> str:
    try:
        return read_bytes(path, most).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start}). Save it as UTF-8.") from None
    except OSError as error:
        advice = "Shorten it" if error.errno == errno.EFBIG else "Check the path and its permissions"
        raise InputError(f"{_short(path)} cannot be read: {error.strerror or error}. {advice}.") from error
