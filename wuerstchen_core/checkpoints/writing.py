"""Write a .safetensors file tensor by tensor, so that only one of them has to be in memory.

The library's own `save_file` takes all tensors at once. Format: the length of the header in 8 bytes, the header as JSON
with the dtype, shape and place of each tensor, then the tensors. Source: the documentation of safetensors, "Format".
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.int64: "I64",
    torch.int8: "I8",
}
"""Dtype -> its name in the header."""


class Weight(NamedTuple):
    """One tensor to write.

    Attributes:
        shape: Its shape.
        dtype: Its dtype in the file.
        make: Function that returns it, in any dtype and on any device. It is called when the tensor is written.
    """

    shape: torch.Size
    dtype: torch.dtype
    make: Callable[[], Tensor]


def write_tensors(path: Path, weights: Mapping[str, Weight], metadata: Mapping[str, str] | None = None) -> None:
    """Write a .safetensors file.

    Args:
        path: The file; one that is there is replaced.
        weights: Key -> tensor.
        metadata: Entries of the header beside {"format": "pt"}.
    Raises:
        OSError: It cannot be written.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt", **(metadata or {})}}
    end = 0
    for key, weight in weights.items():
        start, end = end, end + weight.shape.numel() * weight.dtype.itemsize
        header[key] = {"dtype": _NAMES[weight.dtype], "shape": list(weight.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for weight in weights.values():
            tensor = weight.make().detach().to("cpu", weight.dtype).contiguous()
            file.write(tensor.flatten().view(torch.uint8).numpy().data)
