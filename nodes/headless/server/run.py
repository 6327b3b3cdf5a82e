"""Running a workflow on a ComfyUI server instead of in this process: the same settings, the same files in the end."""

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wuerstchen_core.errors import WeightsMissingError, WuerstchenError

from ..errors import RunError
from ..execution.scheduler import NodeEvent
from ..host import HeadlessHost
from ..run import Result, host_for, resolve
from ..stock.input_files import local_file
from ..workflow.catalog import Catalog
from ..workflow.documents import Workflow
from ..workflow.prompt import Prompt, title_of
from .client import Server

_log = logging.getLogger(__name__)
_NUMBERED = re.compile(r"(.+?)_\d{5,}_")
_LOADED_FROM_FILES = {"LoadImage": "image", "LoadImageMask": "image", "LoadLatent": "latent"}
"""Inputs that name a file in the input folder."""


def execute_on(
    server: Server,
    catalog: Catalog,
    workflow: Workflow,
    settings: Mapping[str, Any] | None = None,
    *,
    seed: int | None = None,
    host: HeadlessHost | None = None,
    on_node: NodeEvent | None = None,
) -> Result:
    """Run a workflow on a server, as `run.execute` does here.

    Files that Load Image and Load Latent name are uploaded where they are found here; what is saved there is fetched
    into the host's output folder, under the names that a run here would give.

    Args:
        catalog: the server's nodes.
    Raises:
        BackendError: the server cannot be reached, or goes away.
        InvalidWorkflowError: it refuses the workflow. RunError: a node failed there. And what `run.execute` raises.
    """
    host = host or host_for(workflow)
    resolved = resolve(workflow, settings, seed=seed, host=host, catalog=catalog)
    host.files.check()
    prompt = _with_uploads(resolved.prompt, server, host)
    outputs = {node_id for node_id, node in prompt.items() if catalog.is_output(node["class_type"])}
    watch = _Watch(server, prompt, outputs, host, on_node or (lambda state, node_id, ui: None))
    history = server.run(prompt, resolved.extra_pnginfo, watch.on_event)
    for kind, data in history["status"]["messages"]:
        if kind in ("execution_error", "execution_interrupted"):
            raise _failure(kind, data, prompt)
    shown = {node_id: watch.taken(node_id, ui) for node_id, ui in history["outputs"].items()}
    return Result.of(shown, prompt, host)


def _with_uploads(prompt: Prompt, server: Server, host: HeadlessHost) -> Prompt:
    """A copy in which files that are here are named as the server knows them."""
    changed = dict(prompt)
    for node_id, node in prompt.items():
        name = _LOADED_FROM_FILES.get(node["class_type"])
        value = node.get("inputs", {}).get(name) if name else None
        path = local_file(value, host) if isinstance(value, str) else None
        if path is not None:
            changed[node_id] = {**node, "inputs": {**node["inputs"], name: server.upload(path)}}
    return changed


@dataclass
class _Watch:
    """What is seen of a run while it lasts: progress, states of nodes, and files as they are saved."""

    server: Server
    prompt: Prompt
    outputs: set[str]
    host: HeadlessHost
    on_node: NodeEvent
    cached: set[str] = field(default_factory=set)
    fetched: dict[str, dict[str, list[Any]]] = field(default_factory=dict)
    progress: dict[str, Callable[[int, Any], None]] = field(default_factory=dict)
    running: str | None = None

    def on_event(self, kind: str, data: dict[str, Any]) -> None:
        """Take one event of the server."""
        node_id = data.get("node")
        if kind == "execution_cached":
            self.cached.update(data.get("nodes", []))
            for each in sorted(self.cached - self.outputs):  # of an output it is said what it shows
                self.on_node("cached", each, {})
        elif kind == "executing":
            self.switch_to(node_id)
        elif kind == "executed" and node_id is not None:
            if node_id not in self.cached:
                self.switch_to(node_id)
            self.taken(node_id, data.get("output") or {})
        elif kind == "progress" and node_id is not None:
            label = title_of(self.prompt, node_id) if node_id in self.prompt else node_id
            update = self.progress.setdefault(node_id, self.host.progress(int(data["max"]), label))
            update(int(data["value"]), None)
        elif kind == "execution_success":
            self.switch_to(None)

    def switch_to(self, node_id: str | None) -> None:
        """The node that ran is done, and this one runs."""
        if node_id == self.running:
            return
        if self.running is not None:
            self.on_node("done", self.running, self.fetched.get(self.running, {}))
        if node_id is not None:
            self.on_node("running", node_id, {})
        self.running = node_id

    def taken(self, node_id: str, ui: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        """What a node shows, its files fetched and named as they are here. Each is fetched once."""
        if node_id not in self.fetched:
            self.fetched[node_id] = {
                kind: [self.fetch(node_id, item) if _is_file(item) else item for item in items]
                for kind, items in ui.items()
                if isinstance(items, list)
            }
            if node_id != self.running:  # the server had it from an earlier run
                self.on_node("cached", node_id, self.fetched[node_id])
        return self.fetched[node_id]

    def fetch(self, node_id: str, file: Mapping[str, Any]) -> dict[str, Any]:
        remote = Path(str(file["filename"]))
        match = _NUMBERED.fullmatch(remote.stem)
        prefix = "/".join(part for part in (file.get("subfolder"), match[1] if match else remote.stem) if part)
        files, kind = self.host.files, "output"
        if file.get("type") == "temp":
            files, kind = self.host.preview_files(), "temp"
        path = files.save(self.server.fetch(file), prefix, node_id=node_id, suffix=remote.suffix)
        if kind == "temp":
            _log.info("Preview: %s", path)
        return {**files.reference(path), "type": kind}


def _is_file(item: Any) -> bool:
    return isinstance(item, Mapping) and "filename" in item and item.get("type") in ("output", "temp")


def _failure(kind: str, data: Mapping[str, Any], prompt: Prompt) -> RunError:
    node_id = str(data["node_id"])
    message = "it was cancelled on the server"
    if kind == "execution_error":
        message = str(data["exception_message"]).strip()
    lacks_weights = str(data.get("exception_type")).endswith(WeightsMissingError.__name__)
    cause = WeightsMissingError(message) if lacks_weights else WuerstchenError(message)
    title = title_of(prompt, node_id) if node_id in prompt else data["node_type"]
    return RunError(node_id, data["node_type"], title, cause)
