# pyright: reportMissingImports=false
"""The place of Keep on Disk in ComfyUI: the cache of the command `wuerstchen`, under the same keys."""

import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import folder_paths
from comfyui_version import __version__

from ..headless.execution.calls import Outputs
from ..headless.execution.disk_cache import DiskCache
from ..headless.execution.origins import about
from ..headless.execution.packing import with_tensors
from ..headless.execution.signatures import Keys, NoKeyError, cache_keys, digest_of_this_code
from ..headless.workflow.catalog import Catalog
from ..headless.workflow.prompt import ancestors, links_of
from ..registry import COMFYUI_ONLY, NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS
from ..thumbnails import models_before, thumbnail

PURE = ("latent", "conditioning", "image", "mask", "sampling", "utils", "loaders", "model_patches", "advanced")
"""First words of the menus of ComfyUI's nodes whose results follow from their inputs and the files that these name."""
SHARED = frozenset({"LoadImage", "PrimitiveInt", "PrimitiveFloat", "PrimitiveString", "PrimitiveBoolean"})
SHARED |= {"PrimitiveStringMultiline", "LoadImageMask", "SetLatentNoiseMask", "ImageCompositeMasked"}
"""ComfyUI's nodes that the command runs, too, with the same results."""
_CACHE = DiskCache()
digest_of_this_code()  # now, while what is on disk is what runs
comfyui: Any = importlib.import_module("nodes")  # ComfyUI's, not the folder of this pack


@dataclass(frozen=True)
class KeptValue:
    """Place of a value in the cache.

    Attributes:
        prompt: The workflow in the API format.
        node_id: Id of the Keep on Disk.
        key: Key of the value; empty if it cannot be kept.
        refused: Reason for which it cannot be kept; empty if it can.
    """

    prompt: Mapping[str, Any]
    node_id: str
    key: str
    refused: str

    def read(self) -> list[Any] | None:
        found = _CACHE.get(self.key) if self.key else None
        return None if found is None else with_tensors(found).slots[0]

    def write(self, values: list[Any], *, replaces: bool) -> bool:
        sources = [link.source for link in links_of(self.prompt, self.node_id)]
        what = about(self.prompt, sources[0], _catalog(), "ComfyUI") if sources else {}
        return _CACHE.put(self.key, Outputs([values]), what, replaces=replaces)

    def facts(self, values: list[Any]) -> dict[str, Any]:
        entry = _CACHE.entry(self.key)
        if entry is None:
            return {}
        before = models_before(self.prompt, ancestors(self.prompt, [self.node_id]))
        picture = thumbnail(values[0], before) if values else None
        return {"key": self.key, "bytes": entry.size, "made": entry.made, "thumbnail": picture}


def kept(prompt: Mapping[str, Any], node_id: str) -> KeptValue:
    """Return the place of what a Keep on Disk passes on."""
    if node_id not in prompt:
        return KeptValue(prompt, node_id, "", "it is in a graph that another node built while it ran")
    needed = ancestors(prompt, [node_id])
    keys: Keys = cache_keys(prompt, needed, _catalog(), None, _CACHE.digests.of, _further)
    return KeptValue(prompt, node_id, keys.of.get(node_id, ""), keys.refused.get(node_id, ""))


def forget(key: str) -> bool:
    """Drop a value, and return whether there was one. Raises: OSError."""
    return _CACHE.forget(key)


def _catalog() -> Catalog:
    """Return the nodes whose results follow from what a key covers."""
    own = {**NODE_CLASS_MAPPINGS, **{name: comfyui.NODE_CLASS_MAPPINGS[name] for name in COMFYUI_ONLY}}
    pure = {name: each for name, each in comfyui.NODE_CLASS_MAPPINGS.items() if _is_pure(each)}
    return Catalog({**pure, **own}, {**comfyui.NODE_DISPLAY_NAME_MAPPINGS, **NODE_DISPLAY_NAME_MAPPINGS})


def _is_pure(node_class: Any) -> bool:
    module = getattr(node_class, "RELATIVE_PYTHON_MODULE", "nodes")
    is_stock = module == "nodes" or module.startswith("comfy_extras.")
    return is_stock and str(getattr(node_class, "CATEGORY", "")).split("/")[0] in PURE


def _further(node: Mapping[str, Any]) -> list[Any]:
    """Return what a key has to cover of ComfyUI's own nodes: its version, and the files that their inputs name."""
    class_type = node["class_type"]
    if class_type in SHARED or class_type in NODE_CLASS_MAPPINGS:
        return []
    node_class = comfyui.NODE_CLASS_MAPPINGS[class_type]
    files = [path for value in node["inputs"].values() if isinstance(value, str) for path in _named(value)]
    if any(isinstance(value, str) and "embedding:" in value for value in node["inputs"].values()):
        raise NoKeyError(f"the embeddings that {class_type} reads are not known")
    if not files and "loaders" in str(getattr(node_class, "CATEGORY", "")):
        raise NoKeyError(f"the files that {class_type} loads are not known")
    if _overrides_fingerprint(node_class):
        raise NoKeyError(f"{class_type} decides by itself when it has changed")
    return [["ComfyUI", __version__], *([path.name, _CACHE.digests.of(path)] for path in files)]


def _named(value: str) -> list[Path]:
    """Return the files in ComfyUI's model and input folders that a text names. Raises: NoKeyError for a folder."""
    if not value.strip("./\\ "):  # a text of nothing but these names the folder itself
        return []
    folders = [folder for folders, _ in folder_paths.folder_names_and_paths.values() for folder in folders]
    paths = [os.path.join(folder, value) for folder in (*folders, folder_paths.get_input_directory())]
    if any(map(os.path.isdir, paths)):
        raise NoKeyError(f"it reads the folder {value!r}, whose content may change")
    return [Path(path) for path in dict.fromkeys(paths) if os.path.isfile(path)]  # false for what cannot be a name


def _overrides_fingerprint(node_class: Any) -> bool:
    """Return whether a node of ComfyUI's newer kind has its own `fingerprint_inputs`."""
    return any(
        "fingerprint_inputs" in each.__dict__ for each in node_class.__mro__ if "comfy_api" not in each.__module__
    )
