"""Read the files of a stage: its config, its preview colours and its tensors, under the published key names.

Runs nothing that a file contains, and builds no network.
"""

# safetensors does not type the files that safe_open opens
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false

import os
import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from ..errors import CheckpointError, WeightsMissingError
from ..files.untrusted import open_file
from .components import IMAGE_ENCODER
from .keys import canonical, of_part
from .layouts import StageFiles, cannot_read, read_json
from .pickles import OLD_PICKLE, ZIP, read_pickle
from .refusals import damaged

WRAPPERS = ("ema_state_dict", "state_dict")
"""Keys under which a training checkpoint keeps its weights, best first."""
IMAGE_ENCODER_WRAPPERS = ("effnet_state_dict", *WRAPPERS)
"""The same for an image encoder, which the authors keep in Stage B's file."""

_NOT_WEIGHTS = (
    (b"<", "a web page, not weights: the link was opened rather than downloaded. Download the file itself"),
    (b"version https://git-lfs", "a Git LFS pointer, not weights. Run `git lfs pull` where it was cloned"),
)
"""First bytes of a file -> explanation for messages."""


@dataclass(frozen=True)
class Checkpoint:
    """Content of a stage's files.

    Attributes:
        files: Files that were read.
        config: Content of config.json; None if there is none.
        latent_rgb: [channels + 1, 3], float32, from preview.json; None if there is none.
        state: Tensors on the CPU by their published names, memory-mapped where the format allows it.
    """

    files: StageFiles
    config: dict[str, object] | None
    latent_rgb: Tensor | None
    state: dict[str, Tensor]


MOST_TENSORS = 10_000
"""Most tensors of a file. The published Stage B has 990."""
LONGEST_NAME = 500
"""Most characters of a tensor's name."""
MOST_HEADER = 16 * 2**20
"""Most bytes that say which tensors a safetensors file holds."""
_MOST_DIMENSIONS = 8
_MOST_SHARED = 4
"""Most bytes of all tensors for each byte of a file; some of them may share their numbers."""
_FLOATS = frozenset({
    torch.float64, torch.float32, torch.float16, torch.bfloat16,
    torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz,
})  # fmt: skip
"""Dtypes of floating-point numbers that a weight may be stored in."""
READ_AT_ONCE = 64 * 2**20
"""Bytes of a file after which it is opened anew, so that what was read no longer counts as memory in use."""


class StoredTensors:
    """Tensors of files on the disk, which are mapped into memory a few at a time.

    Files of an older form of torch cannot be mapped. They are read whole, and each tensor is let go once it is given.

    Args:
        files: The files.
        state: Tensors of all of them.
        read: Function that reads `state` again.
    """

    def __init__(self, files: Sequence[Path], state: dict[str, Tensor], read: Callable[[], dict[str, Tensor]]) -> None:
        self._files, self._read_again = files, read
        self._mapped = not any(_first_bytes(path).startswith(OLD_PICKLE) for path in files)
        self._state: dict[str, Tensor] | None = state
        self._stats = self._stats_now()
        self._read = 0

    def tensor(self, key: str) -> Tensor:
        """Return a tensor as it is stored. Raises CheckpointError: A file has changed, or is gone."""
        if self._mapped and self._read > READ_AT_ONCE:
            self.release()
        if self._state is None or key not in self._state:
            if self._stats != self._stats_now():
                raise CheckpointError(f"{self._files[0]} has changed since it was opened. Load it again.")
            self._state = self._read_again()
        found = self._state[key] if self._mapped else self._state.pop(key)
        self._read += found.nbytes
        return found

    def release(self) -> None:
        """Close the files; `tensor` opens them again."""
        self._state, self._read = None, 0

    def _stats_now(self) -> list[tuple[int, int]]:
        try:
            stats = [os.stat(path) for path in self._files]
        except OSError as error:
            raise CheckpointError(
                f"{self._files[0]} was there when it was opened and is gone ({error.strerror}). Put it back, or load "
                "another checkpoint."
            ) from error
        return [(stat.st_size, stat.st_mtime_ns) for stat in stats]


def read_checkpoint(files: StageFiles, part: str) -> Checkpoint:
    """Read the files of a stage.

    Args:
        files: Files as `sources.locate_stage` or `layouts.find_stage` found them.
        part: Part of the model: "C", "B", "A" or "image_encoder".
    Raises:
        WeightsMissingError: A file is gone.
        CheckpointError: A file is empty, damaged, unsafe or of another kind.
    """
    config = read_json(files.config) if files.config else None
    latent_rgb = read_preview(files.preview) if files.preview else None
    state = read_shards(files.tensors, IMAGE_ENCODER_WRAPPERS if part == IMAGE_ENCODER.part else WRAPPERS)
    return Checkpoint(files, config, latent_rgb, canonical(of_part(state, part), str(files.weights)))


def read_shards(paths: Sequence[Path], wrappers: Sequence[str] = WRAPPERS) -> dict[str, Tensor]:
    """Read files that hold a network together. Arguments and errors as for `read_tensors`."""
    state: dict[str, Tensor] = {}
    for path in paths:
        more = read_tensors(path, wrappers)
        if twice := state.keys() & more.keys():
            raise CheckpointError(
                f"{path} holds {min(twice)!r}, and so does another shard; expected each tensor in one. Download the "
                "checkpoint again."
            )
        state.update(more)
        if len(state) > MOST_TENSORS:
            raise CheckpointError(
                f"The shards beside {path} hold more than {MOST_TENSORS:,} tensors. They are of another model; choose "
                "another checkpoint."
            )
    return state


def read_tensors(path: Path, wrappers: Sequence[str] = WRAPPERS) -> dict[str, Tensor]:
    """Read a `.safetensors`, `.pt` or `.bin` file. Its format is known by its first bytes, not by its name.

    Args:
        path: The file.
        wrappers: Keys under which a pickle may hold its dictionary of tensors, best first.
    Returns:
        dict[str, Tensor]: Tensors by their names in the file, memory-mapped if possible.
    Raises:
        WeightsMissingError: There is no such file.
        CheckpointError: It is empty, damaged, of another format, or a pickle that contains code.
    """
    start = _first_bytes(path)
    for mark, explanation in _NOT_WEIGHTS:
        if start.lstrip().lower().startswith(mark):
            raise CheckpointError(f"{path} is {explanation}.")
    if start[8:9] == b"{":  # after the length of the header in 8 bytes
        return _checked(path, _read_safetensors(path, int.from_bytes(start[:8], "little")))
    if start.startswith((ZIP, OLD_PICKLE)):
        return _checked(path, _read_torch(path, wrappers))
    raise CheckpointError(
        f"{path} is neither a safetensors nor a PyTorch file (it begins with {start[:8]!r}). "
        "Expected a .safetensors, .pt or .bin file; download it again if it should be one."
    )


def read_preview(path: Path) -> Tensor:
    """Read the map from latents to RGB [channels + 1, 3] in a preview.json. Raises: CheckpointError."""
    rows: Any = read_json(path).get("latent_rgb")
    try:
        table = torch.tensor(rows, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        table = torch.empty(0)
    if table.ndim != 2 or table.shape[1] != 3 or not bool(torch.isfinite(table).all()):
        raise CheckpointError(
            f"{path}: latent_rgb is no table of numbers with three columns. It is used for previews only; delete the "
            "file."
        )
    return table


def _first_bytes(path: Path) -> bytes:
    try:
        with open_file(path) as file:
            start = file.read(64)
    except FileNotFoundError as error:
        raise WeightsMissingError(f"{path} does not exist; expected a checkpoint. Check the path.") from error
    except (OSError, ValueError) as error:
        raise cannot_read(path, error) from error
    if not start:
        raise CheckpointError(f"{path} is empty; expected a checkpoint. Download it again.")
    return start


def _read_safetensors(path: Path, header: int) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    if header > MOST_HEADER:
        raise CheckpointError(
            f"{path} is a damaged safetensors file: its header is said to have {header:,} bytes; expected at most "
            f"{MOST_HEADER:,}. Download it again."
        )
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            keys = cast("list[str]", file.keys())
            if len(keys) > MOST_TENSORS:
                return dict.fromkeys(keys, torch.empty(0))  # too many, which the caller says
            return {key: file.get_tensor(key) for key in keys}
    except (SafetensorError, OSError) as error:
        raise damaged(path, "safetensors", error) from error


def _read_torch(path: Path, wrappers: Sequence[str]) -> dict[str, Tensor]:
    content = read_pickle(path)
    if isinstance(content, dict):
        outer = cast("dict[object, object]", content)
        content = next((outer[name] for name in wrappers if isinstance(outer.get(name), dict)), outer)
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}; expected a dictionary of tensors, by itself or under one of "
            f"{', '.join(wrappers)}. Save the network's state_dict() instead."
        )
    state: dict[str, Tensor] = {}
    for key, value in cast("Mapping[object, object]", content).items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise CheckpointError(
                f"{path}: {_shown(key)} is a {type(value).__name__}; expected tensors by name, or such a dictionary "
                f"under one of {', '.join(wrappers)}. Save the network's state_dict() instead."
            )
        state[key] = value
    return state


def _checked(path: Path, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors that a network may hold: plain ones, with a number in the file for each of their values.

    Raises:
        CheckpointError: There are too many of them, a name is too long, or one is of another kind.
    """
    if len(state) > MOST_TENSORS:
        raise CheckpointError(
            f"{path} holds {len(state):,} tensors; expected at most {MOST_TENSORS:,}. It is of another model; choose "
            "another file."
        )
    for key, tensor in state.items():
        if not _is_name(key):
            raise CheckpointError(
                f"{path} has a tensor named {_shown(key)}; expected a name of 1 to {LONGEST_NAME} printable "
                "characters. The file is damaged; download it again."
            )
        kind = _odd_kind(tensor)
        if kind is not None:
            raise CheckpointError(
                f"{path}: {key!r} is {kind}; expected a plain tensor of floating-point or whole numbers, as "
                "state_dict() has them. Choose another file, or save it again."
            )
    size = path.stat().st_size
    total = sum(tensor.nbytes for tensor in state.values())
    if total > _MOST_SHARED * size:
        raise CheckpointError(
            f"{path} has {size:,} bytes and its tensors {total:,}: they share their numbers, so that loading would "
            "take far more memory than the file. Save each tensor with numbers of its own."
        )
    return state


def _is_name(key: str) -> bool:
    return 0 < len(key) <= LONGEST_NAME and key.isprintable()


def _odd_kind(tensor: Tensor) -> str | None:
    """Say what makes a tensor none that a network may hold; None where nothing does."""
    if tensor.is_nested or tensor.layout != torch.strided:
        return "nested or sparse"
    if tensor.ndim > _MOST_DIMENSIONS:
        return f"of {tensor.ndim} dimensions"
    if tensor.device.type != "cpu":
        return f"without numbers, on the device {tensor.device.type!r}"
    if tensor.is_quantized or tensor.is_complex() or (tensor.is_floating_point() and tensor.dtype not in _FLOATS):
        return f"of the dtype {tensor.dtype}"
    if tensor.nbytes > tensor.untyped_storage().nbytes():
        return f"of shape {list(tensor.shape)} with fewer numbers than that"
    return None


def _shown(value: object) -> str:
    """Return a key for a message: a text is cut after a hundred characters, of anything large only the type is told."""
    if isinstance(value, str):
        return repr(value[:100])
    return reprlib.repr(value) if isinstance(value, int) else f"a {type(value).__name__}"
