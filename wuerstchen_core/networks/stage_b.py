"""Stage B, the DiffNeXt decoder: denoises Stage A's latent under image embeddings and text ("decoder" in diffusers)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .blocks import (
    AttnBlock,
    Folded,
    KeysAndValues,
    LayerNorm2d,
    ResBlock,
    TimestepBlock,
)
from .functional import may_fold, timestep_embedding
from .operations import Operations, compute_dtype_of, reader_of


@dataclass(frozen=True)
class StageBConfig:
    """Shape of a Stage B network. Field names are those of the published config.json.

    The tuples have one entry a level, finest first.

    Attributes:
        c_in: Channels of the latent.
        c_out: Channels of the prediction.
        c_r: Length of the timestep embedding.
        patch_size: Side in latent positions of the patch that becomes one position of the finest level.
        c_cond: Width that text and image embeddings are mapped to.
        c_hidden: Width of each level.
        nhead: Attention heads of each level; -1 for a level without attention.
        blocks: Number of times each level repeats its `level_config`.
        level_config: Blocks of each level, one letter each: C residual, T timestep, A attention.
        inject_effnet: True for levels whose residual blocks see the image embeddings.
        effnet_embd: Channels of the image embeddings.
        clip_embd: Width of the text embeddings.
        kernel_size: Side of the depthwise convolutions' kernel, in positions.
        dropout: Dropout in training, 0..1.
    """

    c_in: int = 4
    c_out: int = 4
    c_r: int = 64
    patch_size: int = 2
    c_cond: int = 1024
    c_hidden: tuple[int, ...] = (320, 640, 1280, 1280)
    nhead: tuple[int, ...] = (-1, 10, 20, 20)
    blocks: tuple[int, ...] = (4, 4, 14, 4)
    level_config: tuple[str, ...] = ("CT", "CTA", "CTA", "CTA")
    inject_effnet: tuple[bool, ...] = (False, True, True, True)
    effnet_embd: int = 16
    clip_embd: int = 1024
    kernel_size: int = 3
    dropout: float = 0.1

    @classmethod
    def v2(cls) -> "StageBConfig":
        """Return the shape of the published v2 decoder, 1.06 B parameters (warp-ai/wuerstchen, decoder/config.json)."""
        return cls()


BlockCondition = Folded | Tensor | KeysAndValues | None
"""Part of the condition that one block reads.

The image embeddings for a residual block, folded or as a further map [batch, c_cond, height, width]; the text's keys
and values for an attention block; None for a block that reads neither.
"""
LevelCondition = list[BlockCondition]
"""One entry for each block of a level, in their order."""


@dataclass(frozen=True)
class StageBCondition:
    """Part of a prediction that is the same at every step: it depends on text and image embeddings alone.

    Attributes:
        levels (tuple[LevelCondition, ...]): Levels on the way down, then on the way up.
    """

    # predict(x, t, condition(e, text)) equals forward(x, t, e, text): the noised latent x and the timestep t meet the
    # text only in attention, where each token's key and value are maps of that token alone (see
    # AttnBlock.keys_and_values), and the image embeddings e only in the first layer of a residual block, to which e
    # adds a linear map of itself (see Folded). Both are computed once an image.

    levels: tuple[LevelCondition, ...]


class StageB(nn.Module):
    """The decoder network: a U-Net that predicts the noise in Stage A's latent.

    Args:
        config: Shape of the network.
        operations: Namespace that the layers come from.
    Attributes:
        config (StageBConfig): Shape of the network.
        compute_dtype (torch.dtype | None): Dtype to compute in; None for that of the weights.
        reads_weights (WeightReader): Says which layers' weights may be folded; see `operations.reader_of`.
        latent_rgb (Tensor | None): [c_in + 1, 3], linear map from latents to RGB in 0..1 for previews; None where the
            checkpoint has none.
    """

    latent_rgb: Tensor | None = None

    def __init__(self, config: StageBConfig, operations: Operations = nn) -> None:
        super().__init__()
        self.config = config
        self.compute_dtype = compute_dtype_of(operations)
        self.reads_weights = reader_of(operations)
        levels = range(len(config.c_hidden))
        finest = config.c_hidden[0]
        self.clip_mapper = operations.Linear(config.clip_embd, config.c_cond)
        self.seq_norm = nn.LayerNorm(config.c_cond, elementwise_affine=False, eps=1e-6)
        # One mapper a level, on the way down and again on the way up.
        self.effnet_mappers = nn.ModuleDict(
            {
                str(i): operations.Conv2d(config.effnet_embd, config.c_cond, kernel_size=1)
                for i, inject in enumerate(config.inject_effnet + config.inject_effnet[::-1])
                if inject
            }
        )
        self.embedding = nn.Sequential(
            nn.PixelUnshuffle(config.patch_size),
            operations.Conv2d(config.c_in * config.patch_size**2, finest, kernel_size=1),
            LayerNorm2d(finest),
        )
        self.down_blocks = nn.ModuleList(
            nn.ModuleList([*self._downscaler(level, operations), *self._level_blocks(level, operations)])
            for level in levels
        )
        self.up_blocks = nn.ModuleList(
            nn.ModuleList(
                [
                    *self._level_blocks(level, operations, joins_skip=level != levels[-1]),
                    *self._upscaler(level, operations),
                ]
            )
            for level in reversed(levels)
        )
        self.clf = nn.Sequential(
            LayerNorm2d(finest),
            operations.Conv2d(finest, 2 * config.c_out * config.patch_size**2, kernel_size=1),
            nn.PixelShuffle(config.patch_size),
        )

    def _downscaler(self, level: int, operations: Operations) -> list[nn.Module]:
        if level == 0:
            return []
        above, here = self.config.c_hidden[level - 1 : level + 1]
        narrow = operations.Conv2d(above, here, kernel_size=2, stride=2)
        return [nn.Sequential(LayerNorm2d(above), narrow)]

    def _upscaler(self, level: int, operations: Operations) -> list[nn.Module]:
        if level == 0:
            return []
        above, here = self.config.c_hidden[level - 1 : level + 1]
        widen = operations.ConvTranspose2d(here, above, kernel_size=2, stride=2)
        return [nn.Sequential(LayerNorm2d(here), widen)]

    def _level_blocks(self, level: int, operations: Operations, joins_skip: bool = False) -> list[nn.Module]:
        config = self.config
        channels = config.c_hidden[level]
        built: list[nn.Module] = []
        for letter in config.level_config[level] * config.blocks[level]:
            if letter == "C":
                skip = config.c_cond if config.inject_effnet[level] else 0
                if joins_skip and not built:
                    skip += channels
                built.append(ResBlock(channels, skip, config.kernel_size, config.dropout, operations))
            elif letter == "T":
                built.append(TimestepBlock(channels, config.c_r, operations))
            elif letter == "A":
                heads = config.nhead[level]
                built.append(AttnBlock(channels, config.c_cond, heads, config.dropout, operations))
            else:
                raise ValueError(f"level_config has block type {letter!r}; expected C, T or A")
        return built

    def forward(self, x: Tensor, timestep_ratio: Tensor, image_embeddings: Tensor, text: Tensor | None) -> Tensor:
        """Predict the noise in `x`.

        Args:
            x (Tensor): [batch, c_in, height, width], float32, noised latents.
            timestep_ratio (Tensor): [batch], 1 (noise) to 0, float32.
            image_embeddings (Tensor): [batch, effnet_embd, h, w], Stage C's result.
            text (Tensor | None): [batch, tokens, clip_embd], text embeddings; None for no text.
        Returns:
            Tensor: [batch, c_out, height, width], the noise, in the dtype of `x`.
        """
        return self.predict(x, timestep_ratio, self.condition(image_embeddings, text, x.shape[-2:]))

    def signal_and_scale(
        self, x: Tensor, timestep_ratio: Tensor, image_embeddings: Tensor, text: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Predict the two parts of the noise, which is (x - signal) / scale.

        Args:
            x (Tensor): As for `forward`.
            timestep_ratio (Tensor): As for `forward`.
            image_embeddings (Tensor): As for `forward`.
            text (Tensor | None): As for `forward`.
        Returns:
            tuple[Tensor, Tensor]: Signal in `x` and standard deviation of its noise in 0.001..0.999, both
                [batch, c_out, height, width] in the dtype of `x`.
        """
        condition = self.condition(image_embeddings, text, x.shape[-2:])
        return self._signal_and_scale(x, timestep_ratio, condition)

    def condition(self, image_embeddings: Tensor, text: Tensor | None, size: Sequence[int]) -> StageBCondition:
        """Compute the part of a prediction that is the same at every step.

        Args:
            image_embeddings (Tensor): As for `forward`.
            text (Tensor | None): As for `forward`.
            size: Height and width of the latents, in positions.
        Returns:
            StageBCondition: Argument of `predict`. It holds for the weights as they are now.
        """
        if text is not None:
            text = self.seq_norm(self.clip_mapper(text.to(self._dtype())))
        height, width = (side // self.config.patch_size for side in size)
        depths = [*range(len(self.down_blocks)), *reversed(range(len(self.up_blocks)))]
        levels: list[LevelCondition] = []
        for i, level in enumerate([*self.down_blocks, *self.up_blocks]):
            resized = None
            if str(i) in self.effnet_mappers:
                resized = self._resize(image_embeddings, (height >> depths[i], width >> depths[i]))
            levels.append(self._level_condition(level, i, resized, text))
        return StageBCondition(tuple(levels))

    def _resize(self, image_embeddings: Tensor, size: tuple[int, int]) -> Tensor:
        """Return image embeddings at the size of a level: [batch, effnet_embd, *size], in the dtype to compute in."""
        resized = F.interpolate(image_embeddings.float(), size=size, mode="bicubic", antialias=True, align_corners=True)
        return resized.to(self._dtype())

    def _level_condition(
        self, level: nn.Module, index: int, embeddings: Tensor | None, text: Tensor | None
    ) -> LevelCondition:
        """Compute the condition of one level.

        Args:
            level: The level's blocks.
            index: Number of the level, down and then up, which names its mapper.
            embeddings (Tensor | None): [batch, effnet_embd, height, width], resized; None where the level sees none.
            text (Tensor | None): [batch, tokens, c_cond], mapped text.
        """
        mapped: Tensor | None = None
        constants: LevelCondition = []
        for block in level.children():
            constant: BlockCondition = None
            if isinstance(block, ResBlock) and embeddings is not None:
                mapper: Any = self.effnet_mappers[str(index)]
                first = block.channelwise[0]
                if may_fold(embeddings.device) and self.reads_weights(mapper) and self.reads_weights(first):
                    constant = Folded.of(embeddings, mapper, first)
                else:  # the plain form: layers are called, and their weights are not read
                    if mapped is None:
                        mapped = mapper(embeddings).contiguous(memory_format=torch.channels_last)
                    constant = mapped
            elif isinstance(block, AttnBlock) and text is not None:
                constant = block.keys_and_values(text)
            constants.append(constant)
        return constants

    def predict(self, x: Tensor, timestep_ratio: Tensor, condition: StageBCondition) -> Tensor:
        """Predict the noise in `x` from a condition computed before.

        Args:
            x (Tensor): As for `forward`.
            timestep_ratio (Tensor): As for `forward`.
            condition: Result of `condition`; it can be used any number of times.
        Returns:
            Tensor: [batch, c_out, height, width], the noise, in the dtype of `x`.
        """
        signal, scale = self._signal_and_scale(x, timestep_ratio, condition)
        return (x - signal) / scale

    def _signal_and_scale(self, x: Tensor, timestep_ratio: Tensor, condition: StageBCondition) -> tuple[Tensor, Tensor]:
        timestep = timestep_embedding(timestep_ratio, self.config.c_r).to(self._dtype())
        h = self.embedding(x.to(self._dtype())).contiguous(memory_format=torch.channels_last)
        down, up = condition.levels[: len(self.down_blocks)], condition.levels[len(self.down_blocks) :]
        skips: list[Tensor | None] = []
        for level, constants in zip(self.down_blocks, down, strict=True):
            h = _run_level(level, h, None, timestep, constants)
            skips.append(h)
        skips[-1] = None  # the coarsest map is h itself
        for level, constants in zip(self.up_blocks, up, strict=True):
            h = _run_level(level, h, skips.pop(), timestep, constants)
        a, b = self.clf(h).to(x.dtype).chunk(2, dim=1)
        return a, b.sigmoid() * (1 - 2e-3) + 1e-3

    def _dtype(self) -> torch.dtype:
        return self.compute_dtype or self.clip_mapper.weight.dtype


def _run_level(level: nn.Module, h: Tensor, skip: Tensor | None, timestep: Tensor, constants: LevelCondition) -> Tensor:
    """Run one level of the U-Net.

    Args:
        level: The level's blocks.
        h (Tensor): [batch, channels, height, width]. Overwritten unless gradients are recorded.
        skip (Tensor | None): The same level's map on the way down, read by the first block if that is residual.
        timestep (Tensor): [batch, c_r], timestep embedding.
        constants: Condition of each block.
    """
    for block, constant in zip(level.children(), constants, strict=True):
        if isinstance(block, ResBlock):
            seen = [part for part in (skip, constant) if isinstance(part, Tensor)]
            folded = constant if isinstance(constant, Folded) else None
            h = block(h, torch.cat(seen, dim=1) if seen else None, folded)
        elif isinstance(block, TimestepBlock):
            h = block(h, timestep)
        elif isinstance(block, AttnBlock):
            h = block(h, constant)
        else:  # the change of scale between two levels
            h = block(h).contiguous(memory_format=torch.channels_last)
        skip = None
    return h
