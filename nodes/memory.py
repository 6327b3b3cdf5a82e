"""Estimates of the memory that a computation takes beside the weights, so that a host can make room for it.

Each factor is the number of feature maps in memory at the peak, measured by counting allocations. The peak is at the
inverted bottleneck of a residual block, which is four times as wide as the feature map.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from wuerstchen_core import StageA, StageB, StageC


def stage_c_memory(stage_c: StageC, batch: int, height: int, width: int) -> int:
    """Return the bytes that one prediction takes.

    Args:
        stage_c: Network that predicts.
        batch: Images at once; guidance doubles it.
        height: Height of the image embeddings, in positions.
        width: Width of the image embeddings, in positions.
    """
    return 11 * stage_c.config.c * batch * height * width * _itemsize(stage_c.compute_dtype, stage_c)


def stage_b_memory(stage_b: StageB, batch: int, height: int, width: int) -> int:
    """Return the bytes that one prediction takes.

    Args:
        stage_b: Network that predicts.
        batch: Images at once; guidance doubles it.
        height: Height of the latents, in positions.
        width: Width of the latents, in positions.
    """
    config = stage_b.config
    positions = batch * height * width // config.patch_size**2
    return 15 * config.c_hidden[0] * positions * _itemsize(stage_b.compute_dtype, stage_b)


def stage_a_memory(stage_a: StageA, height: int, width: int) -> int:
    """Return the bytes that decoding one latent takes, about 2 KB a pixel in float32.

    Args:
        stage_a: Network that decodes.
        height: Height of the latent, in positions.
        width: Width of the latent, in positions.
    """
    return stage_a.decoding_values * height * width * _itemsize(None, stage_a)


def image_encoder_memory(height: int, width: int) -> int:
    """Return the bytes that encoding one image takes, for the published encoder in float32.

    Args:
        height: Height of the image in pixels.
        width: Width of the image in pixels.
    """
    return 21 * height * width * 4


def _itemsize(compute_dtype: torch.dtype | None, network: torch.nn.Module) -> int:
    return (compute_dtype or next(network.parameters()).dtype).itemsize
