# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false
# safetensors does not type the files that safe_open opens
"""Weights in eight bits, kept on disk so that the next start reads one byte a weight and rounds nothing."""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..files.places import int8_folder
from ..files.writing import replaced_whole
from ..networks.int8 import LARGEST_WEIGHT
from .writing import Weight, write_tensors

logger = logging.getLogger(__name__)

FORMAT = 1
"""Number of the form that this file writes; a change of `networks.int8.quantized` raises it."""


def file_for(part: str, files: Sequence[Path], dtype: torch.dtype) -> Path:
    """Return where the weights of a part are kept in eight bits. The name changes with the files and the processor.

    Args:
        part: Part of the model, such as "C".
        files: Files of the checkpoint.
        dtype: Dtype of the weights that are not in eight bits.
    """
    places = [str(path.resolve()) for path in files]
    stats = [(path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    content = [FORMAT, LARGEST_WEIGHT, str(dtype), torch.__version__, stats]
    return int8_folder() / f"{part}-{_digest(places)}-{_digest(content)}.safetensors"


def read(path: Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Return the tensors of a file, mapped into memory; None where it is not there, damaged, or of another network.

    Args:
        path: From `file_for`.
        expected: Tensors of the network on the meta device, with their shapes.
    """
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            state: dict[str, Tensor] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        logger.warning("%s is damaged and is made anew (%s).", path, error)
        return None
    same = {key: (tensor.shape, tensor.dtype == torch.int8) for key, tensor in state.items()}
    if same != {key: (tensor.shape, tensor.dtype == torch.int8) for key, tensor in expected.items()}:
        logger.warning("%s is of another network and is made anew.", path)
        return None
    return state


def write(path: Path, state: Mapping[str, Tensor]) -> None:
    """Keep the tensors of a network in a file, in place of those of an older version of its checkpoint.

    A folder that cannot be written, or is full, gives a warning.
    """
    weights = {key: Weight(tensor.shape, tensor.dtype, lambda tensor=tensor: tensor) for key, tensor in state.items()}
    try:
        with replaced_whole(path) as partial:
            write_tensors(partial, weights)
        older = path.name.rpartition("-")[0]
        for each in path.parent.glob(f"{older}-*.safetensors"):
            if each != path:
                with suppress(OSError):
                    each.unlink()
    except OSError as error:
        logger.warning("%s cannot be written (%s); the weights are rounded again the next time.", path, error.strerror)


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest()[:16]
