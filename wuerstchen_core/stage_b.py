"""Stage B, the DiffNeXt decoder: denoises Stage A's latent under image embeddings and text ("decoder" in diffusers)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .blocks import AttnBlock, LayerNorm2d, ResBlock, TimestepBlock, timestep_embedding


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


class StageB(nn.Module):
    """The decoder network: a U-Net that predicts the noise in Stage A's latent."""

    def __init__(self, config: StageBConfig) -> None:
        super().__init__()
        self.config = config
        levels = range(len(config.c_hidden))
        finest = config.c_hidden[0]
        self.clip_mapper = nn.Linear(config.clip_embd, config.c_cond)
        self.seq_norm = nn.LayerNorm(config.c_cond, elementwise_affine=False, eps=1e-6)
        # One mapper a level, on the way down and again on the way up.
        self.effnet_mappers = nn.ModuleDict(
            {
                str(i): nn.Conv2d(config.effnet_embd, config.c_cond, kernel_size=1)
                for i, inject in enumerate(config.inject_effnet + config.inject_effnet[::-1])
                if inject
            }
        )
        self.embedding = nn.Sequential(
            nn.PixelUnshuffle(config.patch_size),
            nn.Conv2d(config.c_in * config.patch_size**2, finest, kernel_size=1),
            LayerNorm2d(finest),
        )
        self.down_blocks = nn.ModuleList(
            nn.ModuleList([*self._downscaler(level), *self._level_blocks(level)]) for level in levels
        )
        self.up_blocks = nn.ModuleList(
            nn.ModuleList([*self._level_blocks(level, joins_skip=level != levels[-1]), *self._upscaler(level)])
            for level in reversed(levels)
        )
        self.clf = nn.Sequential(
            LayerNorm2d(finest),
            nn.Conv2d(finest, 2 * config.c_out * config.patch_size**2, kernel_size=1),
            nn.PixelShuffle(config.patch_size),
        )

    def _downscaler(self, level: int) -> list[nn.Module]:
        if level == 0:
            return []
        above, here = self.config.c_hidden[level - 1 : level + 1]
        return [nn.Sequential(LayerNorm2d(above), nn.Conv2d(above, here, kernel_size=2, stride=2))]

    def _upscaler(self, level: int) -> list[nn.Module]:
        if level == 0:
            return []
        above, here = self.config.c_hidden[level - 1 : level + 1]
        return [nn.Sequential(LayerNorm2d(here), nn.ConvTranspose2d(here, above, kernel_size=2, stride=2))]

    def _level_blocks(self, level: int, joins_skip: bool = False) -> list[nn.Module]:
        config = self.config
        channels = config.c_hidden[level]
        built: list[nn.Module] = []
        for letter in config.level_config[level] * config.blocks[level]:
            if letter == "C":
                skip = config.c_cond if config.inject_effnet[level] else 0
                if joins_skip and not built:
                    skip += channels
                built.append(ResBlock(channels, skip, config.kernel_size, config.dropout))
            elif letter == "T":
                built.append(TimestepBlock(channels, config.c_r))
            elif letter == "A":
                built.append(AttnBlock(channels, config.c_cond, config.nhead[level], config.dropout))
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
        signal, scale = self.signal_and_scale(x, timestep_ratio, image_embeddings, text)
        return (x - signal) / scale

    def signal_and_scale(
        self, x: Tensor, timestep_ratio: Tensor, image_embeddings: Tensor, text: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """What the prediction is made of: the share of `x` that is no noise, and the noise's standard deviation.

        Arguments as `forward`'s; both results have the shape and dtype of `x`.
        """
        dtype = self.clip_mapper.weight.dtype
        timestep = timestep_embedding(timestep_ratio, self.config.c_r).to(dtype)
        if text is not None:
            text = self.seq_norm(self.clip_mapper(text.to(dtype)))
        h = self.embedding(x.to(dtype)).contiguous(memory_format=torch.channels_last)
        skips: list[Tensor] = []
        for i, level in enumerate(self.down_blocks):
            h = self._run_level(level, i, h, None, timestep, image_embeddings, text)
            skips.append(h)
        for i, level in enumerate(self.up_blocks):
            skip = None if i == 0 else skips[-1 - i]
            h = self._run_level(level, len(self.down_blocks) + i, h, skip, timestep, image_embeddings, text)
        a, b = self.clf(h).to(x.dtype).chunk(2, dim=1)
        return a, b.sigmoid() * (1 - 2e-3) + 1e-3

    def _run_level(
        self,
        level: nn.Module,
        mapper: int,
        h: Tensor,
        skip: Tensor | None,
        timestep: Tensor,
        image_embeddings: Tensor,
        text: Tensor | None,
    ) -> Tensor:
        """One level of the U-Net; `skip`, the same level's map on the way down, joins its first block if residual."""
        embeddings: Tensor | None = None
        for block in level.children():
            if isinstance(block, ResBlock):
                if embeddings is None:
                    embeddings = self._map_embeddings(mapper, image_embeddings, h)
                seen = [part for part in (skip, embeddings) if part is not None]
                h = block(h, torch.cat(seen, dim=1) if seen else None)
            elif isinstance(block, TimestepBlock):
                h = block(h, timestep)
            elif isinstance(block, AttnBlock):
                h = block(h, text)
            else:  # the change of scale between two levels
                h = block(h).contiguous(memory_format=torch.channels_last)
            skip = None
        return h

    def _map_embeddings(self, mapper: int, image_embeddings: Tensor, like: Tensor) -> Tensor | None:
        if str(mapper) not in self.effnet_mappers:
            return None
        resized = F.interpolate(
            image_embeddings.float(), size=like.shape[-2:], mode="bicubic", antialias=True, align_corners=True
        )
        return self.effnet_mappers[str(mapper)](resized.to(like.dtype)).contiguous(memory_format=torch.channels_last)
