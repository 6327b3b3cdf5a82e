"""Environment of torch that lets a run share the processor with other programs, set before torch loads."""

import math
import os
from collections.abc import Mapping, MutableMapping
from pathlib import Path

POLICY: Mapping[str, str] = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}
"""Variables of the OpenMP libraries that torch uses: threads that wait for work sleep, rather than keep a core busy.

Beside another program a waiting thread that does not sleep takes the core from the one it waits for.
"""
_QUOTAS = (
    ("cpu.max", None),  # cgroup v2: "quota period" in one file
    ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"),  # v1
)


def share_processor(threads: int | None = None, environment: MutableMapping[str, str] = os.environ) -> None:
    """Set the environment of torch in this process and in those that it starts. What a user has set stays.

    Args:
        threads: Processor threads; None for those that this process may use.
        environment: The environment to change.
    """
    for name, value in POLICY.items():
        environment.setdefault(name, value)
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    elif usable_cores() < (os.cpu_count() or 1):
        environment.setdefault("OMP_NUM_THREADS", str(usable_cores()))


def usable_cores(cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Return how many cores this process may use, by its affinity and by the limit of its container.

    Args:
        cgroups: Folder in which Linux tells the limits of a container.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for quota_name, period_name in _QUOTAS:
        try:
            words = (cgroups / quota_name).read_text(encoding="ascii").split()
            words += (cgroups / period_name).read_text(encoding="ascii").split() if period_name else []
            quota, period = float(words[0]), float(words[1])
        except (OSError, ValueError, IndexError):  # no such limit; "max" is one, too
            continue
        if quota > 0 and period > 0:
            return max(1, min(cores, math.ceil(quota / period)))
    return cores
