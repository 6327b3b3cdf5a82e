"""torch.compile for the networks that sample, block by block.

Blocks of one kind and shape share their compiled code, so that this takes far less time than compiling the whole
network; inductor keeps the code in its cache folder, and the next process finds it there.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from .blocks import AttnBlock, ResBlock, TimestepBlock

FORMS_OF_A_BLOCK = 64
"""Widths, sizes and batches that one kind of block may be compiled for in a process."""


def compile_blocks(network: nn.Module) -> None:
    """Have every block of a Stage B or Stage C compiled when it first runs. Weights and their keys stay as they are.

    Stage A, which has no such blocks, is left as it is.
    """
    torch._dynamo.config.cache_size_limit = max(torch._dynamo.config.cache_size_limit, FORMS_OF_A_BLOCK)
    for block in _blocks(network):
        block.compile(dynamic=False)


@contextmanager
def compiled(network: nn.Module) -> Iterator[None]:
    """As `compile_blocks`, until the context ends. Code is compiled once: entered again, it is there."""
    compile_blocks(network)
    try:
        yield
    finally:
        for block in _blocks(network):
            block._compiled_call_impl = None


def _blocks(network: nn.Module) -> Iterator[nn.Module]:
    return (block for block in network.modules() if isinstance(block, ResBlock | TimestepBlock | AttnBlock))
