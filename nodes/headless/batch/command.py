"""`wuerstchen batch`, from the table to the manifest."""

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ... import host as hosts
from ..errors import UsageError
from ..extras import require
from ..report import Report
from ..run import host_for, resolve
from ..stock.nodes import default_catalog
from ..workflow.catalog import Catalog
from ..workflow.documents import Workflow
from .names import DEFAULT_PATTERN
from .table import read_table
from .tasks import Setup

if TYPE_CHECKING:
    from .job import Summary
    from .plan import Plan
    from .store import Store

ENGINES, LAYOUTS = ("local", "ray"), ("fused", "staged")


def run_batch(
    workflow: Workflow,
    table: Path,
    folder: Path,
    *,
    settings: Mapping[str, Any] | None = None,
    name: str = DEFAULT_PATTERN,
    workers: int | None = None,
    threads: int | None = None,
    retry_failed: bool = False,
    engine: str = "local",
    address: str | None = None,
    layout: str = "fused",
    report: Report | None = None,
    make_catalog: Callable[[], Catalog] = default_catalog,
) -> "Summary":
    """Run a workflow for every row of a table. Called again with the same arguments, it continues where it stopped.

    Args:
        workflow: A workflow that `load_workflow` read.
        table: A .jsonl, .csv or .parquet file. Its columns are "NODE.input", `seed` for every seed, and `id`.
        folder: Output folder of the images and of `manifest.parquet`.
        settings: {"NODE.input": value} for every row.
        name: Pattern of the image names, with {id}, {index} and any column.
        workers: Number of processes, each with its own networks; None for one per graphics card, or one.
        threads: CPU threads of each worker; None for its share of the cores.
        retry_failed: Run failed and quarantined rows again.
        engine: One of `ENGINES`.
        address: Address of a Ray cluster; None to start one on this machine. For the engine "ray" only.
        layout: One of `LAYOUTS`: "fused" for whole rows in each actor, "staged" for text and Stage C in some actors
            and the rest in others. For the engine "ray" only.
        report: Prints events and progress; None to print warnings only.
        make_catalog: Module-level function that returns the node classes; workers import it by its name.
    Returns:
        Summary: Rows by status, and the finished files.
    Raises:
        UsageError: Table, workflow and folder do not fit, or a library is missing. No row ran.
        InvalidWorkflowError: No row can run.
        WeightsMissingError: Weights that every row needs are missing.
        BackendError: There is no Ray cluster at the address.
        WuerstchenError: The output folder cannot be written, or no worker can start. Finished rows are kept.
    """
    require("pyarrow", "batch")
    require("filelock", "batch")
    from .job import BatchJob
    from .progress import Progress
    from .store import open_store

    if engine != "ray" and (address is not None or layout != LAYOUTS[0]):
        raise UsageError("--address and --layout are for --engine ray; add that, or leave them out.")
    report = report or Report(quiet=True)
    count = workers or max(1, torch.cuda.device_count())
    plan, setup = _plan(workflow, table, folder, settings or {}, name, make_catalog, threads or _share_of_cores(count))
    with open_store(folder) as store:
        rows = _pending(plan, store, report, retry_failed=retry_failed)
        job = BatchJob(plan, store)
        if rows:
            with (
                _engine(engine, setup, count, threads, address, layout) as running,
                Progress(report, total=len(plan.rows), done=len(plan.rows) - len(rows)) as progress,
            ):
                job.run(running, rows, progress)
            store.sweep()
        else:
            job.write_manifest()
        return job.summary()


def _plan(
    workflow: Workflow,
    table: Path,
    folder: Path,
    settings: Mapping[str, Any],
    name: str,
    make_catalog: Callable[[], Catalog],
    threads: int,
) -> "tuple[Plan, Setup]":
    """Read the table and check it against the workflow. Nothing is written."""
    from .plan import make_plan
    from .store import work_folder

    host = host_for(workflow)
    catalog = make_catalog()
    rows = read_table(table)
    prepared = resolve(workflow, settings, host=host, catalog=catalog, repeatable=True)
    with hosts.using(host):
        plan = make_plan(prepared, rows, name, catalog)
    folders = [each.absolute() for each in host.input_folders]
    return plan, Setup(prepared, work_folder(folder).absolute(), folders, make_catalog, threads)


def _pending(plan: "Plan", store: "Store", report: Report, *, retry_failed: bool) -> list[int]:
    """Resume or start the batch, report what earlier runs finished, and return the rows that are still to run."""
    from .job import pending

    lost = store.begin(plan)
    if lost:
        report.note(f"The files of {len(lost)} finished rows are missing ({lost[0]}, ...); these rows run again.")
    rows = pending(plan, store.journal, retry_failed=retry_failed)
    report.event(event="batch", rows=len(plan.rows), left=len(rows))
    if len(rows) < len(plan.rows):
        report.note(f"{len(plan.rows) - len(rows)} of {len(plan.rows)} rows were finished earlier.")
    return rows


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
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // workers)
