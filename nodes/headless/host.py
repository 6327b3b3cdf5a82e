"""Host of a run without ComfyUI: model folders, a device, progress on stderr, an output folder."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from wuerstchen_core.checkpoints.sources import models_folder
from wuerstchen_core.files.untrusted import check_text
from wuerstchen_core.networks.processor import is_plain_linux

from .. import embeddings
from .. import host as hosts
from ..models import WEIGHT_SUFFIXES, find_in, names_in
from .output_files import OutputFiles

if TYPE_CHECKING:
    import torch
    from torch import nn

    from wuerstchen_core.networks.operations import Operations

_log = logging.getLogger("wuerstchen_nodes.models")
EMBEDDINGS = "embeddings"
"""Folder in a model folder with textual inversions."""
LORAS = "loras"
"""Folder in a model folder with LoRAs."""
_MOST_FILES = 50_000
"""Most files and folders in a model folder that are looked at."""
_DEEPEST = 20
"""Most folders inside one another that are looked at."""
_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} steps, {remaining} left"
"""Format of a progress bar. The time left is shown as 01:30."""


@dataclass(frozen=True)
class Compiled:
    """Network whose blocks run through torch.compile."""

    network: nn.Module


class HeadlessHost:
    """Host of a run from a shell or a script.

    Attributes:
        files: Finished files of the run.
        input_folders: Folders that Load Image and Load Latent look a name up in.
        preview_folder: Temporary folder of previews; None before the first.

    Args:
        files: Finished files of the run; None for the folder `output`.
        model_folders: Folders of models; None for $WUERSTCHEN_MODELS, or `wuerstchen` in the user's cache folder.
        input_folders: Folders of input files; None for `input` and the current folder.
        device: Device that networks compute on; None for CUDA if there is one, else the CPU.
        progress: Stream that shows progress; None for no progress.
        compiles: Whether networks run through torch.compile. The first run of a size waits for the compiler.
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
        """List files and folders in the model folders, as relative names."""
        names = {name for folder in self._model_folders for name in names_in(_files_below(folder))}
        own = (name for name in names if not name.startswith((f"{EMBEDDINGS}/", f"{LORAS}/")))
        return sorted(name for name in own if _is_there(self.find_model(name)))

    def find_model(self, name: str) -> Path | None:
        """Return the path of a name in the model folders, or of an absolute path; None if there is none."""
        path = Path(name)
        if path.is_absolute():
            return path if os.path.exists(path) else None
        return find_in(self._model_folders, name)

    def embedding_names(self) -> list[str]:
        """List the textual inversions in `embeddings` in the model folders, without their suffixes."""
        return sorted(
            {name for folder in self._folders_of(EMBEDDINGS) for name in embeddings.names_in(_files_below(folder))}
        )

    def find_embedding(self, name: str) -> Path | None:
        """Return the file of a textual inversion, named with or without its suffix; None if there is none."""
        return embeddings.find(self._folders_of(EMBEDDINGS), name)

    def _folders_of(self, kind: str) -> list[Path]:
        return [folder / kind for folder in self._model_folders]

    def lora_names(self) -> list[str]:
        """List the LoRA files in `loras` in the model folders, as relative names."""
        files = {name for folder in self._folders_of(LORAS) for name in _files_below(folder)}
        weights = (name for name in files if Path(name).suffix.lower() in WEIGHT_SUFFIXES)
        return sorted(name for name in weights if _is_there(self.find_lora(name)))

    def find_lora(self, name: str) -> Path | None:
        """Return the path of a name that `lora_names` lists, or of an absolute path; None if there is none."""
        path = Path(name)
        if path.is_absolute():
            return path if os.path.exists(path) else None
        return find_in(self._folders_of(LORAS), name)

    def download_advice(self, preset: str, repo: str, file: str) -> str | None:
        """Return None: the core's error names `wuerstchen download`."""
        return None

    def download_folder(self) -> None:
        """Return None: a workflow file may come from anyone, so only `wuerstchen download` downloads."""

    def download(self, preset: str) -> Generator[tuple[int, int]]:
        """Raise RuntimeError; see `download_folder`."""
        raise RuntimeError("Workflows download nothing outside ComfyUI.")

    def device(self) -> torch.device:
        """Return the device that networks compute on."""
        return self._device

    @cached_property
    def _device(self) -> torch.device:
        import torch

        return torch.device(self._asked_device or ("cuda" if torch.cuda.is_available() else "cpu"))

    def dtype(self, stage: str) -> torch.dtype | None:
        """Return None on the CPU, where the network's size decides; on CUDA bfloat16, or float16 if that is missing."""
        if self._asked_device is None and is_plain_linux():
            return None
        if self._device.type != "cuda":
            return None
        import torch

        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16

    def operations(self, dtype: torch.dtype | None) -> Operations:
        """Return torch.nn, or the layers of the core that keep their weights in eight bits."""
        from wuerstchen_core.networks.eight_bits import operations_for

        return operations_for(dtype, self.device())

    def keep(self, network: nn.Module) -> nn.Module | Compiled:
        """Return the network itself, or marked for the compiler. It stays in main memory between nodes."""
        return self.compiled(network) if self._compiles else network

    def compiled(self, kept: Any) -> Compiled:
        """Mark a network for the compiler."""
        return Compiled(self.network_of(kept))

    def network_of(self, kept: Any) -> nn.Module:
        """Return the network that `keep` was given."""
        return kept.network if isinstance(kept, Compiled) else kept

    @contextmanager
    def resident(self, kept: Any, *, working_memory: int = 0) -> Iterator[Any]:
        """Yield the network on `device()`."""
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
        """Keep a network's weights on `device()` for as long as the context lasts."""
        network.to(self._device)
        try:
            yield
        finally:
            network.to("cpu")
            if self._device.type == "cuda":
                import torch

                torch.cuda.empty_cache()

    def intermediate_device(self) -> torch.device:
        """Return the CPU."""
        import torch

        return torch.device("cpu")

    def shows_previews(self) -> bool:
        """Return False, since a shell cannot show images."""
        return False

    def progress(self, steps: int, label: str) -> Callable[[int, torch.Tensor | None], None]:
        """Return a function that shows steps and the time left: a bar on a terminal, a line each quarter elsewhere."""
        stream = self._progress
        if stream is None:
            return lambda done, preview: None
        if not stream.isatty():
            start = time.monotonic()
            return lambda done, preview: _line_each_quarter(stream, label, done, steps, time.monotonic() - start)
        from tqdm import tqdm

        bar = tqdm(total=steps, desc=label, file=stream, dynamic_ncols=True, bar_format=_BAR)

        def update(done: int, preview: torch.Tensor | None) -> None:
            bar.update(done - bar.n)
            if done >= steps:
                bar.close()

        return update

    def kept(self, prompt: Mapping[str, Any], node_id: str) -> None:
        """Return None: the executor's cache keeps every result."""

    def notice(self, text: str) -> None:
        """Do nothing, since the log says the same."""

    def output_folder(self) -> Path:
        """Return the folder of finished files."""
        return self.files.folder

    def preview_files(self) -> OutputFiles:
        """Return the files of a temporary folder, made on the first call."""
        if self.preview_folder is None:
            self.preview_folder = Path(tempfile.mkdtemp(prefix="wuerstchen-preview-"))
        return OutputFiles(self.preview_folder)


def current() -> HeadlessHost:
    """Return the host in use, for the stock nodes that only this one can serve.

    Raises:
        TypeError: It is another host.
    """
    there = hosts.host()
    if not isinstance(there, HeadlessHost):
        raise TypeError(f"{type(there).__name__} is in use; the headless stock nodes need a HeadlessHost.")
    return there


def stderr_progress(quiet: bool) -> TextIO | None:
    """Return the stream on which a command shows progress."""
    return None if quiet else sys.stderr


def _is_there(path: Path | None) -> bool:
    """Return whether a path is a file or a folder, rather than a pipe, a device or a link to nothing."""
    return path is not None and (os.path.isfile(path) or os.path.isdir(path))


def _is_text(name: str) -> bool:
    try:
        check_text(name)
    except ValueError:
        return False
    return True


def _files_below(folder: Path) -> list[str]:
    """List the files below a folder as relative paths, those nearest to it first.

    Links are followed, and each folder is looked at once. Names that no text can hold are left out.
    """
    found: list[str] = []
    seen: set[tuple[int, int]] = set()
    level = [""]
    for _ in range(_DEEPEST):
        deeper: list[str] = []
        for parent in level:
            with suppress(OSError):  # a folder that may not be read, or is gone again
                there = os.stat(folder / parent)
                if (there.st_dev, there.st_ino) in seen:
                    continue
                seen.add((there.st_dev, there.st_ino))
                for name in sorted(islice(os.listdir(folder / parent), _MOST_FILES)):
                    if _is_text(name):
                        path = os.path.join(parent, name)
                        (deeper if os.path.isdir(folder / path) else found).append(path)
            if len(found) + len(seen) > _MOST_FILES:
                _log.warning("%s holds over %s files; not all of its models are listed.", folder, f"{_MOST_FILES:,}")
                return found
        level = deeper
    return found


def _line_each_quarter(stream: TextIO, label: str, done: int, steps: int, seconds: float) -> None:
    """Write a line after each quarter of the steps, with the time that the rest takes at the same speed."""
    if done * 4 // steps == (done - 1) * 4 // steps:
        return
    left = f", {round(seconds / done * (steps - done))} s left" if done < steps else ""
    stream.write(f"{label}: step {done} of {steps}{left}\n")
    stream.flush()
