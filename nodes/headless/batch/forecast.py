"""Forecast of a batch: rows that would run, rows that are finished, and the time that they would take."""

from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from wuerstchen_core.errors import WuerstchenError

from .folder.changes import Changes, compare
from .folder.journal import DONE, FAILED, QUARANTINED, Journal
from .folder.store import journal_file
from .folder.takeover import check_changes, header_of, upgraded
from .job import pending
from .pace import duration, seconds_of
from .rows.plan import STAGE_C_SAMPLER, Plan


@dataclass(frozen=True)
class Forecast:
    """Forecast of a batch.

    Attributes:
        rows: Number of rows of the table.
        finished: Rows whose images are there.
        failed: Rows that failed earlier and would not run again.
        bad: Rows that cannot run.
        would_run: Rows that would run.
        waiting: Rows that would wait for another run, because of a limit.
        groups: Number of different Stage C results of the rows that would run; None for a workflow without Stage C.
        changes: Changes since the last run; None for a folder without one.
        workers: Number of workers.
        each: Mean seconds of a row that was drawn in this folder; None if there is none.
        measured: Number of rows that this was measured on.
    """

    rows: int
    finished: int
    failed: int
    bad: int
    would_run: int
    waiting: int
    groups: int | None
    changes: Changes | None
    workers: int
    each: float | None
    measured: int

    @property
    def seconds(self) -> float | None:
        """Time of the whole run, without loading; None if no row was measured."""
        if self.each is None:
            return None
        return self.would_run * self.each / max(1, min(self.workers, self.would_run))

    def lines(self) -> list[str]:
        """Return the forecast in words."""
        counts = [
            f"{self.would_run} of {self.rows} rows would run",
            f"{self.finished} are finished",
            *([f"{self.failed} failed earlier (--retry-failed runs them again)"] if self.failed else []),
            *([f"{self.bad} cannot run"] if self.bad else []),
            *([f"{self.waiting} would wait (--limit)"] if self.waiting else []),
        ]
        lines = [str(self.changes)] if self.changes else []
        lines.append(", ".join(counts) + ".")
        if self.groups is not None and self.groups < self.would_run:
            times = "once" if self.groups == 1 else f"{self.groups} times"
            lines.append(f"Stage C would run {times}; the other rows share its results.")
        if self.would_run:
            lines.append(self._time())
        return lines

    def fields(self) -> dict[str, Any]:
        """Return the forecast for a line of JSON."""
        names = ("rows", "finished", "failed", "bad", "would_run", "waiting", "groups", "workers", "each", "measured")
        changes = self.changes.counts() if self.changes is not None else None
        return {**{name: getattr(self, name) for name in names}, "seconds": self.seconds, "changes": changes}

    def _time(self) -> str:
        if self.seconds is None:
            return "No time is known, since no row was drawn in this folder yet; --limit 3 would measure it."
        workers = "1 worker" if self.workers == 1 else f"{self.workers} workers"
        rows = "the one row" if self.measured == 1 else f"{self.measured} rows"
        return (
            f"About {duration(self.seconds)} with {workers}, and loading: {self.each:.1f} s a row, the mean of {rows} "
            "drawn here earlier."
        )


def forecast(
    plan: Plan, folder: Path, workers: int, *, retry_failed: bool, limit: int | None, replaces: bool
) -> Forecast:
    """Forecast a batch. Nothing runs, and nothing is written.

    Args:
        plan: The batch.
        folder: Output folder, which may be missing.
        workers: Number of workers.
        retry_failed: Whether failed and quarantined rows would run again.
        limit: Most rows that would run; None for all.
        replaces: Whether many images may be replaced although no row is as it was.
    Raises:
        UsageError: The batch would be refused.
        WuerstchenError: The journal of the folder is damaged or cannot be read.
    """
    try:
        journal = Journal(journal_file(folder))
    except OSError as error:
        raise WuerstchenError(f"Cannot read {journal_file(folder)}: {error.strerror or error}.") from error
    upgrade = upgraded(journal, plan, folder)
    if upgrade is not None:
        journal.assume("batch", **upgrade)
    is_first = journal.header is None
    changes = compare(plan, journal, folder)
    check_changes(plan, changes, journal, folder, replaces=replaces)
    each, measured = seconds_of(chain(journal.rows.values(), *journal.earlier.values()))
    journal.assume("batch", **header_of(plan), moved=[])
    for row_id, state in list(journal.rows.items()):
        missing = any(not (folder / file["name"]).exists() for file in state.files)
        if missing or (retry_failed and state.status in (FAILED, QUARANTINED)):
            journal.assume("again", id=row_id)
    moved = {move.row.id for move in changes.moves}
    rows = [index for index in pending(plan, journal) if plan.rows[index].id not in moved]
    able = [DONE if plan.rows[index].id in moved else journal.state(plan.rows[index].id).status for index in plan.order]
    shown = rows[:limit]
    return Forecast(
        rows=len(plan.rows),
        finished=able.count(DONE),
        failed=able.count(FAILED) + able.count(QUARANTINED),
        bad=len(plan.bad),
        would_run=len(shown),
        waiting=len(rows) - len(shown),
        groups=len({plan.rows[index].group for index in shown}) if _has_stage_c(plan) else None,
        changes=None if is_first else changes,
        workers=workers,
        each=each,
        measured=measured,
    )


def _has_stage_c(plan: Plan) -> bool:
    return any(node["class_type"] == STAGE_C_SAMPLER for node in plan.prepared.prompt.values())
