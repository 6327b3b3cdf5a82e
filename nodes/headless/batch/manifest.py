"""`manifest.parquet`: a row of the table, a row of what became of it, in the table's order."""

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

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
"""inputs: what the row sets, as JSON. status: pending, done, failed or quarantined. files: relative to the folder."""


def write_manifest(folder: Path, scratch: Path, plan: Plan, journal: Journal) -> Path:
    """Write it anew, complete or not at all.

    Args:
        scratch: a folder on the same file system for the unfinished file.
    Raises:
        OSError: it cannot be written.
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
    partial = scratch / f"{NAME}.part"
    with partial.open("wb") as file:
        parquet.write_table(pyarrow.Table.from_pylist(rows, SCHEMA), file)
        file.flush()
        os.fsync(file.fileno())
    return partial.replace(folder / NAME)


def _seed(seed: Any) -> int | None:
    try:
        return None if seed is None else parse_seed(seed)
    except UsageError:
        return None


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
