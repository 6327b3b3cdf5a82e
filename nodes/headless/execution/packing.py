"""What a node gave, as arrays and plain JSON, and back: the form in which results lie on disk.

Arrays, since reading them needs no torch: a picture that was drawn before is saved again without waiting for it.
"""

import json
from dataclasses import replace
from typing import Any

import numpy

from .calls import Outputs

Array = numpy.ndarray[Any, Any]


class NotPlainError(TypeError):
    """A value is neither a plain tensor in main memory nor plain data, so that it cannot be stored."""


def pack(outputs: Outputs) -> tuple[dict[str, Array], str]:
    """The tensors as arrays by name, and a JSON text that says where each of them belongs.

    Raises:
        NotPlainError: there is something else in it, such as a network.
    """
    arrays: dict[str, Array] = {}
    return arrays, json.dumps(_packed(outputs.slots, arrays))


def unpack(arrays: dict[str, Array], text: str) -> Outputs:
    """The opposite of `pack`, but for the tensors, which stay arrays until `with_tensors` makes them what they were.

    Raises:
        ValueError, KeyError or TypeError: the text is not from `pack`.
    """
    return Outputs(_unpacked(json.loads(text), arrays))


def with_tensors(outputs: Outputs) -> Outputs:
    """The same, with a tensor for each array."""
    return replace(outputs, slots=tensors_in(outputs.slots))


def tensors_in(value: Any) -> Any:
    """The same value, with a tensor for each array in it, over the same memory."""
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
        return value.detach().numpy().copy(order="C")
    except (TypeError, RuntimeError) as error:
        raise NotPlainError(f"a tensor on {value.device} of {value.dtype}: {error}") from error


def _unpacked(value: Any, arrays: dict[str, Array]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return arrays[content]
    if kind == "dict":
        return {key: _unpacked(each, arrays) for key, each in content.items()}
    return {"list": list, "tuple": tuple}[kind](_unpacked(each, arrays) for each in content)
