"""Say of a node's result what it is and where it comes from, for the list of the cache."""

from collections.abc import Mapping
from typing import Any

from ..workflow.catalog import Catalog
from ..workflow.prompt import ancestors, links_of, title_of

_TEXT_ENCODE = "WuerstchenTextEncode"
_LONGEST = 200


def about(prompt: Mapping[str, Any], node_id: str, catalog: Catalog, workflow: str) -> dict[str, str]:
    """Return what a node's result is: the "node", its "type", the "text" that it was drawn from, and the "workflow".

    Args:
        prompt: The workflow in the API format.
        node_id: Id of the node.
        catalog: Node classes.
        workflow: Name of the workflow.
    """
    class_type = prompt[node_id]["class_type"]
    title = title_of(prompt, node_id)
    kinds = ", ".join(map(str, catalog.return_types(class_type)))
    node = catalog.title(class_type) if title == class_type else title
    return {"node": node, "type": kinds, "text": _text_of(prompt, node_id), "workflow": workflow}


def _text_of(prompt: Mapping[str, Any], node_id: str) -> str:
    """Return the first text prompt among a node's ancestors that is not empty."""
    above = ancestors(prompt, [node_id])
    for each in [node_id, *(other for other in prompt if other in above)]:
        node = prompt[each]
        if node["class_type"] != _TEXT_ENCODE:
            continue
        text = node["inputs"].get("text")
        linked = [prompt[link.source]["inputs"].get("value") for link in links_of(prompt, each) if link.name == "text"]
        found = next((value for value in (text, *linked) if isinstance(value, str) and value.strip()), "")
        if found:
            return " ".join(found.split())[:_LONGEST]
    return ""
