"""Stage C: denoises the tiny 16-channel latent under the text ("Stage C" in the paper, "prior" in diffusers)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .blocks import (
    AttnBlock,
    KeysAndValues,
    LayerNorm2d,
    ResBlock,
    TimestepBlock,
)
from .functional import timestep_embedding
from .operations import Operations, compute_dtype_of
from .previewer import Previewer


@dataclass(frozen=True)
class StageCConfig:
    """Shape of a Stage C network. Field names are those of the published config.json.

    Attributes:
        c_in: Channels of the latent.
        c: Width of the network.
        c_cond: Width of the text embeddings.
        c_r: Length of the timestep embedding.
        depth: Number of (residual, timestep, attention) triples of blocks.
        nhead: Attention heads; divides `c`.
        dropout: Dropout in training, 0..1.
    """

    c_in: int = 16
    c: int = 1280
    c_cond: int = 1024
    c_r: int = 64
    depth: int = 16
    nhead: int = 16
    dropout: float = 0.1

    @classmethod
    def v2(cls) -> "StageCConfig":
        """Return the shape of the published v2 prior, 0.99 B parameters (wuerstchen-prior, prior/config.json)."""
        return cls(c_in=16, c=1536, c_cond=1280, c_r=64, depth=32, nhead=24)


@dataclass(frozen=True)
class StageCCondition:
    """Part of a prediction that is the same at every step: it depends on the text alone.

    Attributes:
        texts (tuple[KeysAndValues, ...]): Keys and values of the text for each attention block, in their order.
    """

    # predict(x, t, condition(text)) equals forward(x, t, text): the text enters only as the keys and values of
    # attention blocks, and those of each token are maps of that token alone (see AttnBlock.keys_and_values).

    texts: tuple[KeysAndValues, ...]


class StageC(nn.Module):
    """The prior network: predicts the noise in image embeddings.

    Args:
        config: Shape of the network.
        operations: Namespace that the layers come from.
    Attributes:
        config (StageCConfig): Shape of the network.
        compute_dtype (torch.dtype | None): Dtype to compute in; None for that of the weights.
        latent_rgb (Tensor | None): [c_in + 1, 3], linear map from latents to RGB in 0..1 for previews; None where the
            checkpoint has none.
        previewer (Previewer | None): Decoder of latents to small images for previews, which are better than those of
            `latent_rgb`; None where the checkpoint has none.
    """

    latent_rgb: Tensor | None = None
    previewer: Previewer | None = None

    def __init__(self, config: StageCConfig, operations: Operations = nn) -> None:
        super().__init__()
        self.config = config
        self.compute_dtype = compute_dtype_of(operations)
        c = config.c
        self.projection = operations.Conv2d(config.c_in, c, kernel_size=1)
        self.cond_mapper = nn.Sequential(
            operations.Linear(config.c_cond, c), nn.LeakyReLU(0.2), operations.Linear(c, c)
        )
        self.blocks = nn.ModuleList()
        for _ in range(config.depth):
            self.blocks.append(ResBlock(c, dropout=config.dropout, operations=operations))
            self.blocks.append(TimestepBlock(c, config.c_r, operations))
            self.blocks.append(AttnBlock(c, c, config.nhead, config.dropout, operations))
        self.out = nn.Sequential(LayerNorm2d(c), operations.Conv2d(c, config.c_in * 2, kernel_size=1))

    def forward(self, x: Tensor, timestep_ratio: Tensor, text: Tensor) -> Tensor:
        """Predict the noise in `x`.

        Args:
            x (Tensor): [batch, c_in, height, width], float32, noised latents.
            timestep_ratio (Tensor): [batch], 1 (noise) to 0, float32.
            text (Tensor): [batch, tokens, c_cond], text embeddings.
        Returns:
            Tensor: [batch, c_in, height, width], the noise, in the dtype of `x`.
        """
        return self.predict(x, timestep_ratio, self.condition(text))

    def signal_and_scale(self, x: Tensor, timestep_ratio: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Predict the two parts of the noise, which is (x - signal) / scale.

        Args:
            x (Tensor): As for `forward`.
            timestep_ratio (Tensor): As for `forward`.
            text (Tensor): As for `forward`.
        Returns:
            tuple[Tensor, Tensor]: Signal in `x` and standard deviation of its noise, above 0, both
                [batch, c_in, height, width] in the dtype of `x`.
        """
        return self._signal_and_scale(x, timestep_ratio, self.condition(text))

    def condition(self, text: Tensor) -> StageCCondition:
        """Compute the part of a prediction that is the same at every step.

        Args:
            text (Tensor): [batch, tokens, c_cond], text embeddings.
        Returns:
            StageCCondition: Argument of `predict`. It holds for the weights as they are now.
        """
        text = self.cond_mapper(text.to(self._dtype()))
        return StageCCondition(
            tuple(block.keys_and_values(text) for block in self.blocks if isinstance(block, AttnBlock))
        )

    def predict(self, x: Tensor, timestep_ratio: Tensor, condition: StageCCondition) -> Tensor:
        """Predict the noise in `x` from a condition computed before.

        Args:
            x (Tensor): As for `forward`.
            timestep_ratio (Tensor): As for `forward`.
            condition: Result of `condition`; it can be used any number of times.
        Returns:
            Tensor: [batch, c_in, height, width], the noise, in the dtype of `x`.
        """
        signal, scale = self._signal_and_scale(x, timestep_ratio, condition)
        return (x - signal) / scale

    def _signal_and_scale(self, x: Tensor, timestep_ratio: Tensor, condition: StageCCondition) -> tuple[Tensor, Tensor]:
        dtype = self._dtype()
        timestep = timestep_embedding(timestep_ratio, self.config.c_r).to(dtype)
        h = self.projection(x.to(dtype)).contiguous(memory_format=torch.channels_last)
        texts = iter(condition.texts)
        for block in self.blocks:
            if isinstance(block, TimestepBlock):
                h = block(h, timestep)
            elif isinstance(block, AttnBlock):
                h = block(h, next(texts))
            else:
                h = block(h)
        a, b = self.out(h).to(x.dtype).chunk(2, dim=1)
        return a, (1 - b).abs() + 1e-5

    def _dtype(self) -> torch.dtype:
        return self.compute_dtype or self.projection.weight.dtype
