"""Names by which nodes and their inputs go on the command line and in tables."""

from collections.abc import Callable, Mapping
from typing import Any

from ..errors import UsageError, describe, near_matches
from .catalog import Catalog, Input
from .prompt import title_of

_MOST_LISTED = 20


class NodeNames:
    """Ids, titles, classes and display names of a workflow's nodes.

    Args:
        prompt: The workflow in the API format.
        catalog: Node classes.
    """

    def __init__(self, prompt: Mapping[str, Any], catalog: Catalog) -> None:
        self._prompt = prompt
        self._catalog = catalog
        self._kinds: list[dict[str, list[str]]] = []
        titles = {node_id: title_of(prompt, node_id) for node_id in prompt}
        classes = {node_id: node["class_type"] for node_id, node in prompt.items()}
        shown = {node_id: catalog.title(class_type) for node_id, class_type in classes.items()}
        folds: tuple[Callable[[str], str], ...] = (str, str.casefold)
        for names in (titles, classes, shown):
            for fold in folds:
                ids: dict[str, list[str]] = {}
                for node_id, name in names.items():
                    ids.setdefault(fold(name), []).append(node_id)
                self._kinds.append(ids)
        self._known = list(dict.fromkeys([*titles.values(), *classes.values(), *shown.values(), *prompt]))

    def find_input(self, key: str, *, option: str = "--set") -> tuple[str, Input]:
        """Return the node id and the input that "NODE.input" names.

        Args:
            key: "NODE.input".
            option: Option that it was given to, for messages.
        Raises:
            UsageError: There is no such node or input; the message gives near matches.
        """
        name, dot, input_name = key.rpartition(".")
        if not dot or not name or not input_name:
            raise UsageError(
                f"{option} got {key!r}; expected NODE.input=value. `wuerstchen slots` lists what can be set."
            )
        node_id = self.find_node(name, option=option)
        declared = self._catalog.inputs(self._prompt[node_id]["class_type"])
        if input_name in declared and declared[input_name].is_widget:
            return node_id, declared[input_name]
        names = [each.name for each in declared.values() if each.is_widget]
        node = self._described(node_id)
        if input_name in declared:
            raise UsageError(
                f"{option} {key}: {input_name} of node {node} takes a link of type {declared[input_name].type}, no "
                f"value. Values go to {', '.join(names) or 'no input of this node'}."
            )
        near = near_matches(input_name, names)
        listed = ", ".join(names) or "none that take a value"
        hint = f"did you mean {' or '.join(near)}?" if near else f"it has {listed}."
        raise UsageError(f"{option} {key}: node {node} has no input {input_name!r}; {hint}")

    def find_node(self, name: str, *, option: str = "--set") -> str:
        """Return the id of the one node of that id, title, class or display name.

        Raises:
            UsageError: There is none, or there are several; the message gives near matches.
        """
        if name in self._prompt:
            return name
        for exact, folded in zip(self._kinds[::2], self._kinds[1::2], strict=True):
            found = exact.get(name) or folded.get(name.casefold()) or []
            if len(found) == 1:
                return found[0]
            if found:
                nodes = "; ".join(map(self._described, found[:_MOST_LISTED]))
                raise UsageError(f"{option}: {name!r} is {len(found)} nodes: {nodes}. Name one by its id.")
        near = near_matches(name, self._known, cutoff=0.5)
        listed = "; ".join(map(self._described, list(self._prompt)[:_MOST_LISTED]))
        hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else f"It has: {listed}."
        raise UsageError(f"{option}: the workflow has no node {name!r}. {hint}")

    def _described(self, node_id: str) -> str:
        return describe(node_id, self._prompt[node_id]["class_type"], title_of(self._prompt, node_id))
