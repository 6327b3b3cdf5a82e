"""Set inputs from outside: `NODE.input=value` and seeds."""

import difflib
import json
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from wuerstchen_core.files.untrusted import check_text
from wuerstchen_core.text.prompts import resolve_choices

from ...widgets import LARGEST_SEED
from ..errors import UsageError, describe
from .catalog import Catalog, Input
from .documents import Workflow
from .prompt import Prompt, copied, links_of, title_of
from .widgets import set_widgets

_TEXTS = {"PrimitiveString": "value", "PrimitiveStringMultiline": "value"}
"""Classes of nodes that hold a text, and the input that it is in."""
_TRUE, _FALSE = frozenset({"true", "yes", "on", "1"}), frozenset({"false", "no", "off", "0"})


def apply(
    workflow: Workflow, prompt: Mapping[str, Any], catalog: Catalog, settings: Mapping[str, Any], seed: int | None
) -> tuple[Workflow, Prompt]:
    """Return copies of the workflow and its API format with inputs set.

    Args:
        workflow: The workflow as it was read; its editor document gets the same values.
        prompt: The workflow in the API format.
        catalog: Node classes.
        settings: {"NODE.input": value}; NODE is an id, a title, a class or a display name. A text is converted to the
            type of the input. A linked input is unplugged.
        seed: Value for every seed input. Different seeds stay different: the first becomes `seed`, the next
            `seed + 1`, and so on; 0 comes after LARGEST_SEED. None leaves them.
    Raises:
        UsageError: There is no such node or input, there are several, or the value is not of the input's type.
    """
    workflow = replace(workflow, editor=copied(workflow.editor))
    changed: Prompt = copied(dict(prompt))
    values = _seeds(changed, catalog, seed) if seed is not None else {}
    for key, value in settings.items():
        node_id, declared = find_input(changed, catalog, key)
        values[node_id, declared.name] = typed(value, declared, key)
    for (node_id, name), value in values.items():
        changed[node_id]["inputs"][name] = value
    if workflow.editor is not None and values:
        set_widgets(workflow.editor, catalog, values)
    _resolve_choices(changed, catalog, set(values))
    return workflow, changed


def _resolve_choices(prompt: Prompt, catalog: Catalog, changed: set[tuple[str, str]]) -> None:
    """Resolve the choices and comments in text prompts that were set, or that come from a node with a text.

    The page resolves a prompt that is typed into its node. The draw depends on the text and the first seed.
    """
    seed = next((value for _, declared, value in slots(prompt, catalog) if declared.is_seed), None)

    def resolve(node_id: str, name: str) -> None:
        text = prompt[node_id]["inputs"].get(name)
        if isinstance(text, str):
            prompt[node_id]["inputs"][name] = resolve_choices(text, random.Random(f"{seed} {text}").choice)

    for node_id, node in prompt.items():
        for declared in catalog.inputs(node["class_type"]).values():
            if not declared.options.get("dynamicPrompts"):
                continue
            if (node_id, declared.name) in changed:
                resolve(node_id, declared.name)
            link = next((each for each in links_of(prompt, node_id) if each.name == declared.name), None)
            reads_weights = node["inputs"].get("weights") == "on"  # else a linked text is taken literally
            if link is not None and reads_weights and prompt[link.source]["class_type"] in _TEXTS:
                resolve(link.source, _TEXTS[prompt[link.source]["class_type"]])


def slots(prompt: Mapping[str, Any], catalog: Catalog) -> list[tuple[str, Input, Any]]:
    """List everything that can be set: (node id, input, its value or link), in the order of the workflow."""
    return [
        (node_id, declared, node["inputs"].get(declared.name, declared.default))
        for node_id, node in prompt.items()
        for declared in catalog.inputs(node["class_type"]).values()
        if declared.is_widget
    ]


def dtype_settings(prompt: Mapping[str, Any], catalog: Catalog, dtype: str | None) -> dict[str, str]:
    """Return settings that give every loader a dtype, as far as it offers that one; none for None.

    Args:
        prompt: The workflow in the API format.
        catalog: Node classes.
        dtype: Name of a dtype, such as "int8".
    """
    return {
        f"{node_id}.{declared.name}": dtype
        for node_id, declared, _ in slots(prompt, catalog)
        if dtype is not None and declared.name == "dtype" and dtype in (declared.choices or ())
    }


def find_input(prompt: Mapping[str, Any], catalog: Catalog, key: str, *, option: str = "--set") -> tuple[str, Input]:
    """Return the node id and the input that "NODE.input" names.

    Args:
        prompt: The workflow in the API format.
        catalog: Node classes.
        key: "NODE.input".
        option: Option that it was given to, for messages.
    Raises:
        UsageError: There is no such node or input; the message gives near matches.
    """
    name, dot, input_name = key.rpartition(".")
    if not dot or not name or not input_name:
        raise UsageError(f"{option} got {key!r}; expected NODE.input=value. `wuerstchen slots` lists what can be set.")
    node_id = find_node(prompt, catalog, name, option=option)
    class_type = prompt[node_id]["class_type"]
    declared = catalog.inputs(class_type)
    settable = [each for each in declared.values() if each.is_widget]
    if input_name in declared and declared[input_name].is_widget:
        return node_id, declared[input_name]
    names = [each.name for each in settable]
    node = describe(node_id, class_type, title_of(prompt, node_id))
    if input_name in declared:
        raise UsageError(
            f"{option} {key}: {input_name} of node {node} takes a link of type {declared[input_name].type}, no value. "
            f"Values go to {', '.join(names) or 'no input of this node'}."
        )
    near = difflib.get_close_matches(input_name, names, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(names) or 'none that take a value'}."
    raise UsageError(f"{option} {key}: node {node} has no input {input_name!r}; {hint}")


def find_node(prompt: Mapping[str, Any], catalog: Catalog, name: str, *, option: str = "--set") -> str:
    """Return the id of the one node of that id, title, class or display name.

    Raises:
        UsageError: There is none, or there are several; the message gives near matches.
    """
    if name in prompt:
        return name
    titles = {node_id: title_of(prompt, node_id) for node_id in prompt}
    classes = {node_id: node["class_type"] for node_id, node in prompt.items()}
    shown = {node_id: catalog.title(class_type) for node_id, class_type in classes.items()}
    for names in (titles, classes, shown):
        for fold in (str, str.casefold):
            found = [node_id for node_id, each in names.items() if fold(each) == fold(name)]
            if len(found) == 1:
                return found[0]
            if found:
                nodes = "; ".join(describe(each, classes[each], titles[each]) for each in found)
                raise UsageError(f"{option}: {name!r} is {len(found)} nodes: {nodes}. Name one by its id.")
    known = dict.fromkeys([*titles.values(), *classes.values(), *shown.values(), *prompt])
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    listed = "; ".join(describe(each, classes[each], titles[each]) for each in list(prompt)[:20])
    hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else f"It has: {listed}."
    raise UsageError(f"{option}: the workflow has no node {name!r}. {hint}")


def typed(value: Any, declared: Input, key: str, *, option: str = "--set") -> Any:
    """Convert a text to the type of its input. Any other value is returned as it is.

    Raises:
        UsageError: The text is not of that type, or holds half a character.
    """
    if not isinstance(value, str):
        return value
    try:
        check_text(value)
    except ValueError as error:
        raise UsageError(f"{option} {key}: {error}. Save it as UTF-8, or type it anew.") from error
    if declared.type == "STRING":
        return value
    try:
        if declared.type == "INT":
            return int(value)
        if declared.type == "FLOAT":
            return float(value)
    except ValueError as error:
        kind = "a whole number" if declared.type == "INT" else "a number"
        raise UsageError(f"{option} {key}: got {value!r}; expected {kind}.") from error
    if declared.type == "BOOLEAN":
        if value.casefold() not in _TRUE | _FALSE:
            raise UsageError(f"{option} {key}: got {value!r}; expected true or false.")
        return value.casefold() in _TRUE
    return next((choice for choice in declared.choices or [] if str(choice) == value), value)


def parse_seed(value: Any, name: str = "seed", *, also: str = "") -> int:
    """Return a seed given as a whole number or as text.

    Args:
        value: The seed.
        name: Name of the option or column, for the message.
        also: Further values that the option takes, for the message, such as ", or random".
    Raises:
        UsageError: It is not a whole number from 0 to LARGEST_SEED.
    """
    try:
        number = int(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else -1
    except ValueError:
        number = -1
    if not 0 <= number <= LARGEST_SEED:
        raise UsageError(f"{name} is {value!r}; expected a whole number from 0 to {LARGEST_SEED}{also}.")
    return number


def _seeds(prompt: Mapping[str, Any], catalog: Catalog, seed: int) -> dict[tuple[str, str], Any]:
    """Return the new value of every seed input, by (node id, input)."""
    order: dict[str, int] = {}
    values: dict[tuple[str, str], Any] = {}
    for node_id, declared, value in slots(prompt, catalog):
        if declared.is_seed:
            place = order.setdefault(json.dumps(value, default=repr), len(order))
            values[node_id, declared.name] = (seed + place) % (LARGEST_SEED + 1)
    return values
