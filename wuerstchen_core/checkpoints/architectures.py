"""Table of the networks that checkpoints hold: the class of each, its config, and how that is inferred."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from ..networks.cocktail_encoder import CocktailEncoder, CocktailEncoderConfig
from ..networks.efficientnet import EfficientNetEncoder, EfficientNetEncoderConfig
from ..networks.float8 import FLOAT8
from ..networks.int8 import INT8
from ..networks.operations import Operations
from ..networks.stage_a import StageA, StageAConfig
from ..networks.stage_b import StageB, StageBConfig
from ..networks.stage_c import StageC, StageCConfig
from . import components
from .components import Component
from .config import (
    Config,
    State,
    infer_cocktail_encoder,
    infer_efficientnet,
    infer_stage_a,
    infer_stage_b,
    infer_stage_c,
)

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Architecture(Generic[Network, Config]):
    """Network of a stage, or of an image encoder.

    Attributes:
        component: Entry in the table of components.
        network: Class of the network, called with a config and the namespace of the layers.
        config: Class of its config.
        infer: Function that infers the config from the tensors.
        stored: Dtypes that its weights may be kept in beside those that it computes in.
    """

    component: Component
    network: Callable[[Config, Operations], Network]
    config: type[Config]
    infer: Callable[[State], Config]
    stored: tuple[torch.dtype, ...] = ()


STAGE_C = Architecture(components.STAGE_C, StageC, StageCConfig, infer_stage_c, (FLOAT8, INT8))
STAGE_B = Architecture(components.STAGE_B, StageB, StageBConfig, infer_stage_b, (FLOAT8, INT8))
STAGE_A = Architecture(components.STAGE_A, StageA, StageAConfig, infer_stage_a)
IMAGE_ENCODERS: tuple[Architecture[Any, Any], ...] = (
    Architecture(
        components.IMAGE_ENCODER,
        lambda config, _: EfficientNetEncoder(config),
        EfficientNetEncoderConfig,
        infer_efficientnet,
    ),
    Architecture(
        components.COCKTAIL_ENCODER,
        lambda config, _: CocktailEncoder(config),
        CocktailEncoderConfig,
        infer_cocktail_encoder,
    ),
)
"""The published network, and that of the embedded model."""
