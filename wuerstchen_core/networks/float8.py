"""Layers that keep their weights in eight bits, torch.float8_e4m3fn, and compute in another dtype.

A weight is converted each time its layer computes, so that a network takes half the memory of bfloat16. Biases and
norms stay in the dtype of the computation.
"""

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FLOAT8 = torch.float8_e4m3fn
"""Dtype of the weights: a sign, four bits of exponent and three of fraction, up to 448."""


class Linear(nn.Linear):
    """Linear layer that converts its weight to the dtype of its input."""

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight.to(input.dtype), self.bias)


class Conv2d(nn.Conv2d):
    """Convolution that converts its weight to the dtype of its input."""

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, self.weight.to(input.dtype), self.bias)


class ConvTranspose2d(nn.ConvTranspose2d):
    """Transposed convolution that converts its weight to the dtype of its input."""

    def forward(self, input: Tensor, output_size: Any = None) -> Tensor:
        if output_size is not None:
            raise NotImplementedError("output_size is not supported; the networks here give none.")
        weight = self.weight.to(input.dtype)
        padding = cast("tuple[int, ...]", self.padding)  # torch types it as for Conv2d, whose may be a word
        return F.conv_transpose2d(
            input, weight, self.bias, self.stride, padding, self.output_padding, self.groups, self.dilation
        )


@dataclass(frozen=True)
class Float8Operations:
    """Namespace of these layers.

    Attributes:
        compute_dtype: Dtype that a network computes in.
    """

    compute_dtype: torch.dtype
    Conv2d = Conv2d
    ConvTranspose2d = ConvTranspose2d
    Linear = Linear


def eight_bit_keys(network: nn.Module) -> set[str]:
    """Return the keys of the weights that may be kept in eight bits: those of a network's layers."""
    kinds, end = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d), ".weight"
    weights = (key for key in network.state_dict() if key.endswith(end))
    return {key for key in weights if isinstance(network.get_submodule(key.removesuffix(end)), kinds)}
