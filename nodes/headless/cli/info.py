"""`wuerstchen info`: versions, the device, the cache and the models."""

import os
import platform
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from wuerstchen_core.checkpoints.loading import cpu_dtype, stored_dtype
from wuerstchen_core.checkpoints.presets import PRESETS
from wuerstchen_core.checkpoints.reading import MOST_TENSORS, read_tensors
from wuerstchen_core.checkpoints.sources import models_folder, presence
from wuerstchen_core.errors import CheckpointError
from wuerstchen_core.files.places import size_of
from wuerstchen_core.networks.processor import LARGE

from ...models import WEIGHT_SUFFIXES
from ..execution.disk_cache import DiskCache
from ..host import HeadlessHost
from ..report import size_text

_PACKAGES = ("wuerstchen", "torch", "tokenizers", "safetensors", "huggingface_hub")


def lines() -> Iterator[tuple[str, dict[str, Any]]]:
    """Describe this installation.

    Yields:
        (str, dict): A line for people, and the same as fields for programs.
    """
    versions = {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}}
    yield ", ".join(f"{name} {each}" for name, each in versions.items()), {"event": "versions", **versions}
    host = HeadlessHost()
    device = torch.cuda.get_device_name(host.device()) if host.device().type == "cuda" else f"{host.device()}"
    dtype = _name(host.dtype("C") or cpu_dtype(LARGE))
    yield (
        f"device: {device}; large models run in {dtype}",
        {"event": "device", "device": device, "dtype": dtype},
    )
    yield _cache()
    folder = str(models_folder())
    own = host.model_names()
    yield f"model folder: {folder} ({len(own)} models)", {"event": "models", "folder": folder, "models": own}
    for name in own:
        path = host.find_model(name)
        files = [each for each in path.rglob("*") if each.is_file()] if path and path.is_dir() else [path or Path(name)]
        yield _model(name, "model", files)
    for name in PRESETS:
        parts = presence(name)
        missing = [str(part.place) for part in parts if part.path is None]
        yield _model(name, "preset", [path for part in parts for path in part.files], missing)


def _cache() -> tuple[str, dict[str, Any]]:
    cache = DiskCache()
    size = sum(size_of(Path(folder, name)) for folder, _, names in os.walk(cache.folder) for name in names)
    return (
        f"cache: {cache.folder}, {size_text(size)} of at most {size_text(cache.max_bytes)}",
        {"event": "cache", "folder": str(cache.folder), "bytes": size, "limit": cache.max_bytes},
    )


def _model(name: str, kind: str, files: list[Path], missing: Sequence[str] = ()) -> tuple[str, dict[str, Any]]:
    """Describe a model: its size, the dtype of most of its weights, and its parts that are missing."""
    size = sum(size_of(path) for path in set(files))
    dtype = _stored_dtype(files)
    here = f"{size_text(size)}, {dtype or 'unknown dtype'}" if files else ""
    lacks = f"missing {', '.join(missing)}" if missing else ""
    fields = {"event": kind, kind: name, "missing": list(missing), "bytes": size, "dtype": dtype}
    return f"{name}: {'; '.join(filter(None, (here, lacks)))}", fields


def _stored_dtype(files: Sequence[Path]) -> str | None:
    """Return the dtype in which most of the weights of some files are stored; None without readable weights."""
    state: dict[str, torch.Tensor] = {}
    for path in files:
        if path.suffix.lower() in WEIGHT_SUFFIXES and len(state) <= MOST_TENSORS:
            try:
                state |= {f"{path} {name}": tensor for name, tensor in read_tensors(path).items()}
            except CheckpointError:
                continue
    return _name(stored_dtype(state)) if state else None


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
