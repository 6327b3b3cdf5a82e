"""Functions on feature maps that the blocks and networks share."""

import math
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

_linalg = cast(Any, torch.linalg)  # torch does not type its functions

VALUES_AT_ONCE = 1 << 21
"""Values squared at a time on the CPU: 4 MB in bfloat16, which stay in a processor's cache."""


def add(x: Tensor, change: Tensor) -> Tensor:
    """Return `x + change`. Overwrites `x` unless gradients are recorded, so nothing else may need `x`."""
    return x + change if torch.is_grad_enabled() else x.add_(change)


def gelu(x: Tensor) -> Tensor:
    """Return GELU of `x`. Overwrites `x` unless gradients are recorded, so nothing else may need `x`."""
    return F.gelu(x) if torch.is_grad_enabled() else torch.ops.aten.gelu_(x)


def to_channels_last(x: Tensor) -> Tensor:
    """View [batch, channels, height, width] as [batch, height, width, channels]."""
    return x.permute(0, 2, 3, 1)


def to_channels_first(x: Tensor) -> Tensor:
    """View [batch, height, width, channels] as [batch, channels, height, width]."""
    return x.permute(0, 3, 1, 2)


def timestep_embedding(timestep_ratio: Tensor, dim: int, max_positions: int = 10000) -> Tensor:
    """Return the sinusoidal embedding of the timestep ratio.

    Args:
        timestep_ratio (Tensor): [batch], 1 (noise) to 0, float32.
        dim: Length of the embedding. Where it is odd, the last value is zero.
        max_positions: Factor of the ratio; also how many times the fastest frequency is the slowest one.
    Returns:
        Tensor: [batch, dim], float32 in -1..1, sines then cosines.
    """
    half = dim // 2
    frequencies = torch.exp(
        torch.arange(half, device=timestep_ratio.device, dtype=torch.float32) * (-math.log(max_positions) / (half - 1))
    )
    angles = (timestep_ratio.float() * max_positions)[:, None] * frequencies
    embedding = torch.cat([angles.sin(), angles.cos()], dim=1)
    return F.pad(embedding, (0, dim % 2))


def spatial_norm(x: Tensor) -> Tensor:
    """Return the L2 norm over all positions: [batch, height, width, channels] -> [batch, 1, 1, channels]."""
    if x.device.type != "cpu" or x.dtype == torch.float16 or torch.is_grad_enabled():
        return _linalg.vector_norm(x, dim=(1, 2), keepdim=True)
    # sqrt(sum over positions p of x[p, c]**2) is the square root of the product [1, ..., 1] @ x**2, where x is a matrix
    # [positions, channels]. On the CPU the product sums faster. Its parts are added in float32. Not in float16, where a
    # square could overflow.
    flat = x.flatten(1, 2)
    positions = max(1, VALUES_AT_ONCE // (len(x) * x.shape[-1]))
    ones = x.new_ones(1, 1, 1).expand(len(x), 1, flat.shape[1])
    sums = [torch.bmm(ones[..., : part.shape[1]], part.square()) for part in torch.split(flat, positions, dim=1)]
    total = sums[0] if len(sums) == 1 else torch.cat(sums, dim=1).float().sum(dim=1, keepdim=True)
    return total.sqrt()[:, None].to(x.dtype)


def may_fold(device: torch.device) -> bool:
    """Return whether weights may be multiplied beforehand: not while they are trained or autocast picks the dtypes."""
    autocast = torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)
    return not (torch.is_grad_enabled() or autocast)
