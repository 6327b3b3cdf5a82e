"""Running what is left of a batch, and keeping the books."""

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
from .tasks import MOST_DEATHS, Drawn, Event, Failed, Started, Stopped, Task

_MANIFEST_EVERY = 60.0
"""Seconds between two manifests of a running batch."""


class Engine(Protocol):
    """Whatever runs tasks. It may tell of them in any order; each task ends with Drawn, Failed or Stopped."""

    def run(self, tasks: list[Task]) -> Iterator[Event]: ...


@dataclass(frozen=True)
class Summary:
    """What became of a batch. counts: rows by status. manifest: the table of all rows. pictures: those of all rows."""

    counts: dict[str, int]
    manifest: Path
    files: list[Path]

    @property
    def complete(self) -> bool:
        """Whether every row is done."""
        return set(self.counts) <= {DONE}


def pending(plan: Plan, journal: Journal, *, retry_failed: bool = False) -> list[int]:
    """The rows that are left, in the order of drawing; those that were under way when the batch ended come last.

    Args:
        retry_failed: failed and quarantined rows are left, too.
    """
    for row in plan.order if retry_failed else []:
        if journal.state(row).status in (FAILED, QUARANTINED):
            journal.append("again", row=row)
    left = [row for row in plan.order if journal.state(row).status == PENDING]
    return sorted(left, key=lambda row: journal.state(row).cut_short)


class Job:
    """One run of a batch.

    Args:
        store: opened, and begun with the same plan.
        progress: told of each row.
    """

    def __init__(self, plan: Plan, store: Store, progress: Progress) -> None:
        self.plan = plan
        self.store = store
        self.progress = progress
        self._names = {row.name for row in plan.rows}
        self._written = time.monotonic()

    def run(self, engine: Engine, rows: list[int]) -> None:
        """Run rows until each is done, has failed, or is quarantined. The manifest is written however this ends.

        Raises:
            WuerstchenError: the output folder cannot be written to; what is finished stays.
        """
        try:
            while rows:
                for event in engine.run([self._task(row) for row in rows]):
                    self._take(event)
                rows = [row for row in rows if self.store.journal.state(row).status == PENDING]
        except BaseException:
            with suppress(OSError):  # of a full disk we are being told already
                self.write_manifest()
            raise
        self.write_manifest()

    def summary(self) -> Summary:
        """What became of all rows so far."""
        states = [self.store.journal.state(row) for row in range(len(self.plan.rows))]
        files = [self.store.folder / file["name"] for state in states for file in state.files]
        return Summary(dict(Counter(state.status for state in states)), self.store.folder / NAME, files)

    def write_manifest(self) -> None:
        """Write manifest.parquet as the journal is now. Raises: OSError."""
        write_manifest(self.store.folder, self.store.work, self.plan, self.store.journal)
        self._written = time.monotonic()

    def _task(self, row: int) -> Task:
        planned = self.plan.rows[row]
        attempt = self.store.journal.state(row).attempts + 1
        return Task(row, attempt, planned.group, planned.settings, planned.seed)

    def _take(self, event: Event) -> None:
        if isinstance(event, Stopped):
            done = self.summary().counts.get(DONE, 0)
            raise WuerstchenError(
                f"{event.error}. The batch stopped with {done} of {len(self.plan.rows)} rows done; nothing of them is "
                "lost. See to it, and start the same command again: it goes on from there."
            )
        if isinstance(event, Started):
            self.store.journal.append("started", row=event.row, attempt=event.attempt, worker=event.worker)
            return
        if self.store.journal.state(event.row).status != PENDING:  # an engine that lost a node may draw a row twice
            return
        if isinstance(event, Drawn):
            self._drawn(event)
        else:
            self._failed(event)
        if self.store.journal.state(event.row).status != PENDING:
            self.progress.row(self.plan.rows[event.row], self.store.journal.state(event.row), self.store.folder)
        if time.monotonic() - self._written > _MANIFEST_EVERY:
            self.write_manifest()

    def _drawn(self, event: Drawn) -> None:
        files = self.store.promise(event.files, self.plan.rows[event.row].name)
        taken = [file["name"] for file in files[1:] if file["name"] in self._names]
        if taken:
            self._end("failed", event, error=f"its next picture would be {taken[0]}, which is another row's")
            return
        self._end("done", event, files=files)
        try:
            self.store.publish(event.row)
        except FileExistsError as error:
            self.store.fail(event.row, str(error))

    def _failed(self, event: Failed) -> None:
        if event.died:
            self._end("died", event, error=event.error)
        else:
            self._end("quarantined" if event.quarantined else "failed", event, error=event.error)
        state = self.store.journal.state(event.row)
        if event.died and state.deaths >= MOST_DEATHS:
            self._end("quarantined", event, error=f"{event.error}, {state.deaths} times; it is not tried again")

    def _end(self, kind: str, event: Drawn | Failed, **fields: object) -> None:
        self.store.journal.append(
            kind, row=event.row, attempt=event.attempt, worker=event.worker, seconds=event.seconds, **fields
        )
