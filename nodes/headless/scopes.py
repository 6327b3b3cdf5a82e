"""Following links through all that exists in the editor alone: reroutes, primitives, bypassed nodes, subgraphs."""

from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

from wuerstchen_core.errors import WorkflowError

from .editor import BYPASSED, MUTED, Document, Link, Node, NodeId, Subgraph
from .errors import describe

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
                continue
            node = scope._origin(link)
            if node.mode == MUTED:
                return CUT
            if node.mode == BYPASSED:
                following = _passed_through(node, link.origin_slot, wanted)
            elif node.type == _REROUTE:
                following = _link_at(node, 0)
            elif node.type == _PRIMITIVE:
                values = node.widgets_values
                first = list(values.values())[:1] if isinstance(values, dict) else (values or [])[:1]
                return Constant(first[0]) if first else None
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


def _passed_through(node: Node, slot: int, wanted: Any) -> int | None:
    """The link that a bypassed node puts in place of its output: the same slot's if the type fits, else the first."""
    at_slot = node.inputs[slot : slot + 1] if slot >= 0 else []
    for kinds in ((wanted,), _WILDCARDS):
        for socket in [*at_slot, *node.inputs]:
            if socket.type in kinds:
                return socket.link
    return None
