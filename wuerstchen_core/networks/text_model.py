# pyright: reportUnknownMemberType=false
# torch types the constructor of nn.LayerNorm in part only.
"""CLIP's text transformer, which turns tokens into the text embeddings of Stages C and B.

Module names are those of the published checkpoints. Source: Radford et al., "Learning Transferable Visual Models From
Natural Language Supervision", 2021; bigG and H are of OpenCLIP.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .operations import Operations, compute_dtype_of


def quick_gelu(x: Tensor) -> Tensor:
    """Return the approximation of GELU that the first CLIP models were trained with: x * sigmoid(1.702 x)."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "quick_gelu": quick_gelu}
"""Activations by their names in config.json."""


@dataclass(frozen=True)
class TextModelConfig:
    """Shape of a text model. Field names and defaults are those of the published config.json.

    Attributes:
        vocab_size: Number of tokens.
        hidden_size: Width of the embeddings.
        intermediate_size: Width inside of each MLP.
        num_hidden_layers: Number of layers.
        num_attention_heads: Attention heads; divides `hidden_size`.
        max_position_embeddings: Most tokens in a sequence.
        hidden_act: One of ACTIVATIONS.
        layer_norm_eps: Added to the variance by each norm.
    """

    vocab_size: int = 49408
    hidden_size: int = 512
    intermediate_size: int = 2048
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    max_position_embeddings: int = 77
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5


class _Embeddings(nn.Module):
    """Sum of the embeddings of each token and of its position."""

    def __init__(self, config: TextModelConfig) -> None:
        super().__init__()
        # Without values, which come from a checkpoint: nn.Embedding imports torch's compiler to draw them on "meta".
        tokens, positions = config.vocab_size, config.max_position_embeddings
        self.token_embedding = nn.Embedding.from_pretrained(torch.empty(tokens, config.hidden_size))
        self.position_embedding = nn.Embedding.from_pretrained(torch.empty(positions, config.hidden_size))

    def forward(self, ids: Tensor) -> Tensor:
        return self.token_embedding(ids) + self.position_embedding.weight[: ids.shape[1]]


class _SelfAttention(nn.Module):
    """Multi-head attention of each token to the tokens that a mask allows."""

    def __init__(self, config: TextModelConfig, operations: Operations) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads = config.num_attention_heads
        self.k_proj = operations.Linear(width, width)
        self.v_proj = operations.Linear(width, width)
        self.q_proj = operations.Linear(width, width)
        self.out_proj = operations.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (
            torch.unflatten(project(x), -1, (self.heads, -1)).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out_proj(attended.transpose(1, 2).flatten(2))


class _MLP(nn.Module):
    """Two linear layers with an activation between them."""

    def __init__(self, config: TextModelConfig, operations: Operations) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.hidden_act]
        self.fc1 = operations.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = operations.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.activation(self.fc1(x)))


class _Layer(nn.Module):
    """Residual attention, then a residual MLP, each after a norm."""

    def __init__(self, config: TextModelConfig, operations: Operations) -> None:
        super().__init__()
        self.self_attn = _SelfAttention(config, operations)
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = _MLP(config, operations)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x), mask)
        return x + self.mlp(self.layer_norm2(x))


class _Layers(nn.Module):
    """All layers, one after the other."""

    def __init__(self, config: TextModelConfig, operations: Operations) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Layer(config, operations) for _ in range(config.num_hidden_layers))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, mask)
        return x


class TextModel(nn.Module):
    """CLIP's text transformer, up to its last hidden state.

    Args:
        config: Shape of the network.
        operations: Namespace that the linear layers come from.
    Attributes:
        config (TextModelConfig): Shape of the network.
        compute_dtype (torch.dtype | None): Dtype to compute in; None for that of the weights.
    """

    def __init__(self, config: TextModelConfig, operations: Operations = nn) -> None:
        super().__init__()
        self.config = config
        self.compute_dtype = compute_dtype_of(operations)
        self.embeddings = _Embeddings(config)
        self.encoder = _Layers(config, operations)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the last hidden state, after the final norm.

        Args:
            ids (Tensor): [batch, tokens], integers.
            attention_mask (Tensor): [batch, tokens], 0 for padding, which no token attends to.
        Returns:
            Tensor: [batch, tokens, hidden_size], in the dtype of the computation.
        """
        tokens = ids.shape[1]
        earlier = torch.ones(tokens, tokens, dtype=torch.bool, device=ids.device).tril()
        mask = earlier & attention_mask.bool()[:, None, None]
        x = self.embeddings(ids)
        return self.final_layer_norm(self.encoder(x, mask))
