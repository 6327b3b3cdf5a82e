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
    """Draw every row of a table, or what is left of it.

    Args:
        table: .jsonl, .csv or .parquet. Its columns are "NODE.input", `seed` for every seed, and `id`.
        folder: gets the pictures and `manifest.parquet`. Started again with the same arguments, a batch goes on.
        settings: {"NODE.input": value} for every row.
        name: the pictures' names, with {id}, {index} and any column.
        workers: processes, each with its networks loaded once; one for each graphics card, or one, where None.
        threads: of the processor for each worker; its share of the cores where None.
        retry_failed: run failed and quarantined rows again.
        engine: "local" or "ray". address: of a Ray cluster; None for one of this machine's own. layout: "fused", or
            "staged" for text and Stage C in some actors and the rest in others.
        make_catalog: a function of a module, that gives the node classes.
    Raises:
        UsageError: table, workflow and folder do not fit, or a library is missing. Nothing was run.
        InvalidWorkflowError: the workflow cannot run.
        WeightsMissingError: nor can it without weights that are not on this machine.
        WuerstchenError: the folder cannot be written to.
    """
    require("pyarrow", "batch")
    require("filelock", "batch")
    from .job import Job, pending
    from .plan import make_plan
    from .progress import Progress
    from .store import open_store, work_folder

    if engine != "ray" and (address is not None or layout != LAYOUTS[0]):
        raise UsageError("--address and --layout are for --engine ray; add that, or leave them out.")
    report = report or Report(quiet=True)
    host = host_for(workflow)
    catalog = make_catalog()
    rows = read_table(table)
    prepared = resolve(workflow, settings, host=host, catalog=catalog, repeatable=True)
    with hosts.using(host):
        plan = make_plan(prepared, rows, name, catalog)
    count = workers or max(1, torch.cuda.device_count())
    folders = [each.absolute() for each in host.input_folders]
    setup = Setup(prepared, work_folder(folder).absolute(), folders, make_catalog, threads or max(1, _cores() // count))
    with open_store(folder) as store:
        lost = store.begin(plan)
        if lost:
            report.note(f"{len(lost)} rows were done and their files are gone ({lost[0]}, ...); they are drawn again.")
        left = pending(plan, store.journal, retry_failed=retry_failed)
        done = len(plan.rows) - len(left)
        progress = Progress(report, len(plan.rows), done)
        job = Job(plan, store, progress)
        report.event(event="batch", rows=len(plan.rows), left=len(left))
        if done:
            report.note(f"{done} of {len(plan.rows)} rows were finished earlier.")
        try:
            if left:
                with _engine(engine, setup, count, threads, address, layout) as running:
                    job.run(running, left)
                store.sweep()
            else:
                job.write_manifest()
        finally:
            progress.end()
        return job.summary()


def _engine(
    kind: str, setup: Setup, workers: int, threads: int | None, address: str | None, layout: str
) -> AbstractContextManager[Any]:
    if kind == "ray":
        require("ray", "ray")
        from .engines.ray import RayEngine

        return RayEngine(setup, workers, threads, address=address, layout=layout)
    from .engines.local import LocalEngine

    return LocalEngine(setup, workers)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
