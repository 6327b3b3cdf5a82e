# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# torch types its operators and torch.library in part only.
"""Linear layers that multiply in eight bits: weights rounded once for each output, activations for each row.

A row x of activations and a row w of the weight become whole numbers, q(x) = round(x / s) with s = max|x| / 127, and
their product is s(x) s(w) (q(x) . q(w)). Whole numbers add up exactly, so only the rounding of x and w is an error.
Source: Dettmers et al., "LLM.int8()", 2022, section 2.1 (row-wise and vector-wise quantization).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from .operations import is_plain
from .processor import HAS_INT8, IS_X86

Activation = Callable[[Tensor], Tensor]
INT8 = torch.int8
"""Dtype of the weights."""
SMALLEST_INPUT = 128
"""Channels of an input from which a layer is kept in eight bits. Smaller ones cost little."""
ROWS_AT_ONCE = 256
"""Rows of activations that a layer takes through all its steps at a time, so that they stay in a processor's cache."""
LARGEST = 127
"""Largest activation in eight bits."""
LARGEST_WEIGHT = LARGEST if HAS_INT8 else 64
"""Largest weight in eight bits. Without int8 products a processor adds two of them in 16 bits, 2 * 255 * 64 at most."""


def quantized(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round a weight to whole numbers, each row by a factor of its own.

    Args:
        weight (Tensor): [outputs, inputs], floating-point.
    Returns:
        tuple[Tensor, Tensor]: [outputs, inputs] in int8, -LARGEST_WEIGHT..LARGEST_WEIGHT, and the factors [outputs] in
            float32: weight is about the first times the second.
    """
    whole, factor = weight.new_empty(weight.shape, dtype=INT8), weight.new_empty(len(weight), dtype=torch.float32)
    for begin in range(0, len(weight), ROWS_AT_ONCE):
        part = slice(begin, begin + ROWS_AT_ONCE)
        some = weight[part].float()
        factor[part] = some.abs().amax(dim=1).clamp_(min=1e-30).div_(LARGEST_WEIGHT)
        whole[part] = (some / factor[part, None]).round_()
    return whole, factor


class Linear(nn.Linear):
    """Linear layer with weights in eight bits.

    Attributes:
        weight (Tensor): [outputs, inputs], int8.
        factor (Tensor): [outputs], float32; see `quantized`.
        bias (Tensor | None): [outputs], in the dtype of the computation.
    """

    factor: Tensor

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__(in_features, out_features, bias)
        weight = torch.empty(out_features, in_features, dtype=INT8, device=self.weight.device)
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.register_buffer("factor", torch.empty(out_features, device=weight.device))

    def forward(self, input: Tensor) -> Tensor:
        rows = input.flatten(0, -2)
        return torch.unflatten(self.rows(rows), 0, input.shape[:-1])

    def rows(self, x: Tensor, added: Tensor | None = None, *, activation: Activation | None = None) -> Tensor:
        """Compute the layer for rows of activations, a few of them at a time.

        Args:
            x (Tensor): [rows, width]. Where it is narrower than the layer, it meets the first columns of the weight.
            added (Tensor | None): [rows, outputs], added to the product in place of the bias.
            activation: Function of the result, which may overwrite it.
        Returns:
            Tensor: [rows, outputs], in the dtype of `x`.
        """
        if torch.compiler.is_compiling():  # whose code goes through the rows once
            return self._some(x, added, activation)
        result = x.new_empty(len(x), self.out_features)
        for begin in range(0, len(x), ROWS_AT_ONCE):
            part = slice(begin, begin + ROWS_AT_ONCE)
            self._some(x[part], None if added is None else added[part], activation, result[part])
        return result

    def _some(
        self, x: Tensor, added: Tensor | None, activation: Activation | None, out: Tensor | None = None
    ) -> Tensor:
        whole, scale = rounded(x)
        multiply = _opaque if torch.compiler.is_compiling() else _multiply
        product = multiply(whole, self.weight, self.factor, x.dtype)
        base = added if added is not None else self._parameters["bias"]
        result = torch.addcmul(product.new_zeros(1) if base is None else base, product, scale, out=out)
        if activation is None:
            return result
        activated = activation(result)
        return activated if out is None or activated is out else out.copy_(activated)


def rounded(x: Tensor) -> tuple[Tensor, Tensor]:
    """Round activations to whole numbers, each row by a factor of its own.

    Args:
        x (Tensor): [rows, width], floating-point.
    Returns:
        tuple[Tensor, Tensor]: [rows, width] in int8, -LARGEST..LARGEST, and the factors [rows, 1] in the dtype of `x`.
    """
    largest = torch.maximum(x.amax(dim=1, keepdim=True), -x.amin(dim=1, keepdim=True))  # faster than of abs()
    scale = (largest.float() / LARGEST).clamp(min=1e-30)
    return (x * scale.reciprocal()).round_().to(INT8), scale.to(x.dtype)


def floating_state(network: nn.Module) -> dict[str, Tensor | Linear]:
    """Return the weights of a network by their keys in a checkpoint.

    Returns:
        dict[str, Tensor | Linear]: A layer in eight bits stands for its weight, which `floating` makes.
    """
    state: dict[str, Tensor | Linear] = dict(network.state_dict())
    for name, layer in network.named_modules():
        if isinstance(layer, Linear):
            state[f"{name}.weight"] = layer
            del state[f"{name}.factor"]
    return state


def floating(layer: nn.Module, columns: slice, dtype: torch.dtype) -> Tensor:
    """Return some columns of a linear layer's weight in floating point, whatever it is kept in: [outputs, columns]."""
    weight = layer.get_parameter("weight")[:, columns]
    return (weight * layer.factor[:, None] if isinstance(layer, Linear) else weight).to(dtype)


def _multiply(x: Tensor, weight: Tensor, factor: Tensor, dtype: torch.dtype) -> Tensor:
    """Multiply whole numbers.

    Args:
        x (Tensor): [rows, width], int8.
        weight (Tensor): [outputs, inputs], int8; its first `width` columns are used.
        factor (Tensor): [outputs], float32, which the products are multiplied by.
        dtype: Dtype of the result.
    Returns:
        Tensor: [rows, outputs].
    """
    width = x.shape[1]
    if x.device.type == "cpu" and IS_X86 and torch.backends.mkldnn.is_available():
        packed = _packed(weight, width)
        zeros = torch.zeros(len(factor), dtype=torch.int32)
        linear = torch.ops.onednn.qlinear_pointwise
        shifted = x.view(torch.uint8).bitwise_xor(128)  # x + 128, which processors multiply faster than signed numbers
        return linear(shifted, 1.0, 128, packed, factor, zeros, None, 1.0, 0, dtype, "none", [], "")
    columns = weight[:, :width].t()
    if x.device.type == "cuda" and len(x) > 16 and not (width % 8 or len(weight) % 8):  # the limits of cuBLAS
        return (_int_mm(x, columns) * factor).to(dtype)
    return (torch.mm(x.float(), columns.float()) * factor).to(dtype)


_opaque = torch.library.custom_op("wuerstchen_core::int8_product", _multiply, mutates_args=())
"""`_multiply` as a single operator for torch.compile, which cannot see into packed weights."""


@_opaque.register_fake
def _(x: Tensor, weight: Tensor, factor: Tensor, dtype: torch.dtype) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[0], dtype=dtype)


_int_mm = cast("Callable[[Tensor, Tensor], Tensor]", vars(torch)["_int_mm"])  # torch has no public name for it
_packings: Any = WeakTensorKeyDictionary()
"""Weight -> {width: its first columns in the order in which oneDNN reads them}. An entry goes with its weight."""


def _packed(weight: Tensor, width: int) -> Tensor:
    forms: dict[int, Tensor] = _packings.setdefault(weight, {})
    if width not in forms:
        forms[width] = torch.ops.onednn.qlinear_prepack(weight[:, :width].contiguous(), None)
    return forms[width]


def _linear(in_features: int, out_features: int, bias: bool = True) -> nn.Linear:
    """Return a linear layer, in eight bits where that is worth it."""
    return (Linear if in_features >= SMALLEST_INPUT else nn.Linear)(in_features, out_features, bias)


@dataclass(frozen=True)
class Int8Operations:
    """Namespace of these layers. Convolutions are those of torch.nn.

    Attributes:
        compute_dtype: Dtype that a network computes in, but for the products.
    """

    compute_dtype: torch.dtype
    Conv2d = nn.Conv2d
    ConvTranspose2d = nn.ConvTranspose2d
    Linear = cast("type[nn.Linear]", staticmethod(_linear))  # a function in place of a class

    @staticmethod
    def reads_weights(layer: nn.Module) -> bool:
        """Return whether the weights of a layer may be folded; see `operations.reader_of`."""
        return is_plain(layer) or isinstance(layer, Linear)
