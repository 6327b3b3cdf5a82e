"""Progress of a running batch on the terminal."""

import sys
import time
from pathlib import Path

from tqdm import tqdm

from ..report import Report
from .folder.journal import DONE, RowState
from .pace import Pace, duration
from .rows.plan import Row

MEASURING = "measuring the time left"
"""Shown until a second row tells how long a row takes without loading."""
_SECONDS_BETWEEN_CHECKS = 5.0
"""Seconds between two lines about the rows that are checked."""
_SECONDS_BETWEEN_LINES = 10.0
"""Seconds between two lines of progress, where stderr is no terminal."""


class Checking:
    """Says how many rows are checked, every few seconds while that takes long.

    Args:
        report: Prints the lines.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self._last_line = time.monotonic()

    def __call__(self, checked: int, total: int) -> None:
        """Take note that so many of all rows are checked."""
        if time.monotonic() - self._last_line > _SECONDS_BETWEEN_CHECKS:
            self._last_line = time.monotonic()
            self._report.note(f"Checking rows: {checked:,} of {total:,}")


class Progress:
    """Progress on stderr: a bar on a terminal, lines elsewhere. Finished files go to stdout if that is no terminal.

    As a context, it shows the bar.

    Args:
        report: Prints the lines.
        total: Rows of the batch.
        done: Rows that an earlier run finished.
        left: Rows that this run draws.
        workers: Number of processes that draw them.
    """

    def __init__(self, report: Report, *, total: int, done: int, left: int, workers: int) -> None:
        self._report = report
        self._total = total
        self._earlier = done
        self._finished = done
        self._left = left
        self._failed = 0
        self._pace = Pace(workers)
        self._last_line = time.monotonic()
        self._has_bar = sys.stderr.isatty() and not report.quiet
        self._lists_files = report.as_json or not (sys.stdout.isatty() and self._has_bar)
        self._bar: tqdm | None = None

    def __enter__(self) -> "Progress":
        if self._has_bar:
            self._bar = tqdm(
                total=self._total,
                initial=self._earlier,
                unit="row",
                file=sys.stderr,
                dynamic_ncols=True,
                miniters=1,  # a row may take minutes, so each one is shown
                bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]",
                postfix=MEASURING,
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def row(self, row: Row, state: RowState, folder: Path) -> None:
        """Report a row that has ended.

        Args:
            row: The row.
            state: Its state in the journal.
            folder: Output folder.
        """
        self._finished += 1
        self._left -= 1
        self._failed += state.status != DONE
        self._pace.add(state.worker, time.monotonic())
        self._print(row, state, [str(folder / file["name"]) for file in state.files])
        if self._bar is not None:
            self._bar.set_postfix_str(self._outlook(), refresh=False)
            self._bar.update()
        elif time.monotonic() - self._last_line > _SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            self._report.note(self._line())

    def _print(self, row: Row, state: RowState, paths: list[str]) -> None:
        if state.status != DONE:
            self._report.note(f"row {row.id} {state.status}: {state.error}")
        if self._report.as_json:
            self._report.event(
                event="row", id=row.id, status=state.status, files=paths, seconds=state.seconds, error=state.error
            )
        elif self._lists_files:
            for path in paths:
                self._report.result(path)

    def _line(self) -> str:
        return f"{self._finished} of {self._total} rows, {self._outlook()}"

    def _outlook(self) -> str:
        """Return the number of failed rows and the time that is left."""
        seconds = self._pace.left(self._left) if self._left else 0
        left = MEASURING if seconds is None else f"{duration(seconds)} left"
        return f"{self._failed} failed, {left}" if self._failed else left
