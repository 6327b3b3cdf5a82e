"""What a result depends on beside the graph and the weights: this package's code, torch, the device, the precision."""

import hashlib
import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path

import wuerstchen_core

from ...host import installed

_FORMAT = 2
"""Of what signatures cover; one more where that changes."""
_GRAPHICS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
"""Devices that are there where Linux could give torch a graphics card."""


def environment() -> str:
    """A text that is equal in two processes only where the same graph gives the same result in both."""
    return " ".join([str(_FORMAT), _code(), version("torch"), _hardware()])


def _hardware() -> str:
    """The device, and what decides the precision on it.

    torch is asked only where it may have a choice: importing it takes longer than all else in a run that draws nothing.
    """
    host = installed()
    if host is None or is_plain_linux():
        return _processor()
    import torch

    device = host.device()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return " ".join([device.type, name, *(str(host.dtype(stage)) for stage in "CBA")])


def is_plain_linux() -> bool:
    """Whether this is a Linux where torch cannot find a graphics card."""
    return platform.system() == "Linux" and not any(Path(path).exists() for path in _GRAPHICS)


@cache
def _processor() -> str:
    """The kind of processor, with what it can do where the system says."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    able = next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
    return f"{platform.machine()} {hashlib.sha256(able.encode()).hexdigest()}"


@cache
def _code() -> str:
    """A digest of the sources of the model and of the nodes: finer than a version, so that no edit goes unseen."""
    digest = hashlib.sha256()
    for folder in (Path(wuerstchen_core.__file__).parent, Path(__file__).parents[1]):
        for path in sorted(folder.glob("*.py")):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()
