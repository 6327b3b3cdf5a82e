"""What a node's result depends on, as one text: equal signatures, equal results."""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from wuerstchen_core.errors import CheckpointError, WeightsMissingError

from ... import host as hosts
from ..errors import describe
from ..workflow.catalog import Catalog, input_types
from ..workflow.prompt import is_link, links_of
from .calls import Hidden, arguments_of, call
from .environment import environment

_log = logging.getLogger(__name__)


def file_stamp(path: Path) -> str:
    """What changes when a file does, as far as its path, size and time say it. Raises: OSError."""
    stat = path.stat()
    return f"{path} {stat.st_size} {stat.st_mtime_ns}"


def signatures(
    prompt: Mapping[str, Any],
    needed: set[str],
    catalog: Catalog,
    extra_pnginfo: Mapping[str, Any] | None,
    mark: Callable[[Path], str] = file_stamp,
) -> dict[str, str]:
    """The signature of each node of `needed`, which has every ancestor of its members.

    It covers the class, the constants, the ancestors' signatures, the environment, and what the class's IS_CHANGED
    says; a node that asks for its own id is told from its like. A node that is changed always (IS_CHANGED gives NaN
    or fails), and all that needs it, has none.

    Args:
        mark: what stands for a file in the signature of a node that loads it (a class with `source_files`, which then
            takes the place of IS_CHANGED).
    """
    around = environment()
    order = TopologicalSorter({node_id: [link.source for link in links_of(prompt, node_id)] for node_id in needed})
    found: dict[str, str] = {}
    for node_id in order.static_order():
        node = prompt[node_id]
        node_class: Any = catalog.classes[node["class_type"]]
        changed = _changed(node_class, node, Hidden(prompt, extra_pnginfo, node_id), mark)
        if changed is None or any(link.source not in found for link in links_of(prompt, node_id)):
            continue
        inputs = {
            name: ["link", found[value[0]], value[1]] if is_link(value) else ["value", value]
            for name, value in sorted(node["inputs"].items())
        }
        own_id = node_id if "UNIQUE_ID" in _hidden_kinds(node_class) else None
        place = _output_folder() if catalog.is_output(node["class_type"]) else None
        text = json.dumps([around, node["class_type"], own_id, place, changed, inputs], default=repr)
        found[node_id] = hashlib.sha256(text.encode()).hexdigest()
    return found


def files_of(node_class: Any, inputs: Mapping[str, Any]) -> list[Path]:
    """The files that a node loads, of a class with `source_files`.

    Raises:
        WeightsMissingError: they are not on this machine.
    """
    arguments = arguments_of(node_class, inputs, {}, Hidden({}, None, ""))
    answers = call(node_class.source_files, arguments, getattr(node_class, "INPUT_IS_LIST", False))
    return [path for each in answers for path in each]


def _output_folder() -> str | None:
    """Where output nodes save: what they did in another folder is not there in this one."""
    host = hosts.installed()
    return None if host is None else str(host.output_folder().absolute())


def _hidden_kinds(node_class: Any) -> list[Any]:
    return list(input_types(node_class).get("hidden", {}).values())


def _changed(node_class: Any, node: Mapping[str, Any], hidden: Hidden, mark: Callable[[Path], str]) -> list[Any] | None:
    """What IS_CHANGED says, or the marks of the files that are loaded; None: changed always."""
    arguments = arguments_of(node_class, node["inputs"], {}, hidden)
    whole_lists = getattr(node_class, "INPUT_IS_LIST", False)
    if hasattr(node_class, "source_files"):
        try:
            return [[path.name, mark(path)] for path in files_of(node_class, node["inputs"])]
        except (WeightsMissingError, CheckpointError, OSError):
            return None  # the node will say it better when it runs
    if not hasattr(node_class, "IS_CHANGED"):
        return []
    try:
        answers = call(node_class.IS_CHANGED, arguments, whole_lists)
    except Exception as error:  # a node's own code may raise anything
        where = describe(hidden.node_id, node["class_type"])
        _log.warning("IS_CHANGED of node %s failed (%s); it is run again.", where, error)
        return None
    return None if any(isinstance(answer, float) and answer != answer for answer in answers) else answers
