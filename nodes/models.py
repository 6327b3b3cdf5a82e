"""Models that loaders offer: presets, and files and folders in the user's model folders."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from wuerstchen_core.checkpoints.components import COMPONENTS
from wuerstchen_core.checkpoints.layouts import PREVIEWER_FILES
from wuerstchen_core.checkpoints.presets import PRESETS, preset, preset_names, published_file
from wuerstchen_core.checkpoints.sources import locate
from wuerstchen_core.errors import CheckpointError, InputError, WeightsMissingError
from wuerstchen_core.networks.processor import HAS_BFLOAT16, HAS_INT8, LARGE

from .host import current_host, host

if TYPE_CHECKING:
    import torch

WEIGHT_SUFFIXES = frozenset({".safetensors", ".sft", ".pt", ".pth", ".bin", ".ckpt"})
"""Suffixes of files that may hold a network."""
FOLDER_MARKS = frozenset({"model_index.json", "config.json"})
"""Files that make their folder one model, as an index of shards does."""
_INDEX = ".index.json"
_MOST_FILES = 1000
"""Most files of a folder that its fingerprint covers beside those of the model."""

DTYPE_NAMES = ["default", "float32", "bfloat16", "float16"]
"""Choices of a loader's `dtype`."""
TEXT_NAMES = [*DTYPE_NAMES, "int8"]
"""Choices for text encoders."""
STORED_NAMES = [*TEXT_NAMES, "float8_e4m3fn"]
"""Choices for Stages C and B."""


def names_in(files: Iterable[str]) -> list[str]:
    """List the models among the files of a model folder.

    Args:
        files: Paths relative to the folder, with either kind of slash.
    Returns:
        list[str]: Sorted names with forward slashes: the path of a weights file, or of a folder with config.json,
            model_index.json or an index of shards. Files inside such a folder and previewers are not listed.
    """
    paths = [PurePosixPath(file.replace("\\", "/")) for file in files]
    marked = (path for path in paths if path.name in FOLDER_MARKS or path.name.endswith(_INDEX))
    folders = {path.parent for path in marked} - {PurePosixPath(".")}
    weights = {path for path in paths if path.suffix.lower() in WEIGHT_SUFFIXES and path.name not in PREVIEWER_FILES}
    return sorted(str(path) for path in folders | weights if folders.isdisjoint(path.parents))


def find_in(folders: Iterable[str | Path], name: str) -> Path | None:
    """Find a model by name in the first folder that has it.

    Returns:
        Path | None: None if no folder has it, or if the name leads out of the folders.
    """
    relative = PurePosixPath(name.replace("\\", "/"))
    if not relative.parts or relative.is_absolute() or ".." in relative.parts or ":" in relative.parts[0]:
        return None
    candidates = (Path(folder) / relative for folder in folders)
    return next((path for path in candidates if os.path.exists(path)), None)


def checked_name(name: object, of: str = "model") -> str:
    """Return a name that a workflow gives. Raises: InputError, where it is no text."""
    if not isinstance(name, str):
        raise InputError(f"{of} is {reprlib.repr(name)}; expected the name of a file, as a text.")
    return name


def choices(part: str) -> list[str]:
    """List the choices of a loader's `model`: presets, then the models in the host's model folders.

    Args:
        part: Part that the loader loads: "C", "B", "A" or "text_encoder".
    """
    presets = preset_names(part)
    there = current_host()
    own = there.model_names() if there is not None else []
    return [*presets, *(name for name in own if name not in presets)]


def source_of(name: str, part: str) -> str | Path:
    """Return the source that the core's loaders take for a name that `choices` lists.

    A published preset in the model folders, under the name of its repository, is loaded from there.

    Args:
        name: Name of the model.
        part: Name of the part, as in `checkpoints.components.COMPONENTS`.
    Raises:
        WeightsMissingError: There is no such preset, and no such model in the model folders.
    """
    path = _path_of(name, part)
    if path is None and name not in PRESETS:
        raise WeightsMissingError(
            f"model is {name[:300]!r}, which is neither in the model folders nor one of {', '.join(PRESETS)}. "
            "Put the file or folder there, or choose another model."
        )
    return path or name


def source_files(name: str, part: str) -> list[Path]:
    """List every file that is read to load a part of a model. Arguments as for `source_of`.

    Raises:
        WeightsMissingError: A file is not on this machine.
        CheckpointError: An index of shards is damaged.
    """
    return list(locate(source_of(name, part), part).paths)


def read_files(name: str, part: str, dtype: str) -> list[Path]:
    """Return the files whose weights a loader reads: rounded ones of an earlier start, where it has kept them.

    Args:
        name: Name of the model.
        part: Name of the part.
        dtype: Value of the loader's `dtype`.
    Raises:
        WeightsMissingError, CheckpointError: As for `source_files`.
    """
    files = locate(source_of(name, part), part)
    if dtype == "int8":
        from wuerstchen_core.checkpoints.int8_files import file_for
        from wuerstchen_core.networks.operations import compute_dtype

        kept = file_for(part, files.tensors, compute_dtype(host().device()))
        if kept.is_file():
            return [kept]
    return list(files.tensors)


def missing_parts(name: str) -> list[str]:
    """List the parts of a preset that are not on this machine, or not whole."""
    missing: list[str] = []
    for part in preset(name):
        try:
            source_files(name, part)
        except WeightsMissingError:
            missing.append(part)
    return missing


def fingerprint(name: str, part: str) -> str:
    """Return a text that changes with the size or the time of one of the files that the model is loaded from."""
    path = _path_of(name, part)
    if path is None:
        return name
    files = {path}
    with suppress(OSError):  # it is no folder, or one that cannot be listed
        files.update(islice(path.iterdir(), _MOST_FILES))
    with suppress(CheckpointError):  # loading raises it
        files.update(locate(path, part).paths)
    stats = [(file.name, file.stat()) for file in sorted(files) if os.path.isfile(file)]
    return f"{path} {[(each, stat.st_size, stat.st_mtime_ns) for each, stat in stats]}"


@contextmanager
def explained(name: str, part: str) -> Iterator[None]:
    """Say of a missing published preset which file is missing, how large it is, and how to get it in this host.

    Raises:
        WeightsMissingError: The context raised one.
    """
    try:
        yield
    except WeightsMissingError as error:
        place = PRESETS[name][part] if name in PRESETS else None
        if place is None or place.repo is None:
            raise
        file = published_file(place, part)
        advice = host().download_advice(name, place.repo, file)
        if advice is None:
            raise
        raise WeightsMissingError(
            f"The {COMPONENTS[part].title} of {name} is not on this machine: {file} of {place.repo} is missing, "
            f"{place.gigabytes} GB. {advice}"
        ) from error


def dtype_of(name: str, stage: str) -> torch.dtype | None:
    """Return the dtype of a loader's `dtype`; None for the one that suits the network.

    Args:
        name: One of STORED_NAMES; "default" for the host's choice.
        stage: "C", "B" or "A".
    Raises:
        InputError: There is no such name.
    """
    if checked_dtype(name) == "default":
        return host().dtype(stage)
    import torch

    return getattr(torch, name)


def checked_dtype(name: object) -> str:
    """Return the value of a loader's `dtype`. Raises: InputError, where it is none."""
    if name not in STORED_NAMES:
        raise InputError(f"dtype is {reprlib.repr(name)}; expected one of {', '.join(STORED_NAMES)}.")
    return str(name)


def precision_of(name: str, dtype: str, stage: str) -> str:
    """Return the precision that a loaded network computes in, as far as it can be told without reading its weights.

    Args:
        name: Name of the model.
        dtype: Value of the loader's `dtype`.
        stage: "C", "B" or "A".
    Returns:
        str: Name of a dtype, or "by size" where the number of weights decides between float32 and bfloat16.
    Raises:
        WeightsMissingError, CheckpointError: As for `source_files`.
        InputError: `dtype` is none of STORED_NAMES.
    """
    if checked_dtype(dtype) == "int8":
        return "int8" if HAS_INT8 else "int8 without int8 products"
    if dtype != "default":
        return dtype
    chosen = host().dtype(stage)
    if chosen is not None:
        return str(chosen).removeprefix("torch.")
    size = sum(path.stat().st_size for path in source_files(name, stage))  # a weight takes a byte or more
    return "by size" if HAS_BFLOAT16 and size >= LARGE else "float32"


def _path_of(name: str, part: str) -> Path | None:
    if checked_name(name) not in PRESETS:
        return host().find_model(name)
    place = PRESETS[name][part]
    if place.repo is None:
        return None
    places = filter(None, (place, place.otherwise))
    found = [path for each in places if (path := host().find_model(str(each))) is not None]
    whole = (path for path in found if _is_whole(path, part))
    return next(whole, found[0] if found else None)


def _is_whole(path: Path, part: str) -> bool:
    """Return whether all files of a part are there: a download may have been cut short."""
    try:
        locate(path, part)
    except CheckpointError:
        return False
    return True
