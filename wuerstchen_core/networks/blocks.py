# pyright: reportUnknownMemberType=false
# torch types the constructor of nn.LayerNorm in part only.
"""Building blocks shared by the three networks.

Feature maps are [batch, channels, height, width] in channels-last memory, so that `to_channels_last` views them as
[batch, height, width, channels] without a copy. Module names are those of the published checkpoints.
Source: Pernias et al., "Würstchen", ICLR 2024; ConvNeXt V2 (Woo et al., 2023) for GlobalResponseNorm.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from . import int8
from .attention import attend
from .functional import add, gelu, spatial_norm, to_channels_first, to_channels_last
from .operations import Operations


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of [batch, channels, height, width], without learned parameters."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, elementwise_affine=False, eps=1e-6)

    def forward(self, input: Tensor) -> Tensor:
        return to_channels_first(super().forward(to_channels_last(input)))


class GlobalResponseNorm(nn.Module):
    """Scale each channel by its share of the spatial L2 norm (ConvNeXt V2, section 3.2).

    Args:
        channels: Channels of the feature map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 1, 1, channels))
        self.beta = nn.Parameter(torch.zeros(1, 1, 1, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled map.

        Args:
            x (Tensor): [batch, height, width, channels]. Overwritten unless gradients are recorded.
        Returns:
            Tensor: [batch, height, width, channels].
        """
        norm = spatial_norm(x)
        share = norm / (norm.mean(dim=-1, keepdim=True) + 1e-6)
        # These two are no layer of `Operations`: a host may have left them on another device or in another dtype.
        gamma, beta = self.gamma.to(x), self.beta.to(x)
        # gamma * (x * share) + beta + x, as one operator: beta + x * (gamma * share + 1).
        return torch.addcmul(beta, x, gamma * share + 1, out=None if torch.is_grad_enabled() else x)


@dataclass(frozen=True)
class Folded:
    """Further input channels of a ResBlock, folded into its first linear layer.

    Attributes:
        features (Tensor): [batch * height * width, few], the features before their mapper.
        weight (Tensor): [few, 4 * channels], the mapper and the layer in one.
        bias (Tensor): [4 * channels], the bias of both.
    """

    # The layer computes W @ [x; m] + b at each position, for the ResBlock's own channels x and mapped features
    # m = M @ f + c, where the mapper (M, c) is a 1x1 convolution. With W = [Wx, Wm] split by those channels:
    #
    #     Wx @ x + Wm @ (M @ f + c) + b  =  Wx @ x + (Wm @ M) @ f + (Wm @ c + b)
    #
    # The two are equal because all of it is linear; only the rounding differs. `weight` is (Wm @ M).T and `bias` is
    # Wm @ c + b. f has far fewer channels than m (16 against 1024 as published), and m is never computed.

    features: Tensor
    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, features: Tensor, mapper: nn.Module, layer: nn.Module) -> "Folded":
        """Fold a mapper into the layer that reads its output.

        Args:
            features (Tensor): [batch, few, height, width], the mapper's input.
            mapper: 1x1 convolution from `few` to the last channels that `layer` reads.
            layer: First linear layer of a ResBlock.
        """
        narrow = mapper.get_parameter("weight").flatten(1)
        seen = int8.floating(layer, slice(-len(narrow), None), narrow.dtype)
        return cls(
            to_channels_last(features).flatten(0, 2),
            (seen @ narrow).t(),
            torch.addmv(layer.get_parameter("bias"), seen, mapper.get_parameter("bias")),
        )

    def apply(self, x: Tensor, layer: nn.Module) -> Tensor:
        """Return GELU of the layer's output for `x` joined with the mapped features.

        Args:
            x (Tensor): [batch, height, width, channels], the channels that are not folded.
            layer: The layer that was folded.
        Returns:
            Tensor: [batch, height, width, 4 * channels].
        """
        rows, hidden = x.flatten(0, 2), torch.addmm(self.bias, self.features, self.weight)
        if isinstance(layer, int8.Linear):
            hidden = layer.rows(rows, hidden, activation=gelu)
        else:
            hidden = gelu(hidden.addmm_(rows, layer.get_parameter("weight")[:, : x.shape[-1]].t()))
        return torch.unflatten(hidden, 0, x.shape[:-1])


class ResBlock(nn.Module):
    """Residual block: depthwise convolution, then an inverted bottleneck over the channels.

    Args:
        channels: Channels of the feature map.
        skip_channels: Channels of further maps, which only the bottleneck reads.
        kernel_size: Side of the convolution's kernel, in positions; odd.
        dropout: Dropout inside the bottleneck, 0..1.
        operations: Namespace that the layers come from.
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
        """Return `x` plus the block's change.

        Args:
            x (Tensor): [batch, channels, height, width]. Overwritten unless gradients are recorded.
            skip (Tensor): [batch, skip_channels, height, width], without the channels in `folded`; None for none.
            folded: Further channels in their folded form; None for none.
        Returns:
            Tensor: [batch, channels, height, width].
        """
        h = to_channels_last(self.norm(self.depthwise(x)))
        if skip is not None:
            h = torch.cat([h, to_channels_last(skip)], dim=-1)
        first, _, *others = self.channelwise
        h = gelu(first(h)) if folded is None else folded.apply(h, first)
        for layer in others:
            h = layer(h)
        return add(x, to_channels_first(h))


class TimestepBlock(nn.Module):
    """Scale and shift of each channel by the timestep (FiLM).

    Args:
        channels: Channels of the feature map.
        embedding_dim: Length of the timestep embedding.
        operations: Namespace that the layers come from.
    """

    def __init__(self, channels: int, embedding_dim: int, operations: Operations = nn) -> None:
        super().__init__()
        self.mapper = operations.Linear(embedding_dim, channels * 2)

    def forward(self, x: Tensor, timestep: Tensor) -> Tensor:
        """Return the scaled and shifted map.

        Args:
            x (Tensor): [batch, channels, height, width]. Overwritten unless gradients are recorded.
            timestep (Tensor): [batch, embedding_dim], in the dtype of `x`.
        Returns:
            Tensor: [batch, channels, height, width].
        """
        scale, shift = self.mapper(timestep)[:, None, None].chunk(2, dim=-1)
        h = to_channels_last(x)
        return to_channels_first(torch.addcmul(shift, h, scale + 1, out=None if torch.is_grad_enabled() else h))


KeysAndValues = tuple[Tensor, Tensor]
"""Keys and values of attention, each [batch, tokens, channels]."""


class Attention(nn.Module):
    """Multi-head attention of positions to each other and to another sequence.

    Args:
        channels: Width of the positions and tokens.
        heads: Number of heads; divides `channels`.
        dropout: Dropout of the result, 0..1.
        operations: Namespace that the layers come from.
    """

    def __init__(self, channels: int, heads: int, dropout: float = 0.0, operations: Operations = nn) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = operations.Linear(channels, channels)
        self.to_k = operations.Linear(channels, channels)
        self.to_v = operations.Linear(channels, channels)
        self.to_out = nn.Sequential(operations.Linear(channels, channels), nn.Dropout(dropout))

    def forward(self, x: Tensor, extra: KeysAndValues | None = None) -> Tensor:
        """Let every position attend to all positions and to the `extra` tokens.

        Args:
            x (Tensor): [batch, positions, channels].
            extra: Keys and values of another sequence, each [batch, tokens, channels], from `keys_and_values`.
        Returns:
            Tensor: [batch, positions, channels].
        """
        keys, values = self.keys_and_values(x)
        if extra is not None:
            keys, values = torch.cat([keys, extra[0]], dim=1), torch.cat([values, extra[1]], dim=1)
        return self.to_out(attend(self.to_q(x), keys, values, self.heads))

    def keys_and_values(self, context: Tensor) -> KeysAndValues:
        """Return the keys and the values of a sequence, both with its shape [batch, tokens, channels]."""
        return self.to_k(context), self.to_v(context)


class AttnBlock(nn.Module):
    """Residual attention of every position to all positions and to the text.

    Args:
        channels: Channels of the feature map.
        cond_channels: Width of the mapped text.
        heads: Number of heads; divides `channels`.
        dropout: Dropout of the result, 0..1.
        operations: Namespace that the layers come from.
    """

    def __init__(
        self, channels: int, cond_channels: int, heads: int, dropout: float = 0.0, operations: Operations = nn
    ) -> None:
        super().__init__()
        self.norm = LayerNorm2d(channels)
        self.attention = Attention(channels, heads, dropout, operations)
        self.kv_mapper = nn.Sequential(nn.SiLU(), operations.Linear(cond_channels, channels))

    def keys_and_values(self, text: Tensor) -> KeysAndValues:
        """Return the keys and values of the text, for `forward`.

        Args:
            text (Tensor): [batch, tokens, cond_channels].
        """
        # Each token is mapped by itself, so the keys of positions and text together are those of the positions followed
        # by those of the text: to_k([p; t]) = [to_k(p); to_k(t)], and the same for the values. The text's part is the
        # same at every step and is computed once an image.
        return self.attention.keys_and_values(self.kv_mapper(text))

    def forward(self, x: Tensor, text: KeysAndValues | None) -> Tensor:
        """Return `x` plus the block's change.

        Args:
            x (Tensor): [batch, channels, height, width]. Overwritten unless gradients are recorded.
            text: Keys and values from `keys_and_values`; None to attend to positions only.
        Returns:
            Tensor: [batch, channels, height, width].
        """
        positions = to_channels_last(self.norm(x))
        size = positions.shape[1:3]
        attended = self.attention(positions.flatten(1, 2), text)
        return add(x, to_channels_first(attended.unflatten(1, size)))
