"""Checks that a network has given finite numbers, and finds out what is to blame where it has not."""

import torch
from torch import Tensor, nn

from ..errors import CheckpointError, InputError


def finite(result: Tensor, network: nn.Module, name: str, **given: Tensor | None) -> Tensor:
    """Return the result of a network; raise an error where a value in it is not a finite number.

    Args:
        result: The result, before it is clamped.
        network: The network.
        name: Name of the network, for messages.
        given: Tensors that the result was computed from, by their names.
    Raises:
        InputError: One of `given` holds such a value already.
        CheckpointError: None does. The message names the first weight that does, if there is one.
    """
    if is_finite(result):
        return result
    bad = next((key for key, tensor in given.items() if tensor is not None and not is_finite(tensor)), None)
    if bad is not None:
        raise InputError(f"{bad} holds values that are NaN or infinite; expected finite numbers. Make or load it anew.")
    gave = f"{name} gave values that are NaN or infinite, of which no picture can be made"
    broken = next((key for key, weight in network.state_dict().items() if not _has_finite_numbers(weight)), None)
    if broken is not None:
        raise CheckpointError(
            f"{gave}: its weight {broken} holds such values. The checkpoint is damaged, or too large for the dtype it "
            "was loaded in, as happens in float16. Load another checkpoint, or choose another dtype."
        )
    raise CheckpointError(
        f"{gave}. Its weights are finite; in float16 its results may be too large: choose another dtype. A LoRA, an "
        "embedding or a guidance that is too strong does the same, and so do inputs that are too large."
    )


def is_finite(tensor: Tensor) -> bool:
    """Return whether all values are finite numbers, without taking memory for as many answers."""
    return not tensor.numel() or all(bool(torch.isfinite(end)) for end in torch.aminmax(tensor))


def _has_finite_numbers(weight: Tensor) -> bool:
    """Return whether a weight is finite; one of whole numbers is, and so is one whose values are elsewhere."""
    if not weight.is_floating_point() or weight.is_meta:
        return True
    return is_finite(weight.float() if weight.dtype.itemsize == 1 else weight)
