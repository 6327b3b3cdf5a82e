"""Test that torch.compile changes neither results nor weights of a network."""

import shutil
from dataclasses import replace

import pytest
import torch

from support import tiny
from wuerstchen_core.networks import attention
from wuerstchen_core.networks.blocks import AttnBlock, ResBlock, TimestepBlock
from wuerstchen_core.networks.compiling import FORMS_OF_A_BLOCK, compile_blocks, compiled

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile wants a C++ compiler")

TEXT = torch.randn(1, 9, 32, generator=torch.Generator().manual_seed(0))
X = torch.randn(1, 16, 3, 6, generator=torch.Generator().manual_seed(1))


def graphs() -> int:
    """Return the number of graphs compiled so far in this process."""
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


@torch.inference_mode()
def test_a_compiled_network_gives_the_same_and_keeps_its_keys():
    plain, fast = tiny.stage_c(), tiny.stage_c()
    compile_blocks(fast)
    t = torch.full((1,), 0.3)
    assert tiny.relative_error(fast(X, t, TEXT), plain(X, t, TEXT)) < 1e-5
    assert fast.state_dict().keys() == plain.state_dict().keys()
    before = graphs()
    fast(X, t * 2, TEXT)
    assert graphs() == before > 0, "every step is compiled again"


@torch.inference_mode()
def test_a_network_is_compiled_for_a_while_and_once():
    network = tiny.stage_c(replace(tiny.STAGE_C, c=2 * tiny.STAGE_C.c))
    t = torch.full((1,), 0.3)
    start = graphs()
    network(X, t, TEXT)
    assert graphs() == start
    with compiled(network):
        network(X, t, TEXT)
    once = graphs()
    assert once > start
    network(X, t, TEXT)
    with compiled(network):
        network(X, t, TEXT)
    assert graphs() == once


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
@torch._dynamo.config.patch(cache_size_limit=FORMS_OF_A_BLOCK)
def test_no_block_leaves_the_compiled_code(dtype):
    stage_c, stage_b = tiny.stage_c().to(dtype), tiny.stage_b().to(dtype)
    for block in (*stage_c.modules(), *stage_b.modules()):
        if isinstance(block, ResBlock | TimestepBlock | AttnBlock):
            block.compile(dynamic=False, fullgraph=True, backend="eager")
    t = torch.full((1,), 0.3)
    stage_c(X, t, TEXT)
    stage_b(torch.randn(1, 4, 32, 64), t, X, TEXT)


@torch.inference_mode()
def test_attention_in_parts_is_one_operator_to_the_compiler(monkeypatch):
    monkeypatch.setattr(attention, "HAS_BFLOAT16_TILES", False)
    q, k, v = (torch.randn(2, length, 64, dtype=torch.bfloat16) for length in (9, 12, 12))
    graphs: list[torch.fx.GraphModule] = []

    def compiler(graph: torch.fx.GraphModule, _: object) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    fast = torch.compile(attention.attend, backend=compiler, fullgraph=True)
    assert torch.equal(fast(q, k, v, 2), attention.attend(q, k, v, 2))
    (graph,) = graphs
    assert sum("attend_in_parts" in str(node.target) for node in graph.graph.nodes) == 1
    torch.library.opcheck(attention._opaque, tuple(x.unflatten(-1, (2, -1)).transpose(1, 2) for x in (q, k, v)))


@torch.inference_mode()
def test_a_folded_network_compiles():
    plain, fast = tiny.stage_b(), tiny.stage_b()
    compile_blocks(fast)
    inputs = torch.randn(1, 4, 32, 64), torch.full((1,), 0.3), X, TEXT
    assert tiny.relative_error(fast(*inputs), plain(*inputs)) < 1e-5
