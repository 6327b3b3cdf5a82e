"""Test the number of operators a step runs: each is a pass over memory, or a kernel to launch."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from support import tiny
from wuerstchen_core.networks.stage_b import StageBCondition
from wuerstchen_core.sampling import with_guidance

TEXT = torch.randn(1, 77, 32, generator=torch.Generator().manual_seed(0))


class _Operators(TorchDispatchMode):
    """Count operators that compute or copy. Views are free."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        returned = func._schema.returns
        is_view = any(each.alias_info is not None and not each.alias_info.is_write for each in returned)
        if not is_view and func is not torch.ops.aten._unsafe_view.default:  # a view that declares no alias
            self.counts[func._overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def _operators(work: Callable[[], object]) -> Counter[str]:
    with _Operators() as operators:
        work()
    return operators.counts


def _stage_c_step(depth: int) -> Counter[str]:
    network = tiny.stage_c(replace(tiny.STAGE_C, depth=depth))
    with torch.no_grad():
        denoise = with_guidance(network.predict, (TEXT,), (TEXT * 2,), 4.0, network.condition)
    x, t = torch.zeros(1, 16, 6, 6), torch.full((1,), 0.5)
    return _operators(lambda: denoise(x, t))


def test_a_stage_c_step_makes_no_more_passes_than_it_must():
    two, three = _stage_c_step(2), _stage_c_step(3)
    block = three - two  # residual, timestep and attention
    assert block["addmm"] <= 7, "two layers of the bottleneck, one of the timestep, q, k, v and out"
    assert block["native_layer_norm"] <= 2
    assert block.total() <= 28
    assert two.total() - 2 * block.total() <= 21


def _stage_b(text: torch.Tensor | None) -> tuple[Counter[str], Counter[str]]:
    """Return the operators of a condition and those of a step."""
    network = tiny.stage_b()
    x, t, embeddings = torch.zeros(1, 4, 64, 64), torch.full((1,), 0.5), torch.ones(1, 16, 6, 6)

    def prepare() -> StageBCondition:
        return network.condition(embeddings, text, x.shape[-2:])

    with torch.no_grad():
        condition = prepare()
    return _operators(prepare), _operators(lambda: network.predict(x, t, condition))


def test_a_stage_b_step_neither_maps_text_nor_resizes_embeddings():
    once, step = _stage_b(TEXT)
    assert once["_upsample_bicubic2d_aa"] > 0 == step["_upsample_bicubic2d_aa"]
    assert once["silu"] > 0 == step["silu"]
    assert step.total() <= 244
    assert _stage_b(None)[1].total() < step.total(), "without a text no keys are joined"


def test_decoding_folds_the_gammas():
    network = tiny.stage_a()
    counts = _operators(lambda: network.decode(torch.zeros(1, 4, 16, 16)))
    assert counts["add_"] == 6, "each of three blocks adds twice, in place"
    assert counts.total() <= 78
