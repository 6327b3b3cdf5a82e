"""One run of a workflow: every output pulls its ancestors, and each value is let go after its last use.

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
from ..workflow.prompt import links_of
from ..workflow.validate import Prompt, title_of
from .calls import Hidden, Outputs, arguments_of, call, merged
from .packing import with_tensors

KEPT_TYPES = frozenset({"CONDITIONING", "LATENT", "IMAGE", "MASK", "INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"})
"""Types of the values that outlive a run. A node that gives any other (a network) runs again when it is needed."""

NodeEvent = Callable[[str, str, dict[str, list[Any]]], None]
"""Called with ("running", "done" or "cached", node id, what the node shows; nothing while it is running)."""

Recall = Callable[[str, bool], Outputs | None]
"""Gives the known result of a node, or None; the flag says whether to look beyond what is in memory."""

Remember = Callable[[str, Outputs], bool]
"""Called with a node id and its result, just made; says whether it is held beyond its last use in this run."""


def is_kept(prompt: Prompt, node_id: str, catalog: Catalog) -> bool:
    """Whether a node gives values that outlive their last use."""
    return all(kind in KEPT_TYPES for kind in catalog.return_types(prompt[node_id]["class_type"]))


def lazy_inputs(catalog: Catalog, class_type: str) -> set[str]:
    """The inputs that a node is asked about before what they are linked to runs."""
    if not hasattr(catalog.classes[class_type], "check_lazy_status"):
        return set()
    return {name for name, each in catalog.inputs(class_type).items() if each.options.get("lazy")}


@dataclass
class Run:
    """One run: which values are there, and how many nodes still wait for each."""

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
        """Take what is remembered, and count for every other node how many need its value."""
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
        """The nodes that a node takes anything from, each once."""
        return list(dict.fromkeys(link.source for link in links_of(self.prompt, node_id)))

    def pull(self, output: str, recall: Recall, remember: Remember) -> None:
        """Run a node after all that it needs, without recursion: a chain may be of any length."""
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
        """The longest way up from a node. The deepest input is run first: loaders then run just before their use."""
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
        """The nodes that have to run before this one; lazy inputs among them only when the node asks."""
        lazy = lazy_inputs(self.catalog, self.prompt[node_id]["class_type"])
        links = [link for link in links_of(self.prompt, node_id) if link.source not in self.results]
        eager = [link.source for link in links if link.name not in lazy]
        if eager or not links:
            return _each_once(eager)
        asked = self.guarded(node_id, lambda: self.ask_lazy(node_id))
        return _each_once(link.source for link in links if link.name in asked)

    def ask_lazy(self, node_id: str) -> set[str]:
        instance = self.instance(node_id)
        whole_lists = getattr(instance, "INPUT_IS_LIST", False)
        answers = call(instance.check_lazy_status, self.arguments(node_id), whole_lists)
        return {name for answer in answers for name in answer or ()}

    def execute(self, node_id: str, remember: Remember) -> None:
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
        """Let go of the values that nothing waits for any more, those of lazy branches that never ran among them."""
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
        if any(each() is not None for each in dropped):  # held by a circle of references
            gc.collect()

    def instance(self, node_id: str) -> Any:
        if node_id not in self.instances:
            self.instances[node_id] = self.guarded(node_id, self.catalog.classes[self.prompt[node_id]["class_type"]])
        return self.instances[node_id]

    def arguments(self, node_id: str) -> dict[str, list[Any]]:
        instance = self.instance(node_id)
        if not _reads_arrays(instance):
            for source in self.sources(node_id):
                if source in self.results:
                    self.results[source] = with_tensors(self.results[source])
        hidden = Hidden(self.prompt, self.extra_pnginfo, node_id)
        return arguments_of(type(instance), self.prompt[node_id]["inputs"], self.results, hidden)

    def guarded(self, node_id: str, work: Callable[[], Any]) -> Any:
        """Do a node's own work, which may raise anything, and say which node it was."""
        try:
            return work()
        except Exception as error:
            raise RunError(
                node_id, self.prompt[node_id]["class_type"], title_of(self.prompt, node_id), error
            ) from error


def _reads_arrays(node: Any) -> bool:
    """Whether a node takes arrays as well as tensors. Running one needs no torch, which takes a second to import."""
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
