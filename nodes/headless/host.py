"""What nodes may ask for where no ComfyUI runs: model folders, a device, progress on stderr, an output folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from wuerstchen_core.checkpoints.sources import models_folder

from .. import host as hosts
from ..models import find_in, names_in
from .output_files import OutputFiles

if TYPE_CHECKING:
    import torch
    from torch import nn

    from wuerstchen_core.networks.blocks import Operations


@dataclass(frozen=True)
class Compiled:
    """A network whose blocks run through torch.compile."""

    network: nn.Module


class HeadlessHost:
    """The host of a run from a shell or a script.

    Args:
        files: where finished files go.
        model_folders: None for $WUERSTCHEN_MODELS, or `wuerstchen` in the user's cache folder.
        input_folders: where Load Image and Load Latent look for a name.
        device: None for CUDA where there is one, else the CPU.
        progress: where progress is shown; None for nowhere.
        compiles: whether networks run through torch.compile; the first run of a size waits for the compiler.
    """

    def __init__(
        self,
        files: OutputFiles | None = None,
        *,
        model_folders: list[Path] | None = None,
        input_folders: list[Path] | None = None,
        device: torch.device | str | None = None,
        progress: TextIO | None = None,
        compiles: bool = False,
    ) -> None:
        self.files = files or OutputFiles()
        self.input_folders = [Path("input"), Path()] if input_folders is None else input_folders
        self.preview_folder: Path | None = None
        self._model_folders = [models_folder()] if model_folders is None else model_folders
        self._asked_device = device
        self._progress = progress
        self._compiles = compiles

    def model_names(self) -> list[str]:
        """Files and folders in the model folders, as names relative to them."""
        return sorted({name for folder in self._model_folders for name in names_in(_files_below(folder))})

    def find_model(self, name: str) -> Path | None:
        """Where the model folders hold `name`, or None."""
        return find_in(self._model_folders, name)

    def device(self) -> torch.device:
        """Where networks compute."""
        return self._device

    @cached_property
    def _device(self) -> torch.device:
        import torch

        return torch.device(self._asked_device or ("cuda" if torch.cuda.is_available() else "cpu"))

    def dtype(self, stage: str) -> torch.dtype | None:
        """On the CPU what suits the network's size; on CUDA bfloat16, or float16 where that is all it has."""
        if self._device.type != "cuda":
            return None
        import torch

        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16

    def operations(self, dtype: torch.dtype | None) -> Operations:
        """Plain layers."""
        from torch import nn

        return nn

    def keep(self, network: nn.Module) -> nn.Module | Compiled:
        """The network itself travels; it lies in main memory while it waits."""
        return self.compiled(network) if self._compiles else network

    def compiled(self, kept: Any) -> Compiled:
        """The network, and the word that it is to be compiled."""
        return Compiled(self.network_of(kept))

    def network_of(self, kept: Any) -> nn.Module:
        """The network that `keep` was given."""
        return kept.network if isinstance(kept, Compiled) else kept

    @contextmanager
    def resident(self, kept: Any, *, working_memory: int = 0) -> Iterator[Any]:
        """The network on `device()`."""
        network = self.network_of(kept)
        with self.placed(network, working_memory):
            if not isinstance(kept, Compiled):
                yield network
                return
            from wuerstchen_core.networks.compiling import compiled

            with compiled(network):
                yield network

    @contextmanager
    def placed(self, network: nn.Module, working_memory: int) -> Iterator[None]:
        """A network's weights on `device()`, and back in main memory afterwards."""
        network.to(self._device)
        try:
            yield
        finally:
            network.to("cpu")
            if self._device.type == "cuda":
                import torch

                torch.cuda.empty_cache()

    def intermediate_device(self) -> torch.device:
        """Main memory."""
        import torch

        return torch.device("cpu")

    def shows_previews(self) -> bool:
        """A shell has no place for them."""
        return False

    def progress(self, steps: int, label: str) -> Callable[[int, torch.Tensor | None], None]:
        """Shows steps on stderr: one moving line on a terminal, a line each quarter elsewhere. Ctrl-C interrupts."""
        stream = self._progress
        if stream is None:
            return lambda done, preview: None
        if stream.isatty():
            return lambda done, preview: _moving_line(stream, label, done, steps)
        return lambda done, preview: _line_each_quarter(stream, label, done, steps)

    def output_folder(self) -> Path:
        """Where finished files go."""
        return self.files.folder


def current() -> HeadlessHost:
    """The installed host, for the stock nodes that only this one can serve.

    Raises:
        TypeError: another host is installed.
    """
    there = hosts.host()
    if not isinstance(there, HeadlessHost):
        raise TypeError(f"{type(there).__name__} is installed; the headless stock nodes need a HeadlessHost.")
    return there


def stderr_progress(quiet: bool) -> TextIO | None:
    """Where a command shows progress."""
    return None if quiet else sys.stderr


def _files_below(folder: Path) -> list[str]:
    found: list[str] = []
    for parent, _, names in os.walk(folder, followlinks=True):
        found += [os.path.relpath(os.path.join(parent, name), folder) for name in names]
    return found


def _moving_line(stream: TextIO, label: str, done: int, steps: int) -> None:
    bar = "#" * (24 * done // steps)
    stream.write(f"\r{label} [{bar:<24}] {done}/{steps}" + ("\n" if done >= steps else ""))
    stream.flush()


def _line_each_quarter(stream: TextIO, label: str, done: int, steps: int) -> None:
    if done * 4 // steps > (done - 1) * 4 // steps:
        stream.write(f"{label}: step {done} of {steps}\n")
        stream.flush()
