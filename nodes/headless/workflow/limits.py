"""Limits of workflows, checked before any subgraph is taken apart: a few lines may stand for billions of nodes."""

from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter

from wuerstchen_core.errors import WorkflowError

from .editor import BYPASSED, MUTED, Document, Node, Subgraph

MAX_NODES = 200_000
"""Most nodes of a workflow, with those of every copy of its subgraphs."""
MAX_LEVELS = 100
"""Most subgraphs inside one another."""
MAX_CHARACTERS = 64 * 2**20
"""Most characters of the ids of all nodes, as the API format joins them."""
MAX_SOCKETS = 1000
"""Most inputs of a node, and most outputs."""


def check_size(document: Document) -> None:
    """Check how many nodes a document makes, with those of every copy of its subgraphs, and how large these are.

    Raises:
        WorkflowError: There are too many nodes or levels, a node is too large, or a subgraph contains itself.
    """
    for graph in (document, *document.definitions.subgraphs):
        for node in graph.nodes:
            if max(len(node.inputs), len(node.outputs)) > MAX_SOCKETS:
                raise WorkflowError(
                    f"Node {node.id} has {len(node.inputs):,} inputs and {len(node.outputs):,} outputs; expected at "
                    f"most {MAX_SOCKETS:,}. Divide it into several nodes."
                )
    subgraphs = {each.id: each for each in document.definitions.subgraphs}
    top = _entered(document.nodes, subgraphs)
    entered: dict[str, list[Node]] = {}
    waiting = list(top)
    while waiting:
        name = waiting.pop().type
        if name not in entered:
            entered[name] = _entered(subgraphs[name].nodes, subgraphs)
            waiting += entered[name]
    try:
        order = list(
            TopologicalSorter({name: [node.type for node in entered[name]] for name in entered}).static_order()
        )
    except CycleError as error:
        name = subgraphs[error.args[1][0]].name
        raise WorkflowError(
            f"Subgraph {name!r} contains itself; expected an end to it. Remove the inner copy in the editor."
        ) from error
    sizes: dict[str, int] = {}
    levels: dict[str, int] = {}
    texts: dict[str, int] = {}
    for name in order:
        nodes, inner = subgraphs[name].nodes, entered[name]
        sizes[name] = min(len(nodes) + sum(sizes[node.type] for node in inner), MAX_NODES + 1)
        levels[name] = 1 + max((levels[node.type] for node in inner), default=0)
        texts[name] = _characters(nodes, inner, sizes, texts)
    check_count(len(document.nodes) + sum(sizes[node.type] for node in top))
    if max((levels[node.type] for node in top), default=0) > MAX_LEVELS:
        raise WorkflowError(
            f"The workflow has more than {MAX_LEVELS} subgraphs inside one another; expected fewer. Unpack some of "
            "them in the editor."
        )
    if _characters(document.nodes, top, sizes, texts) > MAX_CHARACTERS:
        raise WorkflowError(
            f"The ids of all nodes, with those of the subgraphs around them, have more than {MAX_CHARACTERS:,} "
            "characters; expected numbers. Unpack some of the subgraphs in the editor, and save again."
        )


def check_count(nodes: int) -> None:
    """Check a number of nodes. Raises: WorkflowError, where it is too large."""
    if nodes > MAX_NODES:
        raise WorkflowError(
            f"The workflow has more than {MAX_NODES:,} nodes, with those of every copy of its subgraphs; expected "
            "fewer. Divide it into several workflows."
        )


def _entered(nodes: list[Node], subgraphs: Mapping[str, Subgraph]) -> list[Node]:
    """Return the nodes that stand for a subgraph and run."""
    return [node for node in nodes if node.type in subgraphs and node.mode not in (MUTED, BYPASSED)]


def _characters(nodes: list[Node], entered: list[Node], sizes: Mapping[str, int], texts: Mapping[str, int]) -> int:
    """Return the length of all ids in a graph, in which a node inside a subgraph is called "outer:inner"."""
    own = sum(len(str(node.id)) for node in nodes)
    return own + sum(texts[node.type] + sizes[node.type] * (1 + len(str(node.id))) for node in entered)
