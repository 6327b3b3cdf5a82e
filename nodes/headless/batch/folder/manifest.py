"""Table `manifest.parquet`: inputs, status and files of every row of a batch, in the order of the input table."""

from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from wuerstchen_core.files.untrusted import read_bytes
from wuerstchen_core.files.writing import replaced_whole

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

_CONTENTS = pyarrow.schema([pyarrow.field(name, pyarrow.string(), nullable=False) for name in ("id", "prompt_digest")])
_MOST_BYTES = 2**28


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


def contents_of(folder: Path) -> list[tuple[str, str]]:
    """Return the id and digest of each row of a folder's manifest; an empty list if there is none."""
    try:
        data = pyarrow.BufferReader(read_bytes(folder / NAME, _MOST_BYTES))
        rows = parquet.read_table(data, columns=["id", "prompt_digest"]).cast(_CONTENTS).to_pylist()
    except (OSError, ValueError, pyarrow.ArrowException):
        return []
    return [(row["id"], row["prompt_digest"]) for row in rows]


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
