"""Run the rows of a batch that are not finished, and record what happens to them."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from wuerstchen_core.errors import WuerstchenError

from .journal import DONE, FAILED, PENDING, QUARANTINED, Journal
from .manifest import NAME, write_manifest
from .plan import Plan
from .progress import Progress
from .store import Store
from .tasks import MAX_DEATHS, Drawn, Event, Failed, Started, Stopped, Task

_SECONDS_BETWEEN_MANIFESTS = 60.0
"""Seconds between two manifests of a running batch."""


class Engine(Protocol):
    """Runs tasks, in any order."""

    def run(self, tasks: list[Task]) -> Iterator[Event]:
        """Run tasks and yield their events.

        Args:
            tasks: Rows to run.
        Yields:
            Event: Drawn or Failed at the end of each task, Started before it if the engine knows, or Stopped instead.
            A row that failed with `died` stays pending: the batch gives it to the engine again.
        """
        ...


@dataclass(frozen=True)
class Summary:
    """State of a batch.

    Attributes:
        counts: Number of rows by status.
        manifest: Path of the manifest.
        files: Finished files of all rows, in the table's order.
    """

    counts: dict[str, int]
    manifest: Path
    files: list[Path]

    @property
    def complete(self) -> bool:
        """True if every row is done."""
        return set(self.counts) <= {DONE}


def pending(plan: Plan, journal: Journal, *, retry_failed: bool = False) -> list[int]:
    """Return the rows that are still to run, in the order of running.

    Rows that were running when the batch was killed come last, since they may have been the cause.

    Args:
        plan: The batch.
        journal: Its journal.
        retry_failed: Set failed and quarantined rows back to pending.
    """
    for row in plan.order if retry_failed else []:
        if journal.state(row).status in (FAILED, QUARANTINED):
            journal.append("again", row=row)
    rows = [row for row in plan.order if journal.state(row).status == PENDING]
    return sorted(rows, key=lambda row: journal.state(row).cut_short)


class BatchJob:
    """One run of a batch.

    Args:
        plan: The batch.
        store: Its open output folder, after `Store.begin` with the same plan.
    """

    def __init__(self, plan: Plan, store: Store) -> None:
        self.plan = plan
        self.store = store
        self._names = {row.name for row in plan.rows}
        self._manifest_time = time.monotonic()

    def run(self, engine: Engine, rows: list[int], progress: Progress) -> None:
        """Run rows until each is done, failed or quarantined. The manifest is written even after an error.

        Args:
            engine: Runs the rows.
            rows: Indices of rows in the table.
            progress: Reports each row that has ended.
        Raises:
            WuerstchenError: The engine stopped. Finished rows are kept.
            OSError: The output folder cannot be written. Finished rows are kept.
        """
        try:
            while rows:
                for event in engine.run([self._task(row) for row in rows]):
                    self._record(event, progress)
                rows = [row for row in rows if self.store.journal.state(row).status == PENDING]
        except BaseException:
            with suppress(OSError):  # the first error says more
                self.write_manifest()
            raise
        self.write_manifest()

    def summary(self) -> Summary:
        """Return the state of all rows."""
        states = [self.store.journal.state(row) for row in range(len(self.plan.rows))]
        files = [self.store.folder / file["name"] for state in states for file in state.files]
        return Summary(dict(Counter(state.status for state in states)), self.store.folder / NAME, files)

    def write_manifest(self) -> None:
        """Write manifest.parquet from the journal.

        Raises:
            OSError: The file cannot be written.
        """
        write_manifest(self.store.folder, self.store.work, self.plan, self.store.journal)
        self._manifest_time = time.monotonic()

    def _task(self, row: int) -> Task:
        planned = self.plan.rows[row]
        attempt = self.store.journal.state(row).attempts + 1
        return Task(row, attempt, planned.group, planned.settings, planned.seed)

    def _record(self, event: Event, progress: Progress) -> None:
        if isinstance(event, Stopped):
            done = self.summary().counts.get(DONE, 0)
            raise WuerstchenError(
                f"{event.error}. The batch stopped with {done} of {len(self.plan.rows)} rows done; these are kept. "
                "Solve the problem and start the same command again to continue."
            )
        if isinstance(event, Started):
            self.store.journal.append("started", row=event.row, attempt=event.attempt, worker=event.worker)
            return
        if self.store.journal.state(event.row).status != PENDING:  # Ray may run a row twice after losing a node
            return
        if isinstance(event, Drawn):
            self._record_drawn(event)
        else:
            self._record_failed(event)
        if self.store.journal.state(event.row).status != PENDING:
            progress.row(self.plan.rows[event.row], self.store.journal.state(event.row), self.store.folder)
        if time.monotonic() - self._manifest_time > _SECONDS_BETWEEN_MANIFESTS:
            self.write_manifest()

    def _record_drawn(self, event: Drawn) -> None:
        files = self.store.named(event.files, self.plan.rows[event.row].name)
        taken = [file["name"] for file in files[1:] if file["name"] in self._names]
        if taken:
            self._append("failed", event, error=f"its next image would be {taken[0]}, which is another row's name")
            return
        self._append("done", event, files=files)
        try:
            self.store.publish(event.row)
        except FileExistsError as error:
            self.store.fail(event.row, str(error))

    def _record_failed(self, event: Failed) -> None:
        if event.died:
            self._append("died", event, error=event.error)
        else:
            self._append("quarantined" if event.quarantined else "failed", event, error=event.error)
        deaths = self.store.journal.state(event.row).deaths
        if event.died and deaths >= MAX_DEATHS:
            self._append("quarantined", event, error=f"{event.error}, {deaths} times; it is not tried again")

    def _append(self, kind: str, event: Drawn | Failed, **fields: object) -> None:
        self.store.journal.append(
            kind, row=event.row, attempt=event.attempt, worker=event.worker, seconds=event.seconds, **fields
        )
