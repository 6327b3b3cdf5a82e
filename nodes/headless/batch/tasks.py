"""What travels between a job and the processes that draw for it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..execution.calls import Outputs
from ..run import Prepared
from ..workflow.catalog import Catalog


@dataclass(frozen=True)
class Setup:
    """What every row of a batch shares.

    prepared: the workflow with what was set for all rows. folder: where a row's files wait, on a file system that the
    output folder is on, too. input_folders: where Load nodes look for a name. make_catalog: gives the node classes; a
    function of a module, since other processes look it up by its name. threads: for the processor's part of the work.
    """

    prepared: Prepared
    folder: Path
    input_folders: list[Path]
    make_catalog: Callable[[], Catalog]
    threads: int


@dataclass(frozen=True)
class Task:
    """One row to draw.

    row: its place in the table, from 0. attempt: which try this is, from 1. group: rows of one group share what Stage C
    gives. settings, seed: as for `overrides.apply`.
    """

    row: int
    attempt: int
    group: str
    settings: Mapping[str, Any]
    seed: Any


@dataclass(frozen=True)
class Started:
    """A worker has been given a row."""

    row: int
    attempt: int
    worker: str


@dataclass(frozen=True)
class StagedFile:
    """A finished file that waits for its name. path: relative to the batch's folder. suffix: such as ".png"."""

    path: str
    suffix: str
    sha256: str


@dataclass(frozen=True)
class Drawn:
    """A row is finished, and its files are complete on the disk."""

    row: int
    attempt: int
    worker: str
    seconds: float
    files: list[StagedFile]


@dataclass(frozen=True)
class Draft:
    """A row up to the cut between Stage C and what follows. outputs: what crosses it, by the nodes that gave it."""

    outputs: Mapping[str, Outputs]
    seconds: float


@dataclass(frozen=True)
class Failed:
    """A row cannot be drawn. died: its process ended with it. quarantined: it was not tried any more."""

    row: int
    attempt: int
    worker: str
    seconds: float
    error: str
    died: bool = False
    quarantined: bool = False


@dataclass(frozen=True)
class Stopped:
    """Nothing can go on: the output folder cannot be written to."""

    error: str


Event = Started | Drawn | Failed | Stopped
MOST_DEATHS = 3
"""A row that has ended this many processes is not tried again."""
