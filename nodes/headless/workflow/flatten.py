"""Following links through all that exists in the editor alone: reroutes, primitives, bypassed nodes, subgraphs."""

from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

from wuerstchen_core.errors import WorkflowError

from ..errors import describe
from .editor import BYPASSED, MUTED, Document, Link, Node, NodeId, Socket, Subgraph

_NOTES = frozenset({"Note", "MarkdownNote"})
_REROUTE, _PRIMITIVE = "Reroute", "PrimitiveNode"
_SUBGRAPH_INPUT, _SUBGRAPH_OUTPUT = -10, -20
"""The ids that a subgraph's own boundary has inside it."""
_WILDCARDS = ("*", "", 0, None)


@dataclass(frozen=True)
class Output:
    """An output slot of a node that runs."""

    node_id: str
    slot: int


@dataclass(frozen=True)
class Constant:
    """The value of a primitive node."""

    value: Any


class _Cut(Enum):
    CUT = "cut"


CUT = _Cut.CUT
"""A link that comes from a muted node: the input it feeds is left out, its own field included."""


def is_virtual(node: Node) -> bool:
    """Whether the node exists in the editor alone."""
    return node.type in _NOTES or node.type in (_REROUTE, _PRIMITIVE)


class Scope:
    """One graph: the workflow itself, or one copy of a subgraph.

    Args:
        prefix: what the ids of its nodes begin with: "" at the top, "12:" inside node 12.
        outer: the graph and the node that this one is inside.
    """

    def __init__(
        self,
        nodes: list[Node],
        links: list[Link],
        subgraphs: dict[str, Subgraph],
        prefix: str = "",
        outer: tuple["Scope", Node] | None = None,
    ) -> None:
        self.nodes: dict[NodeId, Node] = {node.id: node for node in nodes}
        self.links = {link.id: link for link in links}
        self.subgraphs = subgraphs
        self.prefix = prefix
        self.outer = outer
        if len(self.nodes) < len(nodes):
            ids = [node.id for node in nodes]
            twice = next(each for each in ids if ids.count(each) > 1)
            raise WorkflowError(f"Two nodes have the id {prefix}{twice}; expected one each. Save the file again.")

    @classmethod
    def top(cls, document: Document) -> "Scope":
        subgraphs = {subgraph.id: subgraph for subgraph in document.definitions.subgraphs}
        return cls(document.nodes, document.links, subgraphs)

    def inside(self, node: Node) -> "Scope":
        """The graph inside a subgraph node.

        Raises:
            WorkflowError: it contains itself.
        """
        scope: Scope | None = self
        while scope is not None and scope.outer is not None:
            scope, container = scope.outer
            if container.type == node.type:
                raise WorkflowError(
                    f"Subgraph {self.subgraphs[node.type].name!r} (node {self.path_of(node)}) contains itself; "
                    "expected an end to it. Remove the inner copy in the editor."
                )
        subgraph = self.subgraphs[node.type]
        return Scope(subgraph.nodes, subgraph.links, self.subgraphs, f"{self.path_of(node)}:", (self, node))

    def path_of(self, node: Node) -> str:
        """The id that a node has in the API format."""
        return f"{self.prefix}{node.id}"

    def source(self, link_id: int, wanted: Any) -> Output | Constant | Literal[_Cut.CUT] | None:
        """What a link brings, in the end.

        Args:
            wanted: the type of the socket that asks, by which a bypassed node picks what it lets through.
        Returns:
            None where the link leads nowhere (an unplugged reroute, a bypassed node with nothing of that type).
        Raises:
            WorkflowError: the link, or the node it begins at, is not in the file; reroutes run in a circle.
        """
        scope: Scope = self
        seen: set[tuple[str, int]] = set()
        following: int | None = link_id
        while following is not None:
            if (scope.prefix, following) in seen:
                raise WorkflowError(
                    f"Link {following} leads back to itself through reroutes or bypassed nodes; expected a source. "
                    "Unplug it in the editor."
                )
            seen.add((scope.prefix, following))
            link = scope._link(following)
            if link.origin_id == _SUBGRAPH_INPUT and scope.outer is not None:
                scope, container = scope.outer
                following = _link_at(container, link.origin_slot)
                if following is None:
                    return _shown_value(container, link.origin_slot)
                wanted = container.inputs[link.origin_slot].type
                continue
            node = scope._origin(link)
            if node.type == _PRIMITIVE:
                return _constant(node) if scope is self and following == link_id else None
            if node.mode == BYPASSED:
                socket = _passed_through(node, link.origin_slot, wanted)
                following, wanted = (socket.link, socket.type) if socket else (None, wanted)
            elif node.type == _REROUTE:
                following = _link_at(node, 0)
            elif node.mode == MUTED:
                return CUT
            elif node.type in scope.subgraphs:
                scope = scope.inside(node)
                following = scope._link_to_output(link.origin_slot)
            else:
                return Output(scope.path_of(node), link.origin_slot)
        return None

    def _link(self, link_id: int) -> Link:
        if link_id not in self.links:
            users = [self.path_of(node) for node in self.nodes.values() if any(s.link == link_id for s in node.inputs)]
            raise WorkflowError(
                f"Node {', '.join(users) or '?'} has an input on link {link_id}, which is not in the file's links. "
                "Connect it again in the editor, and save."
            )
        return self.links[link_id]

    def _origin(self, link: Link) -> Node:
        if link.origin_id not in self.nodes:
            target = self.nodes.get(link.target_id)
            user = describe(self.path_of(target), target.type, target.title) if target else f"{link.target_id}"
            raise WorkflowError(
                f"Link {link.id} to node {user} begins at node {self.prefix}{link.origin_id}, which is not in the "
                "file. Connect the input again in the editor, and save."
            )
        return self.nodes[link.origin_id]

    def _link_to_output(self, slot: int) -> int | None:
        to_output = (link for link in self.links.values() if link.target_id == _SUBGRAPH_OUTPUT)
        return next((link.id for link in to_output if link.target_slot == slot), None)


def _link_at(node: Node, slot: int) -> int | None:
    return node.inputs[slot].link if 0 <= slot < len(node.inputs) else None


def _constant(primitive: Node) -> Constant | None:
    """What a primitive puts into a field that is linked to it; the page looks at no longer way."""
    values = primitive.widgets_values
    first = list(values.values())[:1] if isinstance(values, dict) else (values or [])[:1]
    return Constant(first[0]) if first else None


def _shown_value(container: Node, slot: int) -> Constant | None:
    """The value of a field that a subgraph's node shows for one of its inputs."""
    fields = [index for index, socket in enumerate(container.inputs) if socket.widget is not None]
    values = container.widgets_values
    if slot not in fields or not isinstance(values, list) or fields.index(slot) >= len(values):
        return None
    return Constant(values[fields.index(slot)])


def _passed_through(node: Node, slot: int, wanted: Any) -> Socket | None:
    """The input that a bypassed node puts in place of its output: that of the same slot, else the first that fits."""
    there = node.inputs[slot] if 0 <= slot < len(node.inputs) else None
    if wanted in ("*", ""):
        return there or next(iter(node.inputs), None)
    gives = node.outputs[slot].type if 0 <= slot < len(node.outputs) else wanted

    def fits(socket: Socket) -> bool:
        return _compatible(socket.type, gives) and _compatible(socket.type, wanted)

    if there is not None and fits(there):
        return there
    same = (socket for socket in node.inputs if socket.type == wanted)
    return next(same, None) or next((socket for socket in node.inputs if fits(socket)), None)


def _compatible(one: Any, other: Any) -> bool:
    """Whether the editor connects sockets of these types: equal ones, any of several, or one that takes all."""
    if one in _WILDCARDS or other in _WILDCARDS:
        return True
    kinds = [{kind.strip().casefold() for kind in str(each).split(",")} for each in (one, other)]
    return bool(kinds[0] & kinds[1])
