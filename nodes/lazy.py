"""Stage C between nodes: a recipe, whose network is made when a node computes with it."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from .host import host

if TYPE_CHECKING:
    import torch

    from wuerstchen_core.checkpoints.recipes import Recipe


class LazyStageC:
    """Value of a WUERSTCHEN_STAGE_C socket.

    Args:
        recipe: Where the weights come from.
        dtype: Dtype of the weights and the computation; None for the one that suits the network's size.
    """

    def __init__(self, recipe: Recipe, dtype: torch.dtype | None) -> None:
        self.recipe = recipe
        self.dtype = dtype

    @cached_property
    def kept(self) -> Any:
        """The network, as the host keeps it. It is made on first use and stays as long as this value."""
        from wuerstchen_core.checkpoints.loading import make_stage_c

        return host().keep(make_stage_c(self.recipe, dtype=self.dtype, operations=host().operations(self.dtype)))


class CompiledStageC(LazyStageC):
    """The same, to run through torch.compile. It shares its weights with the value it was made from."""

    def __init__(self, plain: LazyStageC) -> None:
        super().__init__(plain.recipe, plain.dtype)
        self._plain = plain

    @cached_property
    def kept(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        return host().compiled(self._plain.kept)


def kept_of(stage_c: Any) -> Any:
    """Return what the host keeps of a Stage C, made now if that is still to do."""
    return stage_c.kept if isinstance(stage_c, LazyStageC) else stage_c


def lazy_of(stage_c: Any) -> LazyStageC:
    """Return the recipe of a Stage C; of a network that a host keeps already, one of its weights as they are."""
    if isinstance(stage_c, LazyStageC):
        return stage_c
    from wuerstchen_core.checkpoints.recipes import InMemory
    from wuerstchen_core.networks.eight_bits import kept_dtype

    network = host().network_of(stage_c)
    return LazyStageC(InMemory(network), kept_dtype(network))


def compiled(stage_c: Any) -> Any:
    """Return the same Stage C, to run through torch.compile."""
    return CompiledStageC(stage_c) if isinstance(stage_c, LazyStageC) else host().compiled(stage_c)
