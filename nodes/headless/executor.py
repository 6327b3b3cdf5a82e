"""Running a validated workflow in this process, with the semantics of ComfyUI's own executor.

Outputs pull their ancestors. A value is let go after its last use, so the stages need not be in memory together; what
is small (pictures, latents, texts, numbers) is kept for the next run of the same executor, under its signature.
"""

import gc
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from .calls import Hidden, Outputs, arguments_of, call, merged
from .catalog import Catalog
from .errors import RunError
from .graph import ancestors, links_of
from .signatures import signatures
from .validate import Prompt, title_of

KEPT_TYPES = frozenset({"CONDITIONING", "LATENT", "IMAGE", "MASK", "INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"})
"""Types of the values that outlive a run. A node that gives any other (a network) runs again when it is needed."""

NodeEvent = Callable[[str, str, dict[str, list[Any]]], None]
"""Called with ("running", "done" or "cached", node id, what the node shows; nothing while it is running)."""


class Executor:
    """Runs workflows one after the other, and does again only what changed.

    Args:
        catalog: the node classes.
    """

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self._kept: dict[str, Outputs] = {}

    def run(
        self,
        prompt: Prompt,
        *,
        extra_pnginfo: Mapping[str, Any] | None = None,
        on_node: NodeEvent | None = None,
    ) -> dict[str, dict[str, list[Any]]]:
        """Run every output node.

        Args:
            prompt: what `validate` returned.
            extra_pnginfo: what nodes that save write beside the prompt, as {"workflow": the editor's document}.
            on_node: told of each node.
        Returns:
            {output node id: what it shows, such as {"images": [{"filename", "subfolder", "type"}]}}.
        Raises:
            RunError: a node failed. What earlier outputs saved stays.
        """
        outputs = [node_id for node_id, node in prompt.items() if self.catalog.is_output(node["class_type"])]
        signature = signatures(prompt, ancestors(prompt, outputs), self.catalog, extra_pnginfo)
        kept = {node_id: self._kept[key] for node_id, key in signature.items() if key in self._kept}
        run = _Run(prompt, self.catalog, extra_pnginfo, on_node or (lambda state, node_id, ui: None))
        run.plan(outputs, kept)
        try:
            with torch.inference_mode():
                for node_id in outputs:
                    run.pull(node_id)
        finally:
            kept.update((node_id, value) for node_id, value in run.results.items() if run.is_kept(node_id))
            self._kept = {signature[node_id]: value for node_id, value in kept.items()}
        return {node_id: run.results[node_id].ui for node_id in outputs}


@dataclass
class _Run:
    """One run: which values are there, and how many nodes still wait for each."""

    prompt: Prompt
    catalog: Catalog
    extra_pnginfo: Mapping[str, Any] | None
    on_node: NodeEvent
    results: dict[str, Outputs] = field(default_factory=dict)
    waiting: Counter[str] = field(default_factory=Counter)
    depths: dict[str, int] = field(default_factory=dict)
    instances: dict[str, Any] = field(default_factory=dict)

    def plan(self, outputs: list[str], kept: Mapping[str, Outputs]) -> None:
        """Take what is kept, and count for every other node how many need its value."""
        seen: set[str] = set()
        stack = list(outputs)
        while stack:
            node_id = stack.pop()
            if node_id in seen:
                continue
            seen.add(node_id)
            if node_id in kept:
                self.results[node_id] = kept[node_id]
                self.on_node("cached", node_id, kept[node_id].ui)
                continue
            sources = self.sources(node_id)
            self.waiting.update(sources)
            stack += sources
        self.waiting.update(outputs)  # an output is its own last use

    def sources(self, node_id: str) -> list[str]:
        """The nodes that a node takes anything from, each once."""
        return list(dict.fromkeys(link.source for link in links_of(self.prompt, node_id)))

    def is_kept(self, node_id: str) -> bool:
        return all(kind in KEPT_TYPES for kind in self.catalog.return_types(self.prompt[node_id]["class_type"]))

    def pull(self, output: str) -> None:
        """Run a node after all that it needs, without recursion: a chain may be of any length."""
        stack = [output]
        while stack:
            node_id = stack[-1]
            if node_id in self.results:
                stack.pop()
            elif missing := self.missing(node_id):
                stack += sorted(reversed(missing), key=self.depth)
            else:
                self.execute(stack.pop())

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
        declared = self.catalog.inputs(self.prompt[node_id]["class_type"])
        instance = self.instance(node_id)
        lazy = {name for name, each in declared.items() if each.options.get("lazy")}
        lazy = lazy if hasattr(instance, "check_lazy_status") else set()
        links = [link for link in links_of(self.prompt, node_id) if link.source not in self.results]
        eager = [link.source for link in links if link.name not in lazy]
        if eager or not links:
            return _each_once(eager)
        asked = self.guarded(node_id, lambda: self.ask_lazy(node_id, instance))
        return _each_once(link.source for link in links if link.name in asked)

    def ask_lazy(self, node_id: str, instance: Any) -> set[str]:
        whole_lists = getattr(instance, "INPUT_IS_LIST", False)
        answers = call(instance.check_lazy_status, self.arguments(node_id), whole_lists)
        return {name for answer in answers for name in answer or ()}

    def execute(self, node_id: str) -> None:
        instance = self.instance(node_id)
        self.on_node("running", node_id, {})

        def work() -> Outputs:
            function = getattr(instance, instance.FUNCTION)
            whole_lists = getattr(instance, "INPUT_IS_LIST", False)
            return merged(type(instance), call(function, self.arguments(node_id), whole_lists))

        self.results[node_id] = self.guarded(node_id, work)
        del self.instances[node_id]
        self.on_node("done", node_id, self.results[node_id].ui)
        self.finish(node_id)

    def finish(self, node_id: str) -> None:
        """Let go of the values that nothing waits for any more, those of lazy branches that never ran among them."""
        dropped = False
        finished = [node_id]
        while finished:
            for source in self.sources(finished.pop()):
                self.waiting[source] -= 1
                if self.waiting[source]:
                    continue
                if source not in self.results:
                    finished.append(source)
                elif not self.is_kept(source):
                    del self.results[source]
                    dropped = True
        if dropped:
            gc.collect()

    def instance(self, node_id: str) -> Any:
        if node_id not in self.instances:
            self.instances[node_id] = self.guarded(node_id, self.catalog.classes[self.prompt[node_id]["class_type"]])
        return self.instances[node_id]

    def arguments(self, node_id: str) -> dict[str, list[Any]]:
        hidden = Hidden(self.prompt, self.extra_pnginfo, node_id)
        return arguments_of(type(self.instance(node_id)), self.prompt[node_id]["inputs"], self.results, hidden)

    def guarded(self, node_id: str, work: Callable[[], Any]) -> Any:
        """Do a node's own work, which may raise anything, and say which node it was."""
        try:
            return work()
        except Exception as error:
            raise RunError(
                node_id, self.prompt[node_id]["class_type"], title_of(self.prompt, node_id), error
            ) from error


def _each_once(node_ids: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(node_ids))
