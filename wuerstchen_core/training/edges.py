"""First weights of Stage B for the drawn world: layers that see edges of the figures from the first step.

A small network learns the sharp outlines of shapes slowly from weights at random. Most hidden units of the finest level
therefore begin as one edge each: a line across the figure, in a random direction and of a random sharpness, which most
of them see in one of the shapes only. All of them are trained on.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from ..geometry import STAGE_C_CHANNELS
from ..networks.blocks import ResBlock
from ..networks.stage_b import StageB
from ..stages import EMBEDDING_SCALE, EMBEDDING_SHIFT
from .fields import CODES, DIAGONAL, PLACE, PLACE_SCALE, SHAPE

UNITS = 0.75
"""Share of the hidden units that begin as an edge."""
SHARPEST = 8.0
"""Largest slope of an edge, in 1 / radius."""
MAPPED = 2.0
"""Value that the mappers give a feature of 1."""


@torch.no_grad()
def begin_with_edges(stage_b: StageB) -> None:
    """Set the mappers of the image embeddings, and the first layers of the finest level's residual blocks, in place.

    Args:
        stage_b: Network with initial weights whose finest level sees the image embeddings.
    """
    rng = np.random.default_rng(0)
    for mapper in stage_b.effnet_mappers.values():
        weight, bias = mapper.get_parameter("weight"), mapper.get_parameter("bias")
        # Each mapped channel is one feature, or its negative, without the shift of the embeddings. A mix of them all
        # would round the place to the precision of the largest.
        weight.zero_()
        for channel in range(len(weight)):
            sign = -1 if channel // STAGE_C_CHANNELS % 2 else 1
            weight[channel, channel % STAGE_C_CHANNELS] = sign * MAPPED / EMBEDDING_SCALE
        bias.copy_(weight.sum(dim=(1, 2, 3)) * EMBEDDING_SHIFT)
    last = 2 * len(stage_b.down_blocks) - 1
    for index, level in ((0, stage_b.down_blocks[0]), (last, stage_b.up_blocks[-1])):
        if str(index) in stage_b.effnet_mappers:
            mapped = stage_b.effnet_mappers[str(index)].get_parameter("weight")[:, :, 0, 0] * EMBEDDING_SCALE
            for block in level.children():
                if isinstance(block, ResBlock):
                    _see_edges(block, torch.linalg.pinv(mapped), rng)


def _see_edges(block: ResBlock, features: torch.Tensor, rng: np.random.Generator) -> None:
    """Make most hidden units of a block begin as edges.

    Args:
        block: Block whose last input channels are mapped features.
        features (Tensor): [16, mapped], what reads the features from the mapped channels.
        rng: Random generator.
    """
    first, last = block.channelwise[0], block.channelwise[-1]
    weight, bias, after = first.get_parameter("weight"), first.get_parameter("bias"), last.get_parameter("weight")
    for unit in range(int(len(weight) * UNITS)):
        slopes, offset, sharpness = _edge(rng)
        weight[unit] *= 0.1
        weight[unit, -features.shape[1] :] = torch.from_numpy(slopes).float() @ features
        bias[unit] = offset
        after[:, unit] /= max(1.0, sharpness / 2)


def _edge(rng: np.random.Generator) -> tuple[NDArray[np.float64], float, float]:
    """Return a random edge: its slopes along the 16 features, its value where all are 0, and its sharpness."""
    shape = list(CODES.values())[rng.integers(len(CODES))]
    sharpness = math.exp(rng.uniform(0, math.log(SHARPEST)))
    angle = rng.uniform(0, 2 * np.pi)
    if rng.random() < 0.4:
        angle = round(angle / (np.pi / 4)) * np.pi / 4
    offset = -sharpness * rng.uniform(-1.1, 1.1)
    across, down = math.cos(angle), math.sin(angle)
    straight = rng.random() < 0.6
    place = (across, down, 0, 0) if straight else (0, 0, (across + down) * DIAGONAL, (across - down) * DIAGONAL)
    slopes = np.zeros(STAGE_C_CHANNELS)
    slopes[PLACE] = np.array(place) * sharpness / PLACE_SCALE
    if rng.random() < 0.7:  # seen in this shape only: the others' codes make it negative all over the figure
        slopes[SHAPE] += 3 * sharpness * shape / np.square(shape).sum()
        offset -= 3 * sharpness
    return slopes, offset, sharpness
