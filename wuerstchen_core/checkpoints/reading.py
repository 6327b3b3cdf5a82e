"""Read the files of a stage: its config, its preview colours and its tensors, under the published key names.

Runs nothing that a file contains, and builds no network.
"""

# safetensors does not type the files that safe_open opens
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false

import os
import pickle
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from ..errors import CheckpointError, WeightsMissingError
from .components import IMAGE_ENCODER
from .keys import canonical, of_part
from .layouts import StageFiles, read_json

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


_OLD_PICKLE = b"\x80"
"""First byte of a file of torch's older form, a pickle without a zip file around it."""
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
        self._mapped = not any(_first_bytes(path).startswith(_OLD_PICKLE) for path in files)
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
    state: dict[str, Tensor] = {}
    wrappers = IMAGE_ENCODER_WRAPPERS if part == IMAGE_ENCODER.part else WRAPPERS
    for path in files.tensors:
        state.update(read_tensors(path, wrappers))
    return Checkpoint(files, config, latent_rgb, canonical(of_part(state, part), str(files.weights)))


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
        return _read_safetensors(path)
    if start.startswith((b"PK", _OLD_PICKLE)):
        return _read_torch(path, wrappers, is_zip=start.startswith(b"PK"))
    raise CheckpointError(
        f"{path} is neither a safetensors nor a PyTorch file (it begins with {start[:8]!r}). "
        "Expected a .safetensors, .pt or .bin file; download it again if it should be one."
    )


def read_preview(path: Path) -> Tensor:
    """Read the map from latents to RGB [channels + 1, 3] in a preview.json. Raises: CheckpointError."""
    rows: Any = read_json(path).get("latent_rgb")
    try:
        table = torch.tensor(rows, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError):
        table = torch.empty(0)
    if table.ndim != 2 or table.shape[1] != 3 or not bool(torch.isfinite(table).all()):
        raise CheckpointError(
            f"{path}: latent_rgb is no table of numbers with three columns. It is used for previews only; delete the "
            "file."
        )
    return table


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


def _read_torch(path: Path, wrappers: Sequence[str], *, is_zip: bool) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content: object = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as error:
        raise _refused(path, error) from error
    except Exception as error:  # reading a damaged pickle may raise anything
        raise _damaged(path, "PyTorch", error) from error
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
                f"{path}: {key!r} is a {type(value).__name__}; expected tensors by name, or such a dictionary under "
                f"one of {', '.join(wrappers)}. Save the network's state_dict() instead."
            )
        state[key] = value
    return state


def _refused(path: Path, error: pickle.UnpicklingError) -> CheckpointError:
    """Return the error for a pickle that torch refused, with the name of the object it would have to run."""
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
