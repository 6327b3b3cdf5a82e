"""Host of many rows, whose networks stay on the graphics card for as long as there is room."""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from wuerstchen_core.networks.tiling import free_memory

from ..host import HeadlessHost


class StayingHost(HeadlessHost):
    """HeadlessHost that leaves a network on the device until its memory is needed for other work.

    The networks that were not used for the longest time leave first. The host holds no network: one that is deleted
    elsewhere leaves the device, too.

    Args:
        options: As for HeadlessHost.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._there: list[weakref.ref[nn.Module]] = []
        """Networks on the device, the last used one last."""

    @contextmanager
    def placed(self, network: nn.Module, working_memory: int) -> Iterator[None]:
        """Put a network's weights on `device()`, and leave them there.

        Args:
            network: Network to put there.
            working_memory: Bytes that the work takes beside the weights.
        """
        others = [each for each in (there() for there in self._there) if each is not None and each is not network]
        here = any(there() is network for there in self._there)
        wanted = working_memory + (0 if here else _bytes(network))
        while others and self.free_memory() < wanted:
            others.pop(0).to("cpu")
            torch.cuda.empty_cache()
        self._there = [weakref.ref(each) for each in (*others, network)]
        network.to(self.device())
        yield

    def free_memory(self) -> float:
        """Return the free bytes of the graphics card; infinity on the CPU, where moving a network frees nothing."""
        free = free_memory(self.device()) if self.device().type == "cuda" else None
        return float("inf") if free is None else free


def _bytes(network: nn.Module) -> int:
    """Return the size of a network's weights."""
    tensors = [*network.parameters(), *network.buffers()]
    return sum(tensor.nbytes for tensor in tensors)
