"""Table `manifest.parquet`: inputs, status and files of every row of a batch, in the order of the input table."""

from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from wuerstchen_core.files.untrusted import read_bytes
from wuerstchen_core.files.writing import replaced_whole

from ...errors import UsageError
from ..rows.limits import MAX_CHARACTERS, MAX_ROWS
from ..rows.parquet import cells_of, check_pages
from .results import Result

NAME = "manifest.parquet"

_TIME = pyarrow.timestamp("ms", tz="UTC")
SCHEMA = pyarrow.schema(
    [
        ("id", pyarrow.string()),
        ("inputs", pyarrow.string()),
        ("seed", pyarrow.uint64()),
        ("prompt_digest", pyarrow.string()),
        ("status", pyarrow.string()),
        ("files", pyarrow.list_(pyarrow.string())),
        ("sha256", pyarrow.list_(pyarrow.string())),
        ("error", pyarrow.string()),
        ("attempts", pyarrow.int32()),
        ("seconds", pyarrow.float64()),
        ("started", _TIME),
        ("finished", _TIME),
        ("worker", pyarrow.string()),
    ]
)
"""Columns. `inputs` is a JSON object, `status` is `Result.status`, `files` are paths relative to the folder."""

_CONTENTS = ["id", "prompt_digest"]
"""Columns that say which rows there are."""
_MOST_BYTES = 2**28
_ROWS_AT_A_TIME = 1000


def write_manifest(folder: Path, scratch: Path, results: list[Result]) -> None:
    """Write the manifest, in place of any older one.

    Args:
        folder: Output folder.
        scratch: Folder of the unfinished file, on the same file system.
        results: All rows.
    Raises:
        OSError: The file cannot be written.
    """
    rows = [_cells(each) for each in results]
    with replaced_whole(folder / NAME, durable=True, scratch=scratch) as partial, partial.open("wb") as file:
        parquet.write_table(pyarrow.Table.from_pylist(rows, SCHEMA), file)


def contents_of(folder: Path, count: int) -> list[tuple[str, str]]:
    """Return the id and digest of each row of a folder's manifest.

    Args:
        folder: Output folder.
        count: Number of rows that the manifest must have.
    Returns:
        list[tuple[str, str]]: An empty list if there is no such manifest.
    """
    path = folder / NAME
    found: list[tuple[str, str]] = []
    characters = 0
    try:
        data = read_bytes(path, _MOST_BYTES)
        file = parquet.ParquetFile(pyarrow.BufferReader(data))
        if not (file.metadata.num_rows == count <= MAX_ROWS) or any(
            file.schema_arrow.field(name).type != pyarrow.string() for name in _CONTENTS
        ):
            return []
        check_pages(path, data, file.metadata, _CONTENTS)
        file = parquet.ParquetFile(pyarrow.BufferReader(data), read_dictionary=_CONTENTS)  # each text once
        for batch in file.iter_batches(_ROWS_AT_A_TIME, columns=_CONTENTS, use_threads=False):
            rows = list(zip(*(cells_of(batch.column(name)) for name in _CONTENTS), strict=True))
            characters += sum(len(text) for row in rows for text in row)
            if characters > MAX_CHARACTERS:  # the journal has each of them in full
                return []
            found += rows
    except (OSError, ValueError, TypeError, LookupError, UsageError, pyarrow.ArrowException):
        return []
    return found


def _cells(result: Result) -> dict[str, Any]:
    state = result.state
    return {
        "id": result.row.id,
        "inputs": result.inputs,
        "seed": result.seed,
        "prompt_digest": result.row.digest,
        "status": result.status,
        "files": result.files,
        "sha256": [file["sha256"] for file in state.files],
        "error": result.error,
        "attempts": state.attempts,
        "seconds": state.seconds,
        "started": _time(state.started),
        "finished": _time(state.finished),
        "worker": state.worker,
    }


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
