"""Measured time of rows, for estimates of the time that is left."""

from collections.abc import Iterable

from .folder.journal import DONE, RowState


class Pace:
    """Mean time between the rows of a worker. The first row of each does not count, since networks are loaded in it.

    Args:
        workers: Number of workers.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._first: dict[str | None, float] = {}
        self._last: dict[str | None, float] = {}
        self._rows = 0

    def add(self, worker: str | None, now: float) -> None:
        """Note that a worker has finished a row.

        Args:
            worker: Name of the worker.
            now: Time in seconds.
        """
        self._rows += worker in self._first
        self._first.setdefault(worker, now)
        self._last[worker] = now

    def left(self, rows: int) -> float | None:
        """Return the seconds that so many rows take; None until a worker has finished a second row."""
        if not self._rows:
            return None
        each = sum(self._last[worker] - self._first[worker] for worker in self._first) / self._rows
        return rows * each / max(1, min(self._workers, rows))


def seconds_of(states: Iterable[RowState]) -> tuple[float | None, int]:
    """Return the mean time of rows that were done earlier, and the number of rows that it is measured on.

    The first row of each worker is left out where there are others.

    Args:
        states: States of rows.
    """
    done = sorted(
        (state for state in states if state.status == DONE and state.seconds is not None),
        key=lambda state: state.finished or "",
    )
    later: list[float] = []
    workers: set[str | None] = set()
    for state in done:
        if state.worker in workers:
            later.append(state.seconds or 0)
        workers.add(state.worker)
    measured = later or [state.seconds or 0 for state in done]
    return (sum(measured) / len(measured) if measured else None), len(measured)


def duration(seconds: float) -> str:
    """Return a time in words, such as "3 min 20 s"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
