"""The names that loaders offer: presets, and what lies in the user's model folders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from wuerstchen_core.checkpoints.presets import PRESETS, preset_names
from wuerstchen_core.checkpoints.sources import part_files
from wuerstchen_core.errors import InputError, WeightsMissingError

from .host import current_host, host

if TYPE_CHECKING:
    import torch

WEIGHT_SUFFIXES = frozenset({".safetensors", ".sft", ".pt", ".pth", ".bin", ".ckpt"})
"""Files that may hold a network."""
FOLDER_MARKS = frozenset({"model_index.json", "config.json"})
"""Files that make the folder they lie in one model."""

DTYPE_NAMES = ["default", "float32", "bfloat16", "float16"]


def names_in(files: Iterable[str]) -> list[str]:
    """The models among files of a model folder.

    Args:
        files: paths relative to the folder, with either kind of slash.
    Returns:
        sorted names with forward slashes: a weight file's path, or a folder's where it is a model as a whole (its
        config.json or model_index.json says so; what lies inside is then no name of its own).
    """
    paths = [PurePosixPath(file.replace("\\", "/")) for file in files]
    folders = {path.parent for path in paths if path.name in FOLDER_MARKS} - {PurePosixPath(".")}
    weights = {path for path in paths if path.suffix.lower() in WEIGHT_SUFFIXES}
    return sorted(str(path) for path in folders | weights if folders.isdisjoint(path.parents))


def find_in(folders: Iterable[str | Path], name: str) -> Path | None:
    """Where the first of the `folders` holds `name`, or None; a name that leads out of them is in none."""
    relative = PurePosixPath(name.replace("\\", "/"))
    if not name or relative.is_absolute() or ".." in relative.parts or ":" in relative.parts[0]:
        return None
    candidates = (Path(folder) / relative for folder in folders)
    return next((path for path in candidates if path.exists()), None)


def choices(part: str) -> list[str]:
    """What a loader's `model` offers: presets, then the user's own models where a host is there to list them.

    Args:
        part: what of a preset is loaded, "C", "B", "A" or "text_encoder".
    """
    presets = preset_names(part)
    there = current_host()
    own = there.model_names() if there is not None else []
    return [*presets, *(name for name in own if name not in presets)]


def source_of(name: str, part: str) -> str | Path:
    """What the core's loaders take for a name that `choices` offers.

    A published preset that lies in the model folders under its repository's name is taken from there.

    Args:
        part: "C", "B", "A", "text_encoder_c" or "text_encoder_b".
    Raises:
        WeightsMissingError: it is neither a preset nor in the model folders.
    """
    path = _path_of(name, part)
    if path is None and name not in PRESETS:
        raise WeightsMissingError(
            f"model is {name!r}, which is neither in the model folders nor one of {', '.join(PRESETS)}. "
            "Put the file or folder there, or choose another model."
        )
    return path or name


def fingerprint(name: str, part: str) -> str:
    """What changes when the model of that name does: size and time of each of its files in the model folders."""
    path = _path_of(name, part)
    if path is None:
        return name
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    stats = [(file.name, file.stat()) for file in files if file.is_file()]
    return f"{path} {[(each, stat.st_size, stat.st_mtime_ns) for each, stat in stats]}"


def files_of(name: str, part: str) -> list[Path]:
    """Every file that loading that part of the model of that name reads.

    Raises:
        WeightsMissingError: it, or a part of it, is not on this machine.
    """
    return part_files(source_of(name, part), part)


@contextmanager
def explained(name: str, part: str) -> Iterator[None]:
    """Loading in this context says of a published preset that is missing where its files may be put by hand."""
    try:
        yield
    except WeightsMissingError as error:
        place = PRESETS[name][part] if name in PRESETS else None
        if place is None or place.repo is None:
            raise
        raise WeightsMissingError(
            f"{error} Or put the repository's files into the model folder, in ComfyUI as models/wuerstchen/{place}."
        ) from error


def _path_of(name: str, part: str) -> Path | None:
    if name not in PRESETS:
        return host().find_model(name)
    place = PRESETS[name][part]
    return host().find_model(str(place)) if place.repo is not None else None


def dtype_of(name: str, stage: str) -> torch.dtype | None:
    """The dtype that a loader's `dtype` names for stage "C", "B" or "A".

    Raises:
        InputError: there is no such name.
    """
    if name == "default":
        return host().dtype(stage)
    if name not in DTYPE_NAMES:
        raise InputError(f"dtype is {name!r}; expected one of {', '.join(DTYPE_NAMES)}.")
    import torch

    return getattr(torch, name)
