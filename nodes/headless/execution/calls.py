"""Call one node: its arguments, the mapping over lists, and its result."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..workflow.catalog import Catalog
from ..workflow.prompt import constant, is_link


@dataclass(frozen=True)
class Outputs:
    """Result of a node.

    Attributes:
        slots: List of values of each output.
        ui: Items that an output node shows, {kind: [items]}.
    """

    slots: list[list[Any]]
    ui: dict[str, list[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Hidden:
    """Values of hidden inputs.

    Attributes:
        prompt: The whole workflow in the API format (PROMPT).
        extra_pnginfo: Metadata for saved files (EXTRA_PNGINFO).
        node_id: Id of the node itself (UNIQUE_ID).
    """

    prompt: Mapping[str, Any]
    extra_pnginfo: Mapping[str, Any] | None
    node_id: str

    def value(self, kind: str) -> Any:
        """Return the value of a kind of hidden input; None for one that is not known."""
        return {"PROMPT": self.prompt, "EXTRA_PNGINFO": self.extra_pnginfo, "UNIQUE_ID": self.node_id}.get(kind)


def arguments_of(
    catalog: Catalog, node: Mapping[str, Any], values: Mapping[str, Outputs], hidden: Hidden
) -> dict[str, list[Any]]:
    """Return each argument of a node as the list of its values; [None] for a link without a value (yet).

    Args:
        catalog: Node classes.
        node: Entry of the node in the API format.
        values: Results of other nodes, by node id.
        hidden: Values of hidden inputs.
    """
    known = catalog.inputs(node["class_type"])
    arguments: dict[str, list[Any]] = {}
    for name, value in node["inputs"].items():
        if name not in known:
            continue
        if not is_link(value):
            arguments[name] = [constant(value)]
        elif value[0] in values:
            arguments[name] = values[value[0]].slots[value[1]]
        else:
            arguments[name] = [None]
    for name, kind in catalog.hidden(node["class_type"]).items():
        arguments[name] = [hidden.value(kind)]
    return arguments


def call(function: Callable[..., Any], arguments: Mapping[str, list[Any]], whole_lists: bool) -> list[Any]:
    """Call a function once for each position of the longest list; a shorter list repeats its last value.

    Args:
        function: Function of a node.
        arguments: List of values of each argument.
        whole_lists: INPUT_IS_LIST of the class: one call with the lists themselves.
    Returns:
        list: Result of each call; empty where a list is empty.
    """
    if whole_lists or not arguments:
        return [function(**arguments)]
    lengths = [len(values) for values in arguments.values()]
    count = max(lengths) if min(lengths) else 0
    return [
        function(**{name: values[min(index, len(values) - 1)] for name, values in arguments.items()})
        for index in range(count)
    ]


def merged(node_class: Any, results: list[Any]) -> Outputs:
    """Merge the results of all calls of a node.

    Raises:
        TypeError: A result is not of the shape that the class declares.
    """
    count = len(node_class.RETURN_TYPES)
    is_list = getattr(node_class, "OUTPUT_IS_LIST", (False,) * count)
    slots: list[list[Any]] = [[] for _ in range(count)]
    ui: dict[str, list[Any]] = {}
    for result in results:
        if isinstance(result, Mapping):
            if "expand" in result:
                raise TypeError("it builds a graph of its own while it runs, which works in ComfyUI only")
            for kind, items in result.get("ui", {}).items():
                ui.setdefault(kind, []).extend(items)
            result = result.get("result", () if count == 0 else None)
        if count and (not isinstance(result, (tuple, list)) or len(result) < count):
            raise TypeError(f"it returned {type(result).__name__}; expected a tuple of {count}, one for each output")
        for slot, spread, value in zip(slots, is_list, result or (), strict=False):
            slot.extend(value) if spread else slot.append(value)
    return Outputs(slots, ui)
