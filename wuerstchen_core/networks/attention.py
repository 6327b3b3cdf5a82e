# pyright: reportUnknownMemberType=false
# torch.library is typed in part only.
"""Multi-head attention, in the form that is fastest on the device."""

import torch
from torch import Tensor
from torch.nn import functional as F

from .processor import HAS_BFLOAT16_TILES

SCORES_AT_ONCE = 1 << 21
"""Attention scores per part where there is no fused form: 4 MB in bfloat16, which stay in a processor's cache."""


def attend(queries: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
    """Compute multi-head attention: `softmax(q @ k.T / sqrt(width)) @ v` for each head.

    Args:
        queries (Tensor): [batch, positions, channels].
        keys (Tensor): [batch, tokens, channels].
        values (Tensor): [batch, tokens, channels].
        heads: Number of heads. Divides the channels into parts of equal width.
    Returns:
        Tensor: [batch, positions, channels], in the dtype of `queries`.
    """
    q, k, v = (torch.unflatten(x, -1, (heads, -1)).transpose(1, 2) for x in (queries, keys, values))
    if _wants_parts(q):
        attend_in_parts = _opaque if torch.compiler.is_compiling() else _attend_in_parts
        return attend_in_parts(q, k, v).flatten(2)
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def _attend_in_parts(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Compute attention for some heads and some queries at a time.

    Scores are rounded to the dtype of `q`, as in the published implementation.

    Args:
        q (Tensor): [batch, heads, positions, width].
        k (Tensor): [batch, heads, tokens, width].
        v (Tensor): [batch, heads, tokens, width].
    Returns:
        Tensor: [batch, positions, heads, width], in the dtype of `q`.
    """
    # Row i of softmax(q @ k.T / sqrt(width)) @ v depends on row i of q alone, and on one head. So any split of heads
    # and queries gives the same rows. Each part is two large products, which a processor without matrix tiles computes
    # faster than the many small products of the fused form. All parts share one buffer for their scores.
    batch, heads, positions, width = q.shape
    tokens = k.shape[2]
    queries_at_once = max(1, min(positions, SCORES_AT_ONCE // tokens))
    heads_at_once = max(1, min(heads, SCORES_AT_ONCE // (queries_at_once * tokens)))
    memory = q.new_empty(heads_at_once * queries_at_once * tokens)
    result = q.new_empty(batch, positions, heads, width)
    for image in range(batch):
        for head in range(0, heads, heads_at_once):
            some = (image, slice(head, head + heads_at_once))
            for part, written in zip(
                torch.split(q[some], queries_at_once, dim=1),
                torch.split(result[image, :, some[1]], queries_at_once),
                strict=True,
            ):
                scores = memory[: len(part) * part.shape[1] * tokens].view(*part.shape[:2], tokens)
                torch.baddbmm(scores, part, k[some].mT, beta=0, alpha=width**-0.5, out=scores)
                torch.softmax(scores, dim=-1, out=scores)
                written.copy_(torch.bmm(scores, v[some]).transpose(0, 1))
    return result


_opaque = torch.library.custom_op("wuerstchen_core::attend_in_parts", _attend_in_parts, mutates_args=())
"""`_attend_in_parts` as a single operator for torch.compile, which would otherwise unroll its loops."""


@_opaque.register_fake
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return q.new_empty(q.shape[0], q.shape[2], q.shape[1], q.shape[3])


def _wants_parts(q: Tensor) -> bool:
    """Return whether attention in parts is faster: for bfloat16 without gradients, on a CPU without matrix tiles."""
    if torch.is_grad_enabled() or q.device.type != "cpu" or q.dtype != torch.bfloat16:
        return False
    return not HAS_BFLOAT16_TILES
