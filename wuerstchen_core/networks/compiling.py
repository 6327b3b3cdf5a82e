# pyright: reportPrivateUsage=false, reportUnknownMemberType=false
# torch has no public name for the limit of compiled forms or for undoing Module.compile, which it types in part only.
"""torch.compile for the networks that sample, block by block.

Blocks of the same kind and shape share their compiled code, so this takes far less time than compiling the whole
network. Inductor keeps the code in its cache folder, where the next process finds it.
"""

from collections.abc import Generator, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from .blocks import AttnBlock, ResBlock, TimestepBlock
from .stage_b import StageB
from .stage_c import StageC
from .step_graph import StepGraph

FORMS_OF_A_BLOCK = 64
"""Combinations of width, size and batch that one kind of block may be compiled for in a process."""


def compile_blocks(network: nn.Module) -> None:
    """Compile every block of a Stage B or Stage C on its first run. Weights and their keys do not change.

    On a graphics card a step also becomes a CUDA graph. Stage A has no such blocks and is not compiled.

    Args:
        network: Network to change in place.
    """
    torch._dynamo.config.cache_size_limit = max(torch._dynamo.config.cache_size_limit, FORMS_OF_A_BLOCK)
    for block in _blocks(network):
        block.compile(dynamic=False)
    if isinstance(network, StageB | StageC) and all(weight.is_cuda for weight in network.parameters()):
        network.predict = StepGraph(network.predict)


@contextmanager
def compiled(network: nn.Module) -> Generator[None]:
    """Compile as `compile_blocks` does, until the context ends. Entering it again reuses the compiled code."""
    compile_blocks(network)
    try:
        yield
    finally:
        for block in _blocks(network):
            block._compiled_call_impl = None
        network.__dict__.pop("predict", None)  # the step graph, which keeps the memory of a step


def _blocks(network: nn.Module) -> Iterator[nn.Module]:
    return (block for block in network.modules() if isinstance(block, ResBlock | TimestepBlock | AttnBlock))
