"""Run a workflow in this process: convert it, set inputs, validate it, execute it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import host as hosts
from .execution.executor import Executor
from .execution.scheduler import NodeEvent
from .host import HeadlessHost, stderr_progress
from .output_files import OutputFiles
from .stock.nodes import default_catalog
from .workflow.catalog import Catalog
from .workflow.convert import convert
from .workflow.documents import Workflow
from .workflow.overrides import apply
from .workflow.prompt import Prompt
from .workflow.validate import validate


@dataclass(frozen=True)
class Prepared:
    """A workflow with its inputs set.

    Attributes:
        prompt: The workflow in the API format.
        workflow: The workflow as it was read, with the same inputs set.
    """

    prompt: Prompt
    workflow: Workflow


OnPrepared = Callable[[Prompt], None]
"""Called with the prompt of a run, in the API format, before its first node runs."""


@dataclass(frozen=True)
class Result:
    """Result of a run.

    Attributes:
        images: PNG files that it saved, in the order of saving.
        previews: PNG files of Preview Image, in a temporary folder.
        shown: {output node id: items that it shows, as in ComfyUI}.
        prompt: The workflow that ran, in the API format.
    """

    images: list[Path]
    previews: list[Path]
    shown: dict[str, dict[str, list[Any]]] = field(default_factory=dict)
    prompt: Prompt = field(default_factory=dict)

    @classmethod
    def of(cls, shown: dict[str, dict[str, list[Any]]], prompt: Prompt, host: HeadlessHost) -> "Result":
        """Return the result of a run whose output nodes show `shown`."""
        images = [path for ui in shown.values() for path in paths_of(ui, "output", host)]
        previews = [path for ui in shown.values() for path in paths_of(ui, "temp", host)]
        return cls(images, previews, shown, prompt)


def resolve(
    workflow: Workflow,
    settings: Mapping[str, Any] | None = None,
    *,
    seed: int | None = None,
    host: HeadlessHost | None = None,
    catalog: Catalog | None = None,
    repeatable: bool = False,
) -> Prepared:
    """Convert a workflow and set inputs, without checking whether it can run.

    Args:
        workflow: A workflow that `load_workflow` read.
        settings: {"NODE.input": value}; NODE is an id, a title, a class or a display name.
        seed: Value for every seed input; different seeds stay different (see `overrides.apply`).
        host: Host of the run; None for one with the default folders.
        catalog: Node classes; None for `default_catalog()`.
        repeatable: As for `convert`.
    Raises:
        InvalidWorkflowError: A node is of an unknown class.
        WorkflowError: The document is damaged.
        UsageError: A setting names no input, or several nodes.
    """
    with hosts.using(host or host_for(workflow)):
        catalog = catalog or default_catalog()
        prompt = convert(workflow, catalog, repeatable=repeatable)
        workflow, prompt = apply(workflow, prompt, catalog, settings or {}, seed)
    return Prepared(prompt, workflow)


def prepare(
    workflow: Workflow,
    settings: Mapping[str, Any] | None = None,
    *,
    seed: int | None = None,
    host: HeadlessHost | None = None,
    catalog: Catalog | None = None,
) -> Prepared:
    """Convert a workflow, set inputs, and check that it can run. Nothing runs.

    Args:
        workflow, settings, seed, host, catalog: As for `resolve`.
    Raises:
        InvalidWorkflowError: It cannot run; every error of every node is listed. And the errors of `resolve`.
    """
    host = host or host_for(workflow)
    catalog = catalog or default_catalog()
    resolved = resolve(workflow, settings, seed=seed, host=host, catalog=catalog)
    with hosts.using(host):
        return Prepared(validate(resolved.prompt, catalog), resolved.workflow)


def execute(
    workflow: Workflow,
    settings: Mapping[str, Any] | None = None,
    *,
    seed: int | None = None,
    host: HeadlessHost | None = None,
    executor: Executor | None = None,
    on_node: NodeEvent | None = None,
    on_prepared: OnPrepared | None = None,
) -> Result:
    """Run a workflow.

    Args:
        workflow, settings, seed: As for `resolve`.
        host: Host of the run, which names the folder of the images: HeadlessHost(OutputFiles("folder")).
        executor: Executor of an earlier run, to run again only the nodes that changed; None for a new one.
        on_node: Called when a node starts, ends, or is a cache hit.
        on_prepared: Called once, before anything runs.
    Raises:
        RunError: A node failed; `__cause__` is its error.
        WuerstchenError: The output folder cannot be written to. And the errors of `prepare`.
    """
    host = host or host_for(workflow)
    executor = executor or Executor(default_catalog())
    prepared = prepare(workflow, settings, seed=seed, host=host, catalog=executor.reread())
    host.files.check()
    with hosts.using(host):
        if on_prepared is not None:
            on_prepared(prepared.prompt)
        shown = executor.run(
            prepared.prompt,
            extra_pnginfo=prepared.workflow.extra_pnginfo,
            on_node=on_node,
            workflow=Path(prepared.workflow.name).name,
        )
    return Result.of(shown, prepared.prompt, host)


def host_for(
    workflow: Workflow, files: OutputFiles | None = None, *, quiet: bool = True, compiles: bool = False
) -> HeadlessHost:
    """Return a host that finds the files a workflow names beside it, in ./input, and in the current folder."""
    folders = [workflow.folder, Path("input"), Path()]
    return HeadlessHost(files, input_folders=folders, progress=stderr_progress(quiet), compiles=compiles)


def paths_of(ui: Mapping[str, list[Any]], kind: str, host: HeadlessHost) -> list[Path]:
    """Return the paths of the images among the items that a node shows.

    Args:
        ui: Items that the node shows.
        kind: "output" for saved images, "temp" for previews.
        host: Host of the run.
    """
    folder = host.files.folder if kind == "output" else host.preview_folder
    images = [image for image in ui.get("images", []) if image["type"] == kind]
    return [folder / image["subfolder"] / image["filename"] for image in images] if folder else []
