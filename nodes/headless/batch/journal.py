"""The journal of a batch: what happened to each row, on the disk before anything is built on it."""

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
    """What is known of a row.

    attempts: how often it was begun. deaths: how many processes ended with it. cut_short: how often it was begun and
    nothing came of it, since the whole batch ended. files: [{"staged", "name", "sha256"}] of a row that is done.
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
    """An append-only file of JSON lines. The first says which batch it is of; each of the others tells of one row.

    Args:
        path: made where it is not there. A last line that was cut off is taken away.
    Raises:
        WuerstchenError: a line in it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header: dict[str, Any] | None = None
        self.rows: dict[int, RowState] = {}
        whole = _whole_lines(path)
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                record = json.loads(line)
                self._take(record)
            except (ValueError, KeyError, TypeError) as error:
                raise WuerstchenError(
                    f"{path}, line {number} is damaged ({error}). Put the file back as it was, or choose another --out."
                ) from error
        for state in self.rows.values():
            state.cut_short += state.open
            state.open = False
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.ftruncate(self._file, len(whole))

    def append(self, event: str, **fields: Any) -> None:
        """Write a line; it is on the disk when this returns. Raises: OSError."""
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        record = {"event": event, "time": now, **fields}
        data = (json.dumps(record) + "\n").encode()
        while data:
            data = data[os.write(self._file, data) :]
        os.fsync(self._file)
        self._take(record)

    def state(self, row: int) -> RowState:
        """What is known of a row."""
        return self.rows.setdefault(row, RowState())

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)

    def _take(self, record: dict[str, Any]) -> None:
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
    """The file up to its last complete line."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return b""
    return data[: data.rfind(b"\n") + 1]
