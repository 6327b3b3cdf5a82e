"""A run as the command does it: one workflow, perhaps in many combinations, with events and paths as it goes."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import describe
from ..execution.disk_cache import DiskCache
from ..execution.executor import Executor
from ..host import HeadlessHost
from ..output_files import OutputFiles
from ..report import Report
from ..run import Prepared, execute, host_for, paths_of, prepare, resolve
from ..server.client import Server
from ..server.run import execute_on
from ..stock.nodes import default_catalog
from ..workflow.catalog import Catalog, catalog_of_server
from ..workflow.convert import convert
from ..workflow.documents import Workflow
from ..workflow.validate import title_of
from .sweep import Axis, axes, label, points


@dataclass(frozen=True)
class Job:
    """What to run, and where everything goes.

    Args:
        settings, seed: as for `run.execute`.
        cache: None for none on disk.
        sweep: texts "NODE.input=VALUES"; every combination is run.
        grid: where the sheet of all pictures goes; None for no sheet.
        server: the ComfyUI server that runs it; None for this process.
        prints_paths: whether the path of each picture is reported.
        compiles: whether networks run through torch.compile; not heeded by a server.
    """

    workflow: Workflow
    settings: Mapping[str, Any]
    seed: int | None
    files: OutputFiles
    report: Report
    cache: DiskCache | None = None
    sweep: Sequence[str] = ()
    grid: OutputFiles | None = None
    server: Server | None = None
    prints_paths: bool = True
    compiles: bool = False


def run_all(job: Job) -> list[Path]:
    """Run every combination; the pictures that were saved. Raises what `run.execute` raises."""
    start = time.monotonic()
    host = host_for(job.workflow, job.files, quiet=job.report.quiet, compiles=job.compiles)
    if job.server is None:
        catalog = default_catalog()
        executor = Executor(catalog, job.cache, keep_networks=bool(job.sweep))
        executing = partial(execute, executor=executor)
    else:
        catalog = catalog_of_server(job.server.object_info(), job.server.url)
        executing = partial(execute_on, job.server, catalog)
    found = _axes(job, host, catalog)
    if job.grid is not None:
        job.grid.check()
    workflow = job.workflow
    if found:  # once: choices in prompts are the same for every combination
        workflow = replace(workflow, prompt=convert(workflow, catalog))
    combinations = points(found)
    pictures: list[list[Path]] = []
    for index, point in enumerate(combinations, 1):
        fields: dict[str, Any] = {"point": index, "settings": point} if found else {}
        if found:
            job.report.note(f"{index} of {len(combinations)}: {label(point)}")

        def on_node(state: str, node_id: str, ui: dict[str, list[Any]], fields: dict[str, Any] = fields) -> None:
            job.report.event(event="node", node=node_id, state=state, **fields)
            if not job.prints_paths:
                return
            for path in paths_of(ui, "output", host):
                job.report.result(str(path), event="saved", node=node_id, path=str(path), **fields)
            for text in ui.get("text", []):
                job.report.note(f"Node {node_id}: {text}")
                job.report.event(event="text", node=node_id, text=text)

        settings = {**job.settings, **point}
        result = executing(workflow, settings, seed=job.seed, host=host, on_node=on_node)
        pictures.append(result.images)
    if job.grid is not None:
        _save_grid(job, job.grid, found, pictures)
    images = [path for each in pictures for path in each]
    seconds = round(time.monotonic() - start, 1)
    job.report.event(event="done", seconds=seconds, seed=job.seed, images=[str(path) for path in images])
    job.report.note(f"Done in {seconds} s")
    return images


def dry_run(job: Job) -> None:
    """Say for every combination which nodes would run and which would come from the cache. Raises as `prepare`."""
    host = host_for(job.workflow, job.files)
    executor = Executor(default_catalog(), job.cache, keep_networks=bool(job.sweep))
    found = _axes(job, host, executor.catalog)
    already: set[str] = set()
    for index, point in enumerate(points(found), 1):
        fields: dict[str, Any] = {"point": index, "settings": point} if found else {}
        if found:
            job.report.note(f"{index}: {label(point)}")
        prepared = prepare(job.workflow, {**job.settings, **point}, seed=job.seed, host=host, catalog=executor.catalog)
        for node_id, state in executor.forecast(prepared.prompt, already).items():
            _report_forecast(job.report, prepared, node_id, state, fields)


_STATES = {"run": "would run", "lazy": "would run if asked for", "cached": "from the cache"}


def _report_forecast(report: Report, prepared: Prepared, node_id: str, state: str, fields: dict[str, Any]) -> None:
    class_type, title = prepared.prompt[node_id]["class_type"], title_of(prepared.prompt, node_id)
    report.result(
        f"{describe(node_id, class_type, title)}: {_STATES[state]}",
        event="forecast",
        node=node_id,
        title=title,
        class_type=class_type,
        state=state,
        **fields,
    )


def _axes(job: Job, host: HeadlessHost, catalog: Catalog) -> list[Axis]:
    if not job.sweep:
        return []
    return axes(resolve(job.workflow, job.settings, host=host, catalog=catalog).prompt, catalog, job.sweep)


def _save_grid(job: Job, grid: OutputFiles, found: list[Axis], pictures: list[list[Path]]) -> None:
    from .grid import sheet

    path = grid.save(sheet(found, pictures), "grid")
    job.report.result(str(path), event="grid", path=str(path))
