"""Cache keys of nodes: a digest of everything that a node's result depends on. Equal keys mean equal results."""

import hashlib
import json
import logging
import platform
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from graphlib import TopologicalSorter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import wuerstchen_core
from wuerstchen_core.errors import CheckpointError, WeightsMissingError
from wuerstchen_core.networks.processor import listed_features

from ... import host as hosts
from ..errors import describe
from ..workflow.catalog import Catalog
from ..workflow.prompt import is_link, links_of
from .calls import Hidden, arguments_of, call

_FORMAT = 3
"""Version of the keys. It goes up when they cover something else."""
_NOT_COVERED = frozenset({"training", "cli"})
"""Folders of code that decides no result."""
_GRAPHICS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
"""Devices that exist where torch on Linux may find a graphics card."""

_log = logging.getLogger(__name__)


def cache_keys(
    prompt: Mapping[str, Any],
    needed: set[str],
    catalog: Catalog,
    extra_pnginfo: Mapping[str, Any] | None,
    mark: "Callable[[Path], str] | None" = None,
) -> dict[str, str]:
    """Return the cache key of each node in `needed`.

    A key covers the node's class and constants, the keys of its ancestors, the code, the device and its precision, and
    the files that the node loads or the answer of its IS_CHANGED. Nodes that ask for UNIQUE_ID include their id. Nodes
    whose IS_CHANGED is NaN or raises, and their dependants, get no key.

    Args:
        prompt: The workflow in the API format.
        needed: Node ids, with every ancestor of each.
        catalog: Node classes.
        extra_pnginfo: Metadata for saved files, for nodes whose IS_CHANGED asks for it.
        mark: Returns the text that represents a file's content; None for `file_stamp`.
    """
    environment = " ".join([str(_FORMAT), _code(), version("torch"), _hardware()])
    order = TopologicalSorter({node_id: [link.source for link in links_of(prompt, node_id)] for node_id in needed})
    keys: dict[str, str] = {}
    for node_id in order.static_order():
        node = prompt[node_id]
        state = _state_of(catalog, node, Hidden(prompt, extra_pnginfo, node_id), mark or file_stamp)
        if state is None or any(link.source not in keys for link in links_of(prompt, node_id)):
            continue
        inputs = {
            name: ["link", keys[value[0]], value[1]] if is_link(value) else ["value", value]
            for name, value in sorted(node["inputs"].items())
        }
        own_id = node_id if "UNIQUE_ID" in catalog.hidden(node["class_type"]).values() else None
        place = _output_folder() if catalog.is_output(node["class_type"]) else None
        text = json.dumps([environment, node["class_type"], own_id, place, state, inputs], default=repr)
        keys[node_id] = hashlib.sha256(text.encode()).hexdigest()
    return keys


def file_stamp(path: Path) -> str:
    """Return a text of a file's path, size and time, which changes when the file does. Raises: OSError."""
    stat = path.stat()
    return f"{path} {stat.st_size} {stat.st_mtime_ns}"


def loaded_files(catalog: Catalog, node: Mapping[str, Any]) -> list[Path]:
    """Return the files that a node loads, of a class with `source_files`.

    Raises:
        WeightsMissingError: They are not on this machine.
    """
    node_class: Any = catalog.classes[node["class_type"]]
    arguments = arguments_of(catalog, node, {}, Hidden({}, None, ""))
    answers = call(node_class.source_files, arguments, getattr(node_class, "INPUT_IS_LIST", False))
    return [path for each in answers for path in each]


def digest_of_code(folders: Iterable[Path]) -> str:
    """Return the SHA-256 of every Python file below the folders, except those that decide no result."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            name = path.relative_to(folder)
            if _NOT_COVERED.isdisjoint(name.parts):
                digest.update(f"{name.as_posix()}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def is_plain_linux() -> bool:
    """Return whether this is a Linux on which torch cannot find a graphics card."""
    return platform.system() == "Linux" and not any(Path(path).exists() for path in _GRAPHICS)


def _state_of(catalog: Catalog, node: Mapping[str, Any], hidden: Hidden, mark: Callable[[Path], str]) -> Any:
    """Return the marks of the files that a node loads, or the answer of IS_CHANGED; None if it always changes."""
    node_class: Any = catalog.classes[node["class_type"]]
    if hasattr(node_class, "source_files"):
        try:
            return [[path.name, mark(path)] for path in loaded_files(catalog, node)]
        except (WeightsMissingError, CheckpointError, OSError):
            return None  # the node raises a better error when it runs
    if not hasattr(node_class, "IS_CHANGED"):
        return []
    arguments = arguments_of(catalog, node, {}, hidden)
    try:
        answers = call(node_class.IS_CHANGED, arguments, getattr(node_class, "INPUT_IS_LIST", False))
    except Exception as error:  # a node's own code may raise anything
        where = describe(hidden.node_id, node["class_type"])
        _log.warning("IS_CHANGED of node %s failed (%s); the node runs again.", where, error)
        return None
    return None if any(isinstance(answer, float) and answer != answer for answer in answers) else answers


def _output_folder() -> str | None:
    """Return the folder that output nodes save to, since a file saved to another folder is missing from this one."""
    host = hosts.current_host()
    return None if host is None else str(host.output_folder().absolute())


def _hardware() -> str:
    """Return the device and the precision of each stage on it.

    torch is asked only where it may find a graphics card: importing it takes longer than a run of cached results.
    """
    host = hosts.current_host()
    if host is None or is_plain_linux():
        return _processor()
    import torch

    device = host.device()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return " ".join([device.type, name, *(str(host.dtype(stage)) for stage in "CBA")])


@cache
def _processor() -> str:
    """Return the kind of processor and a digest of its features."""
    features = " ".join(listed_features()) or platform.processor()
    return f"{platform.machine()} {hashlib.sha256(features.encode()).hexdigest()}"


@cache
def _code() -> str:
    return digest_of_code([Path(wuerstchen_core.__file__).parent, Path(__file__).parents[2]])
