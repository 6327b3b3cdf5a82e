"""Limits of workflows, checked before any subgraph is taken apart: a few lines may stand for billions of nodes."""

from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter

from wuerstchen_core.errors import WorkflowError

from .editor import BYPASSED, MUTED, Document, Node, Subgraph

MAX_NODES = 200_000
"""Most nodes of a workflow, with those of every copy of its subgraphs."""
MAX_LEVELS = 100
"""Most subgraphs inside one another."""
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
    entered: dict[str, list[str]] = {}
    waiting = list(top)
    while waiting:
        name = waiting.pop()
        if name not in entered:
            entered[name] = _entered(subgraphs[name].nodes, subgraphs)
            waiting += entered[name]
    try:
        order = list(TopologicalSorter(entered).static_order())
    except CycleError as error:
        name = subgraphs[error.args[1][0]].name
        raise WorkflowError(
            f"Subgraph {name!r} contains itself; expected an end to it. Remove the inner copy in the editor."
        ) from error
    sizes: dict[str, int] = {}
    levels: dict[str, int] = {}
    for name in order:
        size = len(subgraphs[name].nodes) + sum(sizes[inner] for inner in entered[name])
        sizes[name] = min(size, MAX_NODES + 1)
        levels[name] = 1 + max((levels[inner] for inner in entered[name]), default=0)
    check_count(len(document.nodes) + sum(sizes[inner] for inner in top))
    if max((levels[inner] for inner in top), default=0) > MAX_LEVELS:
        raise WorkflowError(
            f"The workflow has more than {MAX_LEVELS} subgraphs inside one another; expected fewer. Unpack some of "
            "them in the editor."
        )


def check_count(nodes: int) -> None:
    """Check a number of nodes. Raises: WorkflowError, where it is too large."""
    if nodes > MAX_NODES:
        raise WorkflowError(
            f"The workflow has more than {MAX_NODES:,} nodes, with those of every copy of its subgraphs; expected "
            "fewer. Divide it into several workflows."
        )


def _entered(nodes: list[Node], subgraphs: Mapping[str, Subgraph]) -> list[str]:
    """Return the subgraph of each node that stands for one and runs."""
    return [node.type for node in nodes if node.type in subgraphs and node.mode not in (MUTED, BYPASSED)]
