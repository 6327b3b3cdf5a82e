"""Checking a workflow in the API format before anything runs, with the error shapes of ComfyUI's server."""

import copy
import difflib
import inspect
import math
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

from ..errors import InvalidWorkflowError, describe
from .catalog import Catalog, Input
from .prompt import ancestors, constant, is_link, links_of, wrapped

Prompt = dict[str, dict[str, Any]]


def validate(prompt: Mapping[str, Any], catalog: Catalog) -> Prompt:
    """Check that every output of a workflow can run.

    Args:
        prompt: {node id: {"class_type", "inputs", "_meta"}}; not changed.
    Returns:
        Prompt: a copy with every value in the type of its input.
    Raises:
        InvalidWorkflowError: with all that is wrong, node by node.
    """
    check_classes(prompt, catalog, {})
    outputs = [node_id for node_id, node in prompt.items() if catalog.is_output(node["class_type"])]
    if not outputs:
        raise InvalidWorkflowError(
            "The workflow has no output: none of its nodes saves or shows anything. Add a Save Image node.",
            {"type": "prompt_no_outputs", "message": "Prompt has no outputs", "details": "", "extra_info": {}},
        )
    checked = {node_id: {**node, "inputs": copy.deepcopy(node.get("inputs", {}))} for node_id, node in prompt.items()}
    reached = {output: ancestors(checked, [output]) for output in outputs}
    needed = [node_id for node_id in checked if any(node_id in nodes for nodes in reached.values())]
    _check_cycles(checked, needed)
    found = {node_id: errors for node_id in needed if (errors := _check_node(checked, node_id, catalog))}
    if found:
        raise InvalidWorkflowError.of_nodes(
            {
                node_id: {
                    "errors": errors,
                    "dependent_outputs": [output for output in outputs if node_id in reached[output]],
                    "class_type": checked[node_id]["class_type"],
                    "title": title_of(checked, node_id),
                }
                for node_id, errors in found.items()
            }
        )
    return checked


def title_of(prompt: Mapping[str, Any], node_id: str) -> str:
    """The title that a person gave the node, or its class."""
    node = prompt[node_id]
    meta = node.get("_meta")
    title = meta.get("title") if isinstance(meta, Mapping) else None
    return title if isinstance(title, str) and title else node["class_type"]


def unknown_class(
    node_id: str, class_type: str, catalog: Catalog, title: str | None = None, pack: str | None = None
) -> dict[str, Any]:
    """The `node_errors` entry of a node whose class is not known here."""
    from ...registry import COMFYUI_ONLY

    near = difflib.get_close_matches(class_type, catalog.classes, n=3)
    advice = "replace, mute or bypass it, or run the workflow on a ComfyUI server that has it: --backend comfyui."
    if catalog.server:
        details = f"the server {catalog.server} has no node {class_type}"
        details += f"; the file says it is from the pack {pack!r}" if pack else ""
        advice = "install it there, or replace, mute or bypass it."
    elif class_type in COMFYUI_ONLY:
        details = f"{COMFYUI_ONLY[class_type]} leads into ComfyUI's own samplers and exists inside ComfyUI only"
        near = []
    else:
        details = f"{class_type} is not a node that is known here"
        details += f"; the file says it is from the pack {pack!r}, which runs in ComfyUI only" if pack else ""
    details += f". Did you mean {' or '.join(near)}? Else {advice}" if near else f"; {advice}"
    error = _error("missing_node_type", "Node type not found", details)
    return {"errors": [error], "dependent_outputs": [], "class_type": class_type, "title": title or class_type}


def _error(kind: str, message: str, details: str, **extra_info: Any) -> dict[str, Any]:
    return {"type": kind, "message": message, "details": details, "extra_info": extra_info}


def check_classes(prompt: Mapping[str, Any], catalog: Catalog, packs: Mapping[str, str]) -> None:
    """Raises: InvalidWorkflowError that names every node of an unknown class, with its pack from {node id: pack}."""
    unknown = {
        node_id: unknown_class(node_id, node["class_type"], catalog, title_of(prompt, node_id), packs.get(node_id))
        for node_id, node in prompt.items()
        if node["class_type"] not in catalog.classes
    }
    if unknown:
        raise InvalidWorkflowError.of_nodes(unknown)


def _check_cycles(prompt: Prompt, needed: list[str]) -> None:
    sorter = TopologicalSorter({node_id: [link.source for link in links_of(prompt, node_id)] for node_id in needed})
    try:
        sorter.prepare()
    except CycleError as error:
        circle = [describe(each, prompt[each]["class_type"], title_of(prompt, each)) for each in error.args[1]]
        path = " -> ".join(circle)
        raise InvalidWorkflowError(
            f"The workflow runs in a circle: {path}. A node cannot need its own result; remove one of these links.",
            {"type": "dependency_cycle", "message": "Dependency cycle", "details": path, "extra_info": {}},
        ) from error


def _check_node(prompt: Prompt, node_id: str, catalog: Catalog) -> list[dict[str, Any]]:
    """Every error of one node. Puts its values into their types."""
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
                errors.append(_error("required_input_missing", "Required input is missing", details, input_name=name))
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
        return _error("bad_linked_input", message, f"{name}: got {value!r}", input_name=name, received_value=value)
    source, slot = value
    if source not in prompt:
        details = f"{name}: linked to node {source}, which is not in the workflow; connect it again"
        return _error("bad_linked_input", "Linked node not found", details, input_name=name, received_value=value)
    types = catalog.return_types(prompt[source]["class_type"])
    whence = describe(source, prompt[source]["class_type"], title_of(prompt, source))
    if not 0 <= slot < len(types):
        details = f"{name}: linked to output {slot} of node {whence}, which has {len(types)} (counted from 0)"
        return _error("bad_linked_input", "Linked output not found", details, input_name=name, received_value=value)
    if own_types or _fits(types[slot], declared):
        return None
    details = f"{name}, received_type({types[slot]}) mismatch input_type({declared.type}); it comes from node {whence}"
    return _error(
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
    """The value in its input's type, and what is wrong with it."""
    name = declared.name
    if not declared.is_widget and value is None:
        details = f"{name}: nothing is connected; expected a link of type {declared.type}"
        return value, _error("required_input_missing", "Required input is missing", details, input_name=name)
    try:
        value = _converted(value, declared.type)
    except (TypeError, ValueError, OverflowError) as error:
        message = f"Failed to convert an input value to a {declared.type} value"
        details = f"{name}, {str(value)[:80]!r}: {error}"
        return value, _error("invalid_input_type", message, details, input_name=name, received_value=value)
    if lenient:
        return value, None
    low, high = declared.options.get("min"), declared.options.get("max")
    info = {"input_name": name, "received_value": value}
    if low is not None and isinstance(value, (int, float)) and value < low:
        message = f"Value {value} smaller than min of {low}"
        return value, _error("value_smaller_than_min", message, f"{name}: expected {_range(low, high)}", **info)
    if high is not None and isinstance(value, (int, float)) and value > high:
        message = f"Value {value} bigger than max of {high}"
        return value, _error("value_bigger_than_max", message, f"{name}: expected {_range(low, high)}", **info)
    if declared.choices is not None and value not in declared.choices:
        details = _not_in_list(name, value, declared.choices)
        return value, _error("value_not_in_list", "Value not in list", details, **info)
    return value, None


def _range(low: Any, high: Any) -> str:
    if low is None or high is None:
        return f"at most {high}" if low is None else f"at least {low}"
    return f"{low} to {high}"


def _not_in_list(name: str, value: Any, choices: list[Any]) -> str:
    near = difflib.get_close_matches(str(value), [str(choice) for choice in choices], n=3)
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
        return str(value)
    return bool(value) if kind == "BOOLEAN" else value


def _custom_errors(
    prompt: Prompt, node_id: str, catalog: Catalog, own: set[str], takes_all: bool
) -> list[dict[str, Any]]:
    """What the class's own VALIDATE_INPUTS says. It sees constants; a linked input is None to it."""
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
    return [_error("custom_validation_failed", "Custom validation failed for node", details, input_name=None)]
