"""What became of rows, in files that outlive its process: for an engine that tries rows again by itself."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ..tasks import MOST_DEATHS, Failed, Task

_Result = TypeVar("_Result")


class Marks:
    """Counts how often a row was begun, and remembers how it ended.

    Args:
        folder: on a file system that all processes share; empty when a batch is started.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def once(self, task: Task, worker: str, work: Callable[[], _Result]) -> _Result | Failed:
        """Do a row's work; what it gave before where it was done, and a failure where it ended too many processes."""
        begun, ended = (self._folder / f"{task.row}.{kind}" for kind in ("begun", "ended"))
        if ended.exists():
            return pickle.loads(ended.read_bytes())
        deaths = begun.stat().st_size if begun.exists() else 0
        if deaths >= MOST_DEATHS:
            error = f"its worker process ended with it, {deaths} times; it is not tried again"
            return Failed(task.row, task.attempt + deaths - 1, worker, 0, error, quarantined=True)
        with begun.open("ab") as file:
            file.write(b"x")
        result = work()
        self._keep(ended, result)
        return result

    def _keep(self, path: Path, result: Any) -> None:
        partial = path.with_suffix(".part")
        partial.write_bytes(pickle.dumps(result))
        partial.replace(path)
