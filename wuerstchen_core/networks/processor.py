"""What this machine's processor multiplies fast."""

from pathlib import Path

import torch


def _abilities() -> set[str]:
    ask = getattr(torch.cpu, "get_capabilities", None)
    if ask is not None:
        return {name for name, able in ask().items() if able}
    try:  # torch before 2.11; Linux has the same names for them
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return set()
    return set(next((line for line in lines if line.startswith("flags")), "").split())


HAS_BFLOAT16_TILES = "amx_bf16" in _abilities()
"""Whether it multiplies bfloat16 in tiles (AMX)."""
HAS_BFLOAT16 = HAS_BFLOAT16_TILES or "avx512_bf16" in _abilities()
"""Whether it multiplies in bfloat16 at all; one that does not takes ten times as long as in float32."""
