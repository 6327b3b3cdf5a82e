"""Convert the editor's format to the API format, as ComfyUI's own front end submits a graph."""

import json
import random
from collections.abc import Mapping
from typing import Any

from wuerstchen_core.errors import WorkflowError
from wuerstchen_core.text.prompts import resolve_choices

from ..errors import MAX_FAULTY, MAX_LINES, InvalidWorkflowError, describe, near_matches, node_error
from .catalog import Catalog
from .documents import Workflow
from .dynamic_text import fill_file_name
from .editor import BYPASSED, MUTED, Node
from .flatten import CUT, Constant, Output, Scope, is_virtual
from .limits import check_count
from .prompt import Prompt, title_of
from .widgets import widget_values

_NAMES_FILES = frozenset({"SaveImage", "SaveLatent", "SaveAnimatedPNG", "SaveAnimatedWEBP", "SaveWEBM", "SaveVideo"})
_NAMES_FILES |= {"SaveAudio", "SaveGLB", "ModelSave", "CLIPSave", "VAESave", "LoraSave"}
"""Classes in whose `filename_prefix` the page inserts fields of other nodes."""


def convert(workflow: Workflow, catalog: Catalog, *, repeatable: bool = False) -> Prompt:
    """Return the workflow in the API format.

    A workflow read in that format is returned unchanged. Notes, reroutes, primitives, muted and bypassed nodes are
    resolved away; a node inside a subgraph gets the id "outer:inner".

    Args:
        workflow: A workflow in either format.
        catalog: Node classes.
        repeatable: Give the same result at every call: choices in text prompts are drawn from the document's content,
            and fields and dates in file names are left as they are written.
    Raises:
        InvalidWorkflowError: Nodes are of unknown classes; each is named, with its pack where the file says it.
        WorkflowError: The document is damaged.
    """
    if workflow.prompt is not None:
        check_count(len(workflow.prompt))
        _check_classes(workflow, workflow.prompt, catalog)
        return workflow.prompt
    nodes = list(_running_nodes(Scope.top(workflow.document), workflow.name))
    unknown = [(scope, node) for scope, node in nodes if node.type not in catalog.classes]
    if unknown:
        raise _unknown_classes(
            catalog, [(scope.path_of(node), node.type, node.title, node.pack) for scope, node in unknown]
        )
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


def _running_nodes(scope: Scope, name: str) -> list[tuple[Scope, Node]]:
    """List every node that the page would send to a server, in the order of the file."""
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
    result = widget_values(node, declared)
    for socket in node.inputs:
        if socket.link is None:
            continue
        source = scope.source(socket.link, socket.type)
        if isinstance(source, Constant):
            result[socket.name] = source.value
        elif isinstance(source, Output):
            result[socket.name] = [source.node_id, source.slot]
        elif source is CUT:
            result.pop(socket.name, None)
    for name, widget in declared.items():
        if widget.options.get("dynamicPrompts") and isinstance(result.get(name), str):
            result[name] = resolve_choices(result[name], chance.choice)
    return result


def _fill_file_names(prompt: Prompt, nodes: list[tuple[Scope, Node]], catalog: Catalog) -> None:
    """Insert fields of other nodes into file names, for the classes for which the page does so."""
    by_class: dict[str, Node] = {}
    by_title: dict[str, Node] = {}
    for _, node in nodes:
        for names, name in ((by_class, node.properties.get("Node name for S&R")), (by_title, node.title)):
            if isinstance(name, str):
                names.setdefault(name, node)

    def value_of(name: str, field: str) -> Any:
        found = by_class.get(name) or by_title.get(name)
        return None if found is None else widget_values(found, catalog.inputs(found.type)).get(field)

    for node in prompt.values():
        prefix = node["inputs"].get("filename_prefix")
        if node["class_type"] in _NAMES_FILES and isinstance(prefix, str):
            node["inputs"]["filename_prefix"] = fill_file_name(prefix, value_of)


def _check_classes(workflow: Workflow, prompt: Mapping[str, Any], catalog: Catalog) -> None:
    unknown = [node_id for node_id, node in prompt.items() if node["class_type"] not in catalog.classes]
    if unknown:
        packs = {str(node.id): node.pack for node in workflow.document.nodes} if workflow.editor else {}
        raise _unknown_classes(
            catalog,
            [
                (node_id, prompt[node_id]["class_type"], title_of(prompt, node_id), packs.get(node_id))
                for node_id in unknown
            ],
        )


def _unknown_classes(catalog: Catalog, nodes: list[tuple[str, str, str | None, str | None]]) -> InvalidWorkflowError:
    """Return the error of nodes of unknown classes, each given as its id, class, title and pack."""
    known = list(catalog.classes)
    return InvalidWorkflowError.of_nodes(
        {
            node_id: _unknown_class(class_type, catalog, title, pack, known if place < MAX_LINES else [])
            for place, (node_id, class_type, title, pack) in enumerate(nodes[:MAX_FAULTY])
        },
        more=max(0, len(nodes) - MAX_FAULTY),
    )


def _unknown_class(
    class_type: str, catalog: Catalog, title: str | None, pack: str | None, known: list[str]
) -> dict[str, Any]:
    """Return the `node_errors` entry of a node whose class is not in the catalog; it may have meant a known one."""
    near = near_matches(class_type, known)
    advice = "replace, mute or bypass it, or run the workflow on a ComfyUI server that has it: --backend comfyui."
    if catalog.server:
        details = f"the server {catalog.server} has no node {class_type}"
        details += f"; the file says it is from the pack {pack!r}" if pack else ""
        advice = "install it there, or replace, mute or bypass it."
    elif class_type in catalog.comfyui_only:
        details = f"{catalog.comfyui_only[class_type]} leads into ComfyUI's own samplers and exists inside ComfyUI only"
        near = []
    else:
        details = f"{class_type} is not a node that is known here"
        details += f"; the file says it is from the pack {pack!r}, which runs in ComfyUI only" if pack else ""
    details += f". Did you mean {' or '.join(near)}? Else {advice}" if near else f"; {advice}"
    error = node_error("missing_node_type", "Node type not found", details)
    return {"errors": [error], "dependent_outputs": [], "class_type": class_type, "title": title or class_type}
