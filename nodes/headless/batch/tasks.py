"""Messages between a batch and the worker processes that run its rows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..execution.calls import Outputs
from ..run import Prepared
from ..workflow.catalog import Catalog

MAX_DEATHS = 3
"""Number of worker processes that a row may end before it is quarantined."""


@dataclass(frozen=True)
class Setup:
    """Settings that all rows of a batch share.

    Attributes:
        prepared: The workflow, with the inputs set that are the same for all rows.
        folder: Folder of temporary files, on the file system of the output folder.
        input_folders: Folders in which nodes such as Load Image look up file names.
        make_catalog: Module-level function that returns the node classes; other processes import it by its name.
        threads: CPU threads of a worker.
    """

    prepared: Prepared
    folder: Path
    input_folders: list[Path]
    make_catalog: Callable[[], Catalog]
    threads: int


@dataclass(frozen=True)
class Task:
    """One row to run.

    Attributes:
        row: Index of the row in the table, from 0.
        attempt: Number of this attempt, from 1.
        group: Rows of the same group have the same Stage C result.
        settings: {"NODE.input": value}.
        seed: Value for every seed input; None to leave them as they are.
    """

    row: int
    attempt: int
    group: str
    settings: Mapping[str, Any]
    seed: Any


@dataclass(frozen=True)
class Started:
    """Event: a worker has received a row.

    Attributes:
        row: Index of the row.
        attempt: Number of this attempt.
        worker: Host name and process id of the worker.
    """

    row: int
    attempt: int
    worker: str


@dataclass(frozen=True)
class RowFile:
    """Finished file in the temporary folder of its row.

    Attributes:
        path: Path relative to `Setup.folder`.
        suffix: Suffix, such as ".png".
        sha256: Digest of the content, as hexadecimal digits.
    """

    path: str
    suffix: str
    sha256: str


@dataclass(frozen=True)
class Drawn:
    """Event: a row has run, and its files are complete on the disk.

    Attributes:
        row: Index of the row.
        attempt: Number of this attempt.
        worker: Host name and process id of the worker.
        seconds: Time that the row took.
        files: Its files, in the order of saving.
    """

    row: int
    attempt: int
    worker: str
    seconds: float
    files: list[RowFile]


@dataclass(frozen=True)
class Draft:
    """Result of a row up to the cut after Stage C.

    Attributes:
        outputs: Results of the nodes before the cut, by node id.
        seconds: Time that they took.
    """

    outputs: Mapping[str, Outputs]
    seconds: float


@dataclass(frozen=True)
class Failed:
    """Event: a row failed.

    Attributes:
        row: Index of the row.
        attempt: Number of this attempt.
        worker: Host name and process id of the worker.
        seconds: Time until it failed.
        error: Reason.
        died: True if the worker process ended while it ran the row.
        quarantined: True if the row ended too many worker processes and was not run again.
    """

    row: int
    attempt: int
    worker: str
    seconds: float
    error: str
    died: bool = False
    quarantined: bool = False


@dataclass(frozen=True)
class Stopped:
    """Event: no row can be saved, since the output folder cannot be written.

    Attributes:
        error: Reason.
    """

    error: str


Event = Started | Drawn | Failed | Stopped
