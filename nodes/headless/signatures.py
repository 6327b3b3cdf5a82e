"""What a node's result depends on, as one text: equal signatures, equal results."""

import hashlib
import json
import logging
import uuid
from collections.abc import Mapping
from graphlib import TopologicalSorter
from typing import Any

from .calls import Hidden, arguments_of, call
from .catalog import Catalog, input_types
from .errors import describe
from .graph import is_link, links_of

_log = logging.getLogger(__name__)


def signatures(
    prompt: Mapping[str, Any], needed: set[str], catalog: Catalog, extra_pnginfo: Mapping[str, Any] | None
) -> dict[str, str]:
    """A signature for each node of `needed`, which has every ancestor of its members.

    It covers the class, the constants, the ancestors' signatures, and what the class's IS_CHANGED says; a node that
    asks for its own id is told from its like.
    """
    order = TopologicalSorter({node_id: [link.source for link in links_of(prompt, node_id)] for node_id in needed})
    found: dict[str, str] = {}
    for node_id in order.static_order():
        node = prompt[node_id]
        node_class: Any = catalog.classes[node["class_type"]]
        inputs = {
            name: ["link", found[value[0]], value[1]] if is_link(value) else ["value", value]
            for name, value in sorted(node["inputs"].items())
        }
        own_id = node_id if "UNIQUE_ID" in _hidden_kinds(node_class) else None
        changed = _changed(node_class, node, Hidden(prompt, extra_pnginfo, node_id))
        text = json.dumps([node["class_type"], own_id, changed, inputs], default=repr)
        found[node_id] = hashlib.sha256(text.encode()).hexdigest()
    return found


def _hidden_kinds(node_class: Any) -> list[Any]:
    return list(input_types(node_class).get("hidden", {}).values())


def _changed(node_class: Any, node: Mapping[str, Any], hidden: Hidden) -> list[Any]:
    """What IS_CHANGED says; NaN, or a failure, means: changed always."""
    if not hasattr(node_class, "IS_CHANGED"):
        return []
    try:
        whole_lists = getattr(node_class, "INPUT_IS_LIST", False)
        answers = call(node_class.IS_CHANGED, arguments_of(node_class, node["inputs"], {}, hidden), whole_lists)
    except Exception as error:  # a node's own code may raise anything
        where = describe(hidden.node_id, node["class_type"])
        _log.warning("IS_CHANGED of node %s failed (%s); it is run again.", where, error)
        return [uuid.uuid4().hex]
    return [uuid.uuid4().hex if isinstance(answer, float) and answer != answer else answer for answer in answers]
