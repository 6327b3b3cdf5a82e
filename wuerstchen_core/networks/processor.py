"""Features of this machine's processor."""

from pathlib import Path

import torch


def _features() -> set[str]:
    """Return the names of the processor's features; empty where the system does not list them."""
    ask = getattr(torch.cpu, "get_capabilities", None)
    if ask is not None:
        return {name for name, able in ask().items() if able}
    try:  # torch before 2.11; Linux uses the same names
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return set()
    return set(next((line for line in lines if line.startswith("flags")), "").split())


HAS_BFLOAT16_TILES = "amx_bf16" in _features()
"""True if the processor multiplies bfloat16 matrices in tiles (AMX)."""
HAS_BFLOAT16 = HAS_BFLOAT16_TILES or "avx512_bf16" in _features()
"""True if the processor has bfloat16 products. One without them takes ten times as long as in float32."""
