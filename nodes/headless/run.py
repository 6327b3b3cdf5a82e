"""From a workflow to its pictures: convert, set, validate, run."""

from collections.abc import Mapping
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
from .workflow.convert import convert, packs_of
from .workflow.documents import Workflow
from .workflow.overrides import apply
from .workflow.validate import Prompt, check_classes, validate


@dataclass(frozen=True)
class Prepared:
    """A workflow with its inputs set. prompt: the API format. workflow: as read, with what was set."""

    prompt: Prompt
    workflow: Workflow


@dataclass(frozen=True)
class Result:
    """What a run gave.

    images: the PNGs it saved, in the order of saving. previews: those of Preview Image, in a temporary folder.
    shown: {output node id: what it shows, as in ComfyUI}. prompt: what ran, in the API format.
    """

    images: list[Path]
    previews: list[Path]
    shown: dict[str, dict[str, list[Any]]] = field(default_factory=dict)
    prompt: Prompt = field(default_factory=dict)


def resolve(
    workflow: Workflow,
    settings: Mapping[str, Any] | None = None,
    *,
    seed: int | None = None,
    host: HeadlessHost | None = None,
    catalog: Catalog | None = None,
    repeatable: bool = False,
) -> Prepared:
    """Convert a workflow and set inputs; whether it can run is not looked at.

    Args:
        settings: {"NODE.input": value}; NODE is an id, a title, a class, or a display name.
        seed: for every seed input; different seeds stay different (see `overrides.apply`).
        host: becomes the process's host; one with the default folders where None.
        repeatable: see `convert`.
    Raises:
        InvalidWorkflowError: a node is of an unknown class.
        WorkflowError: the document is damaged.
        UsageError: a setting names nothing, or several nodes.
    """
    hosts.install(host or host_for(workflow))
    catalog = catalog or default_catalog()
    prompt = convert(workflow, catalog, repeatable=repeatable)
    check_classes(prompt, catalog, packs_of(workflow))
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
    """As `resolve`, and check that the workflow can run. Nothing runs.

    Raises:
        InvalidWorkflowError: it cannot; with all that is wrong, node by node. And what `resolve` raises.
    """
    catalog = catalog or default_catalog()
    resolved = resolve(workflow, settings, seed=seed, host=host, catalog=catalog)
    return Prepared(validate(resolved.prompt, catalog), resolved.workflow)


def execute(
    workflow: Workflow,
    settings: Mapping[str, Any] | None = None,
    *,
    seed: int | None = None,
    host: HeadlessHost | None = None,
    executor: Executor | None = None,
    on_node: NodeEvent | None = None,
) -> Result:
    """Run a workflow.

    Args:
        settings, seed, host: as for `prepare`. The host says where pictures go: HeadlessHost(OutputFiles("folder")).
        executor: one of an earlier run, to do again only what changed.
        on_node: told of each node as it runs.
    Raises:
        RunError: a node failed; `__cause__` says why.
        WuerstchenError: the output folder cannot be written to. And what `prepare` raises.
    """
    host = host or host_for(workflow)
    executor = executor or Executor(default_catalog())
    prepared = prepare(workflow, settings, seed=seed, host=host, catalog=executor.catalog)
    host.files.check()
    editor = prepared.workflow.editor
    shown = executor.run(
        prepared.prompt, extra_pnginfo=None if editor is None else {"workflow": editor}, on_node=on_node
    )
    images = [path for ui in shown.values() for path in paths_of(ui, "output", host)]
    previews = [path for ui in shown.values() for path in paths_of(ui, "temp", host)]
    return Result(images, previews, shown, prepared.prompt)


def host_for(
    workflow: Workflow, files: OutputFiles | None = None, *, quiet: bool = True, compiles: bool = False
) -> HeadlessHost:
    """A host that finds the files a workflow names beside it, in ./input, and in the current folder."""
    folders = [workflow.folder, Path("input"), Path()]
    return HeadlessHost(files, input_folders=folders, progress=stderr_progress(quiet), compiles=compiles)


def paths_of(ui: Mapping[str, list[Any]], kind: str, host: HeadlessHost) -> list[Path]:
    """The pictures in what a node shows; kind is "output" or "temp"."""
    folder = host.files.folder if kind == "output" else host.preview_folder
    images = [image for image in ui.get("images", []) if image["type"] == kind]
    return [folder / image["subfolder"] / image["filename"] for image in images] if folder else []
