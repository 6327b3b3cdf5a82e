"""Set inputs from outside: `NODE.input=value` and seeds."""

import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from wuerstchen_core.files.untrusted import check_text
from wuerstchen_core.text.prompts import resolve_choices

from ...widgets import LARGEST_SEED
from ..errors import UsageError
from .catalog import Catalog, Input
from .documents import Workflow
from .node_names import NodeNames
from .prompt import Prompt, copied, links_of
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
        WorkflowError: The editor document is damaged.
    """
    original, workflow = workflow, replace(workflow, editor=copied(workflow.editor))
    changed: Prompt = copied(dict(prompt))
    values = _seeds(changed, catalog, seed) if seed is not None else {}
    names = NodeNames(changed, catalog)
    for key, value in settings.items():
        node_id, declared = names.find_input(key)
        values[node_id, declared.name] = typed(value, declared, key)
    for (node_id, name), value in values.items():
        changed[node_id]["inputs"][name] = value
    if workflow.editor is not None and values:
        _ = original.document  # raises where it is damaged; a PNG runs by its API format, and it was not read yet
        set_widgets(workflow.editor, catalog, values)
    _resolve_choices(changed, catalog, set(values))
    return workflow, changed


def _resolve_choices(prompt: Prompt, catalog: Catalog, changed: set[tuple[str, str]]) -> None:
    """Resolve the choices and comments in text prompts that were set, or that come from a node with a text.

    The page resolves a prompt that is typed into its node. The draw depends on the text and the first seed.
    """
    seed = next((value for _, declared, value in slots(prompt, catalog) if declared.is_seed), None)
    resolved: set[tuple[str, str]] = set()

    def resolve(node_id: str, name: str) -> None:
        text = prompt[node_id]["inputs"].get(name)
        if isinstance(text, str) and (node_id, name) not in resolved:
            resolved.add((node_id, name))
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


def slots(prompt: Mapping[str, Any], catalog: Catalog) -> Iterator[tuple[str, Input, Any]]:
    """Yield everything that can be set: (node id, input, its value or link), in the order of the workflow."""
    for node_id, node in prompt.items():
        for declared in catalog.inputs(node["class_type"]).values():
            if declared.is_widget:
                yield node_id, declared, node["inputs"].get(declared.name, declared.default)


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
