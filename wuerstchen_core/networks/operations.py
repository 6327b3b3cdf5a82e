"""Namespaces that a network takes its layers from, which decide how weights are kept and multiplied."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import nn

from .processor import HAS_BFLOAT16


class Operations(Protocol):
    """Namespace of the layers that hold most weights: `torch.nn`, or another one with these names.

    A host's layers may keep their weights elsewhere or in another dtype, and fetch them when they compute. The
    namespace may then carry two more names, which a network reads once, when it is built:

    - `reads_weights(layer) -> bool`: see `reader_of`.
    - `compute_dtype`: see `compute_dtype_of`.
    """

    @property
    def Conv2d(self) -> type[nn.Conv2d]: ...
    @property
    def ConvTranspose2d(self) -> type[nn.ConvTranspose2d]: ...
    @property
    def Linear(self) -> type[nn.Linear]: ...


WeightReader = Callable[[nn.Module], bool]
"""Function from a layer to True where it computes with its `weight` and `bias` exactly as they are."""


def is_plain(layer: nn.Module) -> bool:
    """Return whether a layer is one of torch.nn's own, which compute with their weights as they are."""
    return type(layer) in (nn.Linear, nn.Conv2d)


def reader_of(operations: Operations) -> WeightReader:
    """Return the function that says which layers' weights a network may read and fold into others.

    A layer that fetches, casts or patches its weights when it computes must be called instead.

    Returns:
        WeightReader: `operations.reads_weights` where there is one, else `is_plain`.
    """
    return getattr(operations, "reads_weights", is_plain)


def compute_dtype_of(operations: Operations) -> torch.dtype | None:
    """Return the dtype to compute in where layers keep their weights in another; None for that of the weights."""
    return getattr(operations, "compute_dtype", None)


def compute_dtype(device: torch.device) -> torch.dtype:
    """Return the dtype to compute in on a device where weights are kept in eight bits.

    That is bfloat16 where the device multiplies in it, else float16 or float32.
    """
    if device.type == "cpu":
        return torch.bfloat16 if HAS_BFLOAT16 else torch.float32
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float16
    return torch.bfloat16
