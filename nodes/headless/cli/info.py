"""`wuerstchen info` and `wuerstchen download`: versions, the device, the model folder and the presets."""

import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from wuerstchen_core.checkpoints.loading import LARGE, cpu_dtype
from wuerstchen_core.checkpoints.presets import PRESETS
from wuerstchen_core.checkpoints.sources import download_preset, models_folder, presence

from ..errors import UsageError
from ..host import HeadlessHost

_PACKAGES = ("wuerstchen", "torch", "transformers", "safetensors", "huggingface_hub")


def lines() -> Iterator[tuple[str, dict[str, Any]]]:
    """Describe this installation.

    Yields:
        (str, dict): A line for people, and the same as fields for programs.
    """
    versions = {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}}
    yield ", ".join(f"{name} {each}" for name, each in versions.items()), {"event": "versions", **versions}
    host = HeadlessHost()
    device = torch.cuda.get_device_name(host.device()) if host.device().type == "cuda" else f"{host.device()}"
    dtype = str(host.dtype("C") or cpu_dtype(LARGE)).removeprefix("torch.")
    yield f"device: {device}, {dtype}", {"event": "device", "device": device, "dtype": dtype}
    folder = str(models_folder())
    own = host.model_names()
    yield f"model folder: {folder} ({len(own)} models)", {"event": "models", "folder": folder, "models": own}
    for name in PRESETS:
        parts = presence(name)
        missing = [str(part.place) for part in parts if part.path is None]
        size = sum(part.size for part in parts)
        state = f"missing {', '.join(missing)}" if missing else f"here, {size / 2**20:.0f} MiB"
        yield f"{name}: {state}", {"event": "preset", "preset": name, "missing": missing, "bytes": size}


def fetch(name: str) -> Iterator[Path]:
    """Download the missing parts of a preset.

    Yields:
        Path: Folder of each part, as soon as it is on this machine.
    Raises:
        UsageError: There is no such preset.
        WeightsMissingError: A part could not be downloaded or written.
    """
    if name not in PRESETS:
        raise UsageError(f"There is no preset {name!r}; expected one of {', '.join(PRESETS)}.")
    for part in download_preset(name):
        if part.path is not None:
            yield part.path


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
