"""Prompts, which are workflows in the API format: their node ids, titles and links."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

Prompt = dict[str, dict[str, Any]]
"""{node id: {"class_type": str, "inputs": {name: value or [node id, output]}, "_meta": {"title": str}}}."""


class Link(NamedTuple):
    """A link into a node.

    Attributes:
        name: Input that the link feeds.
        source: Id of the node that it comes from.
        slot: Output of that node, counted from 0.
    """

    name: str
    source: str
    slot: int


def is_link(value: Any) -> bool:
    """Return whether an input's value is [node id, output] rather than a constant."""
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and type(value[1]) is int


def constant(value: Any) -> Any:
    """Return an input's value without the wrapper that distinguishes a list from a link."""
    return value["__value__"] if isinstance(value, Mapping) and "__value__" in value else value


def wrapped(value: Any) -> Any:
    """Wrap a list, so that it is not taken for a link. The opposite of `constant`."""
    return {"__value__": value} if isinstance(value, list) else value


def title_of(prompt: Mapping[str, Any], node_id: str) -> str:
    """Return the title that a person gave the node, or its class."""
    node = prompt[node_id]
    meta = node.get("_meta")
    title = meta.get("title") if isinstance(meta, Mapping) else None
    return title if isinstance(title, str) and title else node["class_type"]


def links_of(prompt: Mapping[str, Any], node_id: str) -> list[Link]:
    """Return the links into a node, in the order of its inputs. Links from nodes that are missing are left out."""
    return [
        Link(name, value[0], value[1])
        for name, value in prompt[node_id]["inputs"].items()
        if is_link(value) and value[0] in prompt
    ]


def copied(value: Any) -> Any:
    """Return a copy of a JSON value, ten times as fast as `copy.deepcopy`."""
    if isinstance(value, dict):
        return {key: copied(each) for key, each in value.items()}
    return [copied(each) for each in value] if isinstance(value, list) else value


def ancestors(prompt: Mapping[str, Any], roots: Iterable[str]) -> set[str]:
    """Return the ids of the roots and of every node that they depend on."""
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        node_id = waiting.pop()
        if node_id not in found:
            found.add(node_id)
            waiting += [link.source for link in links_of(prompt, node_id)]
    return found
