"""Run a workflow on a ComfyUI server: the same settings and the same saved files as a run in this process."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from wuerstchen_core.errors import WeightsMissingError, WuerstchenError

from ..errors import BackendError, RunError
from ..execution.scheduler import NodeEvent
from ..host import HeadlessHost
from ..run import OnPrepared, Result, host_for, resolve
from ..stock.input_files import local_file
from ..workflow.catalog import Catalog
from ..workflow.documents import Workflow
from ..workflow.prompt import Prompt, title_of
from .answers import Event
from .client import Server
from .requests import line
from .saved import MAX_FILES, SavedFile, saved_file

_log = logging.getLogger(__name__)
_FILE_INPUTS = {"LoadImage": "image", "LoadImageMask": "image", "LoadLatent": "latent"}
"""Node class -> its input that names a file in the input folder."""
_MAX_BARS = 1000
"""Most nodes whose progress is shown; nodes may make further nodes, which the prompt lacks."""
_MAX_STEPS = 2**31


def execute_on(
    server: Server,
    catalog: Catalog,
    workflow: Workflow,
    settings: Mapping[str, Any] | None = None,
    *,
    seed: int | None = None,
    host: HeadlessHost | None = None,
    on_node: NodeEvent | None = None,
    on_prepared: OnPrepared | None = None,
) -> Result:
    """Run a workflow on a server, as `run.execute` does in this process.

    Local files that Load Image and Load Latent name are uploaded. Files that the server saves are fetched into the
    host's output folder, under the names that a run in this process would give them.

    Args:
        server: Server that runs the workflow.
        catalog: Node classes of the server.
        workflow: A workflow that `load_workflow` read.
        settings: {"NODE.input": value}, as for `run.execute`.
        seed: Value for every seed input; None leaves them.
        host: Host with the output files and the input folders; None for one with the default folders.
        on_node: Called when a node begins to run, is done, or is a cache hit; see `NodeEvent`.
        on_prepared: Called once, before the server gets the prompt.
    Returns:
        The saved images and previews, as local files.
    Raises:
        BackendError: The server cannot be reached, answers wrongly, or no longer knows the prompt.
        InvalidWorkflowError: The server refuses the workflow.
        RunError: A node failed on the server, or the run was cancelled there.
        WorkflowError: The document is damaged.
        UsageError: A setting names no input, or several nodes.
        WuerstchenError: The output folder cannot be written to.
    """
    host = host or host_for(workflow)
    resolved = resolve(workflow, settings, seed=seed, host=host, catalog=catalog)
    host.files.check()
    if on_prepared is not None:
        on_prepared(resolved.prompt)
    prompt = _with_uploads(resolved.prompt, server, host)
    outputs = {node_id for node_id, node in prompt.items() if catalog.is_output(node["class_type"])}
    events = _EventHandler(server, prompt, outputs, host, on_node or (lambda state, node_id, ui: None))
    history = server.run(prompt, resolved.workflow.extra_pnginfo, events.handle)
    for kind, data in history.events():
        if kind in ("execution_error", "execution_interrupted"):
            raise _failure(kind, data, prompt)
    shown = {node_id: events.fetched(node_id, ui or {}) for node_id, ui in history.outputs.items()}
    return Result.of(shown, prompt, host)


def _with_uploads(prompt: Prompt, server: Server, host: HeadlessHost) -> Prompt:
    """Upload the local files that nodes load, and return a prompt with their names on the server."""
    changed = dict(prompt)
    for node_id, node in prompt.items():
        name = _FILE_INPUTS.get(node["class_type"])
        value = node.get("inputs", {}).get(name) if name else None
        path = local_file(value, host) if isinstance(value, str) else None
        if path is not None:
            changed[node_id] = {**node, "inputs": {**node["inputs"], name: server.upload(path)}}
    return changed


@dataclass
class _EventHandler:
    """Handler of the events of one run: reports progress and states of nodes, and fetches files once saved.

    Attributes:
        server: Server that runs the prompt.
        prompt: Workflow in the API format.
        outputs: Ids of the output nodes.
        host: Host that shows progress and owns the output files.
        on_node: Called with each state of a node.
        cached: Ids of nodes that the server does not run, as it has their results.
        shown: {output node id: items that it shows, as local files}, for nodes whose files are fetched.
        files: Files of the server that are fetched.
        progress: {node id: function that updates its progress}.
        done: {node id: steps that are shown as done}.
        running: Id of the node that runs; None for none.
    """

    server: Server
    prompt: Prompt
    outputs: set[str]
    host: HeadlessHost
    on_node: NodeEvent
    cached: set[str] = field(default_factory=set)
    shown: dict[str, dict[str, list[Any]]] = field(default_factory=dict)
    files: set[SavedFile] = field(default_factory=set)
    progress: dict[str, Callable[[int, Any], None]] = field(default_factory=dict)
    done: dict[str, int] = field(default_factory=dict)
    running: str | None = None

    def handle(self, kind: str, data: Event) -> None:
        """Handle one event of the server."""
        if kind == "execution_cached":
            self.cached.update(each for each in data.nodes if each in self.prompt)
            for each in sorted(self.cached - self.outputs):  # output nodes are reported later, with what they show
                self.on_node("cached", each, {})
        elif kind == "executing":
            self._set_running(data.node)
        elif kind == "executed" and data.node is not None:
            if data.node not in self.cached:
                self._set_running(data.node)
            self.fetched(data.node, data.output or {})
        elif kind == "progress" and data.node is not None and 0 < data.max < _MAX_STEPS and 0 <= data.value <= data.max:
            self._show_progress(data.node, int(data.value), int(data.max))
        elif kind == "execution_success":
            self._set_running(None)

    def _show_progress(self, node_id: str, done: int, steps: int) -> None:
        if node_id not in self.progress:
            if len(self.progress) >= _MAX_BARS or steps < 1:
                return
            label = title_of(self.prompt, node_id) if node_id in self.prompt else line(node_id, 100)
            self.progress[node_id] = self.host.progress(steps, label)
        if done >= 1 and done != self.done.get(node_id):
            self.done[node_id] = done
            self.progress[node_id](done, None)

    def fetched(self, node_id: str, ui: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Return the items that a node shows, with its files fetched under their local names. Each is fetched once."""
        if node_id not in self.shown:
            if len(self.shown) == MAX_FILES:
                raise BackendError(f"{self.server.url} names more than {MAX_FILES:,} nodes that show something.")
            self.shown[node_id] = {
                kind: self._items(node_id, kind, items) for kind, items in ui.items() if isinstance(items, list)
            }
            if node_id != self.running:  # a cache hit of the server
                self.on_node("cached", node_id, self.shown[node_id])
        return self.shown[node_id]

    def _items(self, node_id: str, kind: str, items: list[Any]) -> list[Any]:
        shown: list[Any] = []
        for item in items:
            file = saved_file(item, self.server.url)
            if file is None and kind != "images":
                shown.append(item)
            elif file is not None and file not in self.files:
                if len(self.files) == MAX_FILES:
                    raise BackendError(f"{self.server.url} names more than {MAX_FILES:,} saved files of one run.")
                self.files.add(file)
                shown.append(self._fetch_file(node_id, file))
        return shown

    def _set_running(self, node_id: str | None) -> None:
        """Report that the node before is done and that this one runs; None for the end of the run."""
        if node_id == self.running:
            return
        if self.running is not None:
            self.on_node("done", self.running, self.shown.get(self.running, {}))
        if node_id is not None:
            self.on_node("running", node_id, {})
        self.running = node_id

    def _fetch_file(self, node_id: str, file: SavedFile) -> dict[str, Any]:
        """Save a file of the server among the host's files and return its local name, in ComfyUI's shape."""
        data = self.server.fetch(file._asdict())
        file.check_content(data, self.server.url)
        files = self.host.preview_files() if file.type == "temp" else self.host.files
        path = files.save(data, file.prefix, node_id=node_id, suffix=file.suffix)
        if file.type == "temp":
            _log.info("Preview: %s", path)
        return {**files.reference(path), "type": file.type}


def _failure(kind: str, data: Event, prompt: Prompt) -> RunError:
    """Return the error of a node that failed or was interrupted, from the event that reports it."""
    message = "it was cancelled on the server"
    if kind == "execution_error":
        message = line(data.exception_message, 2000) or "the server does not say why"
    lacks_weights = str(data.exception_type).endswith(WeightsMissingError.__name__)
    cause = WeightsMissingError(message) if lacks_weights else WuerstchenError(message)
    class_type = line(data.node_type, 100)
    title = title_of(prompt, data.node_id) if data.node_id in prompt else class_type
    return RunError(line(data.node_id, 100), class_type, title, cause)
