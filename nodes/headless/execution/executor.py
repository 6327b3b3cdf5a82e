"""Run validated workflows in this process, with the semantics of ComfyUI's own executor.

Small results (images, latents, texts, numbers) are cached under their keys: for equal nodes of the same run, for later
runs of the same executor and, on disk, for any run.
"""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...widgets import OFF, RENEW
from ..errors import describe
from ..workflow.catalog import Catalog
from ..workflow.prompt import Prompt, ancestors, links_of, title_of
from .calls import Outputs
from .disk_cache import DiskCache
from .origins import about
from .packing import with_tensors
from .results import Results
from .scheduler import NodeEvent, Run, is_kept, kinds_of, lazy_inputs
from .signatures import Keys, cache_keys, passed_on

_LOOKS: Mapping[str, Callable[[Any], bool]] = {
    "CONDITIONING": lambda value: isinstance(value, list),
    "LATENT": lambda value: isinstance(value, dict),
    "IMAGE": lambda value: getattr(value, "ndim", 0) == 4,
}
"""Types of the results that are stored on disk, and how to tell them. Only those that were computed from other nodes
are stored: loading an image again is as fast as reading it from the cache."""

_log = logging.getLogger(__name__)


class Executor:
    """Runs workflows one after the other, and runs again only the nodes that changed.

    Args:
        catalog: Node classes.
        cache: Cache on disk, which other processes share; None for a cache in memory only.
        keep_networks: Keep the networks of a run in memory for the next, except those that only went into another
            network. Otherwise each is freed after its last use.
        repeat_outputs: Run output nodes every time, even if nothing changed.
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

    def use_cache(self, cache: DiskCache | None) -> "Executor":
        """Change the cache on disk, and forget the results in memory. Networks are kept."""
        self.cache, self._results = cache, Results(cache)
        return self

    def reread(self) -> Catalog:
        """Return the catalog of the next run, whose classes are asked for their inputs again."""
        self.catalog = self.catalog.reread()
        return self.catalog

    def run(
        self,
        prompt: Prompt,
        *,
        extra_pnginfo: Mapping[str, Any] | None = None,
        on_node: NodeEvent | None = None,
        given: Mapping[str, Outputs] | None = None,
        workflow: str = "",
    ) -> dict[str, dict[str, list[Any]]]:
        """Run every output node.

        Args:
            prompt: A workflow that `validate` returned.
            extra_pnginfo: Metadata that saved files carry beside the prompt, {"workflow": the editor's document}.
            on_node: Called when a node starts, ends, or is a cache hit.
            given: Results of nodes that ran elsewhere; these nodes do not run.
            workflow: Name of the workflow, for the list of the cache.
        Returns:
            dict: {output node id: items that it shows, such as {"images": [{"filename", "subfolder", "type"}]}}.
        Raises:
            RunError: A node failed. Files that earlier nodes saved stay.
        """
        outputs = self.catalog.outputs_of(prompt)
        values = self.values(
            prompt, outputs, extra_pnginfo=extra_pnginfo, on_node=on_node, given=given, workflow=workflow
        )
        return {node_id: value.ui for node_id, value in values.items()}

    def values(
        self,
        prompt: Prompt,
        outputs: list[str],
        *,
        extra_pnginfo: Mapping[str, Any] | None = None,
        on_node: NodeEvent | None = None,
        given: Mapping[str, Outputs] | None = None,
        workflow: str = "",
    ) -> dict[str, Outputs]:
        """Run the nodes `outputs` and return their results by node id. Other arguments as for `run`."""
        given = given or {}
        found = self._keys(prompt, outputs, extra_pnginfo)
        keys, renewed, fresh = found.of, _renewed(prompt, self.catalog), set[str]()
        kept = {keys.get(each) for each in prompt if _is_keep(prompt, each, self.catalog)}
        used = _used(prompt, self.catalog) if self.keep_networks else set[str]()
        self._say_what_is_not_kept(prompt, found)
        run = Run(prompt, self.catalog, extra_pnginfo, on_node or (lambda state, node_id, ui: None))
        self._networks = {key: self._networks[key] for key in keys.values() if key in self._networks}

        def recall(node_id: str, look_on_disk: bool) -> Outputs | None:
            if node_id in given or (self.repeat_outputs and self.catalog.is_output(prompt[node_id]["class_type"])):
                return given.get(node_id)
            key = keys.get(node_id)
            if key is None or (node_id in renewed and key not in fresh):
                return None
            found = self._networks.get(key) or self._results.get(key, look_on_disk)
            fits = found is not None and _is_result_of(found, self.catalog.return_types(prompt[node_id]["class_type"]))
            return found if fits else None

        def remember(node_id: str, value: Outputs) -> bool:
            key = keys.get(node_id)
            if key is not None and is_kept(prompt, node_id, self.catalog):
                is_new = node_id in renewed and key not in fresh
                fresh.add(key)
                self._results.put(
                    key,
                    value,
                    on_disk=key in kept or _is_stored(prompt, node_id, self.catalog),
                    about=lambda: about(prompt, node_id, self.catalog, workflow),
                    replaces=is_new,
                )
            elif key is not None and node_id in used:
                self._networks[key] = value
            else:
                return False
            return True

        run.plan(outputs, recall)
        for node_id in outputs:
            run.pull(node_id, recall, remember)
        return {node_id: with_tensors(run.results[node_id]) for node_id in outputs}

    def forecast(self, prompt: Prompt, known: set[str] | None = None) -> dict[str, str]:
        """Predict what `run` would do. Nothing runs.

        Args:
            prompt: A workflow that `validate` returned.
            known: Cache keys to take for hits; those that this run would add are added.
        Returns:
            dict: {node id: "run", "lazy" (runs if a node asks for it) or "cached"}, in the order of the workflow. Nodes
            that neither run nor are read from the cache are left out.
        """
        known = set() if known is None else known
        outputs = self.catalog.outputs_of(prompt)
        keys, renewed = self._keys(prompt, outputs, None).of, _renewed(prompt, self.catalog)
        states: dict[str, str] = {}
        waiting = [(node_id, "run") for node_id in reversed(outputs)]
        while waiting:
            node_id, state = waiting.pop()
            if states.get(node_id) in (state, "run", "cached"):
                continue
            key = keys.get(node_id) if node_id not in renewed else None
            if key is not None and (key in known or key in self._networks or key in self._results):
                states[node_id] = "cached"
                continue
            states[node_id] = state
            lazy = lazy_inputs(self.catalog, prompt[node_id]["class_type"])
            waiting += [(link.source, "lazy" if link.name in lazy else state) for link in links_of(prompt, node_id)]
        for node_id, state in states.items():
            lasts = self.keep_networks or is_kept(prompt, node_id, self.catalog)
            if state == "run" and lasts and node_id in keys:
                known.add(keys[node_id])
        return {node_id: states[node_id] for node_id in prompt if node_id in states}

    def _keys(self, prompt: Prompt, outputs: list[str], extra_pnginfo: Mapping[str, Any] | None) -> Keys:
        mark: Callable[[Path], str] | None = None if self.cache is None else self.cache.digests.of
        return cache_keys(prompt, ancestors(prompt, outputs), self.catalog, extra_pnginfo, mark)

    def _say_what_is_not_kept(self, prompt: Prompt, keys: Keys) -> None:
        for node_id, reason in keys.refused.items():
            if _is_keep(prompt, node_id, self.catalog):
                where = describe(node_id, prompt[node_id]["class_type"], title_of(prompt, node_id))
                _log.warning("Node %s keeps nothing: %s.", where, reason)


def _is_keep(prompt: Prompt, node_id: str, catalog: Catalog) -> bool:
    """Return whether a node keeps on disk what it passes on."""
    node = prompt[node_id]
    return passed_on(catalog, node["class_type"]) is not None and node["inputs"].get("mode") != OFF


def _renewed(prompt: Prompt, catalog: Catalog) -> set[str]:
    """Return the nodes whose results are not to be taken from the cache, since a node asks to renew them."""
    found: set[str] = set()
    for node_id, node in prompt.items():
        if passed_on(catalog, node["class_type"]) is None or node["inputs"].get("mode") != RENEW:
            continue
        while (name := passed_on(catalog, prompt[node_id]["class_type"])) is not None and node_id not in found:
            found.add(node_id)
            source = next((link.source for link in links_of(prompt, node_id) if link.name == name), None)
            if source is None:
                break
            node_id = source
        found.add(node_id)
    return found


def _is_result_of(found: Outputs, kinds: tuple[Any, ...]) -> bool:
    """Return whether a cached result has the outputs and types of its node; a file of the cache may hold anything."""
    return len(found.slots) == len(kinds) and all(
        values and all(map(_LOOKS[kind], values))
        for kind, values in zip(kinds, found.slots, strict=True)
        if kind in _LOOKS
    )


def _used(prompt: Prompt, catalog: Catalog) -> set[str]:
    """Return the nodes whose results go into anything but a network."""
    return {link.source for each in prompt if is_kept(prompt, each, catalog) for link in links_of(prompt, each)}


def _is_stored(prompt: Prompt, node_id: str, catalog: Catalog) -> bool:
    """Return whether a node's result is stored on disk."""
    class_type = prompt[node_id]["class_type"]
    computed = bool(links_of(prompt, node_id)) and not catalog.is_output(class_type)
    return computed and any(kind in _LOOKS for kind in kinds_of(catalog, class_type))
