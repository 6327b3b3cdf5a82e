"""Attempts and results of rows, in files that outlive a worker process. For Ray, which repeats tasks by itself."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from wuerstchen_core.files.writing import replaced_whole

from ..tasks import MAX_DEATHS, Failed, Task

_Result = TypeVar("_Result")


class Attempts:
    """Counts how often each row was started, and stores its result.

    Args:
        folder: Folder on a file system that all workers share; empty at the start of a batch.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)

    def run_once(self, task: Task, worker: str, work: Callable[[], _Result]) -> _Result | Failed:
        """Run a row, unless an earlier attempt has a result or too many processes have ended with the row.

        Args:
            task: The row.
            worker: Name of this process.
            work: Runs the row and returns its result.
        Returns:
            Result of this attempt or an earlier one; Failed for a row that is quarantined.
        """
        started, result_file = (self._folder / f"{task.row}.{suffix}" for suffix in ("started", "result"))
        if result_file.exists():
            return pickle.loads(result_file.read_bytes())
        deaths = started.stat().st_size if started.exists() else 0  # a byte for each attempt
        if deaths >= MAX_DEATHS:
            error = f"its worker process died, {deaths} times; it is not tried again"
            return Failed(task.row, task.attempt + deaths - 1, worker, 0, error, quarantined=True)
        with started.open("ab") as file:
            file.write(b"x")
        result = work()
        with replaced_whole(result_file) as partial:
            partial.write_bytes(pickle.dumps(result))
        return result
