"""Building blocks shared by the three networks.

Feature maps are [batch, channels, height, width] in channels-last memory, so that `to_channels_last` views them as
[batch, height, width, channels] without a copy. Module names are those of the published checkpoints.
Source: Pernias et al., "Würstchen", ICLR 2024; ConvNeXt V2 (Woo et al., 2023) for GlobalResponseNorm.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def to_channels_last(x: Tensor) -> Tensor:
    """[batch, channels, height, width] -> [batch, height, width, channels], a view."""
    return x.permute(0, 2, 3, 1)


def to_channels_first(x: Tensor) -> Tensor:
    """[batch, height, width, channels] -> [batch, channels, height, width], a view."""
    return x.permute(0, 3, 1, 2)


def timestep_embedding(timestep_ratio: Tensor, dim: int, max_positions: int = 10000) -> Tensor:
    """Sinusoidal embedding of the timestep ratio.

    Args:
        timestep_ratio (Tensor): [batch], 1 (noise) to 0, float32.
        dim: length of the embedding; a zero is appended where it is odd.
    Returns:
        Tensor: [batch, dim], sines then cosines.
    """
    half = dim // 2
    frequencies = torch.exp(
        torch.arange(half, device=timestep_ratio.device, dtype=torch.float32) * (-math.log(max_positions) / (half - 1))
    )
    angles = (timestep_ratio.float() * max_positions)[:, None] * frequencies
    embedding = torch.cat([angles.sin(), angles.cos()], dim=1)
    return F.pad(embedding, (0, dim % 2))


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of [batch, channels, height, width]; no learned parameters."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, elementwise_affine=False, eps=1e-6)

    def forward(self, input: Tensor) -> Tensor:
        return to_channels_first(super().forward(to_channels_last(input)))


class GlobalResponseNorm(nn.Module):
    """Scales each channel by its share of the spatial L2 norm. Works on [batch, height, width, channels]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 1, 1, channels))
        self.beta = nn.Parameter(torch.zeros(1, 1, 1, channels))

    def forward(self, x: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True)
        share = norm / (norm.mean(dim=-1, keepdim=True) + 1e-6)
        return torch.addcmul(self.beta, x, self.gamma * share + 1)


class ResBlock(nn.Module):
    """Depthwise convolution, then an inverted bottleneck over the channels.

    Args:
        channels: of the feature map.
        skip_channels: of a second map, seen by the bottleneck only.
    """

    def __init__(self, channels: int, skip_channels: int = 0, kernel_size: int = 3, dropout: float = 0.0) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels)
        self.norm = LayerNorm2d(channels)
        self.channelwise = nn.Sequential(
            nn.Linear(channels + skip_channels, channels * 4),
            nn.GELU(),
            GlobalResponseNorm(channels * 4),
            nn.Dropout(dropout),
            nn.Linear(channels * 4, channels),
        )

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """x: [batch, channels, height, width]; skip: [batch, skip_channels, height, width]."""
        h = to_channels_last(self.norm(self.depthwise(x)))
        if skip is not None:
            h = torch.cat([h, to_channels_last(skip)], dim=-1)
        return x + to_channels_first(self.channelwise(h))


class TimestepBlock(nn.Module):
    """Scales and shifts each channel by the timestep (FiLM)."""

    def __init__(self, channels: int, embedding_dim: int) -> None:
        super().__init__()
        self.mapper = nn.Linear(embedding_dim, channels * 2)

    def forward(self, x: Tensor, timestep: Tensor) -> Tensor:
        """x: [batch, channels, height, width]; timestep: [batch, embedding_dim]."""
        scale, shift = self.mapper(timestep)[:, :, None, None].chunk(2, dim=1)
        return torch.addcmul(shift, x, scale + 1)


class Attention(nn.Module):
    """Multi-head attention, keys and values from another sequence than the queries."""

    def __init__(self, channels: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        self.to_out = nn.Sequential(nn.Linear(channels, channels), nn.Dropout(dropout))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """x: [batch, positions, channels]; context: [batch, tokens, channels]."""
        q, k, v = (
            projected.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projected in (self.to_q(x), self.to_k(context), self.to_v(context))
        )
        return self.to_out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class AttnBlock(nn.Module):
    """Attention of every position to all positions and to the text."""

    def __init__(self, channels: int, cond_channels: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = LayerNorm2d(channels)
        self.attention = Attention(channels, heads, dropout)
        self.kv_mapper = nn.Sequential(nn.SiLU(), nn.Linear(cond_channels, channels))

    def forward(self, x: Tensor, text: Tensor | None) -> Tensor:
        """x: [batch, channels, height, width]; text: [batch, tokens, cond_channels], None for positions alone."""
        positions = to_channels_last(self.norm(x))
        size = positions.shape[1:3]
        positions = positions.flatten(1, 2)
        context = positions if text is None else torch.cat([positions, self.kv_mapper(text)], dim=1)
        return x + to_channels_first(self.attention(positions, context).unflatten(1, size))
