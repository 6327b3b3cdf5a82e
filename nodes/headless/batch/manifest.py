"""Table `manifest.parquet`: inputs, status and files of every row of a batch, in the order of the input table."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from wuerstchen_core.files import replaced_whole

from ..errors import UsageError
from ..workflow.overrides import parse_seed
from .journal import Journal
from .plan import Plan

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
"""Columns. `inputs` is a JSON object, `status` a status of the journal, `files` are paths relative to the folder."""


def write_manifest(folder: Path, scratch: Path, plan: Plan, journal: Journal) -> None:
    """Write the manifest from the journal, in place of any older one.

    Args:
        folder: Output folder.
        scratch: Folder of the unfinished file, on the same file system.
        plan: The batch.
        journal: Its journal.
    Raises:
        OSError: The file cannot be written.
    """
    rows = []
    for index, row in enumerate(plan.rows):
        state = journal.state(index)
        rows.append(
            {
                "id": row.id,
                "inputs": json.dumps(row.settings, ensure_ascii=False),
                "seed": _seed(row.seed),
                "prompt_digest": row.digest,
                "status": state.status,
                "files": [file["name"] for file in state.files],
                "sha256": [file["sha256"] for file in state.files],
                "error": state.error,
                "attempts": state.attempts,
                "seconds": state.seconds,
                "started": _time(state.started),
                "finished": _time(state.finished),
                "worker": state.worker,
            }
        )
    with replaced_whole(folder / NAME, durable=True, scratch=scratch) as partial, partial.open("wb") as file:
        parquet.write_table(pyarrow.Table.from_pylist(rows, SCHEMA), file)


def _seed(seed: Any) -> int | None:
    """Return a cell of the seed column as a number; None if it is empty or no seed."""
    try:
        return None if seed is None else parse_seed(seed)
    except UsageError:
        return None


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
