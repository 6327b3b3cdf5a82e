"""Multi-head attention, in the form that is fastest where it computes."""

import torch
from torch import Tensor
from torch.nn import functional as F

from .processor import HAS_BFLOAT16_TILES

SCORES_AT_ONCE = 1 << 21
"""How many scores are computed at once where there is no fused form: 4 MB, which stay in a processor's cache."""


def attend(queries: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
    """What each query gathers from the values, by the softmax of its scaled products with the keys.

    Args:
        queries (Tensor): [batch, positions, channels].
        keys, values (Tensor): [batch, tokens, channels].
        heads: how many parts the channels are cut into, each attending by itself.
    Returns:
        Tensor: [batch, positions, channels].
    """
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (queries, keys, values))
    if _wants_parts(q):
        attend_in_parts = _opaque if torch.compiler.is_compiling() else _attend_in_parts
        return attend_in_parts(q, k, v).flatten(2)
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def _attend_in_parts(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Some heads and queries at a time: two large products each, which a processor without matrix tiles does faster
    than the many small ones of the fused form. Scores are rounded to the dtype of `q`, as in the reference.

    q: [batch, heads, positions, width]; k, v: [batch, heads, tokens, width]; result: [batch, positions, heads, width].
    """
    batch, heads, positions, width = q.shape
    tokens = k.shape[2]
    queries_at_once = max(1, min(positions, SCORES_AT_ONCE // tokens))
    heads_at_once = max(1, min(heads, SCORES_AT_ONCE // (queries_at_once * tokens)))
    memory = q.new_empty(heads_at_once * queries_at_once * tokens)
    result = q.new_empty(batch, positions, heads, width)
    for picture in range(batch):
        for head in range(0, heads, heads_at_once):
            some = (picture, slice(head, head + heads_at_once))
            for part, written in zip(
                q[some].split(queries_at_once, dim=1),
                result[picture, :, some[1]].split(queries_at_once),
                strict=True,
            ):
                scores = memory[: len(part) * part.shape[1] * tokens].view(*part.shape[:2], tokens)
                torch.baddbmm(scores, part, k[some].mT, beta=0, alpha=width**-0.5, out=scores)
                torch.softmax(scores, dim=-1, out=scores)
                written.copy_(torch.bmm(scores, v[some]).transpose(0, 1))
    return result


_opaque = torch.library.custom_op("wuerstchen_core::attend_in_parts", _attend_in_parts, mutates_args=())
"""The same as one operator to torch.compile, which would unroll its loops."""


@_opaque.register_fake
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return q.new_empty(q.shape[0], q.shape[2], q.shape[1], q.shape[3])


def _wants_parts(q: Tensor) -> bool:
    """Not where gradients are recorded, and not where the fused form has matrix tiles."""
    if torch.is_grad_enabled() or q.device.type != "cpu" or q.dtype != torch.bfloat16:
        return False
    return not HAS_BFLOAT16_TILES
