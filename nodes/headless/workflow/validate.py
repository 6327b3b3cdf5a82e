"""Check a workflow in the API format before anything runs, with the error shapes of ComfyUI's server."""

import inspect
import math
import os
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from itertools import islice
from typing import Any

from wuerstchen_core.files.places import expanded
from wuerstchen_core.files.untrusted import check_text

from ..errors import MAX_FAULTY, InvalidWorkflowError, describe, near_matches, node_error
from .catalog import Catalog, Input
from .prompt import Prompt, ancestors, constant, copied, is_link, links_of, title_of, wrapped


def validate(prompt: Mapping[str, Any], catalog: Catalog) -> Prompt:
    """Check that every output of a workflow can run.

    Args:
        prompt: The workflow in the API format, of classes in the catalog, as `convert` returns it; not changed.
        catalog: Node classes.
    Returns:
        Prompt: A copy with every value in the type of its input.
    Raises:
        InvalidWorkflowError: It cannot run; every error of the first MAX_FAULTY faulty nodes is listed.
    """
    outputs = catalog.outputs_of(prompt)
    if not outputs:
        raise InvalidWorkflowError(
            "The workflow has no output: none of its nodes saves or shows anything. Add a Save Image node.",
            node_error("prompt_no_outputs", "Prompt has no outputs", ""),
        )
    checked = {node_id: {**node, "inputs": copied(node["inputs"])} for node_id, node in prompt.items()}
    reached = ancestors(checked, outputs)
    needed = [node_id for node_id in checked if node_id in reached]
    order = _in_order(checked, needed)
    found: dict[str, list[dict[str, Any]]] = {}
    unchecked = len(needed)
    for node_id in needed:
        if len(found) == MAX_FAULTY:
            break
        unchecked -= 1
        if errors := _check_node(checked, node_id, catalog):
            found[node_id] = errors
    if found:
        dependent = _dependent(checked, list(found), order, outputs)
        raise InvalidWorkflowError.of_nodes(
            {
                node_id: {
                    "errors": errors,
                    "dependent_outputs": dependent[node_id],
                    "class_type": checked[node_id]["class_type"],
                    "title": title_of(checked, node_id),
                }
                for node_id, errors in found.items()
            },
            unchecked=unchecked,
        )
    return checked


def _dependent(prompt: Prompt, faulty: list[str], order: list[str], outputs: list[str]) -> dict[str, list[str]]:
    """Return the outputs that need each faulty node, the first MAX_FAULTY of them.

    Args:
        prompt: The workflow in the API format.
        faulty: Ids of the faulty nodes.
        order: Ids of all nodes that an output needs, each after those that it needs.
        outputs: Ids of the outputs.
    """
    bit_of = {node_id: 1 << place for place, node_id in enumerate(faulty)}
    needs: dict[str, int] = {}  # the bits of the faulty nodes that a node needs
    for node_id in order:
        needs[node_id] = bit_of.get(node_id, 0)
        for link in links_of(prompt, node_id):
            needs[node_id] |= needs[link.source]
    return {
        node_id: list(islice((output for output in outputs if needs[output] & bit), MAX_FAULTY))
        for node_id, bit in bit_of.items()
    }


def _in_order(prompt: Prompt, needed: list[str]) -> list[str]:
    """Return the nodes, each after those that it needs. Raises: InvalidWorkflowError, where they form a circle."""
    sorter = TopologicalSorter({node_id: [link.source for link in links_of(prompt, node_id)] for node_id in needed})
    try:
        return list(sorter.static_order())
    except CycleError as error:
        circle = [describe(each, prompt[each]["class_type"], title_of(prompt, each)) for each in error.args[1]]
        path = " -> ".join(circle)
        raise InvalidWorkflowError(
            f"The workflow runs in a circle: {path}. A node cannot need its own result; remove one of these links.",
            node_error("dependency_cycle", "Dependency cycle", path),
        ) from error


def _check_node(prompt: Prompt, node_id: str, catalog: Catalog) -> list[dict[str, Any]]:
    """Return every error of one node, and convert its values to the types of its inputs."""
    node = prompt[node_id]
    values = node["inputs"]
    node_class: Any = catalog.classes[node["class_type"]]
    custom = getattr(node_class, "VALIDATE_INPUTS", None)
    taken = inspect.getfullargspec(custom) if custom else None
    own = set(taken.args) if taken else set()
    errors: list[dict[str, Any]] = []
    for declared in catalog.inputs(node["class_type"]).values():
        name = declared.name
        if name not in values:
            if declared.required:
                wanted = "a value or a link" if declared.is_widget else "a link"
                details = f"{name}: nothing is connected; expected {wanted} of type {declared.type}"
                message = "Required input is missing"
                errors.append(node_error("required_input_missing", message, details, input_name=name))
        elif isinstance(values[name], list):
            error = _check_link(prompt, values[name], declared, catalog, "input_types" in own)
            errors += [error] if error else []
        else:
            lenient = name in own or bool(taken and taken.varkw)
            value, error = _check_value(constant(values[name]), declared, lenient)
            values[name] = wrapped(value)
            errors += [error] if error else []
    if taken and not errors:
        errors += _custom_errors(prompt, node_id, catalog, own, bool(taken.varkw))
    return errors


def _check_link(
    prompt: Prompt, value: list[Any], declared: Input, catalog: Catalog, own_types: bool
) -> dict[str, Any] | None:
    name = declared.name
    if not is_link(value):
        message = "Bad linked input, must be a length-2 list of [node_id, slot_index]"
        return node_error("bad_linked_input", message, f"{name}: got {value!r}", input_name=name, received_value=value)
    source, slot = value
    if source not in prompt:
        details = f"{name}: linked to node {source}, which is not in the workflow; connect it again"
        return node_error("bad_linked_input", "Linked node not found", details, input_name=name, received_value=value)
    types = catalog.return_types(prompt[source]["class_type"])
    whence = describe(source, prompt[source]["class_type"], title_of(prompt, source))
    if not 0 <= slot < len(types):
        details = f"{name}: linked to output {slot} of node {whence}, which has {len(types)} (counted from 0)"
        return node_error("bad_linked_input", "Linked output not found", details, input_name=name, received_value=value)
    if own_types or _fits(types[slot], declared):
        return None
    details = f"{name}, received_type({types[slot]}) mismatch input_type({declared.type}); it comes from node {whence}"
    return node_error(
        "return_type_mismatch",
        "Return type mismatch between linked nodes",
        details,
        input_name=name,
        received_type=str(types[slot]),
        linked_node=value,
    )


def _fits(received: Any, declared: Input) -> bool:
    wanted = declared.type
    if isinstance(received, (list, tuple)):
        return declared.choices == list(received)
    differs = received != wanted  # a class that stands for any type answers `!=` itself
    if not differs:
        return True
    kinds = {kind.strip() for kind in str(received).split(",")}
    return bool(kinds & {kind.strip() for kind in wanted.split(",")})


def _check_value(value: Any, declared: Input, lenient: bool) -> tuple[Any, dict[str, Any] | None]:
    """Return the value in its input's type, and its error or None."""
    name = declared.name
    if not declared.is_widget and value is None:
        details = f"{name}: nothing is connected; expected a link of type {declared.type}"
        return value, node_error("required_input_missing", "Required input is missing", details, input_name=name)
    try:
        value = _converted(value, declared.type)
    except (TypeError, ValueError, OverflowError) as error:
        message = f"Failed to convert an input value to a {declared.type} value"
        details = f"{name}, {str(value)[:80]!r}: {error}"
        return value, node_error("invalid_input_type", message, details, input_name=name, received_value=value)
    if lenient:
        return value, None
    low, high = declared.options.get("min"), declared.options.get("max")
    info = {"input_name": name, "received_value": value}
    if low is not None and isinstance(value, (int, float)) and value < low:
        message = f"Value {value} smaller than min of {low}"
        return value, node_error("value_smaller_than_min", message, f"{name}: expected {_range(low, high)}", **info)
    if high is not None and isinstance(value, (int, float)) and value > high:
        message = f"Value {value} bigger than max of {high}"
        return value, node_error("value_bigger_than_max", message, f"{name}: expected {_range(low, high)}", **info)
    if declared.choices is not None and value not in declared.choices:
        takes_path = declared.options.get("takes_path_headless", False)
        if takes_path and value and os.path.exists(path := expanded(str(value))):
            return str(path.absolute()), None
        details = _not_in_list(name, value, declared.choices)
        if takes_path:
            details += f"; there is no file or folder {value!r} either, so check the path"
        return value, node_error("value_not_in_list", "Value not in list", details, **info)
    return value, None


def _range(low: Any, high: Any) -> str:
    if low is None or high is None:
        return f"at most {high}" if low is None else f"at least {low}"
    return f"{low} to {high}"


def _not_in_list(name: str, value: Any, choices: list[Any]) -> str:
    near = near_matches(str(value), (str(choice) for choice in choices))
    listed = choices if len(choices) <= 20 else [*choices[:20], "..."]
    return f"{name}: {value!r} not in {listed}" + (f"; did you mean {' or '.join(near)}?" if near else "")


def _converted(value: Any, kind: str) -> Any:
    if kind == "INT":
        return int(value)
    if kind == "FLOAT":
        number = float(value)
        if not math.isfinite(number):
            raise ValueError("expected a finite number")
        return number
    if kind == "STRING":
        if isinstance(value, (Mapping, type(None))):
            raise TypeError("expected a text")
        check_text(str(value))
        return str(value)
    return bool(value) if kind == "BOOLEAN" else value


def _custom_errors(
    prompt: Prompt, node_id: str, catalog: Catalog, own: set[str], takes_all: bool
) -> list[dict[str, Any]]:
    """Return the errors of the class's own VALIDATE_INPUTS, which gets constants, and None for a linked input."""
    node = prompt[node_id]
    node_class: Any = catalog.classes[node["class_type"]]
    declared = catalog.inputs(node["class_type"])
    arguments = {
        name: None if isinstance(value, list) else constant(value)
        for name, value in node["inputs"].items()
        if name in declared and (takes_all or name in own)
    }
    if "input_types" in own:
        arguments["input_types"] = {
            link.name: catalog.return_types(prompt[link.source]["class_type"])[link.slot]
            for link in links_of(prompt, node_id)
        }
    if own <= {"cls", "self"} and not takes_all:
        return []
    answer = node_class.VALIDATE_INPUTS(**arguments)
    if answer is True:
        return []
    details = ", ".join(arguments) + ("" if answer is False else f" - {answer}")
    return [node_error("custom_validation_failed", "Custom validation failed for node", details, input_name=None)]
