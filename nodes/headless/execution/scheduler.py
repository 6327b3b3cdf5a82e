"""Order of one run: every output pulls its ancestors, and each result is freed after its last use.

So the stages need not be in memory together.
"""

import gc
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any

from ..errors import RunError
from ..workflow.catalog import Catalog
from ..workflow.prompt import Prompt, links_of, title_of
from .calls import Hidden, Outputs, arguments_of, call, merged
from .packing import with_tensors

KEPT_TYPES = frozenset({"CONDITIONING", "LATENT", "IMAGE", "MASK", "INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"})
"""Types of the results that are cached. A node that returns any other (a network) runs again when it is needed."""

NodeEvent = Callable[[str, str, dict[str, list[Any]]], None]
"""Called with ("running", "done" or "cached", node id, items that the node shows; none while it is running)."""

Recall = Callable[[str, bool], Outputs | None]
"""Returns the cached result of a node id, or None; the flag allows looking on disk, too."""

Remember = Callable[[str, Outputs], bool]
"""Called with a node id and its new result; returns whether the result is kept after its last use in this run."""


def is_kept(prompt: Prompt, node_id: str, catalog: Catalog) -> bool:
    """Return whether a node's results may be cached."""
    return all(kind in KEPT_TYPES for kind in kinds_of(catalog, prompt[node_id]["class_type"]))


def kinds_of(catalog: Catalog, class_type: str) -> list[str]:
    """Return the types of a class's outputs, each of those that an output of several types may have."""
    return [kind for each in catalog.return_types(class_type) for kind in str(each).split(",")]


def lazy_inputs(catalog: Catalog, class_type: str) -> set[str]:
    """Return the inputs that run only if the node's check_lazy_status asks for them."""
    if not hasattr(catalog.classes[class_type], "check_lazy_status"):
        return set()
    return {name for name, each in catalog.inputs(class_type).items() if each.options.get("lazy")}


@dataclass
class Run:
    """State of one run.

    Attributes:
        prompt: A workflow that `validate` returned.
        catalog: Node classes.
        extra_pnginfo: Metadata for saved files.
        on_node: Called when a node starts, ends, or is a cache hit.
        results: Results that are still needed, by node id.
        waiting: Number of nodes that still need each result.
        depths: Length of the longest path of ancestors of each node.
        instances: Node objects that were created and have not run.
        passing: Ids of nodes whose results are not cached.
    """

    prompt: Prompt
    catalog: Catalog
    extra_pnginfo: Mapping[str, Any] | None
    on_node: NodeEvent
    results: dict[str, Outputs] = field(default_factory=dict)
    waiting: Counter[str] = field(default_factory=Counter)
    depths: dict[str, int] = field(default_factory=dict)
    instances: dict[str, Any] = field(default_factory=dict)
    passing: set[str] = field(default_factory=set)

    def plan(self, outputs: list[str], recall: Recall) -> None:
        """Take cached results, and count for every other node how many nodes need its result."""
        seen: set[str] = set()
        stack = list(outputs)
        while stack:
            node_id = stack.pop()
            if node_id in seen:
                continue
            seen.add(node_id)
            known = recall(node_id, True)
            if known is not None:
                self.results[node_id] = known
                self.on_node("cached", node_id, known.ui)
                continue
            sources = self.sources(node_id)
            self.waiting.update(sources)
            stack += sources
        self.waiting.update(outputs)  # an output is its own last use

    def sources(self, node_id: str) -> list[str]:
        """Return the nodes that a node has links from, each once."""
        return list(dict.fromkeys(link.source for link in links_of(self.prompt, node_id)))

    def pull(self, output: str, recall: Recall, remember: Remember) -> None:
        """Run a node after its ancestors, without recursion: a chain may have any length."""
        stack = [output]
        while stack:
            node_id = stack[-1]
            if node_id in self.results:
                stack.pop()
            elif (known := recall(node_id, False)) is not None:  # an equal node ran meanwhile
                self.results[stack.pop()] = known
                self.on_node("cached", node_id, known.ui)
                self.finish(node_id)
            elif missing := self.missing(node_id):
                stack += sorted(reversed(missing), key=self.depth)
            else:
                self.execute(stack.pop(), remember)

    def depth(self, node_id: str) -> int:
        """Return the length of a node's longest path of ancestors.

        The deepest input runs first, so that loaders run just before their networks are used.
        """
        stack = [node_id]
        while stack:
            top = stack[-1]
            above = [] if top in self.results else self.sources(top)
            unknown = [each for each in above if each not in self.depths]
            if unknown:
                stack += unknown
            else:
                self.depths[stack.pop()] = 1 + max((self.depths[each] for each in above), default=0)
        return self.depths[node_id]

    def missing(self, node_id: str) -> list[str]:
        """Return the nodes that have to run before this one, including lazy inputs that it asks for."""
        lazy = lazy_inputs(self.catalog, self.prompt[node_id]["class_type"])
        links = [link for link in links_of(self.prompt, node_id) if link.source not in self.results]
        eager = [link.source for link in links if link.name not in lazy]
        if eager or not links:
            return _each_once(eager)
        asked = self.guarded(node_id, lambda: self.ask_lazy(node_id))
        return _each_once(link.source for link in links if link.name in asked)

    def ask_lazy(self, node_id: str) -> set[str]:
        """Return the lazy inputs that a node asks for."""
        instance = self.instance(node_id)
        whole_lists = getattr(instance, "INPUT_IS_LIST", False)
        answers = call(instance.check_lazy_status, self.arguments(node_id), whole_lists)
        return {name for answer in answers for name in answer or ()}

    def execute(self, node_id: str, remember: Remember) -> None:
        """Run one node, whose inputs are there."""
        instance = self.instance(node_id)
        self.on_node("running", node_id, {})

        def work() -> Outputs:
            function = getattr(instance, instance.FUNCTION)
            whole_lists = getattr(instance, "INPUT_IS_LIST", False)
            with nullcontext() if _reads_arrays(instance) else _without_gradients():
                return merged(type(instance), call(function, self.arguments(node_id), whole_lists))

        self.results[node_id] = self.guarded(node_id, work)
        del self.instances[node_id]
        if not remember(node_id, self.results[node_id]):
            self.passing.add(node_id)
        self.on_node("done", node_id, self.results[node_id].ui)
        self.finish(node_id)

    def finish(self, node_id: str) -> None:
        """Free the results that no node waits for any more, including those of lazy branches that did not run."""
        dropped: list[Any] = []
        finished = [node_id]
        while finished:
            for source in self.sources(finished.pop()):
                self.waiting[source] -= 1
                if self.waiting[source]:
                    continue
                if source not in self.results:
                    finished.append(source)
                else:
                    if source in self.passing:
                        dropped += _watched(self.results[source])
                    del self.results[source]
        if any(each() is not None for each in dropped):  # held by a reference cycle
            gc.collect()

    def instance(self, node_id: str) -> Any:
        """Return the node object of a node id."""
        if node_id not in self.instances:
            self.instances[node_id] = self.guarded(node_id, self.catalog.classes[self.prompt[node_id]["class_type"]])
        return self.instances[node_id]

    def arguments(self, node_id: str) -> dict[str, list[Any]]:
        """Return the arguments of a node, as lists of values."""
        if not _reads_arrays(self.instance(node_id)):
            for source in self.sources(node_id):
                if source in self.results:
                    self.results[source] = with_tensors(self.results[source])
        hidden = Hidden(self.prompt, self.extra_pnginfo, node_id)
        return arguments_of(self.catalog, self.prompt[node_id], self.results, hidden)

    def guarded(self, node_id: str, work: Callable[[], Any]) -> Any:
        """Call a node's own code, which may raise anything. Raises: RunError that names the node."""
        try:
            return work()
        except Exception as error:
            raise RunError(
                node_id, self.prompt[node_id]["class_type"], title_of(self.prompt, node_id), error
            ) from error


def _reads_arrays(node: Any) -> bool:
    """Return whether a node takes arrays as well as tensors, so that it runs without importing torch for a second."""
    return getattr(node, "READS_ARRAYS", False)


def _without_gradients() -> AbstractContextManager[Any]:
    import torch

    return torch.inference_mode()


def _watched(result: Outputs) -> Iterator[weakref.ref[Any]]:
    for value in (value for slot in result.slots for value in slot):
        with suppress(TypeError):  # a number, or another small thing
            yield weakref.ref(value)


def _each_once(node_ids: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(node_ids))
