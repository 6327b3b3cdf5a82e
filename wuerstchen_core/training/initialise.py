"""The weights that training starts from. Source: the authors' training code (initialisation of DiffNeXt and Prior)."""

import math

import torch
from torch import nn

from ..networks.blocks import ResBlock, TimestepBlock
from ..networks.stage_a import MixingResidualBlock, StageA
from ..networks.stage_b import StageB
from ..networks.stage_c import StageC


@torch.no_grad()
def _xavier(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


@torch.no_grad()
def _calm_blocks(network: nn.Module, depth: int) -> None:
    """Residual branches small by depth, timestep blocks neutral."""
    for module in network.modules():
        if isinstance(module, ResBlock):
            module.channelwise[-1].get_parameter("weight").mul_(math.sqrt(1 / depth))
        elif isinstance(module, TimestepBlock):
            nn.init.zeros_(module.mapper.weight)


@torch.no_grad()
def initialise_stage_a(stage_a: StageA) -> None:
    """Gates open a little; latents normalised to the published scale by the encoder's last layer, which stays fixed."""
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
    """The first prediction is the input itself."""
    _xavier(stage_b)
    _calm_blocks(stage_b, sum(stage_b.config.blocks))
    for mapper in stage_b.effnet_mappers.values():
        nn.init.normal_(mapper.get_parameter("weight"), std=0.02)
    freeze_mappers(stage_b)
    nn.init.normal_(stage_b.clip_mapper.weight, std=0.02)
    nn.init.zeros_(stage_b.clf[1].get_parameter("weight"))


def freeze_mappers(stage_b: StageB) -> None:
    """Leave the mappers of the image embeddings as they are.

    Embeddings are 42 times what other layers see, and a step of the optimizer would change all that the mappers say; a
    random map to four times as many channels loses nothing.
    """
    stage_b.effnet_mappers.requires_grad_(False)


@torch.no_grad()
def initialise_stage_c(stage_c: StageC) -> None:
    """The first prediction is the input itself.

    A fifth of the channels begin as a constant. The convolutions' zero padding makes a constant differ at the borders,
    and that is how a position knows where it is, even in mere noise: "at the left" means nothing before.
    """
    _xavier(stage_c)
    still = stage_c.config.c // 5
    stage_c.projection.weight[:still] = 0
    nn.init.ones_(stage_c.projection.get_parameter("bias")[:still])
    _calm_blocks(stage_c, stage_c.config.depth)
    for layer in (stage_c.cond_mapper[0], stage_c.cond_mapper[2]):
        nn.init.normal_(layer.get_parameter("weight"), std=0.02)
    nn.init.zeros_(stage_c.out[1].get_parameter("weight"))
