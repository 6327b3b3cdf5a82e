"""`wuerstchen batch`, from the table to the manifest."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ... import host as hosts
from ..errors import UsageError
from ..extras import require
from ..report import Report
from ..run import host_for, resolve
from ..stock.nodes import default_catalog
from ..threads import usable_cores
from ..workflow.catalog import Catalog
from ..workflow.documents import Workflow
from .rows.names import DEFAULT_PATTERN
from .rows.table import Table, read_table
from .tasks import Setup

if TYPE_CHECKING:
    from .folder.changes import Changes
    from .folder.store import Store
    from .forecast import Forecast
    from .job import Summary
    from .rows.plan import Plan

ENGINES, LAYOUTS = ("local", "ray"), ("fused", "staged")


@dataclass(frozen=True)
class Batch:
    """A workflow, a table, and how to run one for every row of the other.

    Attributes:
        workflow: A workflow that `load_workflow` read.
        table: A .jsonl, .csv, .txt or .parquet file. Its columns are "NODE.input", `prompt` and `negative` for the
            workflow's text prompts, `seed` for every seed, and `id`. A .txt has a prompt in each line.
        folder: Output folder of the images, of `manifest.parquet`, and of `index.html`.
        settings: {"NODE.input": value} for every row.
        name: Pattern of the image names, with {id}, {index} and any column.
        encoding: Encoding of a text file; None for that of its byte order mark, else UTF-8.
        skip_bad: Run the other rows if some have bad cells.
        replaces: Replace many images although no row is as it was, as in the folder of another table.
        retry_failed: Run failed and quarantined rows again.
        limit: Most rows to run this time; None for all.
        shuffle: Seed of a random order of the rows; None for an order that shares networks and Stage C.
        workers: Number of processes, each with its own networks; None for one per graphics card, or one.
        threads: CPU threads of each worker; None for its share of the cores.
        engine: One of `ENGINES`.
        address: Address of a Ray cluster; None to start one on this machine. For the engine "ray" only.
        layout: One of `LAYOUTS`: "fused" for whole rows in each actor, "staged" for text and Stage C in some actors
            and the rest in others. For the engine "ray" only.
        make_catalog: Module-level function that returns the node classes; workers import it by its name.
    """

    workflow: Workflow
    table: Path
    folder: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    name: str = DEFAULT_PATTERN
    encoding: str | None = None
    skip_bad: bool = False
    replaces: bool = False
    retry_failed: bool = False
    limit: int | None = None
    shuffle: int | None = None
    workers: int | None = None
    threads: int | None = None
    engine: str = "local"
    address: str | None = None
    layout: str = "fused"
    make_catalog: Callable[[], Catalog] = default_catalog

    @cached_property
    def count(self) -> int:
        """Number of workers."""
        return self.workers or max(1, torch.cuda.device_count())


def run_batch(batch: Batch, report: Report | None = None) -> "Summary":
    """Run a workflow for every row of a table. Called again, it runs the rows that are new, changed or not finished.

    Args:
        batch: Workflow, table and settings.
        report: Prints events and progress; None to print the paths of the images, and warnings.
    Returns:
        Summary: All rows with their status and files.
    Raises:
        UsageError: Table, workflow and folder do not fit, rows have bad cells, or a library is missing. No row ran.
        InvalidWorkflowError: No row can run.
        WeightsMissingError: Weights that every row needs are missing.
        BackendError: There is no Ray cluster at the address.
        WuerstchenError: The output folder cannot be written, or no worker can start. Finished rows are kept.
    """
    report = report or Report(quiet=True)
    plan, setup = _plan(batch, report)
    from .folder.store import open_store
    from .job import BatchJob
    from .progress import Progress

    with open_store(batch.folder) as store:
        rows, unfinished = _pending(batch, plan, store, report)
        job = BatchJob(plan, store)
        if rows:
            with (
                _engine(batch.engine, setup, batch.count, batch.threads, batch.address, batch.layout) as running,
                Progress(
                    report,
                    total=len(plan.order),
                    done=len(plan.order) - unfinished,
                    left=len(rows),
                    workers=batch.count,
                ) as progress,
            ):
                job.run(running, rows, progress)
            store.sweep()
        else:
            job.write_results()
        return job.summary()


def forecast_batch(batch: Batch, report: Report) -> "Forecast":
    """Return the rows that would run and the time that they would take. Nothing runs, and nothing is written.

    Args:
        batch: Workflow, table and settings.
        report: Prints bad rows.
    Raises:
        WuerstchenError: The errors of `run_batch`, as far as they are known before a row runs.
    """
    plan, _ = _plan(batch, report)
    from .forecast import forecast

    return forecast(
        plan,
        batch.folder,
        batch.count,
        retry_failed=batch.retry_failed,
        limit=batch.limit,
        replaces=batch.replaces,
    )


def _plan(batch: Batch, report: Report) -> "tuple[Plan, Setup]":
    """Read the table and check it against the workflow. Nothing is written."""
    require("pyarrow", "batch")
    require("filelock", "batch")
    from .folder.store import work_folder
    from .progress import Checking
    from .rows.bad_rows import MOST_BAD
    from .rows.plan import make_plan

    if batch.engine != "ray" and (batch.address is not None or batch.layout != LAYOUTS[0]):
        raise UsageError("--address and --layout are for --engine ray; add that, or leave them out.")
    if "\0" in str(batch.folder):
        raise UsageError(f"--out is {str(batch.folder)[:80]!r}, which has a null character; expected a folder.")
    host = host_for(batch.workflow)
    host.input_folders.insert(0, batch.table.parent)  # a table names pictures as seen from where it is
    catalog = batch.make_catalog()
    table = read_table(batch.table, batch.encoding)
    prepared = resolve(batch.workflow, batch.settings, host=host, catalog=catalog, repeatable=True)
    with hosts.using(host):
        most_bad = None if batch.skip_bad else MOST_BAD
        plan = make_plan(prepared, table, batch.name, catalog, Checking(report), most_bad)
    _check_bad(plan, table, report, skips=batch.skip_bad)
    folders = [each.absolute() for each in host.input_folders]
    threads = batch.threads or _share_of_cores(batch.count)
    return plan, Setup(prepared, work_folder(batch.folder).absolute(), folders, batch.make_catalog, threads)


def _check_bad(plan: "Plan", table: Table, report: Report, *, skips: bool) -> None:
    """Report the rows that cannot run. Raises: UsageError if they are not skipped, or no other row is left."""
    from .rows.bad_rows import listed, refusal

    for each in plan.bad:
        report.event(event="bad_row", id=each.id, place=each.place, column=each.column, error=each.error)
    if plan.bad and (not skips or not plan.order):
        raise refusal(table.name, plan.bad, len(plan.rows), len(table.rows))
    if plan.bad:
        report.note(f"{len(plan.bad)} of {len(plan.rows)} rows cannot run and are skipped:")
        for line in listed(plan.bad):
            report.note(line)


def _pending(batch: Batch, plan: "Plan", store: "Store", report: Report) -> tuple[list[int], int]:
    """Resume or start the batch, and report what earlier runs left.

    Returns:
        tuple[list[int], int]: Rows to run now; number of all rows that are not finished.
    """
    from .job import pending, set_back

    is_first = store.journal.header is None
    changes, lost = store.begin(plan, replaces=batch.replaces)
    if changes and not is_first:
        _report_changes(changes, store, report)
    if lost:
        report.note(f"The files of {len(lost)} finished rows are missing ({lost[0]}, ...); these rows run again.")
    if batch.retry_failed:
        set_back(plan, store.journal)
    rows = pending(plan, store.journal, shuffle=batch.shuffle)
    now = rows[: batch.limit]
    report.event(event="batch", rows=len(plan.rows), left=len(now))
    if len(rows) < len(plan.order):
        report.note(f"{len(plan.order) - len(rows)} of {len(plan.rows)} rows were finished earlier.")
    if len(now) < len(rows):
        report.note(f"{len(now)} of {len(rows)} rows run now (--limit).")
    return now, len(rows)


def _report_changes(changes: "Changes", store: "Store", report: Report) -> None:
    report.event(event="changes", **changes.counts())
    report.note(str(changes))
    left = [file["name"] for row_id in changes.removed for file in store.images_left(row_id)]
    if left:
        more = f" and {len(left) - 1} more" if len(left) > 1 else ""
        report.note(f"Images of removed rows stay in {store.folder}: {left[0]}{more}.")


def _engine(
    kind: str, setup: Setup, workers: int, threads: int | None, address: str | None, layout: str
) -> AbstractContextManager[Any]:
    if kind == "ray":
        require("ray", "ray")
        from .engines.ray import RayEngine

        return RayEngine(setup, workers, threads, address=address, layout=layout)
    from .engines.local import LocalEngine

    return LocalEngine(setup, workers)


def _share_of_cores(workers: int) -> int:
    """Return the number of CPU threads for each of so many workers."""
    return max(1, usable_cores() // workers)
