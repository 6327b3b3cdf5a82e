"""Journal of a batch: an append-only file of events, each on the disk before the batch goes on.

Events are those of a row, or of the batch as a whole: its table or workflow is new. In version 1 of the format the
table could not change, and rows had numbers instead of ids.
"""

import errno
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from wuerstchen_core.errors import WuerstchenError
from wuerstchen_core.files.untrusted import open_file, parse_json, size_text

from ..rows.limits import MAX_ROWS
from .records import check_record

PENDING, DONE, FAILED, QUARANTINED = "pending", "done", "failed", "quarantined"
VERSION = 2
"""Version of the format."""
_LONGEST_LINE = 2**26
"""Most bytes of a line. The longest lines list all rows of a table."""


@dataclass
class RowState:
    """State of one row with one content.

    Attributes:
        digest: Digest of the row's content.
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

    digest: str = ""
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
    """File of JSON lines.

    Attributes:
        path: Path of the file.
        header: Last record of the batch as a whole; None in a new journal.
        rows: States by row id; in a journal of version 1 by row number, as a text.
        earlier: States that rows had with earlier contents and that left images, by row id. Removed rows, too.
        written: Digests of all files that ever got a name, by this name.
        contents: Digest of each row of the last table, by id, in its order.

    Args:
        path: Path of the file. An incomplete last line is not read.
    Raises:
        WuerstchenError: A line is damaged.
        OSError: The file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header: dict[str, Any] | None = None
        self.rows: dict[str, RowState] = {}
        self.earlier: dict[str, list[RowState]] = {}
        self.written: dict[str, set[str]] = {}
        self.contents: dict[str, str] = {}
        self._file: int | None = None
        self._size = 0
        for number, line in enumerate(_whole_lines(path), 1):
            try:
                record = parse_json(line.decode("ascii"))
                check_record(record, VERSION)
                self._apply(record)
                if len(self.rows) > MAX_ROWS:
                    raise ValueError(f"it has more than {MAX_ROWS:,} rows")
            except ValueError as error:
                reason = str(error)[:200]
                raise WuerstchenError(
                    f"{path}, line {number} is damaged ({reason}). Restore the file, or choose another --out."
                ) from error
            self._size += len(line)
        for state in self.rows.values():
            state.cut_short += state.open
            state.open = False

    def open(self) -> None:
        """Open the file for `append`. It is made if it is missing; an incomplete last line is removed.

        Raises:
            OSError: The file cannot be written.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
        self._file = os.open(self.path, flags, 0o644)
        os.ftruncate(self._file, self._size)

    def append(self, event: str, **fields: Any) -> None:
        """Write an event and wait until it is on the disk.

        Args:
            event: "batch" for a new table or workflow; "started", "done", "failed", "died", "quarantined" or "again"
                for a row.
            fields: Other fields of the record.
        Raises:
            OSError: The file cannot be written.
        """
        self.append_all(event, [fields])

    def append_all(self, event: str, records: Iterable[dict[str, Any]]) -> None:
        """Write events of one kind and wait until all are on the disk, once. Arguments and errors as for `append`."""
        self.check()
        assert self._file is not None
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        for fields in records:
            record = {"event": event, "time": now, **fields}
            data = (json.dumps(record) + "\n").encode()
            if len(data) > _LONGEST_LINE:  # it could not be read again
                reason = f"the ids of all rows are longer than {size_text(_LONGEST_LINE)}"
                raise OSError(errno.EFBIG, reason, str(self.path))
            while data:
                data = data[os.write(self._file, data) :]
            self._apply(record)
        os.fsync(self._file)

    def check(self) -> None:
        """Check that the open file is still the one at the path, so that its folder was not taken away.

        Raises:
            OSError: It is not.
        """
        assert self._file is not None
        try:
            is_same = os.path.samestat(os.fstat(self._file), os.stat(self.path))
        except FileNotFoundError:
            is_same = False
        if not is_same:
            raise OSError(errno.ENOENT, "it was moved or deleted while the batch was running", str(self.path))

    def assume(self, event: str, **fields: Any) -> None:
        """Take an event as given without writing it, for a forecast. Arguments as for `append`."""
        self._apply({"event": event, **fields})

    def state(self, row_id: str) -> RowState:
        """Return the state of a row."""
        return self.rows.setdefault(row_id, RowState(self.contents.get(row_id, "")))

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _apply(self, record: dict[str, Any]) -> None:
        event = record["event"]
        if event == "batch":
            self._begin(record)
            return
        row_id = record["id"] if "id" in record else str(record["row"])
        state = self.state(row_id)
        if event == "again":
            self.rows[row_id] = RowState(state.digest, attempts=state.attempts)
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
            return
        state.status, state.files = event, record.get("files", [])
        self._note_written(state)

    def _begin(self, record: dict[str, Any]) -> None:
        """Take over another table: keep the states of rows that stay, and move those of others to `earlier`."""
        if record["version"] == 1:
            self.header = record
            return
        self.contents = dict(record["rows"])
        if self.header is not None and self.header["version"] == 1:
            numbered = self.rows
            self.rows = {row_id: numbered.get(str(n), RowState()) for n, row_id in enumerate(self.contents)}
            for row_id, state in self.rows.items():
                state.digest = self.contents[row_id]
        moved = {each["id"]: each for each in record["moved"]}
        before, self.rows = self.rows, {}
        for row_id, state in before.items():
            if self.contents.get(row_id) == state.digest and row_id not in moved:
                self.rows[row_id] = state
            elif state.files:
                self.earlier.setdefault(row_id, []).append(state)
        for row_id, each in moved.items():
            self.rows[row_id] = RowState(**each["state"])
            self.earlier.setdefault(row_id, []).append(RowState(status=DONE, files=each["old"]))
            self._note_written(self.rows[row_id])
        self.header = record

    def _note_written(self, state: RowState) -> None:
        for file in state.files:
            self.written.setdefault(file["name"], set()).add(file["sha256"])


def _whole_lines(path: Path) -> Iterator[bytes]:
    """Yield the complete lines of a file, each with its end. Raises: OSError, also if it is no regular file."""
    try:
        file = open_file(path)
    except FileNotFoundError:
        return
    with file:
        while (line := file.readline(_LONGEST_LINE)).endswith(b"\n"):
            yield line
    if len(line) == _LONGEST_LINE:
        raise OSError(errno.EFBIG, f"it has a line that is longer than {size_text(_LONGEST_LINE)}", str(path))
