"""Decoding a latent in overlapping tiles, blended so that no seam shows."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InputError

MINIMUM_TILE = 32
OVERLAP = 16
"""Positions that two neighbouring tiles share."""


def fitting_tile(height: int, width: int, bytes_a_position: int, free: int | None) -> int | None:
    """The side of the largest tiles that fit into `free` bytes; None where the whole does, or `free` is not known."""
    if free is None or height * width * bytes_a_position <= free:
        return None
    side = int((free / bytes_a_position) ** 0.5)
    return max(MINIMUM_TILE, side // OVERLAP * OVERLAP)


def free_memory(device: torch.device) -> int | None:
    """Bytes that a computation on `device` may still take; None where the system does not say."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def decode_in_tiles(decode: Callable[[Tensor], Tensor], latents: Tensor, tile: int) -> Tensor:
    """Decode square tiles of `latents` one at a time.

    Args:
        decode: latents [batch, c, h, w] -> images [batch, 3, h*s, w*s], for any h and w.
        latents (Tensor): [batch, c, height, width].
        tile: side of a tile in latent positions, at least 32.
    Returns:
        Tensor: [batch, 3, height*s, width*s], float32.
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
    if length <= tile:
        return [0]
    return [*range(0, length - tile, tile - OVERLAP), length - tile]


def _ramp(length: int, overlap: int) -> Tensor:
    """Weight of each pixel of a tile: rising over the overlap from its near edge, at most 1, then falling."""
    from_edge = torch.minimum(torch.arange(1, length + 1), torch.arange(length, 0, -1))
    return (from_edge / overlap).clamp(max=1)
