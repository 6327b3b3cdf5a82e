"""Results of earlier runs, by signature: in memory, and behind it on disk."""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from .calls import Outputs
from .disk_cache import DiskCache

MEMORY_BYTES = 512 * 2**20


class Results:
    """What an executor remembers.

    Args:
        disk: None for memory alone.
        max_bytes: what tensors and arrays in memory may take; those that were not used for longest are let go first.
    """

    def __init__(self, disk: DiskCache | None = None, *, max_bytes: int = MEMORY_BYTES) -> None:
        self.disk = disk
        self._max_bytes = max_bytes
        self._memory: OrderedDict[str, tuple[int, Outputs]] = OrderedDict()
        self._bytes = 0

    def __contains__(self, signature: str) -> bool:
        return signature in self._memory or (self.disk is not None and signature in self.disk)

    def get(self, signature: str, look_on_disk: bool = True) -> Outputs | None:
        """The result of that signature, or None."""
        if signature in self._memory:
            self._memory.move_to_end(signature)
            return self._memory[signature][1]
        found = None if self.disk is None or not look_on_disk else self.disk.get(signature)
        if found is not None:
            self._remember(signature, found)
        return found

    def put(self, signature: str, outputs: Outputs, *, on_disk: bool) -> None:
        """Keep a result.

        Args:
            on_disk: beyond this process, too.
        """
        self._remember(signature, outputs)
        if on_disk and self.disk is not None:
            self.disk.put(signature, outputs)

    def _remember(self, signature: str, outputs: Outputs) -> None:
        size = sum(_sizes(outputs.slots))
        self._bytes += size - self._memory.pop(signature, (0, outputs))[0]
        self._memory[signature] = size, outputs
        while self._bytes > self._max_bytes and len(self._memory) > 1:
            self._bytes -= self._memory.popitem(last=False)[1][0]


def _sizes(value: Any) -> Iterator[int]:
    if isinstance(value, (list, tuple)):
        for each in value:
            yield from _sizes(each)
    elif isinstance(value, dict):
        yield from _sizes(list(value.values()))
    else:
        yield getattr(value, "nbytes", 0)
