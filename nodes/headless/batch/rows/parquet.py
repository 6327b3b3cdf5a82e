"""Read tables in Parquet from strangers: sizes and types are checked before any cell is read."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet, types

from wuerstchen_core.files.untrusted import size_text

from ...errors import UsageError
from .limits import MAX_COLUMNS, MAX_ROWS, too_many
from .parquet_pages import DELTA_BYTE_ARRAY, pages

MAX_BYTES = 128 * 2**20
"""Most bytes of all columns, unpacked."""
_ROWS_AT_A_TIME = 1000
_DAMAGE = (pyarrow.ArrowException, OSError, ValueError, TypeError, LookupError, OverflowError, MemoryError)
"""Errors of pyarrow about damaged files: beside its own, those of the types that it converts cells to."""


def read_rows(path: Path, data: bytes) -> Iterator[dict[str, Any]]:
    """Yield {column: cell} of each row of a table in Parquet.

    Args:
        path: Path of the file, for messages.
        data: Its content.
    Raises:
        UsageError: It is damaged, too large, or has columns of other types than texts, numbers, and true and false.
    """
    texts = _check(path, data)
    try:
        # Read as they are stored, each text once: a few bytes may repeat a text a million times.
        file = parquet.ParquetFile(pyarrow.BufferReader(data), read_dictionary=texts)
        names = file.schema_arrow.names
        for batch in file.iter_batches(_ROWS_AT_A_TIME, use_threads=False):
            for cells in zip(*map(cells_of, batch.columns), strict=True):
                yield dict(zip(names, cells, strict=True))
    except _DAMAGE as error:
        raise _damaged(path, error) from error


def _check(path: Path, data: bytes) -> list[str]:
    """Check the description of a table, and return its columns of texts. Raises: UsageError."""
    try:
        file = parquet.ParquetFile(pyarrow.BufferReader(data))
        facts = file.metadata
        schema = file.schema_arrow
        names = schema.names
        size = sum(facts.row_group(index).total_byte_size for index in range(facts.num_row_groups))
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    if facts.num_rows > MAX_ROWS:
        raise UsageError(too_many(str(path), "rows", MAX_ROWS))
    if len(names) > MAX_COLUMNS:
        raise UsageError(too_many(str(path), "columns", MAX_COLUMNS))
    if size > MAX_BYTES:
        raise _too_large(path)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"{path}: the column {twice[:60]!r} is there twice; expected unique names.")
    for field in schema:
        kind = field.type.value_type if types.is_dictionary(field.type) else field.type
        if not any(fits(kind) for fits in _FITTING):
            raise UsageError(
                f"{path}: the column {field.name[:60]!r} is of the type {str(field.type)[:60]}; expected texts, "
                "numbers, or true and false."
            )
    check_pages(path, data, facts)
    return [field.name for field in schema if _is_text(field.type)]


def check_pages(path: Path, data: bytes, facts: parquet.FileMetaData, names: Collection[str] | None = None) -> None:
    """Check what the pages say about their size.

    Args:
        path: Path of the file, for messages.
        data: Its content.
        facts: Its description.
        names: Names of the columns that are read; None for all.
    Raises:
        UsageError: They are too large, or damaged.
    """
    size = 0
    try:
        for group in (facts.row_group(index) for index in range(facts.num_row_groups)):
            for column in (group.column(index) for index in range(group.num_columns)):
                if names is not None and column.path_in_schema.partition(".")[0] not in names:
                    continue
                first = [offset for offset in (column.dictionary_page_offset, column.data_page_offset) if offset]
                for unpacked, encoding in pages(data, min(first), column.total_compressed_size):
                    size += unpacked
                    if size > MAX_BYTES:
                        raise _too_large(path)
                    if encoding == DELTA_BYTE_ARRAY:
                        raise UsageError(
                            f"{path} has a column in the encoding DELTA_BYTE_ARRAY, in which a few bytes may be a text "
                            "of any size. Save it in another encoding."
                        )
    except _DAMAGE as error:
        raise _damaged(path, error) from error


def _too_large(path: Path) -> UsageError:
    return UsageError(f"{path} is larger than {size_text(MAX_BYTES)}, unpacked. Divide it into several tables.")


def _is_text(kind: pyarrow.DataType) -> bool:
    return types.is_string(kind) or types.is_large_string(kind)


_FITTING = (
    _is_text,
    types.is_integer,
    types.is_float32,
    types.is_float64,
    types.is_boolean,
    types.is_null,
)


def cells_of(column: pyarrow.Array) -> list[Any]:
    """Return the cells of a column. Equal texts are the same object."""
    if not isinstance(column, pyarrow.DictionaryArray):
        return column.to_pylist()
    values = column.dictionary.to_pylist()
    return [None if index is None else values[index] for index in column.indices.to_pylist()]


def _damaged(path: Path, error: Exception) -> UsageError:
    reason = " ".join(str(error).split())[:300]
    return UsageError(f"{path} is not a Parquet file that can be read: {reason or type(error).__name__}.")
