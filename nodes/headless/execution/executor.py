"""Running a validated workflow in this process, with the semantics of ComfyUI's own executor.

What is small (pictures, latents, texts, numbers) is remembered under its signature, for equal nodes of the same run,
for later runs of the same executor and, on disk, of any.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..workflow.catalog import Catalog
from ..workflow.prompt import ancestors, links_of
from ..workflow.validate import Prompt
from .calls import Outputs
from .disk_cache import DiskCache
from .packing import with_tensors
from .results import Results
from .scheduler import NodeEvent, Run, is_kept, lazy_inputs
from .signatures import file_stamp, signatures

STORED_TYPES = frozenset({"CONDITIONING", "LATENT", "IMAGE"})
"""Types of the values that are worth a file. Only what was computed from other nodes is: a picture that was merely
loaded is loaded again as fast."""


class Executor:
    """Runs workflows one after the other, and does again only what changed.

    Args:
        catalog: the node classes.
        cache: results on disk, which other processes share; None for those of this executor alone.
        keep_networks: leave the networks of a run in memory for the next, which then need not load them; not those
            that only went into another network. Else each is let go after its last use.
        repeat_outputs: run output nodes every time, even where nothing has changed.
    """

    def __init__(
        self,
        catalog: Catalog,
        cache: DiskCache | None = None,
        *,
        keep_networks: bool = False,
        repeat_outputs: bool = False,
    ) -> None:
        self.catalog = catalog
        self.cache = cache
        self.keep_networks = keep_networks
        self.repeat_outputs = repeat_outputs
        self._results = Results(cache)
        self._networks: dict[str, Outputs] = {}

    def run(
        self,
        prompt: Prompt,
        *,
        extra_pnginfo: Mapping[str, Any] | None = None,
        on_node: NodeEvent | None = None,
        given: Mapping[str, Outputs] | None = None,
    ) -> dict[str, dict[str, list[Any]]]:
        """Run every output node.

        Args:
            prompt: what `validate` returned.
            extra_pnginfo: what nodes that save write beside the prompt, as {"workflow": the editor's document}.
            on_node: told of each node.
            given: what nodes gave elsewhere, which therefore do not run.
        Returns:
            {output node id: what it shows, such as {"images": [{"filename", "subfolder", "type"}]}}.
        Raises:
            RunError: a node failed. What earlier outputs saved stays.
        """
        outputs = self._outputs(prompt)
        values = self.values(prompt, outputs, extra_pnginfo=extra_pnginfo, on_node=on_node, given=given)
        return {node_id: value.ui for node_id, value in values.items()}

    def values(
        self,
        prompt: Prompt,
        outputs: list[str],
        *,
        extra_pnginfo: Mapping[str, Any] | None = None,
        on_node: NodeEvent | None = None,
        given: Mapping[str, Outputs] | None = None,
    ) -> dict[str, Outputs]:
        """What some nodes give, {node id: its outputs}: as `run`, for these nodes instead of the output nodes."""
        given = given or {}
        signature = self._signatures(prompt, outputs, extra_pnginfo)
        run = Run(prompt, self.catalog, extra_pnginfo, on_node or (lambda state, node_id, ui: None))
        self._networks = {key: self._networks[key] for key in signature.values() if key in self._networks}

        def recall(node_id: str, look_on_disk: bool) -> Outputs | None:
            if node_id in given or (self.repeat_outputs and self.catalog.is_output(prompt[node_id]["class_type"])):
                return given.get(node_id)
            key = signature.get(node_id)
            return None if key is None else self._networks.get(key) or self._results.get(key, look_on_disk)

        def remember(node_id: str, value: Outputs) -> bool:
            key = signature.get(node_id)
            if key is not None and is_kept(prompt, node_id, self.catalog):
                self._results.put(key, value, on_disk=_is_stored(prompt, node_id, self.catalog))
            elif key is not None and self.keep_networks and _is_used(prompt, node_id, self.catalog):
                self._networks[key] = value
            else:
                return False
            return True

        run.plan(outputs, recall)
        for node_id in outputs:
            run.pull(node_id, recall, remember)
        return {node_id: with_tensors(run.results[node_id]) for node_id in outputs}

    def remembered(self, prompt: Prompt) -> set[str]:
        """The nodes whose results are known already; a run would not run them again."""
        signature = signatures(prompt, set(prompt), self.catalog, None, self._mark)
        return {node_id for node_id, key in signature.items() if key in self._networks or key in self._results}

    def forecast(self, prompt: Prompt, already: set[str] | None = None) -> dict[str, str]:
        """What `run` would do. Nothing runs.

        Args:
            already: signatures whose results are to be taken as known; those that this run would add are added.
        Returns:
            {node id: "run", "lazy" (if a node asks for it while it runs) or "cached"}, in the order of the workflow;
            what neither runs nor is read from a cache is left out.
        """
        already = set() if already is None else already
        outputs = self._outputs(prompt)
        signature = self._signatures(prompt, outputs, None)
        states: dict[str, str] = {}
        waiting = [(node_id, "run") for node_id in reversed(outputs)]
        while waiting:
            node_id, state = waiting.pop()
            if states.get(node_id) in (state, "run", "cached"):
                continue
            key = signature.get(node_id)
            if key is not None and (key in already or key in self._networks or key in self._results):
                states[node_id] = "cached"
                continue
            states[node_id] = state
            lazy = lazy_inputs(self.catalog, prompt[node_id]["class_type"])
            waiting += [(link.source, "lazy" if link.name in lazy else state) for link in links_of(prompt, node_id)]
        for node_id, state in states.items():
            lasts = self.keep_networks or is_kept(prompt, node_id, self.catalog)
            if state == "run" and lasts and node_id in signature:
                already.add(signature[node_id])
        return {node_id: states[node_id] for node_id in prompt if node_id in states}

    def _outputs(self, prompt: Prompt) -> list[str]:
        return [node_id for node_id, node in prompt.items() if self.catalog.is_output(node["class_type"])]

    def _signatures(
        self, prompt: Prompt, outputs: list[str], extra_pnginfo: Mapping[str, Any] | None
    ) -> dict[str, str]:
        return signatures(prompt, ancestors(prompt, outputs), self.catalog, extra_pnginfo, self._mark)

    @property
    def _mark(self) -> Callable[[Path], str]:
        return file_stamp if self.cache is None else self.cache.digests.of


def _is_used(prompt: Prompt, node_id: str, catalog: Catalog) -> bool:
    """Whether a network goes into anything but another network."""
    users = [each for each in prompt if any(link.source == node_id for link in links_of(prompt, each))]
    return any(is_kept(prompt, each, catalog) for each in users)


def _is_stored(prompt: Prompt, node_id: str, catalog: Catalog) -> bool:
    """Whether a node's result is worth a file."""
    class_type = prompt[node_id]["class_type"]
    kinds = catalog.return_types(class_type)
    computed = bool(links_of(prompt, node_id)) and not catalog.is_output(class_type)
    return computed and any(kind in STORED_TYPES for kind in kinds)
