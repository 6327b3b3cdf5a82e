"""What this machine's processor multiplies fast."""

import functools
from pathlib import Path

import torch


def has_bfloat16() -> bool:
    """Whether it multiplies in bfloat16; one that does not takes ten times as long as in float32."""
    return bool(_abilities() & {"amx_bf16", "avx512_bf16"})


def has_bfloat16_tiles() -> bool:
    """Whether it multiplies bfloat16 in tiles (AMX)."""
    return "amx_bf16" in _abilities()


@functools.cache
def _abilities() -> frozenset[str]:
    ask = getattr(torch.cpu, "get_capabilities", None)
    if ask is not None:
        return frozenset(name for name, able in ask().items() if able)
    try:  # torch before 2.11; Linux has the same names for them
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line for line in lines if line.startswith("flags")), "").split())
