"""Run a workflow as the command does: several times if asked, reporting events and paths on the way."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from wuerstchen_core.errors import WuerstchenError

from ... import host as hosts
from ...models import read_files
from ..errors import describe
from ..execution.disk_cache import DiskCache
from ..execution.executor import Executor
from ..execution.read_ahead import read_ahead
from ..host import HeadlessHost
from ..output_files import OutputFiles
from ..report import Report, size_text
from ..run import Prepared, execute, host_for, paths_of, prepare, resolve
from ..server.client import Server
from ..server.run import execute_on
from ..stock.nodes import default_catalog
from ..workflow.catalog import Catalog, catalog_of_server
from ..workflow.convert import convert
from ..workflow.documents import Workflow
from ..workflow.overrides import dtype_settings
from ..workflow.prompt import Prompt, title_of
from .checks import Weights, report_missing, warnings_of, weights_of
from .sweep import Axis, axes, label, points


@dataclass(frozen=True)
class Variant:
    """One of the runs of a job.

    Attributes:
        settings: {"NODE.input": value}, beside those of the job.
        seed: Value for every seed input; None leaves them.
        label: Name for people; empty for the only run.
        fields: Fields that its events carry.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    label: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)


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
        variants: Runs of a job without a sweep; empty for a single one with `seed`.
        grid: File of the sheet of all images; None for no sheet.
        server: ComfyUI server that runs it; None for this process.
        prints_paths: Whether the path of each image is reported.
        compiles: Whether networks run through torch.compile; without effect on a server.
        dtype: Dtype of all loaders; None leaves theirs.
        executor: Executor of a warm server, which keeps networks from one command to the next; None for a new one.
    """

    workflow: Workflow
    settings: Mapping[str, Any]
    seed: int | None
    files: OutputFiles
    report: Report
    cache: DiskCache | None = None
    sweep: Sequence[str] = ()
    variants: Sequence[Variant] = ()
    grid: OutputFiles | None = None
    server: Server | None = None
    prints_paths: bool = True
    compiles: bool = False
    dtype: str | None = None
    executor: Executor | None = None

    def in_dtype(self, host: HeadlessHost, catalog: Catalog) -> "RunJob":
        """Return the job with `dtype` among its settings, which say more."""
        if self.dtype is None:
            return self
        prompt = resolve(self.workflow, host=host, catalog=catalog).prompt
        return replace(self, settings={**dtype_settings(prompt, catalog, self.dtype), **self.settings})


class _Watch:
    """Reports the progress of the runs of a job.

    Args:
        job: The job.
        catalog: Node classes.
        host: Host of the runs.
    Attributes:
        fields: Fields that the events of the current run carry.
    """

    def __init__(self, job: RunJob, catalog: Catalog, host: HeadlessHost) -> None:
        self.fields: Mapping[str, Any] = {}
        self._job = job
        self._report = job.report
        self._catalog = catalog
        self._host = host
        self._weights: dict[str, Weights] = {}
        self._to_read: dict[str, Weights] = {}
        self._prompt: Prompt = {}
        self._announced = False

    def on_prepared(self, prompt: Prompt) -> None:
        """Report the size of the job, and sizes of images that do not suit the model."""
        weights = weights_of(prompt, self._catalog)
        self._weights = {each.node_id: each for each in weights}
        self._to_read, self._prompt = dict(self._weights), prompt
        files = {path: path.stat().st_size for each in weights for path in each.files or ()}
        if not self._announced:
            self._announced = True
            read = f", {size_text(sum(files.values()))} of weights" if files else ""
            self._report.note(f"Running {self._job.workflow.name}: {len(prompt)} nodes{read}")
        for text in warnings_of(prompt):
            self._report.warn(text)

    def on_node(self, state: str, node_id: str, ui: dict[str, list[Any]]) -> None:
        """Report that a node starts, ends or is a cache hit, and what it shows."""
        weights = self._weights.get(node_id)
        if state == "running" and weights is not None and weights.files is not None:
            self._report.note(f"Loading {weights.title}, {size_text(weights.size)}")
        if state == "done" and weights is not None and self._job.server is None:
            self._read_ahead(node_id)
        self._report.event(event="node", node=node_id, state=state, **self.fields)
        if not self._job.prints_paths:
            return
        for path in paths_of(ui, "output", self._host):
            self._report.result(str(path), event="saved", node=node_id, path=str(path), **self.fields)
        for text in ui.get("text", []):
            self._report.note(f"Node {node_id}: {text}")
            self._report.event(event="text", node=node_id, text=text)

    def _read_ahead(self, loaded: str) -> None:
        """Let the system read what is loaded next, while the network that has just been loaded computes."""
        self._to_read.pop(loaded, None)
        files: list[Path] = []
        with hosts.using(self._host), suppress(OSError, WuerstchenError):  # which loading raises, too
            for node_id, each in self._to_read.items():
                dtype = str(self._prompt[node_id]["inputs"].get("dtype", ""))
                files += read_files(each.model, each.part, dtype) if each.part else each.files or ()
        read_ahead(files)


def run_all(job: RunJob) -> list[Path]:
    """Run every combination and return the paths of the saved images. Raises the errors of `run.execute`."""
    start = time.monotonic()
    host = host_for(job.workflow, job.files, quiet=job.report.quiet, compiles=job.compiles)
    if job.server is None:
        catalog = default_catalog()
        keeps = bool(job.sweep) or len(job.variants) > 1
        executor = (
            job.executor.use_cache(job.cache) if job.executor else Executor(catalog, job.cache, keep_networks=keeps)
        )
        executing = partial(execute, executor=executor)
    else:
        catalog = catalog_of_server(job.server.object_info(), job.server.url)
        executing = partial(execute_on, job.server, catalog)
    job = job.in_dtype(host, catalog)
    found = _axes(job, host, catalog)
    variants = _variants(job, found)
    if job.grid is not None:
        job.grid.check()
    workflow = job.workflow
    if len(variants) > 1:  # convert once, so that choices in text prompts are the same for every run
        with hosts.using(host):
            workflow = replace(workflow, prompt=convert(workflow, catalog))
    watch = _Watch(job, catalog, host)
    images: list[list[Path]] = []
    for index, variant in enumerate(variants, 1):
        if variant.label:
            job.report.note(f"{index} of {len(variants)}: {variant.label}")
        watch.fields = variant.fields
        result = executing(
            workflow,
            {**job.settings, **variant.settings},
            seed=variant.seed,
            host=host,
            on_node=watch.on_node,
            on_prepared=watch.on_prepared,
        )
        images.append(result.images)
    if job.grid is not None:
        _save_grid(job, job.grid, found, images)
    saved = [path for each in images for path in each]
    seconds = round(time.monotonic() - start, 1)
    job.report.event(event="done", seconds=seconds, seed=job.seed, images=[str(path) for path in saved])
    job.report.note(f"Done in {seconds} s")
    return saved


def dry_run(job: RunJob) -> None:
    """Report for every combination which nodes would run and which are cache hits, and the weights that are missing.

    Raises the errors of `prepare`.
    """
    host = host_for(job.workflow, job.files)
    executor = Executor(default_catalog(), job.cache, keep_networks=bool(job.sweep))
    job = job.in_dtype(host, executor.catalog)
    known: set[str] = set()
    weights: list[Weights] = []
    for index, variant in enumerate(_variants(job, _axes(job, host, executor.catalog)), 1):
        if variant.label:
            job.report.note(f"{index}: {variant.label}")
        settings = {**job.settings, **variant.settings}
        prepared = prepare(job.workflow, settings, seed=variant.seed, host=host, catalog=executor.catalog)
        with hosts.using(host):
            forecast = executor.forecast(prepared.prompt, known)
            weights += weights_of(prepared.prompt, executor.catalog)
        for node_id, state in forecast.items():
            _report_forecast(job.report, prepared, node_id, state, variant.fields)
        for text in warnings_of(prepared.prompt):
            job.report.warn(text)
    report_missing(job.report, weights)


_STATES = {"run": "would run", "lazy": "would run if asked for", "cached": "from the cache"}


def _report_forecast(report: Report, prepared: Prepared, node_id: str, state: str, fields: Mapping[str, Any]) -> None:
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


def _variants(job: RunJob, found: list[Axis]) -> Sequence[Variant]:
    """Return the runs of a job: the combinations of its sweep, its own variants, or a single one."""
    if not found:
        return job.variants or [Variant(seed=job.seed)]
    return [
        Variant(point, job.seed, label(point), {"point": index, "settings": point})
        for index, point in enumerate(points(found), 1)
    ]


def _save_grid(job: RunJob, grid: OutputFiles, found: list[Axis], images: list[list[Path]]) -> None:
    from .grid import sheet

    path = grid.save(sheet(found, images), "grid")
    job.report.result(str(path), event="grid", path=str(path))
