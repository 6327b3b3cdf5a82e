"""Decoding of a latent in overlapping tiles, blended so that no seam shows."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InputError

MINIMUM_TILE = 32
"""Smallest side of a tile, in latent positions."""
OVERLAP = 16
"""Latent positions shared by two neighbouring tiles."""


def fitting_tile(height: int, width: int, bytes_a_position: int, free: int | None) -> int | None:
    """Return the side of the largest tiles that fit into memory.

    Args:
        height: Height of the latent, in positions.
        width: Width of the latent, in positions.
        bytes_a_position: Memory that decoding takes for each latent position.
        free: Free memory in bytes; None where it is not known.
    Returns:
        int | None: Side in latent positions, at least 32; None where the whole latent fits or `free` is None.
    """
    if free is None or height * width * bytes_a_position <= free:
        return None
    side = int((free / bytes_a_position) ** 0.5)
    return max(MINIMUM_TILE, side // OVERLAP * OVERLAP)


def free_memory(device: torch.device) -> int | None:
    """Return the bytes that a computation on a device may still take; None where the system does not say."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def decode_in_tiles(decode: Callable[[Tensor], Tensor], latents: Tensor, tile: int) -> Tensor:
    """Decode square tiles of a latent one at a time and blend them.

    Args:
        decode: Function from latents [batch, c, h, w] to images [batch, 3, h*s, w*s], for any h and w.
        latents (Tensor): [batch, c, height, width].
        tile: Side of a tile in latent positions, at least 32.
    Returns:
        Tensor: [batch, 3, height*s, width*s], float32, in the range of `decode`.
    Raises:
        InputError: `tile` is under 32.
    """
    if tile < MINIMUM_TILE:
        raise InputError(f"tile is {tile}; expected at least {MINIMUM_TILE} latent positions (4 pixels each).")
    height, width = latents.shape[-2:]
    rows, columns = _starts(height, tile), _starts(width, tile)
    total = weights = None
    for top in rows:
        for left in columns:
            piece = decode(latents[..., top : top + tile, left : left + tile]).float()
            scale = piece.shape[-1] // min(tile, width)
            if total is None or weights is None:
                total = piece.new_zeros(*piece.shape[:2], height * scale, width * scale)
                weights = piece.new_zeros(1, 1, height * scale, width * scale)
            ramp = _ramp(piece.shape[-2], OVERLAP * scale)[:, None] * _ramp(piece.shape[-1], OVERLAP * scale)
            area = (
                ...,
                slice(top * scale, top * scale + piece.shape[-2]),
                slice(left * scale, left * scale + piece.shape[-1]),
            )
            total[area] += piece * ramp.to(piece.device)
            weights[area] += ramp.to(piece.device)
    assert total is not None and weights is not None  # a latent has at least one tile
    return total / weights


def _starts(length: int, tile: int) -> list[int]:
    """Return the first position of each tile along one side."""
    if length <= tile:
        return [0]
    return [*range(0, length - tile, tile - OVERLAP), length - tile]


def _ramp(length: int, overlap: int) -> Tensor:
    """Return the weight of each pixel along a tile [length]: rising to 1 over the overlap, and falling at the end."""
    from_edge = torch.minimum(torch.arange(1, length + 1), torch.arange(length, 0, -1))
    return (from_edge / overlap).clamp(max=1)
