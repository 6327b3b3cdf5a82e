"""Resolve links through nodes that exist in the editor only: reroutes, primitives, bypassed nodes and subgraphs."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any, Literal

from wuerstchen_core.errors import WorkflowError

from ..errors import describe
from .bypass import LONGEST_TYPE, Bypass
from .editor import BYPASSED, MUTED, Document, Link, Node, NodeId
from .limits import check_size

_NOTES = frozenset({"Note", "MarkdownNote"})
_REROUTE, _PRIMITIVE = "Reroute", "PrimitiveNode"
_SUBGRAPH_INPUT, _SUBGRAPH_OUTPUT = -10, -20
"""Ids of a subgraph's own boundary inside it."""


@dataclass(frozen=True)
class Output:
    """Output of a node that runs.

    Attributes:
        node_id: Id of the node in the API format.
        slot: Output of the node, counted from 0.
    """

    node_id: str
    slot: int


@dataclass(frozen=True)
class Constant:
    """Value of a primitive node."""

    value: Any


class _Cut(Enum):
    CUT = "cut"


CUT = _Cut.CUT
"""Result for a link from a muted node: the input that it feeds is left out, with the value of its field."""


def is_virtual(node: Node) -> bool:
    """Return whether the node exists in the editor only."""
    return node.type in _NOTES or node.type in (_REROUTE, _PRIMITIVE)


class Graph:
    """Nodes and links of the workflow or of a subgraph, by their ids; every copy of a subgraph shares them.

    Args:
        nodes: Nodes of the graph.
        links: Links of the graph.
    Attributes:
        twice: Id that two nodes have; None if there is none.
    """

    def __init__(self, nodes: list[Node], links: list[Link]) -> None:
        self.nodes: dict[NodeId, Node] = {node.id: node for node in nodes}
        self.links = {link.id: link for link in links}
        self._bypasses: dict[NodeId, Bypass] = {}
        self.twice: NodeId | None = None
        if len(self.nodes) < len(nodes):
            self.twice = next(each for each, times in Counter(node.id for node in nodes).items() if times > 1)

    @cached_property
    def to_output(self) -> dict[int, int]:
        """Id of the link to each output of a subgraph, by its slot."""
        ends = ((link.target_slot, link.id) for link in self.links.values() if link.target_id == _SUBGRAPH_OUTPUT)
        return dict(reversed(list(ends)))  # the first of several counts

    def bypass(self, node: Node) -> Bypass:
        """Return how a bypassed node passes its inputs through."""
        if node.id not in self._bypasses:
            self._bypasses[node.id] = Bypass(node)
        return self._bypasses[node.id]


class Scope:
    """One graph: the workflow itself, or one copy of a subgraph.

    Args:
        graph: Its nodes and links.
        subgraphs: Graphs of the subgraphs that the document defines, by id.
        prefix: Beginning of the ids of its nodes: "" at the top, "12:" inside node 12.
        outer: Scope and node that this graph is inside; None at the top.
    Raises:
        WorkflowError: Two nodes have the same id.
    """

    def __init__(
        self,
        graph: Graph,
        subgraphs: Mapping[str, Graph],
        prefix: str = "",
        outer: tuple["Scope", Node] | None = None,
    ) -> None:
        self.nodes, self.links = graph.nodes, graph.links
        self.subgraphs = subgraphs
        self.prefix = prefix
        self.outer = outer
        self._graph = graph
        self._inside: dict[NodeId, Scope] = {}
        self._ends: dict[tuple[int, str], _End] = {}
        self._rerouted: dict[int, int | None] = {}
        if graph.twice is not None:
            raise WorkflowError(f"Two nodes have the id {prefix}{graph.twice}; expected one each. Save the file again.")

    @classmethod
    def top(cls, document: Document) -> "Scope":
        """Return the scope of the whole document.

        Raises:
            WorkflowError: A subgraph contains itself, or subgraphs make too many nodes.
        """
        check_size(document)
        subgraphs = {each.id: Graph(each.nodes, each.links) for each in document.definitions.subgraphs}
        return cls(Graph(document.nodes, document.links), subgraphs)

    def inside(self, node: Node) -> "Scope":
        """Return the scope inside a subgraph node."""
        if node.id not in self._inside:
            graph = self.subgraphs[node.type]
            self._inside[node.id] = Scope(graph, self.subgraphs, f"{self.path_of(node)}:", (self, node))
        return self._inside[node.id]

    def path_of(self, node: Node) -> str:
        """Return the id of a node in the API format."""
        return f"{self.prefix}{node.id}"

    def source(self, link_id: int, wanted: Any) -> Output | Constant | Literal[_Cut.CUT] | None:
        """Resolve a link to its real source through reroutes, bypassed nodes and subgraphs.

        Args:
            link_id: Id of the link in this scope.
            wanted: Type of the input that it feeds, by which a bypassed node selects the input that it passes through.
        Returns:
            Output of a node that runs, a constant, CUT, or None where the link leads nowhere (an unplugged reroute, a
            bypassed node without an input of that type).
        Raises:
            WorkflowError: The link or its first node is not in the file, or reroutes form a cycle.
        """
        found = self._end(link_id, wanted)
        if isinstance(found, _Primitive):  # it gives its value to fields that are linked to it directly
            return _constant(found.node) if found.scope is self and found.link == link_id else None
        return found

    def _end(self, link_id: int, wanted: Any) -> "_End":
        """Follow a link to its end. The ends of all links on the way are remembered."""
        way: list[tuple[Scope, tuple[int, str]]] = []
        seen: set[tuple[str, tuple[int, str]]] = set()
        step: _Step = self, link_id, wanted
        kind = _key_of(wanted)
        while True:
            scope, following, now_wanted = step
            if now_wanted is not wanted:
                wanted, kind = now_wanted, _key_of(now_wanted)
            beyond = scope._past_reroutes(following)
            if beyond is None:
                end = None
                break
            key = (beyond, kind)
            if key in scope._ends:
                end = scope._ends[key]
                break
            if (scope.prefix, key) in seen:
                raise _circle(beyond)
            seen.add((scope.prefix, key))
            way.append((scope, key))
            found = scope._behind(beyond, wanted)
            if not isinstance(found, tuple):
                end = found
                break
            step = found
        for scope, key in way:
            scope._ends[key] = end
        return end

    def _past_reroutes(self, link_id: int) -> int | None:
        """Return the link into the first of a row of reroutes; None where nothing is plugged into it."""
        way: dict[int, None] = {}
        at: int | None = link_id
        while at is not None and at not in self._rerouted:
            if at in way:
                raise _circle(at)
            node = self.nodes.get(self._link(at).origin_id)
            if node is None or node.type != _REROUTE or node.mode == BYPASSED:
                break
            way[at] = None
            at = _link_at(node, 0)
        end = None if at is None else self._rerouted.get(at, at)
        self._rerouted.update(dict.fromkeys(way, end))
        return end

    def _behind(self, link_id: int, wanted: Any) -> "_Step | _End":
        """Return the next link on the way to the source of one that leaves no reroute, or its end."""
        link = self._link(link_id)
        if link.origin_id == _SUBGRAPH_INPUT and self.outer is not None:
            outside, container = self.outer
            beyond = _link_at(container, link.origin_slot)
            if beyond is None:
                return self._shown_values.get(link.origin_slot)
            return outside, beyond, container.inputs[link.origin_slot].type
        node = self._origin(link)
        if node.type == _PRIMITIVE:
            return _Primitive(node, self, link_id)
        if node.mode == BYPASSED:
            socket = self._graph.bypass(node).input_for(link.origin_slot, wanted)
            return None if socket is None or socket.link is None else (self, socket.link, socket.type)
        if node.mode == MUTED:
            return CUT
        if node.type in self.subgraphs:
            inner = self.inside(node)
            beyond = inner._graph.to_output.get(link.origin_slot)
            return None if beyond is None else (inner, beyond, wanted)
        return Output(self.path_of(node), link.origin_slot)

    @cached_property
    def _shown_values(self) -> dict[int, Constant]:
        """Value of each field that the node around this subgraph shows, by the input that it belongs to."""
        container = self.outer[1] if self.outer is not None else None
        if container is None or not isinstance(container.widgets_values, list):
            return {}
        fields = [slot for slot, socket in enumerate(container.inputs) if socket.widget is not None]
        return {slot: Constant(value) for slot, value in zip(fields, container.widgets_values, strict=False)}

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


@dataclass(frozen=True)
class _Primitive:
    """Primitive node at the end of a link.

    Attributes:
        node: The node.
        scope: Scope of the node.
        link: Id of the link that leaves it.
    """

    node: Node
    scope: Scope
    link: int


_End = Output | Constant | _Primitive | Literal[_Cut.CUT] | None
"""Source or value at the end of a link."""
_Step = tuple[Scope, int, Any]
"""Scope and id of a link, and the type that is wanted of it."""


def _key_of(wanted: Any) -> str:
    """Return a text for the type that is wanted of a link, short as types are."""
    return repr(wanted)[:LONGEST_TYPE]


def _circle(link_id: int) -> WorkflowError:
    return WorkflowError(
        f"Link {link_id} leads back to itself through reroutes or bypassed nodes; expected a source. Unplug it in the "
        "editor."
    )


def _link_at(node: Node, slot: int) -> int | None:
    return node.inputs[slot].link if 0 <= slot < len(node.inputs) else None


def _constant(primitive: Node) -> Constant | None:
    """Return the value that a primitive gives to a field linked to it directly, as the page does."""
    values = primitive.widgets_values
    first = list(values.values())[:1] if isinstance(values, dict) else (values or [])[:1]
    return Constant(first[0]) if first else None
