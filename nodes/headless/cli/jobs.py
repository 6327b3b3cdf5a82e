"""Run a workflow as the command does: in many combinations if asked, reporting events and paths on the way."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ... import host as hosts
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
from ..workflow.prompt import title_of
from .sweep import Axis, axes, label, points


@dataclass(frozen=True)
class RunJob:
    """A workflow to run, and where its images and reports go.

    Attributes:
        workflow: The workflow as it was read.
        settings: {"NODE.input": value}, as for `run.execute`.
        seed: Value for every seed input; None leaves them.
        files: Finished files.
        report: Output of the command.
        cache: Cache on disk; None for none.
        sweep: Texts "NODE.input=VALUES"; every combination runs.
        grid: File of the sheet of all images; None for no sheet.
        server: ComfyUI server that runs it; None for this process.
        prints_paths: Whether the path of each image is reported.
        compiles: Whether networks run through torch.compile; without effect on a server.
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


def run_all(job: RunJob) -> list[Path]:
    """Run every combination and return the paths of the saved images. Raises the errors of `run.execute`."""
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
    if found:  # convert once, so that choices in text prompts are the same for every combination
        with hosts.using(host):
            workflow = replace(workflow, prompt=convert(workflow, catalog))
    combinations = points(found)
    images: list[list[Path]] = []
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
        images.append(result.images)
    if job.grid is not None:
        _save_grid(job, job.grid, found, images)
    saved = [path for each in images for path in each]
    seconds = round(time.monotonic() - start, 1)
    job.report.event(event="done", seconds=seconds, seed=job.seed, images=[str(path) for path in saved])
    job.report.note(f"Done in {seconds} s")
    return saved


def dry_run(job: RunJob) -> None:
    """Report for every combination which nodes would run and which are cache hits. Raises the errors of `prepare`."""
    host = host_for(job.workflow, job.files)
    executor = Executor(default_catalog(), job.cache, keep_networks=bool(job.sweep))
    found = _axes(job, host, executor.catalog)
    known: set[str] = set()
    for index, point in enumerate(points(found), 1):
        fields: dict[str, Any] = {"point": index, "settings": point} if found else {}
        if found:
            job.report.note(f"{index}: {label(point)}")
        settings = {**job.settings, **point}
        prepared = prepare(job.workflow, settings, seed=job.seed, host=host, catalog=executor.catalog)
        with hosts.using(host):
            forecast = executor.forecast(prepared.prompt, known)
        for node_id, state in forecast.items():
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


def _axes(job: RunJob, host: HeadlessHost, catalog: Catalog) -> list[Axis]:
    if not job.sweep:
        return []
    return axes(resolve(job.workflow, job.settings, host=host, catalog=catalog).prompt, catalog, job.sweep)


def _save_grid(job: RunJob, grid: OutputFiles, found: list[Axis], images: list[list[Path]]) -> None:
    from .grid import sheet

    path = grid.save(sheet(found, images), "grid")
    job.report.result(str(path), event="grid", path=str(path))
