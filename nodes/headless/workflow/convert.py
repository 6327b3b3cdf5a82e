"""From the editor's format to the API format, as ComfyUI's own front end submits a graph."""

import json
import random
from collections.abc import Mapping
from typing import Any

from wuerstchen_core.errors import WorkflowError

from ..errors import InvalidWorkflowError, describe
from .catalog import Catalog, Input
from .documents import Workflow
from .dynamic_text import drawn, filled
from .editor import BYPASSED, MUTED, Node, read_document
from .flatten import CUT, Constant, Output, Scope, is_virtual
from .prompt import wrapped
from .validate import unknown_class

_NAMES_FILES = frozenset({"SaveImage", "SaveLatent", "SaveAnimatedPNG", "SaveAnimatedWEBP", "SaveWEBM", "SaveVideo"})
_NAMES_FILES |= {"SaveAudio", "SaveGLB", "ModelSave", "CLIPSave", "VAESave", "LoraSave"}
"""Classes in whose `filename_prefix` the page fills in fields of other nodes."""
_CONTROL_WORDS = ("fixed", "increment", "decrement", "randomize")


def convert(workflow: Workflow, catalog: Catalog, *, repeatable: bool = False) -> dict[str, dict[str, Any]]:
    """The workflow in the API format: {node id: {"class_type", "inputs", "_meta": {"title"}}}.

    A workflow read in that format is returned as it is. Notes, reroutes, primitives, muted and bypassed nodes
    disappear into what they do; a node inside a subgraph gets the id "outer:inner".

    Args:
        repeatable: give the same whenever it is called: choices in prompts are drawn by what the document says, and
            fields and dates in file names stay as they are written.
    Raises:
        InvalidWorkflowError: a node of an unknown class; every one is named, with its pack where the file says it.
        WorkflowError: the document is not what an editor writes.
    """
    if workflow.prompt is not None:
        return workflow.prompt
    document = read_document(workflow.editor or {}, workflow.name)
    nodes = list(_running_nodes(Scope.top(document), workflow.name))
    unknown = {
        scope.path_of(node): unknown_class(scope.path_of(node), node.type, catalog, node.title, node.pack)
        for scope, node in nodes
        if node.type not in catalog.classes
    }
    if unknown:
        raise InvalidWorkflowError.of_nodes(unknown)
    chance = random.Random(json.dumps(workflow.editor, sort_keys=True)) if repeatable else random.Random()
    prompt = {
        scope.path_of(node): {
            "class_type": node.type,
            "inputs": _inputs(scope, node, catalog, chance),
            "_meta": {"title": node.title or catalog.title(node.type)},
        }
        for scope, node in nodes
    }
    if not repeatable:
        _fill_file_names(prompt, nodes, catalog)
    return prompt


def packs_of(workflow: Workflow) -> dict[str, str]:
    """{node id: the pack its file says it is from}, for the top graph of an editor document."""
    if workflow.editor is None:
        return {}
    document = read_document(workflow.editor, workflow.name)
    return {str(node.id): node.pack for node in document.nodes if node.pack}


def widget_positions(inputs: Mapping[str, Input], values: list[Any]) -> dict[str, int]:
    """Which entry of a node's `widgets_values` belongs to which input.

    A seed is followed by what the editor does with it after a run ("fixed", "randomize", ...), and a choice that
    carries the same control by that and a filter; neither is an input, and old files lack them.
    """
    positions: dict[str, int] = {}
    position = 0
    for name, widget in inputs.items():
        if not widget.is_widget or position >= len(values):
            continue
        positions[name] = position
        position += 1
        if widget.has_control and position < len(values) and values[position] in _CONTROL_WORDS:
            position += 2 if widget.type == "COMBO" else 1
    return positions


def set_widget(workflow: Workflow, catalog: Catalog, node_id: str, name: str, value: Any) -> None:
    """Write `value` into an editor document too, and unplug what fed it, so that a picture carries what made it.

    Does nothing where there is no editor document; a node inside a subgraph is left, for other copies share it.
    """
    if workflow.editor is None:
        return
    node = next((node for node in workflow.editor["nodes"] if str(node.get("id")) == node_id), None)
    if node is None or node.get("type") not in catalog.classes:
        return
    values = node["widgets_values"] = node.get("widgets_values") or []
    if isinstance(values, dict):
        values[name] = value
    else:
        position = widget_positions(catalog.inputs(node["type"]), values).get(name)
        if position is not None:
            values[position] = value
    for socket in node.get("inputs") or []:
        if socket.get("name") == name and socket.get("link") is not None:
            _remove_link(workflow.editor, socket["link"])
            socket["link"] = None


def _remove_link(editor: dict[str, Any], link_id: int) -> None:
    links = editor.get("links") or []
    links = links.values() if isinstance(links, dict) else links
    editor["links"] = [
        link for link in links if link and (link[0] if isinstance(link, list) else link["id"]) != link_id
    ]
    for node in editor["nodes"]:
        for socket in node.get("outputs") or []:
            socket["links"] = [each for each in socket.get("links") or [] if each != link_id]


def _running_nodes(scope: Scope, name: str) -> list[tuple[Scope, Node]]:
    """Every node that a server would be sent, in the order of the file."""
    found: list[tuple[Scope, Node]] = []
    for node in scope.nodes.values():
        if node.mode in (MUTED, BYPASSED) or is_virtual(node):
            continue
        if node.type in scope.subgraphs:
            found += _running_nodes(scope.inside(node), name)
        elif node.type.startswith("workflow>") or node.type.startswith("workflow/"):
            raise WorkflowError(
                f"{name}: node {describe(scope.path_of(node), node.type, node.title)} is a group node, an old form "
                "that is not read here. In the editor, convert it to nodes or to a subgraph, and save again."
            )
        else:
            found.append((scope, node))
    return found


def _inputs(scope: Scope, node: Node, catalog: Catalog, chance: random.Random) -> dict[str, Any]:
    declared = catalog.inputs(node.type)
    result = _widget_values(node, declared)
    for socket in node.inputs:
        if socket.link is None:
            continue
        found = scope.source(socket.link, socket.type)
        if isinstance(found, Constant):
            result[socket.name] = found.value
        elif isinstance(found, Output):
            result[socket.name] = [found.node_id, found.slot]
        elif found is CUT:
            result.pop(socket.name, None)
    for name, widget in declared.items():
        if widget.options.get("dynamicPrompts") and isinstance(result.get(name), str):
            result[name] = drawn(result[name], chance.choice)
    return result


def _fill_file_names(prompt: dict[str, dict[str, Any]], nodes: list[tuple[Scope, Node]], catalog: Catalog) -> None:
    """Put fields of other nodes into the names of files, for the nodes with which the page does so."""
    fields = {scope.path_of(node): (node, _widget_values(node, catalog.inputs(node.type))) for scope, node in nodes}

    def value_of(name: str, field: str) -> Any:
        by_class = [values for node, values in fields.values() if node.properties.get("Node name for S&R") == name]
        by_title = [values for node, values in fields.values() if node.title == name]
        return next(iter(by_class or by_title), {}).get(field)

    for node in prompt.values():
        prefix = node["inputs"].get("filename_prefix")
        if node["class_type"] in _NAMES_FILES and isinstance(prefix, str):
            node["inputs"]["filename_prefix"] = filled(prefix, value_of)


def _widget_values(node: Node, declared: Mapping[str, Input]) -> dict[str, Any]:
    widgets = {name: widget for name, widget in declared.items() if widget.is_widget}
    values = node.widgets_values
    if isinstance(values, dict):
        found = {name: values[name] for name in widgets if values.get(name) is not None}
    else:
        positions = widget_positions(declared, values or [])
        found = {name: (values or [])[at] for name, at in positions.items() if (values or [])[at] is not None}
    return {name: wrapped(found.get(name, widget.default)) for name, widget in widgets.items()}
