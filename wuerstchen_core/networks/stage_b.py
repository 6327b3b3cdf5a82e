"""Stage B, the DiffNeXt decoder: denoises Stage A's latent under image embeddings and text ("decoder" in diffusers)."""

from collections.abc import Callable, Sequence
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
    Operations,
    ResBlock,
    TimestepBlock,
    is_plain,
    may_fold,
    timestep_embedding,
)


@dataclass(frozen=True)
class StageBConfig:
    """Shape of a Stage B network. Field names are those of the published config.json.

    c_in, c_out: channels of the latent. c_r: length of the timestep embedding. patch_size: side of the patch that
    becomes one position. c_cond: width that text and image embeddings are mapped to. c_hidden, nhead, blocks,
    level_config, inject_effnet: one entry a level, finest first; a level repeats the letters of its level_config
    (C residual, T timestep, A attention) `blocks` times and sees the image embeddings where inject_effnet says so.
    effnet_embd: channels of the image embeddings. clip_embd: width of the text embeddings.
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
        """The published v2 decoder, 1.06 B parameters (warp-ai/wuerstchen, decoder/config.json)."""
        return cls()


BlockCondition = Folded | Tensor | KeysAndValues | None
"""Of a residual block: the image embeddings, folded into it or as a further map. Of an attention block: the text."""
LevelCondition = list[BlockCondition]
"""One entry for each block of a level, in their order."""


@dataclass(frozen=True)
class StageBCondition:
    """What stays the same over the steps of a picture, as `StageB.condition` computes it from the weights.

    levels: the levels on the way down, then on the way up.
    """

    levels: tuple[LevelCondition, ...]


class StageB(nn.Module):
    """The decoder network: a U-Net that predicts the noise in Stage A's latent.

    Args:
        operations: the namespace its layers come from.
    """

    compute_dtype: torch.dtype | None = None
    """What it computes in, where `operations` keep the weights in another dtype; None for the weights' own."""
    latent_rgb: Tensor | None = None
    """[c_in + 1, 3], what its latents look like, for previews; None where the checkpoint does not say."""
    reads_weights: Callable[[nn.Module], bool] = staticmethod(is_plain)
    """Whether a layer computes with its weights as they lie, so that they may be folded with others. Where it does not,
    because a host's layer fetches or patches them when it computes, the network goes through the layer itself."""

    def __init__(self, config: StageBConfig, operations: Operations = nn) -> None:
        super().__init__()
        self.config = config
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
            x (Tensor): [batch, c_in, height, width], noised latents, float32 as the sampler keeps it.
            timestep_ratio (Tensor): [batch], 1 (noise) to 0, float32.
            image_embeddings (Tensor): [batch, effnet_embd, h, w], Stage C's result.
            text (Tensor): [batch, tokens, clip_embd], text embeddings, or None for no text at all.
        Returns:
            Tensor: [batch, c_out, height, width], the noise, in the dtype of `x`.
        """
        return self.predict(x, timestep_ratio, self.condition(image_embeddings, text, x.shape[-2:]))

    def signal_and_scale(
        self, x: Tensor, timestep_ratio: Tensor, image_embeddings: Tensor, text: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """What the prediction is made of: the share of `x` that is no noise, and the noise's standard deviation.

        Arguments as `forward`'s; both results have the shape and dtype of `x`.
        """
        condition = self.condition(image_embeddings, text, x.shape[-2:])
        return self._signal_and_scale(x, timestep_ratio, condition)

    def condition(self, image_embeddings: Tensor, text: Tensor | None, size: Sequence[int]) -> StageBCondition:
        """What image embeddings and text decide, for `predict`.

        Args:
            image_embeddings, text: as `forward`'s.
            size: (height, width) of the latents.
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
        resized = F.interpolate(image_embeddings.float(), size=size, mode="bicubic", antialias=True, align_corners=True)
        return resized.to(self._dtype())

    def _level_condition(
        self, level: nn.Module, index: int, embeddings: Tensor | None, text: Tensor | None
    ) -> LevelCondition:
        """embeddings (Tensor): [batch, effnet_embd, height, width] of the level; None where it sees none."""
        mapped: Tensor | None = None
        constants: LevelCondition = []
        for block in level.children():
            constant: BlockCondition = None
            if isinstance(block, ResBlock) and embeddings is not None:
                mapper: Any = self.effnet_mappers[str(index)]
                first = block.channelwise[0]
                if may_fold(embeddings.device) and self.reads_weights(mapper) and self.reads_weights(first):
                    constant = Folded.of(embeddings, mapper, first)
                else:  # the plain form, through the layers alone
                    if mapped is None:
                        mapped = mapper(embeddings).contiguous(memory_format=torch.channels_last)
                    constant = mapped
            elif isinstance(block, AttnBlock) and text is not None:
                constant = block.keys_and_values(text)
            constants.append(constant)
        return constants

    def predict(self, x: Tensor, timestep_ratio: Tensor, condition: StageBCondition) -> Tensor:
        """As `forward`, for image embeddings and a text whose part was computed before."""
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
        skips[-1] = None  # goes up by itself
        for level, constants in zip(self.up_blocks, up, strict=True):
            h = _run_level(level, h, skips.pop(), timestep, constants)
        a, b = self.clf(h).to(x.dtype).chunk(2, dim=1)
        return a, b.sigmoid() * (1 - 2e-3) + 1e-3

    def _dtype(self) -> torch.dtype:
        return self.compute_dtype or self.clip_mapper.weight.dtype


def _run_level(level: nn.Module, h: Tensor, skip: Tensor | None, timestep: Tensor, constants: LevelCondition) -> Tensor:
    """One level of the U-Net; `skip`, the same level's map on the way down, joins its first block if residual."""
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
