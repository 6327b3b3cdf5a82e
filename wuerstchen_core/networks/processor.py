"""Features of this machine's processor. Needs no torch where the system lists them."""

import platform
from functools import cache
from pathlib import Path

_GRAPHICS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
"""Devices that exist where torch on Linux may find a graphics card."""


def is_plain_linux() -> bool:
    """Return whether this is a Linux on which torch cannot find a graphics card."""
    return platform.system() == "Linux" and not any(Path(path).exists() for path in _GRAPHICS)


@cache
def listed_features() -> tuple[str, ...]:
    """Return the features that Linux lists, such as "avx512_bf16", in its order; empty on other systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return ()
    found = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return tuple(found.partition(":")[2].split())


def _has(feature: str) -> bool:
    if listed_features():
        return feature in listed_features()
    import torch

    ask = getattr(torch.cpu, "get_capabilities", None)  # since torch 2.11, with the names that Linux uses
    return ask is not None and bool(ask().get(feature))


HAS_BFLOAT16_TILES = _has("amx_bf16")
"""True if the processor multiplies bfloat16 matrices in tiles (AMX)."""
HAS_BFLOAT16 = HAS_BFLOAT16_TILES or _has("avx512_bf16")
"""True if the processor has bfloat16 products. One without them takes ten times as long as in float32."""
LARGE = 100_000_000
"""Number of weights from which a network runs in bfloat16 on a CPU that supports it; smaller ones run in float32."""
IS_X86 = platform.machine().lower() in ("x86_64", "amd64")
"""True if the processor is one of Intel's kind."""
HAS_INT8 = HAS_BFLOAT16_TILES or _has("avx512_vnni") or _has("avx_vnni")
"""True if the processor multiplies eight bits and adds up in 32 (VNNI or AMX)."""
