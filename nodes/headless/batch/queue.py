"""Queue of tasks that keeps a group of rows with one worker, so that their shared Stage C runs once."""

from collections import deque

from .tasks import Task


class TaskQueue:
    """Tasks by group. A worker finishes its group, then takes a group without a worker, else helps with the largest.

    Args:
        tasks: Tasks, in the order of running.
    """

    def __init__(self, tasks: list[Task]) -> None:
        self._groups: dict[str, deque[Task]] = {}
        for task in tasks:
            self._groups.setdefault(task.group, deque()).append(task)
        self._at: dict[int, str] = {}
        """Group of each worker."""

    def take(self, worker: int) -> Task | None:
        """Remove and return the next task of a worker; None if no task is left."""
        if not self._groups:
            return None
        group = self._at.get(worker)
        if group not in self._groups:
            taken = {at for other, at in self._at.items() if other != worker}
            free = (each for each in self._groups if each not in taken)
            group = next(free, None) or max(self._groups, key=lambda each: len(self._groups[each]))
        self._at[worker] = group
        task = self._groups[group].popleft()
        if not self._groups[group]:
            del self._groups[group]
        return task
