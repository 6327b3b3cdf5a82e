"""Results of earlier runs by their cache keys: in memory, and behind that on disk."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .calls import Outputs
from .disk_cache import DiskCache

MEMORY_BYTES = 512 * 2**20


class Results:
    """Two-level cache of an executor.

    Args:
        disk: Cache on disk; None for memory only.
        max_bytes: Limit for tensors and arrays in memory. The least recently used are dropped first.
    """

    def __init__(self, disk: DiskCache | None = None, *, max_bytes: int = MEMORY_BYTES) -> None:
        self.disk = disk
        self._max_bytes = max_bytes
        self._memory: OrderedDict[str, tuple[int, Outputs]] = OrderedDict()
        self._bytes = 0

    def __contains__(self, key: str) -> bool:
        return key in self._memory or (self.disk is not None and key in self.disk)

    def get(self, key: str, look_on_disk: bool = True) -> Outputs | None:
        """Return the result of a key, or None."""
        if key in self._memory:
            self._memory.move_to_end(key)
            return self._memory[key][1]
        found = None if self.disk is None or not look_on_disk else self.disk.get(key)
        if found is not None:
            self._remember(key, found)
        return found

    def put(
        self,
        key: str,
        outputs: Outputs,
        *,
        on_disk: bool,
        about: Callable[[], Mapping[str, str]] = dict,
        replaces: bool = False,
    ) -> None:
        """Store a result.

        Args:
            key: Its cache key.
            outputs: The result.
            on_disk: Whether it is stored on disk, too.
            about: Says what it is, as in `disk_cache.Entry`.
            replaces: Whether it takes the place of an entry on disk.
        """
        self._remember(key, outputs)
        if on_disk and self.disk is not None:
            self.disk.put(key, outputs, about(), replaces=replaces)

    def _remember(self, key: str, outputs: Outputs) -> None:
        size = sum(_sizes(outputs.slots))
        self._bytes += size - self._memory.pop(key, (0, outputs))[0]
        self._memory[key] = size, outputs
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
