"""Building a network again around given weights: of other layers, of another class, or with other values."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from .operations import Operations
from .stage_a import StageA
from .stage_b import StageB
from .stage_c import StageC

Network = TypeVar("Network", StageA, StageB, StageC)


def rebuild(
    network: Network,
    operations: Operations,
    *,
    kind: type[Network] | None = None,
    weights: Mapping[str, Tensor] | None = None,
) -> Network:
    """Build a network of the same shape from the layers of `operations`.

    Args:
        network: Network whose config, weights and preview colours are used. It is not changed.
        operations: Namespace that the new layers come from.
        kind: Class of the new network, with the same config and keys; None for the class of `network`.
        weights (Mapping[str, Tensor]): Shape and key of each as in `network.state_dict()`. The tensors are used as
            they are, not copied. None shares those of `network`.
    Returns:
        Network: The new network, in eval mode, without gradients.
    """
    build = cast(Callable[[Any, Operations], Network], kind or type(network))
    with torch.device("meta"):
        result = build(network.config, operations)
    result.load_state_dict(network.state_dict() if weights is None else weights, strict=True, assign=True)
    if not isinstance(network, StageA) and not isinstance(result, StageA):
        result.latent_rgb = network.latent_rgb
    if isinstance(network, StageC) and isinstance(result, StageC):
        result.previewer = network.previewer
    return result.eval().requires_grad_(False)
