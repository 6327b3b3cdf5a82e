"""Test attention in parts, the form for processors without matrix tiles."""

import pytest
import torch
from torch.nn import functional as F

from wuerstchen_core.networks import attention

HEADS = 3


@pytest.fixture(autouse=True)
def without_tiles(monkeypatch):
    monkeypatch.setattr(attention, "HAS_BFLOAT16_TILES", False)


def _inputs(batch: int, positions: int, tokens: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(positions)
    shapes = [(batch, positions, HEADS * 32)] + 2 * [(batch, tokens, HEADS * 32)]
    return [(2 * torch.randn(shape, generator=generator)).bfloat16() for shape in shapes]


def _by_heads(x: torch.Tensor) -> torch.Tensor:
    return x.unflatten(-1, (HEADS, -1)).transpose(1, 2)


def _error(result: torch.Tensor, exact: torch.Tensor) -> float:
    return float((result.float() - exact).norm() / exact.norm())


@pytest.mark.parametrize("at_once", [1, 40, 1000, attention.SCORES_AT_ONCE])
@pytest.mark.parametrize(("batch", "positions", "tokens"), [(1, 64, 70), (2, 9, 30), (3, 33, 1)])
@torch.inference_mode()
def test_in_parts_it_errs_no_more_than_in_one_piece(monkeypatch, at_once, batch, positions, tokens):
    monkeypatch.setattr(attention, "SCORES_AT_ONCE", at_once)
    q, k, v = _inputs(batch, positions, tokens)
    exact_by_heads = F.scaled_dot_product_attention(_by_heads(q.float()), _by_heads(k.float()), _by_heads(v.float()))
    exact = exact_by_heads.transpose(1, 2).flatten(2)
    scores = _by_heads(q) @ _by_heads(k).mT * 32**-0.5
    plain = (scores.softmax(-1) @ _by_heads(v)).transpose(1, 2).flatten(2)
    result = attention.attend(q, k, v, HEADS)
    assert result.shape == q.shape and result.dtype == torch.bfloat16
    assert _error(result, exact) <= 1.1 * _error(plain, exact) + 1e-6


@torch.inference_mode()
def test_it_needs_no_memory_for_all_scores(monkeypatch):
    monkeypatch.setattr(attention, "SCORES_AT_ONCE", 1000)
    sizes: list[int] = []
    softmax = torch.softmax

    def watched(scores, **options):
        sizes.append(scores.numel())
        return softmax(scores, **options)

    monkeypatch.setattr(torch, "softmax", watched)
    q, k, v = _inputs(1, 64, 70)
    attention.attend(q, k, v, HEADS)
    assert max(sizes) <= 1000 and sum(sizes) == HEADS * 64 * 70


def test_a_gradient_passes_through():
    q, k, v = (x.requires_grad_() for x in _inputs(1, 8, 9))
    attention.attend(q, k, v, HEADS).float().square().sum().backward()
    for x in (q, k, v):
        assert x.grad is not None and x.grad.abs().sum() > 0
