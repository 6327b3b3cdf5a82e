"""Choice of a network's layers by the dtype that its weights are kept in."""

import torch
from torch import nn

from .float8 import FLOAT8, Float8Operations
from .int8 import INT8, Int8Operations
from .operations import Operations, compute_dtype


def kept_dtype(network: nn.Module) -> torch.dtype:
    """Return the dtype that a network keeps the weights of its layers in."""
    dtypes = {weight.dtype for weight in network.parameters()}
    return next((each for each in (INT8, FLOAT8) if each in dtypes), next(iter(dtypes)))


def operations_for(dtype: torch.dtype | None, device: torch.device, computed: torch.dtype | None = None) -> Operations:
    """Return the namespace of layers for weights of a dtype: those of eight bits where it has as many, else torch.nn.

    Args:
        dtype: Dtype of the weights.
        device: Device to compute on.
        computed: Dtype to compute in with weights of eight bits; None for the device's own.
    """
    if dtype not in (FLOAT8, INT8):
        return nn
    kind = Float8Operations if dtype == FLOAT8 else Int8Operations
    return kind(computed or compute_dtype(device))
