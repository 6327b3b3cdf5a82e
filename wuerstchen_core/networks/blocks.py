"""Building blocks shared by the three networks.

Feature maps are [batch, channels, height, width] in channels-last memory, so that `to_channels_last` views them as
[batch, height, width, channels] without a copy. Module names are those of the published checkpoints.
Source: Pernias et al., "Würstchen", ICLR 2024; ConvNeXt V2 (Woo et al., 2023) for GlobalResponseNorm.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .attention import attend

VALUES_AT_ONCE = 1 << 21
"""How many are squared at once on the CPU: 4 MB in bfloat16, which stay in a processor's cache."""


class Operations(Protocol):
    """The layers that hold most weights: `torch.nn`, or another namespace with these names.

    A host's own layers may keep their weights elsewhere, or in another dtype, and fetch them when they compute.
    """

    @property
    def Conv2d(self) -> type[nn.Conv2d]: ...
    @property
    def ConvTranspose2d(self) -> type[nn.ConvTranspose2d]: ...
    @property
    def Linear(self) -> type[nn.Linear]: ...


def is_plain(layer: nn.Module) -> bool:
    """Whether a layer computes with its weights as they lie, so that they may be read in its stead: torch.nn's do."""
    return type(layer) in (nn.Linear, nn.Conv2d)


def add(x: Tensor, change: Tensor) -> Tensor:
    """`x + change`, written over `x` where no gradient is recorded: nothing else may need `x`."""
    return x + change if torch.is_grad_enabled() else x.add_(change)


def gelu(x: Tensor) -> Tensor:
    """GELU, written over `x` where no gradient is recorded: nothing else may need `x`."""
    return F.gelu(x) if torch.is_grad_enabled() else torch.ops.aten.gelu_(x)


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
        """Written over `x` where no gradient is recorded."""
        norm = _spatial_norm(x)
        share = norm / (norm.mean(dim=-1, keepdim=True) + 1e-6)
        # The host may have left these two where they are, or in another dtype.
        gamma, beta = self.gamma.to(x), self.beta.to(x)
        return torch.addcmul(beta, x, gamma * share + 1, out=None if torch.is_grad_enabled() else x)


def _spatial_norm(x: Tensor) -> Tensor:
    """[batch, height, width, channels] -> [batch, 1, 1, channels], the L2 norm over all positions."""
    if x.device.type != "cpu" or x.dtype == torch.float16 or torch.is_grad_enabled():
        return torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True)
    # On the CPU a product with a row of ones sums faster. In float16 the squares could overflow.
    flat = x.flatten(1, 2)
    positions = max(1, VALUES_AT_ONCE // (len(x) * x.shape[-1]))
    ones = x.new_ones(1, 1, 1).expand(len(x), 1, flat.shape[1])
    sums = [torch.bmm(ones[..., : part.shape[1]], part.square()) for part in flat.split(positions, dim=1)]
    total = sums[0] if len(sums) == 1 else torch.cat(sums, dim=1).float().sum(dim=1, keepdim=True)
    return total.sqrt()[:, None].to(x.dtype)


def may_fold(device: torch.device) -> bool:
    """Whether weights may be multiplied beforehand: not where they are trained, nor where autocast picks the dtypes."""
    autocast = torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)
    return not (torch.is_grad_enabled() or autocast)


@dataclass(frozen=True)
class Folded:
    """What further channels of a ResBlock's input add to its first linear layer, where they are a linear map of few.

    `features @ weight + bias` is added in place of the product with all of those channels, and of the layer's own bias.

    features (Tensor): [batch * height * width, few]. weight: [few, 4 * channels]. bias: [4 * channels].
    """

    features: Tensor
    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, features: Tensor, mapper: nn.Module, layer: nn.Module) -> "Folded":
        """Fold `mapper`, a 1x1 convolution to the last channels that the linear `layer` reads, into that layer.

        Args:
            features (Tensor): [batch, few, height, width], the mapper's input.
        """
        narrow = mapper.get_parameter("weight").flatten(1)
        seen = layer.get_parameter("weight")[:, -len(narrow) :]
        return cls(
            to_channels_last(features).flatten(0, 2),
            (seen @ narrow).t(),
            torch.addmv(layer.get_parameter("bias"), seen, mapper.get_parameter("bias")),
        )

    def apply(self, x: Tensor, layer: nn.Module) -> Tensor:
        """What `layer` makes of [x, mapped features]. x: [batch, height, width, channels], the channels not folded."""
        weight = layer.get_parameter("weight")[:, : x.shape[-1]]
        hidden = torch.addmm(self.bias, self.features, self.weight).addmm_(x.flatten(0, 2), weight.t())
        return hidden.unflatten(0, x.shape[:-1])


class ResBlock(nn.Module):
    """Depthwise convolution, then an inverted bottleneck over the channels.

    Args:
        channels: of the feature map.
        skip_channels: of further maps, seen by the bottleneck only.
    """

    def __init__(
        self,
        channels: int,
        skip_channels: int = 0,
        kernel_size: int = 3,
        dropout: float = 0.0,
        operations: Operations = nn,
    ) -> None:
        super().__init__()
        self.depthwise = operations.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels)
        self.norm = LayerNorm2d(channels)
        self.channelwise = nn.Sequential(
            operations.Linear(channels + skip_channels, channels * 4),
            nn.GELU(),
            GlobalResponseNorm(channels * 4),
            nn.Dropout(dropout),
            operations.Linear(channels * 4, channels),
        )

    def forward(self, x: Tensor, skip: Tensor | None = None, folded: Folded | None = None) -> Tensor:
        """x, overwritten where no gradient is recorded: [batch, channels, height, width].

        skip: [batch, skip_channels, height, width], without those in `folded`.
        """
        h = to_channels_last(self.norm(self.depthwise(x)))
        if skip is not None:
            h = torch.cat([h, to_channels_last(skip)], dim=-1)
        first, _, *others = self.channelwise
        h = gelu(first(h) if folded is None else folded.apply(h, first))
        for layer in others:
            h = layer(h)
        return add(x, to_channels_first(h))


class TimestepBlock(nn.Module):
    """Scales and shifts each channel by the timestep (FiLM)."""

    def __init__(self, channels: int, embedding_dim: int, operations: Operations = nn) -> None:
        super().__init__()
        self.mapper = operations.Linear(embedding_dim, channels * 2)

    def forward(self, x: Tensor, timestep: Tensor) -> Tensor:
        """x, overwritten where no gradient is recorded: [batch, channels, height, width].

        timestep: [batch, embedding_dim].
        """
        scale, shift = self.mapper(timestep)[:, None, None].chunk(2, dim=-1)
        h = to_channels_last(x)
        return to_channels_first(torch.addcmul(shift, h, scale + 1, out=None if torch.is_grad_enabled() else h))


KeysAndValues = tuple[Tensor, Tensor]
"""Each [batch, tokens, channels]."""


class Attention(nn.Module):
    """Multi-head attention of positions to each other and to another sequence."""

    def __init__(self, channels: int, heads: int, dropout: float = 0.0, operations: Operations = nn) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = operations.Linear(channels, channels)
        self.to_k = operations.Linear(channels, channels)
        self.to_v = operations.Linear(channels, channels)
        self.to_out = nn.Sequential(operations.Linear(channels, channels), nn.Dropout(dropout))

    def forward(self, x: Tensor, extra: KeysAndValues | None = None) -> Tensor:
        """Every position attends to all positions, and to what the `extra` keys and values were made of.

        x: [batch, positions, channels]; extra: two of [batch, tokens, channels], as `keys_and_values` returns them.
        """
        keys, values = self.keys_and_values(x)
        if extra is not None:
            keys, values = torch.cat([keys, extra[0]], dim=1), torch.cat([values, extra[1]], dim=1)
        return self.to_out(attend(self.to_q(x), keys, values, self.heads))

    def keys_and_values(self, context: Tensor) -> KeysAndValues:
        """[batch, tokens, channels] -> two of the same shape."""
        return self.to_k(context), self.to_v(context)


class AttnBlock(nn.Module):
    """Attention of every position to all positions and to the text."""

    def __init__(
        self, channels: int, cond_channels: int, heads: int, dropout: float = 0.0, operations: Operations = nn
    ) -> None:
        super().__init__()
        self.norm = LayerNorm2d(channels)
        self.attention = Attention(channels, heads, dropout, operations)
        self.kv_mapper = nn.Sequential(nn.SiLU(), operations.Linear(cond_channels, channels))

    def keys_and_values(self, text: Tensor) -> KeysAndValues:
        """Of the text, for `forward`: the same for every step. text: [batch, tokens, cond_channels]."""
        return self.attention.keys_and_values(self.kv_mapper(text))

    def forward(self, x: Tensor, text: KeysAndValues | None) -> Tensor:
        """x, overwritten where no gradient is recorded: [batch, channels, height, width]; None for positions alone."""
        positions = to_channels_last(self.norm(x))
        size = positions.shape[1:3]
        attended = self.attention(positions.flatten(1, 2), text)
        return add(x, to_channels_first(attended.unflatten(1, size)))
