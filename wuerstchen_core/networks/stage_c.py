"""Stage C: denoises the tiny 16-channel latent under the text ("Stage C" in the paper, "prior" in diffusers)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .blocks import AttnBlock, KeysAndValues, LayerNorm2d, Operations, ResBlock, TimestepBlock, timestep_embedding


@dataclass(frozen=True)
class StageCConfig:
    """Shape of a Stage C network. Field names are those of the published config.json.

    c_in: channels of the latent. c: width. c_cond: width of the text embeddings. c_r: length of the timestep
    embedding. depth: number of (residual, timestep, attention) triples. nhead: attention heads.
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
        """The published v2 prior, 0.99 B parameters (warp-ai/wuerstchen-prior, prior/config.json)."""
        return cls(c_in=16, c=1536, c_cond=1280, c_r=64, depth=32, nhead=24)


@dataclass(frozen=True)
class StageCCondition:
    """What stays the same over the steps of a picture, as `StageC.condition` computes it from the weights.

    texts: the text's keys and values for every attention block, in their order.
    """

    texts: tuple[KeysAndValues, ...]


class StageC(nn.Module):
    """The prior network: predicts the noise in image embeddings.

    Args:
        operations: the namespace its layers come from.
    """

    compute_dtype: torch.dtype | None = None
    """What it computes in, where `operations` keep the weights in another dtype; None for the weights' own."""
    latent_rgb: Tensor | None = None
    """[c_in + 1, 3], what its latents look like, for previews; None where the checkpoint does not say."""

    def __init__(self, config: StageCConfig, operations: Operations = nn) -> None:
        super().__init__()
        self.config = config
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
            x (Tensor): [batch, c_in, height, width], noised embeddings, float32 as the sampler keeps it.
            timestep_ratio (Tensor): [batch], 1 (noise) to 0, float32.
            text (Tensor): [batch, tokens, c_cond], text embeddings.
        Returns:
            Tensor: [batch, c_in, height, width], the noise, in the dtype of `x`.
        """
        return self.predict(x, timestep_ratio, self.condition(text))

    def signal_and_scale(self, x: Tensor, timestep_ratio: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """What the prediction is made of: the share of `x` that is no noise, and the noise's standard deviation.

        Arguments as `forward`'s; both results have the shape and dtype of `x`.
        """
        return self._signal_and_scale(x, timestep_ratio, self.condition(text))

    def condition(self, text: Tensor) -> StageCCondition:
        """What the text decides, for `predict`. text: [batch, tokens, c_cond]."""
        text = self.cond_mapper(text.to(self._dtype()))
        return StageCCondition(
            tuple(block.keys_and_values(text) for block in self.blocks if isinstance(block, AttnBlock))
        )

    def predict(self, x: Tensor, timestep_ratio: Tensor, condition: StageCCondition) -> Tensor:
        """As `forward`, for a text whose part was computed before."""
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
