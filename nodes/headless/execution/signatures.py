"""Cache keys of nodes: a digest of everything that a node's result depends on. Equal keys mean equal results.

ComfyUI's nodes use them, too (see `comfy.keeping`), so what was drawn in the editor is a hit in the shell.
"""

import hashlib
import json
import logging
import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from graphlib import TopologicalSorter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import wuerstchen_core
from wuerstchen_core.errors import CheckpointError, WeightsMissingError
from wuerstchen_core.networks.processor import is_plain_linux, listed_features

from ... import host as hosts
from ..errors import describe
from ..workflow.catalog import Catalog
from ..workflow.prompt import Link, is_link, links_of
from .calls import Hidden, arguments_of, call

_FORMAT = 5
"""Version of the keys. It goes up when they cover something else."""
_LIBRARIES = ("torch", "tokenizers")
_NOT_COVERED = frozenset({"training", "cli"})
"""Folders of code that decides no result."""

_log = logging.getLogger(__name__)

Further = Callable[[Mapping[str, Any]], list[Any]]
"""Returns what the result of a node depends on beside its inputs and its own answers. Raises NoKeyError or OSError."""


class NoKeyError(Exception):
    """A node's result cannot be told from its inputs; the text says why."""


@dataclass(frozen=True)
class Keys:
    """Cache keys of the nodes of a prompt.

    Attributes:
        of: Key of each node that has one.
        refused: Reason of each node that has none.
    """

    of: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


def cache_keys(
    prompt: Mapping[str, Any],
    needed: set[str],
    catalog: Catalog,
    extra_pnginfo: Mapping[str, Any] | None,
    mark: "Callable[[Path], str] | None" = None,
    further: Further | None = None,
) -> Keys:
    """Return the cache key of each node in `needed`.

    A key covers the node's class and constants, the keys of its ancestors, the code, the device and its precision, and
    the files that the node loads or the answer of its IS_CHANGED. Nodes that ask for UNIQUE_ID include their id. Nodes
    whose IS_CHANGED is NaN or raises, nodes that are not in the catalog, and the dependants of both, get no key.

    A node that passes an input on has the key of that input's value, and other nodes' keys are as if it was not there.

    Args:
        prompt: The workflow in the API format.
        needed: Node ids, with every ancestor of each.
        catalog: Node classes.
        extra_pnginfo: Metadata for saved files, for nodes whose IS_CHANGED asks for it.
        mark: Returns the text that represents a file's content; None for `file_stamp`.
        further: As its type says; None for nothing more.
    """
    environment = " ".join([str(_FORMAT), digest_of_this_code(), *map(version, _LIBRARIES), _hardware()])
    order = TopologicalSorter({node_id: [link.source for link in links_of(prompt, node_id)] for node_id in needed})
    keys = Keys()
    for node_id in order.static_order():
        node = prompt[node_id]
        without = next((link.source for link in links_of(prompt, node_id) if link.source not in keys.of), None)
        if without is not None:
            keys.refused[node_id] = keys.refused[without]
            continue
        try:
            if passed_on(catalog, node["class_type"]) is not None:
                keys.of[node_id] = _key_of_value(prompt, catalog, keys.of, _behind(prompt, catalog, node_id))
                continue
            hidden = Hidden(prompt, extra_pnginfo, node_id)
            state = _state_of(catalog, node, hidden, mark or file_stamp, further or (lambda each: []))
            inputs = {
                name: _part_of(prompt, catalog, keys.of, name, value) for name, value in sorted(node["inputs"].items())
            }
        except NoKeyError as reason:
            keys.refused[node_id] = str(reason)
            continue
        own_id = node_id if "UNIQUE_ID" in catalog.hidden(node["class_type"]).values() else None
        place = _output_folder() if catalog.is_output(node["class_type"]) else None
        keys.of[node_id] = _digest([environment, node["class_type"], own_id, place, state, inputs])
    return keys


def passed_on(catalog: Catalog, class_type: str) -> str | None:
    """Return the input that a node of a class returns unchanged; None for other nodes."""
    return getattr(catalog.classes.get(class_type), "PASSES_ON", None)


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


def _behind(prompt: Mapping[str, Any], catalog: Catalog, node_id: str) -> Link:
    """Return the link whose value a node passes on, beyond any further nodes that pass it on. Raises: NoKeyError."""
    while True:
        name = passed_on(catalog, prompt[node_id]["class_type"])
        link = next((each for each in links_of(prompt, node_id) if each.name == name), None)
        if link is None:
            raise NoKeyError(f"nothing is connected to {name} of {_described(prompt, node_id)}")
        node_id = link.source
        if passed_on(catalog, prompt[node_id]["class_type"]) is None:
            return link


def _part_of(
    prompt: Mapping[str, Any], catalog: Catalog, keys: Mapping[str, str], name: str, value: Any
) -> list[str | int | Any]:
    """Return what an input adds to its node's key."""
    if not is_link(value):
        return ["value", value]
    link = Link(name, value[0], value[1])
    if link.source in prompt and passed_on(catalog, prompt[link.source]["class_type"]) is not None:
        link = _behind(prompt, catalog, link.source)
    return ["link", keys[link.source], link.slot]


def _key_of_value(prompt: Mapping[str, Any], catalog: Catalog, keys: Mapping[str, str], link: Link) -> str:
    """Return the key of one output of a node: the node's own where it has no other."""
    key = keys[link.source]
    is_only = len(catalog.return_types(prompt[link.source]["class_type"])) == 1
    return key if is_only else _digest([key, link.slot])


def _state_of(
    catalog: Catalog, node: Mapping[str, Any], hidden: Hidden, mark: Callable[[Path], str], further: Further
) -> list[Any]:
    """Return the marks of the files that a node loads, or the answer of IS_CHANGED, and what `further` adds.

    Raises:
        NoKeyError: The node always changes, or its files are missing.
    """
    class_type = node["class_type"]
    where = describe(hidden.node_id, class_type)
    if class_type not in catalog.classes:
        raise NoKeyError(
            f"what node {where} depends on is not known, since it is not one of this pack or ComfyUI's own"
        )
    node_class: Any = catalog.classes[class_type]
    try:
        more = further(node)
    except OSError as error:
        raise NoKeyError(f"files of node {where} cannot be read: {error}") from error
    if hasattr(node_class, "source_files"):
        try:
            files = [[path.name, mark(path)] for path in loaded_files(catalog, node)]
            return [files, *_precision(catalog, node), *more]
        except (WeightsMissingError, CheckpointError, OSError) as error:  # the node raises a better one when it runs
            raise NoKeyError(f"files of node {where} cannot be read: {error}") from error
    if not hasattr(node_class, "IS_CHANGED"):
        return more
    arguments = arguments_of(catalog, node, {}, hidden)
    try:
        answers = call(node_class.IS_CHANGED, arguments, getattr(node_class, "INPUT_IS_LIST", False))
    except Exception as error:  # a node's own code may raise anything
        _log.warning("IS_CHANGED of node %s failed (%s); the node runs again.", where, error)
        raise NoKeyError(f"IS_CHANGED of node {where} failed: {error}") from error
    if any(isinstance(answer, float) and answer != answer for answer in answers):
        raise NoKeyError(f"node {where} runs anew each time")
    return [*answers, *more]


def _precision(catalog: Catalog, node: Mapping[str, Any]) -> list[str]:
    """Return the precision that a loader's network computes in, of a class with `precision`."""
    node_class: Any = catalog.classes[node["class_type"]]
    if not hasattr(node_class, "precision"):
        return []
    arguments = arguments_of(catalog, node, {}, Hidden({}, None, ""))
    return call(node_class.precision, arguments, getattr(node_class, "INPUT_IS_LIST", False))


def _output_folder() -> str | None:
    """Return the folder that output nodes save to, since a file saved to another folder is missing from this one."""
    host = hosts.current_host()
    return None if host is None else str(host.output_folder().absolute())


def _hardware() -> str:
    """Return the device.

    torch is asked only where it may find a graphics card: importing it takes longer than a run of cached results.
    """
    host = hosts.current_host()
    if host is None or is_plain_linux():
        return f"cpu {_processor()}"
    device = host.device()
    if device.type != "cuda":
        return f"{device.type} {_processor()}"
    import torch

    return f"cuda {torch.cuda.get_device_name(device)}"


@cache
def _processor() -> str:
    """Return the kind of processor and a digest of its features."""
    features = " ".join(listed_features()) or platform.processor()
    return f"{platform.machine()} {hashlib.sha256(features.encode()).hexdigest()}"


@cache
def digest_of_this_code() -> str:
    """Return the digest of the core and the nodes, as they are on disk at the first call."""
    return digest_of_code([Path(wuerstchen_core.__file__).parent, Path(__file__).parents[2]])


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, default=repr).encode()).hexdigest()


def _described(prompt: Mapping[str, Any], node_id: str) -> str:
    return describe(node_id, prompt[node_id]["class_type"])
