"""Reading the tensors of one file, whatever its format, without running anything that it contains."""

import pickle
import re
import warnings
from pathlib import Path

import torch
from torch import Tensor

from ..errors import CheckpointError, WeightsMissingError

WRAPPERS = ("ema_state_dict", "state_dict")
"""Where a training checkpoint keeps its weights; the first that is there is read."""

_NOT_WEIGHTS = (
    (b"<", "a web page, not weights: the link was opened rather than downloaded. Download the file itself"),
    (b"version https://git-lfs", "a Git LFS pointer, not weights. Run `git lfs pull` where it was cloned"),
)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.safetensors`, `.pt` or `.bin` file by the names they have there, memory-mapped if possible.

    What the file is, is read from its first bytes; its name does not matter.

    Raises:
        WeightsMissingError: there is no such file.
        CheckpointError: it is empty, damaged, something else, or a pickle that holds code.
    """
    start = _first_bytes(path)
    for mark, what in _NOT_WEIGHTS:
        if start.lstrip().lower().startswith(mark):
            raise CheckpointError(f"{path} is {what}.")
    if start[8:9] == b"{":
        return _read_safetensors(path)
    if start.startswith((b"PK", b"\x80")):
        return _read_torch(path, is_zip=start.startswith(b"PK"))
    raise CheckpointError(
        f"{path} is neither a safetensors nor a PyTorch file (it begins with {start[:8]!r}). "
        "Expected a .safetensors, .pt or .bin file; download it again if it should be one."
    )


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except FileNotFoundError as error:
        raise WeightsMissingError(f"{path} does not exist; expected a checkpoint. Check the path.") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}. Check its permissions.") from error
    if not start:
        raise CheckpointError(f"{path} is empty; expected a checkpoint. Download it again.")
    return start


def _damaged(path: Path, kind: str, error: Exception) -> CheckpointError:
    reason = re.split(r"\n|\. ", str(error).strip())[0] or type(error).__name__
    return CheckpointError(f"{path} is a damaged or incomplete {kind} file ({reason}). Download it again.")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError) as error:
        raise _damaged(path, "safetensors", error) from error


def _read_torch(path: Path, *, is_zip: bool) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as error:
        raise _refused(path, error) from error
    except Exception as error:  # a damaged pickle makes its reader raise whatever it happens upon
        raise _damaged(path, "PyTorch", error) from error
    if isinstance(content, dict):
        content = next((content[name] for name in WRAPPERS if isinstance(content.get(name), dict)), content)
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}; expected a dictionary of tensors, by itself or under one of "
            f"{', '.join(WRAPPERS)}. Save the network's state_dict() instead."
        )
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise CheckpointError(
                f"{path}: {key!r} is a {type(value).__name__}; expected tensors by name, or such a dictionary under "
                f"one of {', '.join(WRAPPERS)}. Save the network's state_dict() instead."
            )
    return dict(content)


def _refused(path: Path, error: pickle.UnpicklingError) -> CheckpointError:
    named = re.search(r"GLOBAL ([\w.]*\w)\s", str(error))
    if named is None:
        told = re.search(r"WeightsUnpickler error:\s*(.+)", str(error))
        reason = told[1].strip() if told else type(error).__name__
        return CheckpointError(
            f"{path} was refused: it is damaged or holds more than tensors ({reason}). "
            "Download it again, or ask whoever made it for a .safetensors file."
        )
    return CheckpointError(
        f"{path} was refused: it contains code or Python objects ({named[1]}), which loading would run. "
        "Expected tensors only. If you trust whoever made it, ask them for a .safetensors file."
    )
