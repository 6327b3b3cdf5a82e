"""How much memory a network's computation takes beside its weights, so that a host can make room for it.

Each factor is the number of feature maps alive at once where there are most, measured by counting allocations: at the
inverted bottleneck of a residual block, which is four times as wide as the map itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from wuerstchen_core import StageA, StageB, StageC


def stage_c_memory(stage_c: StageC, batch: int, height: int, width: int) -> int:
    """Bytes that one prediction takes for image embeddings [batch, 16, height, width]; guidance doubles the batch."""
    return 11 * stage_c.config.c * batch * height * width * _itemsize(stage_c.compute_dtype, stage_c)


def stage_b_memory(stage_b: StageB, batch: int, height: int, width: int) -> int:
    """Bytes that one prediction takes for latents [batch, 4, height, width]; guidance doubles the batch."""
    config = stage_b.config
    positions = batch * height * width // config.patch_size**2
    return 15 * config.c_hidden[0] * positions * _itemsize(stage_b.compute_dtype, stage_b)


def stage_a_memory(stage_a: StageA, height: int, width: int) -> int:
    """Bytes that decoding one latent [1, 4, height, width] takes: about 2 KB a pixel in float32."""
    return stage_a.decoding_values * height * width * _itemsize(None, stage_a)


def _itemsize(compute_dtype: torch.dtype | None, network: torch.nn.Module) -> int:
    return (compute_dtype or next(network.parameters()).dtype).itemsize
