"""Calling one node: its arguments, the mapping over lists, and what it returns."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..workflow.catalog import input_types
from ..workflow.prompt import constant, is_link


@dataclass(frozen=True)
class Outputs:
    """What a node gave. slots: for each output slot the list of its values. ui: what it shows, {kind: [items]}."""

    slots: list[list[Any]]
    ui: dict[str, list[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Hidden:
    """What a node may ask for beside its inputs: PROMPT, DYNPROMPT, EXTRA_PNGINFO and UNIQUE_ID."""

    prompt: Mapping[str, Any]
    extra_pnginfo: Mapping[str, Any] | None
    node_id: str

    def value(self, kind: str) -> Any:
        kinds = {
            "PROMPT": self.prompt,
            "DYNPROMPT": self.prompt,
            "EXTRA_PNGINFO": self.extra_pnginfo,
            "UNIQUE_ID": self.node_id,
        }
        return kinds.get(kind)


def arguments_of(
    node_class: Any, inputs: Mapping[str, Any], values: Mapping[str, Outputs], hidden: Hidden
) -> dict[str, list[Any]]:
    """Each argument as the list of its values; [None] for a link whose value is not there (yet)."""
    declared = input_types(node_class)
    known = {**declared.get("required", {}), **declared.get("optional", {})}
    arguments: dict[str, list[Any]] = {}
    for name, value in inputs.items():
        if name not in known:
            continue
        if not is_link(value):
            arguments[name] = [constant(value)]
        elif value[0] in values:
            arguments[name] = values[value[0]].slots[value[1]]
        else:
            arguments[name] = [None]
    for name, kind in declared.get("hidden", {}).items():
        arguments[name] = [hidden.value(kind if isinstance(kind, str) else kind[0])]
    return arguments


def call(function: Callable[..., Any], arguments: Mapping[str, list[Any]], whole_lists: bool) -> list[Any]:
    """Call once for each position of the longest list; a shorter one repeats its last value.

    Args:
        whole_lists: the class's INPUT_IS_LIST: one call, which is given the lists.
    Returns:
        list: one result a call; none where a list is empty.
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
    """The results of all calls of a node as one.

    Raises:
        TypeError: a result is not what the class declares.
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
            raise TypeError(f"it returned {type(result).__name__}; expected a tuple of {count}, one an output")
        for slot, spread, value in zip(slots, is_list, result or (), strict=False):
            slot.extend(value) if spread else slot.append(value)
    return Outputs(slots, ui)
