"""Bypassed nodes: which input of one stands for an output, as the editor chooses it."""

from typing import Any

from .editor import Node, Socket

_WILDCARD = "*"
_WILDCARDS = (_WILDCARD, "", 0, None)


class Bypass:
    """Inputs of a bypassed node, by their types.

    Args:
        node: The node.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._types = [_type_text(socket.type) for socket in node.inputs]
        self._first: dict[str, int] = {}
        self._places: dict[str, set[int]] = {}
        for place, kind in enumerate(self._types):
            self._first.setdefault(kind, place)
            for each in _kinds(kind):
                self._places.setdefault(each, set()).add(place)

    def input_for(self, slot: int, wanted: Any) -> Socket | None:
        """Return the input that stands for an output: the one of the same slot, else the first that fits.

        Args:
            slot: The output, counted from 0.
            wanted: Type of the input that the output feeds.
        """
        inputs, outputs = self._node.inputs, self._node.outputs
        there = slot if 0 <= slot < len(inputs) else None
        if wanted in ("*", ""):
            place = there or 0
        else:
            gives = _type_text(outputs[slot].type if 0 <= slot < len(outputs) else wanted)
            place = self._fitting(there, gives, _type_text(wanted))
        return inputs[place] if place is not None and place < len(inputs) else None

    def _fitting(self, there: int | None, gives: str, wanted: str) -> int | None:
        fitting = self._compatible(gives) & self._compatible(wanted)
        if there in fitting:
            return there
        return self._first[wanted] if wanted in self._first else min(fitting, default=None)

    def _compatible(self, kind: str) -> set[int]:
        """Return the inputs that the editor connects to a type: of an equal one, of one of several, or of any."""
        if kind == _WILDCARD:
            return set(range(len(self._types)))
        found = [self._places.get(each, set()) for each in (*_kinds(kind), _WILDCARD)]
        return found[0].union(*found[1:])


def _type_text(kind: Any) -> str:
    """Return the type of a socket as a text, and "*" for all that mean any type."""
    return _WILDCARD if kind in _WILDCARDS else str(kind)


def _kinds(kind: str) -> set[str]:
    """Return the types that a type of a socket, such as "IMAGE,MASK", names."""
    return {each.strip().casefold() for each in kind.split(",")}
