"""Bypassed nodes: which input of one stands for an output, as the editor chooses it."""

from typing import Any

from .editor import Node, Socket

_WILDCARD = "*"
_WILDCARDS = (_WILDCARD, "", 0, None)
LONGEST_TYPE = 1000
"""Characters of a type that count. Those of real nodes are much shorter."""


class Bypass:
    """Inputs of a bypassed node, by their types.

    Args:
        node: The node.
    """

    def __init__(self, node: Node) -> None:
        self._inputs = node.inputs
        self._gives = [_type_text(socket.type) for socket in node.outputs]
        self._types = [_type_text(socket.type) for socket in node.inputs]
        self._first: dict[str, int] = {}
        self._places: dict[str, set[int]] = {}
        for place, kind in enumerate(self._types):
            self._first.setdefault(kind, place)
            for each in _kinds(kind):
                self._places.setdefault(each, set()).add(place)
        self._all = set(range(len(self._types)))

    def input_for(self, slot: int, wanted: Any) -> Socket | None:
        """Return the input that stands for an output: the one of the same slot, else the first that fits.

        Args:
            slot: The output, counted from 0.
            wanted: Type of the input that the output feeds.
        """
        there = slot if 0 <= slot < len(self._inputs) else None
        if wanted in (_WILDCARD, ""):
            place = there or 0
        else:
            text = _type_text(wanted)
            place = self._fitting(there, self._gives[slot] if 0 <= slot < len(self._gives) else text, text)
        return self._inputs[place] if place is not None and place < len(self._inputs) else None

    def _fitting(self, there: int | None, gives: str, wanted: str) -> int | None:
        if there is not None and all(_connects(self._types[there], kind) for kind in (gives, wanted)):
            return there
        if wanted in self._first:
            return self._first[wanted]
        return min(self._connected(gives) & self._connected(wanted), default=None)

    def _connected(self, kind: str) -> set[int]:
        """Return the inputs that the editor connects to a type."""
        if kind == _WILDCARD:
            return self._all
        return set().union(*(self._places.get(each, ()) for each in (*_kinds(kind), _WILDCARD)))


def _connects(one: str, other: str) -> bool:
    """Return whether the editor connects these types: equal ones, one of several, or a wildcard."""
    return _WILDCARD in (one, other) or not _kinds(one).isdisjoint(_kinds(other))


def _type_text(kind: Any) -> str:
    """Return the type of a socket as a text, and "*" for all that mean any type."""
    return _WILDCARD if kind in _WILDCARDS else str(kind)[:LONGEST_TYPE]


def _kinds(kind: str) -> set[str]:
    """Return the types that a type of a socket, such as "IMAGE,MASK", names."""
    return {each.strip().casefold() for each in kind.split(",")}
