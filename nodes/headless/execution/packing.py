"""Convert a node's result to arrays and plain JSON, the form in which it is stored on disk, and back.

Tensors become arrays, since reading arrays needs no torch: a cached image is saved again without importing it.
"""

import json
from dataclasses import replace
from typing import Any

import numpy

from wuerstchen_core.files.untrusted import most_values_in, parse_json

from .calls import Outputs

Array = numpy.ndarray[Any, Any]
_MOST_VALUES = 100_000
"""Most values of a result, beside the numbers of its tensors."""


class NotPlainError(TypeError):
    """A value is neither a tensor that numpy knows nor plain data, so that it cannot be stored."""


def pack(outputs: Outputs) -> tuple[dict[str, Array], str]:
    """Return the tensors as arrays by name, and a JSON text of the other values with references to the arrays.

    Raises:
        NotPlainError: A value cannot be stored, such as a network, or there are too many to be read again.
    """
    arrays: dict[str, Array] = {}
    text = json.dumps(_packed(outputs.slots, arrays))
    if most_values_in(text) > _MOST_VALUES:
        raise NotPlainError(f"more than {_MOST_VALUES:,} values")
    return arrays, text


def unpack(arrays: dict[str, Array], text: str) -> Outputs:
    """Return the result that `pack` was given, with arrays in place of tensors; `with_tensors` converts them.

    Raises:
        ValueError, KeyError or TypeError: The text is not from `pack`.
    """
    slots = _unpacked(parse_json(text, values=_MOST_VALUES), arrays)
    if not isinstance(slots, list) or not all(isinstance(slot, list) for slot in slots):
        raise ValueError("its values are no lists")
    return Outputs(slots)


def with_tensors(outputs: Outputs) -> Outputs:
    """Return the same result with a tensor in place of each array."""
    return replace(outputs, slots=tensors_in(outputs.slots))


def tensors_in(value: Any) -> Any:
    """Return the same value with a tensor in place of each array, sharing its memory."""
    if isinstance(value, numpy.ndarray):
        import torch

        return torch.from_numpy(value)
    if isinstance(value, (list, tuple)):
        return type(value)(tensors_in(each) for each in value)
    return {key: tensors_in(each) for key, each in value.items()} if isinstance(value, dict) else value


def _packed(value: Any, arrays: dict[str, Array]) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return {type(value).__name__: [_packed(each, arrays) for each in value]}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"dict": {key: _packed(each, arrays) for key, each in value.items()}}
    name = str(len(arrays))
    arrays[name] = _array_of(value)
    return {"tensor": name}


def _array_of(value: Any) -> Array:
    if isinstance(value, numpy.ndarray):
        return value
    import torch

    if not isinstance(value, torch.Tensor):
        raise NotPlainError(f"a {type(value).__name__}")
    try:
        return value.detach().cpu().numpy().copy(order="C")
    except (TypeError, RuntimeError) as error:
        raise NotPlainError(f"a tensor on {value.device} of {value.dtype}: {error}") from error


def _unpacked(value: Any, arrays: dict[str, Array]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return arrays[content]
    if kind == "dict":
        return {key: _unpacked(each, arrays) for key, each in dict(content).items()}
    return {"list": list, "tuple": tuple}[kind](_unpacked(each, arrays) for each in content)
