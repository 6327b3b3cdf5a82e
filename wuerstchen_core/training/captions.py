"""Find captioned pictures: a folder with a text file beside each, or a table of paths and captions."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, cast

from ..errors import InputError
from ..files.places import expanded
from ..files.untrusted import MAX_TEXT_BYTES, parse_json, read_bytes

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})
"""Suffixes of pictures."""
PICTURE_COLUMNS = ("file_name", "picture", "image", "file", "path")
"""Names of the column of paths, best first. Paths are relative to the table."""
CAPTION_COLUMNS = ("caption", "text", "prompt")
"""Names of the column of captions, best first."""
_TABLES = (".jsonl", ".csv")


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
    if path.is_dir():
        table = next((path / f"metadata{suffix}" for suffix in _TABLES if (path / f"metadata{suffix}").is_file()), None)
        found = _of_folder(path) if table is None else _of_table(table)
    elif path.suffix.lower() in _TABLES and path.is_file():
        found = _of_table(path)
    else:
        what = "is not a folder or a table" if path.exists() else "does not exist"
        raise InputError(
            f"{path} {what}; expected a folder of pictures with captions, or a .jsonl or .csv table of them. "
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
    pictures = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES]
    return [
        Captioned(path, _read(path.with_suffix(".txt")).strip())
        for path in pictures
        if path.with_suffix(".txt").is_file()
    ]


def _of_table(table: Path) -> list[Captioned]:
    found: list[Captioned] = []
    for number, row in _rows(table):
        name, caption = _cell(row, PICTURE_COLUMNS), _cell(row, CAPTION_COLUMNS)
        if name is None or caption is None:
            absent = PICTURE_COLUMNS if name is None else CAPTION_COLUMNS
            raise InputError(
                f"{table}, line {number} has no {absent[0]}; expected a column of that name, or one of "
                f"{', '.join(absent[1:])}, with a text. It has: {', '.join(map(repr, row))}."
            )
        path = table.parent / name
        if not path.is_file():
            raise InputError(f"{table}, line {number} names {name!r}, and {path} is not there. Check the path.")
        found.append(Captioned(path, caption.strip()))
    return found


def _rows(table: Path) -> Iterator[tuple[int, dict[str, object]]]:
    """Yield the number of each line with a row and the row."""
    lines = _read(table).splitlines()
    if table.suffix.lower() == ".csv":
        reader = csv.DictReader(lines)
        for row in reader:
            yield reader.line_num, cast("dict[str, object]", row)
        return
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row: object = parse_json(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise InputError(
                f'{table}, line {number} is {line[:60]!r}; expected a JSON object such as {{"file_name": "1.png", '
                '"caption": "a red cat"}.'
            )
        yield number, cast("dict[str, object]", row)


def _cell(row: dict[str, object], names: tuple[str, ...]) -> str | None:
    return next((value for name in names if isinstance(value := row.get(name), str) and value.strip()), None)


def _read(path: Path) -> str:
    try:
        return read_bytes(path, MAX_TEXT_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start}). Save it as UTF-8.") from None
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror or error}. Check the path and its permissions."
        ) from error
