"""Run the rows of a batch that are not finished, and record what happens to them."""

import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from wuerstchen_core.errors import WuerstchenError

from .folder import page
from .folder.journal import DONE, FAILED, PENDING, QUARANTINED, Journal, RowState
from .folder.manifest import NAME, write_manifest
from .folder.results import Result, results_of
from .folder.store import Store
from .progress import Progress
from .rows.plan import Plan
from .tasks import MAX_DEATHS, Drawn, Event, Failed, Started, Stopped, Task

_SECONDS_BETWEEN_RESULTS = 60.0
"""Seconds between two manifests and pages of a running batch."""


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
        folder: Output folder.
        results: All rows, in the table's order.
    """

    folder: Path
    results: list[Result]

    @property
    def counts(self) -> dict[str, int]:
        """Number of rows by status."""
        return dict(Counter(each.status for each in self.results))

    @property
    def manifest(self) -> Path:
        """Path of the manifest."""
        return self.folder / NAME

    @property
    def page(self) -> Path:
        """Path of the page."""
        return self.folder / page.NAME

    @property
    def files(self) -> list[Path]:
        """Finished files of all rows, in the table's order."""
        return [self.folder / name for each in self.results for name in each.files]

    @property
    def complete(self) -> bool:
        """True if no row has failed. Rows beyond a limit are still pending."""
        return set(self.counts) <= {DONE, PENDING}


def pending(plan: Plan, journal: Journal, *, shuffle: int | None = None) -> list[int]:
    """Return the rows that are still to run, in the order of running.

    Rows that were running when the batch was killed come last, since they may have been the cause.

    Args:
        plan: The batch.
        journal: Its journal.
        shuffle: Seed of a random order; None for the order of the plan.
    """
    states = {index: journal.state(plan.rows[index].id) for index in plan.order}
    rows = [index for index, state in states.items() if state.status == PENDING]
    if shuffle is not None:
        random.Random(shuffle).shuffle(rows)
    return sorted(rows, key=lambda index: states[index].cut_short)


def set_back(plan: Plan, journal: Journal) -> None:
    """Set failed and quarantined rows back to pending."""
    failed = [row.id for row in plan.rows if journal.state(row.id).status in (FAILED, QUARANTINED)]
    journal.append_all("again", [{"id": row_id} for row_id in failed])


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
        self._results_time = time.monotonic()

    def run(self, engine: Engine, rows: list[int], progress: Progress) -> None:
        """Run rows until each is done, failed or quarantined. The results are written even after an error.

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
                rows = [row for row in rows if self._state(row).status == PENDING]
        except BaseException:
            with suppress(OSError):  # the first error says more
                self.write_results()
            raise
        self.write_results()

    def summary(self) -> Summary:
        """Return the state of all rows."""
        return Summary(self.store.folder, results_of(self.plan, self.store.journal))

    def write_results(self) -> None:
        """Write the manifest and the page from the journal.

        Raises:
            OSError: A file cannot be written.
        """
        self.store.journal.check()  # else a folder that was taken away would be made again
        results = results_of(self.plan, self.store.journal)
        write_manifest(self.store.folder, self.store.work, results)
        page.write_page(self.store.folder, self.store.work, results)
        self._results_time = time.monotonic()

    def _state(self, row: int) -> RowState:
        return self.store.journal.state(self.plan.rows[row].id)

    def _task(self, row: int) -> Task:
        planned = self.plan.rows[row]
        return Task(row, self._state(row).attempts + 1, planned.group, planned.settings, planned.seed)

    def _record(self, event: Event, progress: Progress) -> None:
        if isinstance(event, Stopped):
            done = self.summary().counts.get(DONE, 0)
            raise WuerstchenError(
                f"{event.error}. The batch stopped with {done} of {len(self.plan.rows)} rows done; these are kept. "
                "Solve the problem and start the same command again to continue."
            )
        row_id = self.plan.rows[event.row].id
        if isinstance(event, Started):
            self.store.journal.append("started", id=row_id, attempt=event.attempt, worker=event.worker)
            return
        if self._state(event.row).status != PENDING:  # Ray may run a row twice after losing a node
            return
        if isinstance(event, Drawn):
            self._record_drawn(event, row_id)
        else:
            self._record_failed(event, row_id)
        if self._state(event.row).status != PENDING:
            progress.row(self.plan.rows[event.row], self._state(event.row), self.store.folder)
        if time.monotonic() - self._results_time > _SECONDS_BETWEEN_RESULTS:
            self.write_results()

    def _record_drawn(self, event: Drawn, row_id: str) -> None:
        files = self.store.named(event.files, self.plan.rows[event.row].name)
        taken = [file["name"] for file in files[1:] if file["name"] in self._names]
        if taken:
            error = f"its next image would be {taken[0]}, which is another row's name"
            self._append("failed", event, row_id, error=error)
            return
        self._append("done", event, row_id, files=files)
        try:
            self.store.publish(row_id)
        except FileExistsError as error:
            self.store.fail(row_id, str(error))

    def _record_failed(self, event: Failed, row_id: str) -> None:
        if event.died:
            self._append("died", event, row_id, error=event.error)
        else:
            self._append("quarantined" if event.quarantined else "failed", event, row_id, error=event.error)
        deaths = self.store.journal.state(row_id).deaths
        if event.died and deaths >= MAX_DEATHS:
            self._append("quarantined", event, row_id, error=f"{event.error}, {deaths} times; it is not tried again")

    def _append(self, kind: str, event: Drawn | Failed, row_id: str, **fields: object) -> None:
        self.store.journal.append(
            kind, id=row_id, attempt=event.attempt, worker=event.worker, seconds=event.seconds, **fields
        )
