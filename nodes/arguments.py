"""Checks of a node's arguments against its INPUT_TYPES.

ComfyUI and the command check what is typed into a widget. What comes through a link, or from a script, is checked here,
before anything is computed. A CONDITIONING, a LATENT and an IMAGE are checked where they are read, in `sockets` and
`pictures`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from inspect import signature
from typing import Any, TypeVar, cast

from wuerstchen_core.errors import InputError
from wuerstchen_core.files.untrusted import check_text

from .host import host
from .lazy import LazyStageC
from .shown import shown
from .widgets import MIN_LINKED

NETWORKS = {
    "WUERSTCHEN_STAGE_C": ("Stage C", "networks.stage_c", "StageC"),
    "WUERSTCHEN_STAGE_B": ("Stage B", "networks.stage_b", "StageB"),
    "WUERSTCHEN_STAGE_A": ("Stage A", "networks.stage_a", "StageA"),
    "WUERSTCHEN_TEXT_ENCODER": ("Text Encoder", "text.encoder", "TextEncoder"),
    "WUERSTCHEN_IMAGE_ENCODER": ("Image Encoder", "networks.image_encoder", "ImageEncoder"),
}
"""Type of a socket -> name of the network, and the core's module and class of it."""
LONGEST_NAME = 1024
"""Most characters of a name that stands for a file."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN")
_LAZY = "check_lazy_status"
_Node = TypeVar("_Node", bound=type[Any])


def checked(node_class: _Node) -> _Node:
    """Let a node class check its arguments before its function runs; a class decorator."""
    for name in (node_class.FUNCTION, _LAZY):
        if hasattr(node_class, name):
            setattr(node_class, name, _checking(node_class, getattr(node_class, name)))
    return node_class


def check_argument(name: str, kind: Any, options: Mapping[str, Any], value: Any) -> None:
    """Check one argument.

    Args:
        name: Name of the input.
        kind: Its type, or the list of its choices.
        options: Its options.
        value: The argument.
    Raises:
        InputError: It is not of that type, out of range, or none of the choices.
    """
    if isinstance(kind, list):
        _check_choice(name, kind, options, value)
    elif kind in ("INT", "FLOAT"):
        _check_number(name, kind, options, value)
    elif kind == "STRING":
        _check_string(name, value)
    elif kind == "BOOLEAN" and not isinstance(value, bool):
        raise InputError(f"{name} is {shown(value)}; expected true or false.")
    elif _is_network(kind):
        _check_network(name, kind, value)


def _checking(node_class: type[Any], function: Callable[..., Any]) -> Callable[..., Any]:
    parameters = signature(function)
    whole_lists = getattr(node_class, "INPUT_IS_LIST", False)
    asks = function.__name__ == _LAZY  # only the widgets decide what a node asks for

    @wraps(function)
    def check_and_run(*given: Any, **named: Any) -> Any:
        arguments = parameters.bind(*given, **named).arguments
        declared: dict[str, Any] = node_class.INPUT_TYPES()
        for group in ("required", "optional"):
            for name, (kind, options) in declared.get(group, {}).items():
                may_lack = _is_network(kind) and (group == "optional" or options.get("lazy", False))
                if name not in arguments or (may_lack and (asks or arguments[name] is None)):
                    continue
                for value in _each(name, kind, arguments[name]) if whole_lists else [arguments[name]]:
                    check_argument(name, kind, options, value)
        return function(*given, **named)

    return check_and_run


def _is_network(kind: Any) -> bool:
    return isinstance(kind, str) and kind in NETWORKS


def _each(name: str, kind: Any, values: Any) -> Sequence[Any]:
    """Return the values of an input of a node that takes lists; None, of a socket, is none. Raises: InputError."""
    is_widget = isinstance(kind, list) or kind in _WIDGETS
    if values is None and not is_widget:
        return []
    if not isinstance(values, (list, tuple)) or (is_widget and not values):
        raise InputError(f"{name} is {shown(values)}; expected a list of values, as ComfyUI passes them.")
    return cast("Sequence[Any]", values)


def _check_choice(name: str, choices: list[Any], options: Mapping[str, Any], value: Any) -> None:
    if not isinstance(value, str):
        raise InputError(f"{name} is {shown(value)}; expected one of {', '.join(map(str, choices))}.")
    if options.get("takes_path_headless", False):  # the node looks the name up, and says where
        if not value.strip("./\\ ") or len(value) > LONGEST_NAME or _CONTROL.search(value):
            raise InputError(
                f"{name} is {shown(value)}; expected a name from the list, of at most {LONGEST_NAME} characters in one "
                "line."
            )
        _check_string(name, value)
    elif value not in choices:
        raise InputError(f"{name} is {shown(value)}; expected one of {', '.join(map(str, choices))}.")


def _check_number(name: str, kind: str, options: Mapping[str, Any], value: Any) -> None:
    is_right = isinstance(value, int if kind == "INT" else (int, float)) and not isinstance(value, bool)
    low, high = options.get(MIN_LINKED, options["min"]), options["max"]
    if not is_right or not low <= value <= high:
        what = "whole number" if kind == "INT" else "number"
        raise InputError(f"{name} is {shown(value)}; expected a {what} from {low} to {high}.")


def _check_string(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise InputError(f"{name} is {shown(value)}; expected a text.")
    try:
        check_text(value)
    except ValueError as error:
        raise InputError(f"{name} cannot be read: {error}. Type it again.") from None


def _check_network(name: str, kind: str, value: Any) -> None:
    from importlib import import_module

    import wuerstchen_core

    title, module, class_name = NETWORKS[kind]
    if kind == "WUERSTCHEN_STAGE_C" and isinstance(value, LazyStageC):
        return
    wanted = getattr(import_module(f"{wuerstchen_core.__name__}.{module}"), class_name)
    network = None if isinstance(value, LazyStageC) else _network_in(value)
    if not isinstance(network, wanted):
        found = "Stage C" if isinstance(value, LazyStageC) else shown(value if network is None else network)
        raise InputError(f"{name} is {found}; expected {title}. Connect the node Load {title}.")


def _network_in(value: Any) -> Any:
    """Return the network inside a value of a socket; None if it is not what the host keeps networks in."""
    try:
        return host().network_of(value)
    except AttributeError:
        return None
