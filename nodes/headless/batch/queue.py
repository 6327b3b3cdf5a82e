"""Which worker draws which row next, so that shared work is done once."""

from collections import deque

from .tasks import Task


class TaskQueue:
    """Tasks by their groups. A worker stays with a group; then it takes one that nobody has, or helps with the largest.

    Args:
        tasks: in the order of drawing.
    """

    def __init__(self, tasks: list[Task]) -> None:
        self._groups: dict[str, deque[Task]] = {}
        for task in tasks:
            self._groups.setdefault(task.group, deque()).append(task)
        self._at: dict[int, str] = {}

    def take(self, worker: int) -> Task | None:
        """The next task for a worker, or None where there is none."""
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
