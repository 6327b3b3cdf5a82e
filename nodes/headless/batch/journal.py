"""Journal of a batch: an append-only file of events, each on the disk before the batch goes on."""

import json
import os
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from wuerstchen_core.errors import WuerstchenError

PENDING, DONE, FAILED, QUARANTINED = "pending", "done", "failed", "quarantined"


@dataclass
class RowState:
    """State of a row.

    Attributes:
        status: PENDING, DONE, FAILED or QUARANTINED.
        attempts: Number of attempts that were started.
        deaths: Number of worker processes that ended while they ran the row.
        open: True if an attempt is running.
        cut_short: Number of attempts without an end, because the whole batch was killed.
        seconds: Time of the last attempt; None before its end.
        worker: Worker of the last attempt.
        error: Error of the last attempt.
        started: Start of the last attempt, as an ISO 8601 time.
        finished: End of the last attempt, as an ISO 8601 time.
        files: [{"staged": path in the temporary folder, "name": path in the output folder, "sha256": digest}] of a
            row that is done.
    """

    status: str = PENDING
    attempts: int = 0
    deaths: int = 0
    open: bool = False
    cut_short: int = 0
    seconds: float | None = None
    worker: str | None = None
    error: str | None = None
    started: str | None = None
    finished: str | None = None
    files: list[dict[str, str]] = field(default_factory=list)


class Journal:
    """File of JSON lines: the first describes the batch, each other is an event of one row.

    Attributes:
        path: Path of the file.
        header: Record of the first line; None in a new journal.
        rows: States by row index.

    Args:
        path: Path of the file. It is made if it is missing; an incomplete last line is removed.
    Raises:
        WuerstchenError: A line is damaged.
        OSError: The file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header: dict[str, Any] | None = None
        self.rows: dict[int, RowState] = {}
        whole = _whole_lines(path)
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                record = json.loads(line)
                self._apply(record)
            except (ValueError, KeyError, TypeError) as error:
                raise WuerstchenError(
                    f"{path}, line {number} is damaged ({error}). Restore the file, or choose another --out."
                ) from error
        for state in self.rows.values():
            state.cut_short += state.open
            state.open = False
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.ftruncate(self._file, len(whole))

    def append(self, event: str, **fields: Any) -> None:
        """Write an event and wait until it is on the disk.

        Args:
            event: "batch" for the first line; "started", "done", "failed", "died", "quarantined" or "again" for a row.
            fields: Other fields of the record.
        Raises:
            OSError: The file cannot be written.
        """
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        record = {"event": event, "time": now, **fields}
        data = (json.dumps(record) + "\n").encode()
        while data:
            data = data[os.write(self._file, data) :]
        os.fsync(self._file)
        self._apply(record)

    def state(self, row: int) -> RowState:
        """Return the state of a row."""
        return self.rows.setdefault(row, RowState())

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _apply(self, record: dict[str, Any]) -> None:
        event = record["event"]
        if event == "batch":
            self.header = record
            return
        state = self.state(record["row"])
        if event == "again":
            self.rows[record["row"]] = RowState(attempts=state.attempts)
            return
        state.attempts = max(state.attempts, record["attempt"])
        state.worker = record["worker"]
        if event == "started":
            state.open, state.started = True, record["time"]
            return
        state.open = False
        state.seconds, state.finished, state.error = record["seconds"], record["time"], record.get("error")
        if event == "died":
            state.deaths += 1
        else:
            state.status, state.files = event, record.get("files", [])


def _whole_lines(path: Path) -> bytes:
    """Return the content of a file up to its last complete line."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return b""
    return data[: data.rfind(b"\n") + 1]
