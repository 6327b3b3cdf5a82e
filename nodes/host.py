"""What a node may ask of whatever runs it: ComfyUI (`comfy/`) or this project's own executor (`headless/`).

Exactly one host is installed for a process, before the first node runs. Nodes reach it through `host()`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from torch import nn

    from wuerstchen_core.networks.blocks import Operations


class Host(Protocol):
    """The interface; both implementations satisfy it structurally."""

    def model_names(self) -> list[str]:
        """Files and folders in the user's model folders, as names relative to them. Presets are not among them."""
        ...

    def find_model(self, name: str) -> Path | None:
        """Where the model folders hold `name`, or None."""
        ...

    def device(self) -> torch.device:
        """Where networks compute."""
        ...

    def dtype(self, stage: str) -> torch.dtype | None:
        """What `default` means for the dtype of "C", "B" or "A" on this machine; None for what suits the network."""
        ...

    def operations(self, dtype: torch.dtype | None) -> Operations:
        """The namespace that a network's layers come from, for weights of that dtype; None as `dtype` returns it."""
        ...

    def keep(self, network: nn.Module) -> Any:
        """What travels through a socket for a loaded network; `network_of` and `resident` take it back."""
        ...

    def compiled(self, kept: Any) -> Any:
        """The same network, whose blocks run through torch.compile while it is `resident`; `kept` stays as it is."""
        ...

    def network_of(self, kept: Any) -> Any:
        """The network inside what `keep` or `compiled` returned, of the class that it was, wherever its weights are."""
        ...

    def resident(self, kept: Any, *, working_memory: int = 0) -> AbstractContextManager[Any]:
        """The network, ready to compute on `device()` for as long as the context lasts.

        Its weights are there, or its layers fetch them when they compute.

        Args:
            working_memory: bytes that the computation itself will need, beside the weights.
        """
        ...

    def intermediate_device(self) -> torch.device:
        """Where tensors wait between nodes."""
        ...

    def shows_previews(self) -> bool:
        """Whether `progress` has a use for preview images; they cost a little to make."""
        ...

    def progress(self, steps: int, label: str) -> Callable[[int, torch.Tensor | None], None]:
        """A function to call after each step with (steps done, a small preview image [h, w, 3] in 0..1 or None).

        It raises the host's own interruption when the user has cancelled.
        """
        ...

    def output_folder(self) -> Path:
        """Where finished files go."""
        ...


_installed: Host | None = None


def install(host: Host) -> None:
    """Make `host` the one that every node of this process uses."""
    global _installed
    _installed = host


def installed() -> Host | None:
    """The installed host, or None: what a node's INPUT_TYPES asks, since listing inputs needs no host."""
    return _installed


def host() -> Host:
    """The installed host.

    Raises:
        RuntimeError: none was installed; a program that runs nodes by hand installs one first.
    """
    if _installed is None:
        raise RuntimeError("No host is installed; call nodes.host.install(HeadlessHost()) before running a node.")
    return _installed
