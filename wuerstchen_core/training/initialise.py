"""Initial weights of training. Source: the authors' training code (initialisation of DiffNeXt and Prior)."""

import math

import torch
from torch import nn

from ..networks.blocks import ResBlock, TimestepBlock
from ..networks.stage_a import MixingResidualBlock, StageA
from ..networks.stage_b import StageB
from ..networks.stage_c import StageC


@torch.no_grad()
def _xavier(network: nn.Module) -> None:
    """Set Xavier weights and zero biases in all layers."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


@torch.no_grad()
def _calm_blocks(network: nn.Module, depth: int) -> None:
    """Scale residual branches down by the depth, and make timestep blocks change nothing."""
    for module in network.modules():
        if isinstance(module, ResBlock):
            module.channelwise[-1].get_parameter("weight").mul_(math.sqrt(1 / depth))
        elif isinstance(module, TimestepBlock):
            nn.init.zeros_(module.mapper.weight)


@torch.no_grad()
def initialise_stage_a(stage_a: StageA) -> None:
    """Initialise Stage A in place: gates half open, and latents normalised to the published scale.

    The encoder's last layer normalises the latents, and is not trained.
    """
    _xavier(stage_a)
    for module in stage_a.modules():
        if isinstance(module, MixingResidualBlock):
            module.gammas.copy_(torch.tensor([0, 0, 0.5, 0, 0, 0.5]))
    normalise = stage_a.down_blocks[-1].get_submodule("1")
    nn.init.constant_(normalise.get_parameter("weight"), stage_a.config.scale_factor)
    normalise.requires_grad_(False)
    nn.init.normal_(stage_a.vquantizer.embedding.weight, std=stage_a.config.scale_factor)


@torch.no_grad()
def initialise_stage_b(stage_b: StageB) -> None:
    """Initialise Stage B in place, so that it first predicts a signal of zero. The mappers are frozen."""
    _xavier(stage_b)
    _calm_blocks(stage_b, sum(stage_b.config.blocks))
    for mapper in stage_b.effnet_mappers.values():
        nn.init.normal_(mapper.get_parameter("weight"), std=0.02)
    freeze_mappers(stage_b)
    nn.init.normal_(stage_b.clip_mapper.weight, std=0.02)
    nn.init.zeros_(stage_b.clf[1].get_parameter("weight"))


def freeze_mappers(stage_b: StageB) -> None:
    """Exclude the mappers of the image embeddings from training.

    Embeddings are 42 times as large as other inputs, so one step of the optimizer would change the mappers' output
    completely. A random map to four times as many channels loses nothing.
    """
    stage_b.effnet_mappers.requires_grad_(False)


@torch.no_grad()
def initialise_stage_c(stage_c: StageC) -> None:
    """Initialise Stage C in place, so that it first predicts a signal of zero.

    A fifth of the channels begin as a constant. The convolutions' zero padding changes a constant near the borders, so
    each position can tell where it is even in pure noise. Words such as "at the left" need that.
    """
    _xavier(stage_c)
    still = stage_c.config.c // 5
    stage_c.projection.weight[:still] = 0
    nn.init.ones_(stage_c.projection.get_parameter("bias")[:still])
    _calm_blocks(stage_c, stage_c.config.depth)
    for layer in (stage_c.cond_mapper[0], stage_c.cond_mapper[2]):
        nn.init.normal_(layer.get_parameter("weight"), std=0.02)
    nn.init.zeros_(stage_c.out[1].get_parameter("weight"))
