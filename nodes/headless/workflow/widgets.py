"""Fields of the editor's nodes: which value belongs to which input, and writing one into a document."""

from collections.abc import Mapping
from typing import Any

from .catalog import Catalog, Input
from .editor import Node
from .prompt import wrapped

_CONTROL_WORDS = ("fixed", "increment", "decrement", "randomize")


def widget_positions(inputs: Mapping[str, Input], values: list[Any]) -> dict[str, int]:
    """Return the index in a node's `widgets_values` that belongs to each input.

    A seed may be followed by a control word for the next run ("fixed", "randomize", ...), and a choice with the same
    control by that word and a filter. Neither is an input, and old files lack them.

    Args:
        inputs: Declared inputs of the node's class, in order.
        values: The node's `widgets_values`.
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


def widget_values(node: Node, declared: Mapping[str, Input]) -> dict[str, Any]:
    """Return the value of every field of a node, the default where the document has none."""
    widgets = {name: widget for name, widget in declared.items() if widget.is_widget}
    values = node.widgets_values
    if isinstance(values, dict):
        found = {name: values[name] for name in widgets if values.get(name) is not None}
    else:
        positions = widget_positions(declared, values or [])
        found = {name: (values or [])[at] for name, at in positions.items() if (values or [])[at] is not None}
    return {name: wrapped(found.get(name, widget.default)) for name, widget in widgets.items()}


def set_widgets(editor: dict[str, Any], catalog: Catalog, values: Mapping[tuple[str, str], Any]) -> None:
    """Set fields of an editor document and unplug their links, so that a saved image carries the settings that made it.

    Nodes inside subgraphs are left as they are, since other copies of the subgraph share them.

    Args:
        editor: The editor's document, which `convert` has read; changed in place.
        catalog: Node classes.
        values: {(node id in the API format, input): new value}.
    """
    nodes = {str(node.get("id")): node for node in editor["nodes"]}
    unplugged: set[Any] = set()
    for (node_id, name), value in values.items():
        node = nodes.get(node_id)
        if node is None or node.get("type") not in catalog.classes:
            continue
        fields = node["widgets_values"] = node.get("widgets_values") or []
        if isinstance(fields, dict):
            fields[name] = value
        else:
            position = widget_positions(catalog.inputs(node["type"]), fields).get(name)
            if position is not None:
                fields[position] = value
        for socket in node.get("inputs") or []:
            if socket.get("name") == name and socket.get("link") is not None:
                unplugged.add(socket["link"])
                socket["link"] = None
    if unplugged:
        _remove_links(editor, unplugged)


def _remove_links(editor: dict[str, Any], removed: set[Any]) -> None:
    links = editor.get("links") or []
    links = links.values() if isinstance(links, dict) else links
    editor["links"] = [
        link for link in links if link and (link[0] if isinstance(link, list) else link["id"]) not in removed
    ]
    for node in editor["nodes"]:
        for socket in node.get("outputs") or []:
            ends = socket.get("links")
            if isinstance(ends, list):
                socket["links"] = [each for each in ends if not isinstance(each, int) or each not in removed]
