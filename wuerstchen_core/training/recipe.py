"""The steps that train a whole model, in order. Each takes what the ones before it made, and goes on where it was killed."""

import logging
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..stage_a import StageA, StageAConfig
from ..stage_b import StageBConfig
from ..stage_c import StageCConfig
from .compressor import CompressorConfig, RedrawingHead, SemanticCompressor, compressor_input
from .initialise import initialise_stage_a
from .loop import LoopConfig, train
from .losses import compressor_loss, stage_a_loss
from .pictures import Pictures, draw_batch, random_size

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """Shapes of the networks, lengths of their training, and sizes of batches (at 256x256; fewer of larger pictures)."""

    stage_a: StageAConfig
    stage_b: StageBConfig
    stage_c: StageCConfig
    text_layers: int
    stage_a_loop: LoopConfig
    compressor_loop: LoopConfig
    stage_b_loop: LoopConfig
    stage_c_loop: LoopConfig
    finetune_loop: LoopConfig
    compressor: CompressorConfig = field(default_factory=CompressorConfig)
    stage_a_batch: int = 8
    compressor_batch: int = 8
    stage_b_batch: int = 16
    stage_c_batch: int = 64
    stage_b_pool: int = 6000
    stage_c_pool: int = 30000


def train_stage_a(recipe: Recipe, pictures: Pictures, folder: Path) -> StageA:
    """The VQGAN, on small pictures: what it learns is local."""
    torch.manual_seed(0)
    stage_a = StageA(recipe.stage_a)
    initialise_stage_a(stage_a)

    def loss(rng: np.random.Generator) -> torch.Tensor:
        side = int(rng.choice([96, 128]))
        images, _ = draw_batch(pictures, rng, recipe.stage_a_batch, side, side)
        return stage_a_loss(stage_a, images, quantize=bool(rng.random() < 0.3))

    train("stage_a", stage_a, loss, recipe.stage_a_loop, folder)
    return stage_a


def train_compressor(recipe: Recipe, pictures: Pictures, folder: Path) -> SemanticCompressor:
    """The semantic compressor, with a head that redraws the picture and is then thrown away."""
    torch.manual_seed(0)
    compressor, head = SemanticCompressor(recipe.compressor), RedrawingHead(recipe.compressor.channels)

    def loss(rng: np.random.Generator) -> torch.Tensor:
        width, height = random_size(rng)
        count = recipe.compressor_batch * 256 * 256 // (width * height)
        if rng.random() < 0.5:  # drawn at the compressor's own resolution: crisper edges, and quicker
            images, _ = draw_batch(pictures, rng, count, width * 3 // 4, height * 3 // 4)
        else:
            images = compressor_input(draw_batch(pictures, rng, count, width, height)[0])
        return compressor_loss(compressor, head, images, noise=0.15)

    train("compressor", nn.ModuleDict({"compressor": compressor, "head": head}), loss, recipe.compressor_loop, folder)
    return compressor
