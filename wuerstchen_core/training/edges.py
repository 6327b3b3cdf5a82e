# pyright: reportUnknownMemberType=false
# torch types from_numpy in part only.
"""First weights of Stage B for the drawn world: layers that see the outlines of its figures from the first step.

A small network learns sharp outlines slowly from weights at random. Most hidden units of the finest level therefore
begin as one edge each: a line that touches the outline of one shape at a random point, and that is seen in that shape
only. All of them are trained on.
"""

import math
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from ..geometry import EMBEDDING_SCALE, EMBEDDING_SHIFT, STAGE_C_CHANNELS
from ..networks.blocks import ResBlock
from ..networks.stage_b import StageB
from .fields import CODES, DIAGONAL, PLACE, PLACE_SCALE, SHAPE
from .world import SHAPES

UNITS = 0.75
"""Share of the hidden units that begin as an edge."""
SHARPNESS = (2.0, 40.0)
"""Smallest and largest slope of an edge, in 1 / radius."""
MAPPED = 2.0
"""Value that the mappers give a feature of 1."""
MAPPED_PLACE = 10.0
"""The same for the place, whose slopes have to become steep."""


@torch.no_grad()
def begin_with_edges(stage_b: StageB) -> None:
    """Set the mappers of the image embeddings, and the first layers of the finest level's residual blocks, in place.

    Args:
        stage_b: Network with initial weights.
    """
    rng = np.random.default_rng(0)
    gains = torch.full((STAGE_C_CHANNELS,), MAPPED / EMBEDDING_SCALE)
    gains[PLACE] = MAPPED_PLACE / EMBEDDING_SCALE
    for mapper in stage_b.effnet_mappers.values():
        weight, bias = mapper.get_parameter("weight"), mapper.get_parameter("bias")
        # Each mapped channel is one feature, or its negative, without the shift of the embeddings. A mix of them all
        # would round the place to the precision of the largest.
        weight.zero_()
        for channel in range(len(weight)):
            sign = -1 if channel // STAGE_C_CHANNELS % 2 else 1
            weight[channel, channel % STAGE_C_CHANNELS] = sign * gains[channel % STAGE_C_CHANNELS]
        bias.copy_(weight.sum(dim=(1, 2, 3)) * EMBEDDING_SHIFT)
    last = 2 * len(stage_b.down_blocks) - 1
    for index, level in ((0, stage_b.down_blocks[0]), (last, stage_b.up_blocks[-1])):
        if str(index) in stage_b.effnet_mappers:
            mapped = stage_b.effnet_mappers[str(index)].get_parameter("weight")[:, :, 0, 0] * EMBEDDING_SCALE
            for block in level.children():
                if isinstance(block, ResBlock):
                    _see_edges(block, mapped.pinverse(), rng)


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
        sharpness = math.exp(rng.uniform(math.log(SHARPNESS[0]), math.log(SHARPNESS[1])))
        slopes, offset = _edge(list(SHAPES)[unit % len(SHAPES)], sharpness, rng)
        weight[unit] *= 0.1
        weight[unit, -features.shape[1] :] = torch.from_numpy(slopes).float() @ features
        bias[unit] = offset
        after[:, unit] /= max(1.0, sharpness / 2)


def _edge(shape: str, sharpness: float, rng: np.random.Generator) -> tuple[NDArray[np.float64], float]:
    """Return an edge at a random point of a shape's outline: its slopes along the 16 features, and its value at 0."""
    points = _outline(shape)
    x, y, across, down = points[rng.integers(len(points))].tolist()
    if rng.random() < 0.5:
        across, down = -across, -down
    straight = rng.random() < 0.6
    place = (across, down, 0, 0) if straight else (0, 0, (across + down) * DIAGONAL, (across - down) * DIAGONAL)
    slopes = np.zeros(STAGE_C_CHANNELS)
    slopes[PLACE] = np.array(place) * sharpness / PLACE_SCALE
    # The codes of other shapes make it negative all over the figure.
    code = CODES[shape]
    slopes[SHAPE] = 3 * sharpness * code / np.square(code).sum()
    return slopes, -sharpness * (across * x + down * y + 3)


@cache
def _outline(shape: str) -> NDArray[np.float32]:
    """Return points of a shape's outline, in its radii, and the outward normals there: [count, 4]."""
    line = np.linspace(-1.15, 1.15, 461, dtype=np.float32)
    x, y = np.meshgrid(line, line)
    distance = SHAPES[shape](x, y).astype(np.float32)
    down, across = (np.asarray(slope) for slope in np.gradient(distance, line, line))
    length = np.hypot(across, down)
    near = (np.abs(distance) < 0.004) & (np.abs(length - 1) < 0.1)  # corners have no normal
    found = [x[near], y[near], across[near] / length[near], down[near] / length[near]]
    return np.stack(found, axis=1).astype(np.float32)
