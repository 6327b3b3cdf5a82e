"""Interface between nodes and whatever runs them: ComfyUI (`comfy/`) or this project's own executor (`headless/`).

Nodes reach the host through `host()`. ComfyUI installs one for its process; a headless run gives its own with `using`,
so that two runs with different hosts work in one process.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from torch import nn

    from wuerstchen_core.networks.operations import Operations


class Kept(Protocol):
    """Place on disk of one value of a workflow.

    Attributes:
        refused: Reason for which the value cannot be kept; empty where it can.
    """

    @property
    def refused(self) -> str: ...

    def read(self) -> list[Any] | None:
        """Return the list of values that is there; None if there is none."""
        ...

    def write(self, values: list[Any], *, replaces: bool) -> bool:
        """Store a list of values, also over one that is there, and return whether one is there now."""
        ...

    def facts(self, values: list[Any]) -> dict[str, Any]:
        """Return what the page shows of the values that are there.

        Args:
            values: The values.
        Returns:
            dict: "key", "bytes", "made" in seconds since 1970, and "thumbnail", a data URL or None.
        """
        ...


class Host(Protocol):
    """Services that a node may ask for. Both implementations satisfy it structurally."""

    def model_names(self) -> list[str]:
        """List files and folders in the user's model folders, as relative names. Presets are not among them."""
        ...

    def find_model(self, name: str) -> Path | None:
        """Return the path of a name that `model_names` lists, or None."""
        ...

    def embedding_names(self) -> list[str]:
        """List the textual inversions in the user's folders, without their suffixes."""
        ...

    def find_embedding(self, name: str) -> Path | None:
        """Return the file of a textual inversion, named with or without its suffix; None if there is none."""
        ...

    def lora_names(self) -> list[str]:
        """List the LoRA files in the user's folders, as relative names."""
        ...

    def find_lora(self, name: str) -> Path | None:
        """Return the path of a name that `lora_names` lists, or None."""
        ...

    def download_advice(self, preset: str, repo: str, file: str) -> str | None:
        """Say how to get the published weights here; None if the core's own error says it.

        Args:
            preset: Name of the preset.
            repo: Repository that a missing file is in.
            file: The file's path in it.
        """
        ...

    def download_folder(self) -> Path | None:
        """Return the model folder that Download Weights writes to; None where workflows may not download."""
        ...

    def download(self, preset: str) -> Generator[tuple[int, int]]:
        """Download the missing parts of a preset to `download_folder`. Closing the generator stops it.

        Yields:
            (int, int): Bytes that are there, and bytes to download in all; 0 while that is asked for.
        Raises:
            WeightsMissingError: A part could not be downloaded.
        """
        ...

    def device(self) -> torch.device:
        """Return the device that networks compute on."""
        ...

    def dtype(self, stage: str) -> torch.dtype | None:
        """Return the default dtype of stage "C", "B" or "A" on this machine; None to let the network's size decide."""
        ...

    def operations(self, dtype: torch.dtype | None) -> Operations:
        """Return the namespace that layers come from, for weights of a dtype that `dtype` returned."""
        ...

    def keep(self, network: nn.Module) -> Any:
        """Wrap a loaded network into the object that travels through sockets."""
        ...

    def compiled(self, kept: Any) -> Any:
        """Return the same network, to run through torch.compile while it is `resident`. `kept` is unchanged."""
        ...

    def network_of(self, kept: Any) -> Any:
        """Return the network inside an object that `keep` or `compiled` returned, wherever its weights are."""
        ...

    def resident(self, kept: Any, *, working_memory: int = 0) -> AbstractContextManager[Any]:
        """Yield the network, ready to compute on `device()` for as long as the context lasts.

        Its weights are on the device, or its layers fetch them when they compute.

        Args:
            working_memory: Bytes that the computation needs beside the weights.
        """
        ...

    def intermediate_device(self) -> torch.device:
        """Return the device of tensors between nodes."""
        ...

    def shows_previews(self) -> bool:
        """Return whether `progress` displays preview images, which cost a little to make."""
        ...

    def progress(self, steps: int, label: str) -> Callable[[int, torch.Tensor | None], None]:
        """Return a function to call after each step.

        It takes the number of steps done and a preview image [height, width, 3] in 0..1, or None. It raises the host's
        own interruption when the user has cancelled.

        Args:
            steps: Number of steps in all.
            label: Name of the work, such as "Stage C".
        """
        ...

    def kept(self, prompt: Mapping[str, Any], node_id: str) -> Kept | None:
        """Return the place on disk of what a Keep on Disk passes on; None where the executor keeps it by itself.

        Args:
            prompt: The workflow in the API format.
            node_id: Id of the node.
        """
        ...

    def notice(self, text: str) -> None:
        """Show a text on the node that runs, where nodes can be seen; an empty one takes an earlier one away."""
        ...

    def output_folder(self) -> Path:
        """Return the folder of finished files."""
        ...


_installed: Host | None = None
_active: ContextVar[Host | None] = ContextVar("wuerstchen_host", default=None)


def install(host: Host) -> None:
    """Set the host of every thread of this process that is not inside `using`. ComfyUI's is installed this way."""
    global _installed
    _installed = host


@contextmanager
def using(host: Host) -> Iterator[None]:
    """Let nodes of this thread (or asyncio task) use `host` for as long as the context lasts."""
    token = _active.set(host)
    try:
        yield
    finally:
        _active.reset(token)


def current_host() -> Host | None:
    """Return the host in use, or None: for INPUT_TYPES, which can be read without one."""
    return _active.get() or _installed


def host() -> Host:
    """Return the host in use.

    Raises:
        RuntimeError: There is none.
    """
    found = current_host()
    if found is None:
        raise RuntimeError(
            "No host is in use. Run nodes inside `with nodes.host.using(HeadlessHost()):`, or call "
            "nodes.host.install(...) once."
        )
    return found
