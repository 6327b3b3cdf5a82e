"""What a batch says while it runs."""

import sys
import time
from pathlib import Path

from ..report import Report
from .journal import DONE, RowState
from .plan import Row

_WIDTH = 24
_EVERY = 10.0
"""Seconds between two lines where there is no terminal."""


class Progress:
    """A bar on a terminal, lines elsewhere; each finished file on stdout where that is no terminal.

    Args:
        total: rows of the batch. done: of them, those that an earlier run finished.
    """

    def __init__(self, report: Report, total: int, done: int) -> None:
        self._report = report
        self._total = total
        self._earlier = done
        self._finished = done
        self._failed = 0
        self._start = self._said = time.monotonic()
        self._bar = sys.stderr.isatty() and not report.quiet
        self._lists = report.as_json or not (sys.stdout.isatty() and self._bar)

    def row(self, row: Row, state: RowState, folder: Path) -> None:
        """A row has ended."""
        self._finished += 1
        paths = [str(folder / file["name"]) for file in state.files]
        if state.status != DONE:
            self._failed += 1
            self._clear()
            self._report.note(f"row {row.id} {state.status}: {state.error}")
        if self._report.as_json:
            self._report.event(
                event="row", id=row.id, status=state.status, files=paths, seconds=state.seconds, error=state.error
            )
        elif self._lists:
            self._clear()
            for path in paths:
                self._report.result(path)
        now = time.monotonic()
        if self._bar:
            sys.stderr.write(f"\r\x1b[K[{'#' * (_WIDTH * self._finished // self._total):<{_WIDTH}}] {self._state()}")
            sys.stderr.flush()
        elif now - self._said > _EVERY:
            self._said = now
            self._report.note(self._state())

    def end(self) -> None:
        """Leave the bar as it is, and the cursor below it."""
        if self._bar and self._finished > self._earlier:
            sys.stderr.write("\n")

    def _clear(self) -> None:
        if self._bar:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def _state(self) -> str:
        each = (time.monotonic() - self._start) / max(1, self._finished - self._earlier)
        left = each * (self._total - self._finished)
        failed = f", {self._failed} failed" if self._failed else ""
        return f"{self._finished} of {self._total} rows{failed}, {_duration(left)} left"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
