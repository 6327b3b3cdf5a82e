"""Links between the nodes of a workflow in the API format."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple


class Link(NamedTuple):
    """Input `name` takes output `slot` of node `source`."""

    name: str
    source: str
    slot: int


def is_link(value: Any) -> bool:
    """Whether an input's value is [node id, slot] rather than a constant."""
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and type(value[1]) is int


def constant(value: Any) -> Any:
    """An input's value without the wrapping that tells a list from a link."""
    return value["__value__"] if isinstance(value, Mapping) and "__value__" in value else value


def wrapped(value: Any) -> Any:
    """The opposite of `constant`: a list, told from a link."""
    return {"__value__": value} if isinstance(value, list) else value


def links_of(prompt: Mapping[str, Any], node_id: str) -> list[Link]:
    """The links into a node whose other end is in the workflow, in the order of its inputs."""
    return [
        Link(name, value[0], value[1])
        for name, value in prompt[node_id]["inputs"].items()
        if is_link(value) and value[0] in prompt
    ]


def ancestors(prompt: Mapping[str, Any], roots: Iterable[str]) -> set[str]:
    """The roots and all that they need."""
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        node_id = waiting.pop()
        if node_id not in found:
            found.add(node_id)
            waiting += [link.source for link in links_of(prompt, node_id)]
    return found
