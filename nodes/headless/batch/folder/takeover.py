"""Check that an output folder may go on with a table or workflow that has changed since its last run."""

import os
from pathlib import Path
from typing import Any

from ...errors import UsageError
from ..rows.plan import Plan
from . import manifest, page
from .changes import Changes
from .journal import VERSION, Journal
from .row_files import is_file

_MANY = 3
"""Number of images that are not replaced without --replace if no row stays as it was."""


def header_of(plan: Plan) -> dict[str, Any]:
    """Return the fields of the record with which a journal begins a batch, without its moved rows."""
    return {
        "version": VERSION,
        "workflow": plan.workflow_digest,
        "table": plan.table_digest,
        "cells": plan.cells_digest,
        "rows": [[row.id, row.digest] for row in plan.rows],
    }


def upgraded(journal: Journal, plan: Plan, folder: Path) -> dict[str, Any] | None:
    """Return the record that makes a journal of version 1 one of the present version; None for any other.

    Args:
        journal: Journal of the folder.
        plan: The batch.
        folder: Output folder. Its manifest names the rows if the batch is not the one of the journal.
    Raises:
        UsageError: A later version of this program wrote the journal, or nothing names its rows.
    """
    header = journal.header
    if header is None or header["version"] == VERSION:
        return None
    if header["version"] > VERSION:
        raise UsageError(f"A newer version of this program wrote {folder}. Update this one, or choose another --out.")
    if (header.get("workflow"), header.get("table")) == (plan.workflow_digest, plan.table_digest):
        rows = [(row.id, row.digest) for row in plan.rows]
    else:
        rows = manifest.contents_of(folder, header["rows"])
    if len(rows) != header["rows"]:
        raise UsageError(
            f"{folder} holds a batch with another table or workflow, of an older version of this program and without "
            "its manifest. Start that batch once more as it was, or choose another --out."
        )
    kept = {"workflow": header.get("workflow"), "table": header.get("table"), "cells": None}
    return {"version": VERSION, **kept, "rows": rows, "moved": []}


def check_changes(plan: Plan, changes: Changes, journal: Journal, folder: Path, *, replaces: bool) -> None:
    """Check that a table that has changed may be taken over. Nothing is written.

    Args:
        plan: The batch.
        changes: What has changed.
        journal: Journal of the folder.
        folder: Output folder.
        replaces: Whether many images may be replaced although no row is as it was.
    Raises:
        UsageError: The folder seems to hold another batch, or has other files under the names of this one.
    """
    drawn = [row for row in changes.changed if row.id in journal.rows and journal.rows[row.id].files]
    is_other = journal.header is not None and journal.header.get("cells") != plan.cells_digest
    if is_other and not replaces and len(drawn) >= _MANY and changes.stay + len(changes.moves) == 0:
        raise UsageError(
            f"{folder} has the images of another table: none of its {len(journal.contents)} rows is as it was, and "
            f"{len(drawn)} images would be replaced. Choose another --out, or pass --replace to replace them."
        )
    names = [row.name for row in (*changes.changed, *changes.new)]
    names += [name for move in changes.moves for name in move.names]
    taken = [name for name in names if _is_taken(folder / name, journal.written.get(name, set()))]
    if journal.header is None:
        taken += [manifest.NAME] if (folder / manifest.NAME).exists() else []
        taken += [page.NAME] if not page.may_write(folder) else []
    if taken:
        shown = ", ".join(taken[:3]) + (", ..." if len(taken) > 3 else "")
        raise UsageError(
            f"{folder} already has files that are of no batch, or were changed since: {shown}. Nothing is overwritten; "
            "move them away, or choose another --out or --name."
        )


def _is_taken(path: Path, ours: set[str]) -> bool:
    return os.path.lexists(path) and not is_file(path, ours)
