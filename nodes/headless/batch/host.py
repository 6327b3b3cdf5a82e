"""A host for many rows: networks wait on the graphics card, not beside it, as long as there is room."""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ..host import HeadlessHost


class StayingHost(HeadlessHost):
    """As HeadlessHost; but a network stays on the device until its memory is needed for another's work.

    Those that were not used for longest go first. A network that nobody holds any more is gone from the device, too.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._there: list[weakref.ref[nn.Module]] = []
        """On the device, the last used one last."""

    @contextmanager
    def placed(self, network: nn.Module, working_memory: int) -> Iterator[None]:
        """A network's weights on `device()`, where they stay for now."""
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
        """Bytes that may still be used on the device; no limit where it is main memory, in which they lie anyway."""
        if self.device().type != "cuda":
            return float("inf")
        unused = torch.cuda.memory_reserved(self.device()) - torch.cuda.memory_allocated(self.device())
        return torch.cuda.mem_get_info(self.device())[0] + unused


def _bytes(network: nn.Module) -> int:
    tensors = [*network.parameters(), *network.buffers()]
    return sum(tensor.nbytes for tensor in tensors)
