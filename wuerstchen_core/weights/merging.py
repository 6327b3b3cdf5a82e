"""Merges of Stage C checkpoints: weighted averages, added differences, interpolation, each as a recipe."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ..checkpoints.loading import Device, make_stage_c
from ..checkpoints.recipes import InMemory, Recipe, Source, recipe_of
from ..errors import CheckpointError, InputError
from ..networks.eight_bits import kept_dtype, operations_for
from ..networks.operations import Operations
from ..networks.stage_c import StageC
from .block_weights import EVERYWHERE, BlockWeights

Mode = Literal["average", "add difference"]
"""Computation of a merge; see `Merge`."""
MODES: tuple[Mode, ...] = ("average", "add difference")


class Merge(Recipe):
    """Merge of two or more checkpoints of one shape, computed in float32.

    "average" is the sum of the networks by their weights, divided by the sum of the weights. "add difference" adds to
    the first network what finetunes have learned: first + weight * (finetune - last) for each network between the first
    and the last, which is the one that they were finetuned from.

    Args:
        parts: Networks, recipes, or sources of checkpoints as for `load_stage_c`.
        weights: One for each part. "add difference" ignores those of the first and the last.
        mode: One of MODES.
        blocks: How much of the merge each block takes: 0 keeps the first network there, 1 is the merge.
    Raises:
        InputError: There are too few parts, or not as many weights, or their sum is 0.
        CheckpointError: The parts differ in shape or in attention heads; names the first key that differs.
    """

    def __init__(
        self,
        parts: Sequence[Source],
        weights: Sequence[float],
        *,
        mode: Mode = "average",
        blocks: BlockWeights = EVERYWHERE,
    ) -> None:
        if mode not in MODES:
            raise InputError(f"mode is {mode!r}; expected one of {', '.join(MODES)}.")
        least = 2 if mode == "average" else 3
        if len(parts) < least:
            raise InputError(f"{len(parts)} networks are given; expected {least} or more for {mode!r}.")
        if len(weights) != len(parts):
            raise InputError(f"{len(weights)} weights are given for {len(parts)} networks; expected one for each.")
        if mode == "average" and abs(sum(weights)) < 1e-6:
            raise InputError(
                f"The weights {list(weights)} add up to 0; expected another sum, which they are divided by."
            )
        self.parts = [recipe_of(part) for part in parts]
        self.merge_weights, self.mode, self.blocks = tuple(weights), mode, blocks
        check_alike(self.parts, [f"network {index}" for index in range(1, len(parts) + 1)])
        self.take_shape_of(self.parts[0])
        blocks.check(self.config.depth)

    def tensor(self, key: str) -> Tensor:
        """Return a merged weight. Networks that have no part in it are not read."""
        share = self.blocks.of(key, self.config.depth)
        if share == 0:
            return self.parts[0].tensor(key)
        merged = self._average(key) if self.mode == "average" else self._with_differences(key)
        return merged if share == 1 else torch.lerp(self.parts[0].tensor(key), merged, share)

    def release(self) -> None:
        for part in self.parts:
            part.release()

    def _average(self, key: str) -> Tensor:
        total = torch.zeros(self.shapes[key])
        for part, weight in zip(self.parts, self.merge_weights, strict=True):
            if weight:
                total += part.tensor(key) * weight  # not fused: the same on every processor
        return total.div_(sum(self.merge_weights))

    def _with_differences(self, key: str) -> Tensor:
        total, last = self.parts[0].tensor(key).clone(), self.parts[-1].tensor(key)
        for part, weight in zip(self.parts[1:-1], self.merge_weights[1:-1], strict=True):
            if weight:
                total += (part.tensor(key) - last) * weight
        return total


class Interpolation(Recipe):
    """Mix of two checkpoints: base + weight * (finetuned - base), in float32.

    Args:
        base: Network, recipe or source at weight 0.
        finetuned: The same at weight 1.
        weight: From 0 to 1.
    Raises:
        InputError: `weight` is not from 0 to 1.
        CheckpointError: The two differ in shape or in attention heads; names the first key that differs.
    """

    def __init__(self, base: Source, finetuned: Source, weight: float) -> None:
        if not 0 <= weight <= 1:
            raise InputError(f"weight is {weight!r}; expected a number from 0 (base) to 1 (finetuned).")
        self.base, self.finetuned, self.weight = recipe_of(base), recipe_of(finetuned), weight
        check_alike((self.base, self.finetuned), ("base", "finetuned"))
        self.take_shape_of(self.base)

    def tensor(self, key: str) -> Tensor:
        return torch.lerp(self.base.tensor(key), self.finetuned.tensor(key), self.weight)

    def release(self) -> None:
        self.base.release()
        self.finetuned.release()


def merge(
    recipe: Source,
    *,
    device: Device = "cpu",
    dtype: torch.dtype | None = None,
) -> StageC:
    """Make the network of a recipe. It reads its checkpoints weight by weight, so only the result is in memory.

    Args:
        recipe: A `Merge`, an `Interpolation`, a `WithLoras`, or any nesting of them.
        device: Device of the weights and the computation.
        dtype: As for `load_stage_c`.
    Returns:
        StageC: Network in eval mode, without gradients.
    Raises:
        CheckpointError: A checkpoint has changed since the recipe was written.
        InputError: There is no such device, or networks do not run in `dtype`.
    """
    return make_stage_c(recipe_of(recipe), device=device, dtype=dtype)


def interpolate(base: StageC, finetuned: StageC, weight: float, *, operations: Operations | None = None) -> StageC:
    """Mix every weight of two networks linearly: base + weight * (finetuned - base), in float32.

    Args:
        base: Network whose device, dtype and preview colours the result has. It is not changed.
        finetuned: Network of the same shape. It is not changed.
        weight: 0 gives `base`, 1 gives `finetuned`.
        operations: Namespace that the new network's layers come from; None for torch.nn, or what `load_stage_c` uses
            for weights in eight bits.
    Returns:
        StageC: A new network, in eval mode, without gradients.
    Raises:
        CheckpointError: The two differ in shape or in attention heads; names the first key that differs.
        InputError: `weight` is not from 0 to 1.
    """
    return like(base, Interpolation(InMemory(base), InMemory(finetuned), weight), operations)


def like(network: StageC, recipe: Recipe, operations: Operations | None = None) -> StageC:
    """Make the network of a recipe on the device and in the dtype of another one. `operations` as for `interpolate`."""
    device, dtype = network.projection.weight.device, kept_dtype(network)
    operations = operations or operations_for(dtype, device, network.compute_dtype)
    return make_stage_c(recipe, device=device, dtype=dtype, operations=operations)


def check_alike(recipes: Sequence[Recipe], names: Sequence[str]) -> None:
    """Raise CheckpointError at the first difference in shape between the first recipe and another one."""
    for other, name in zip(recipes[1:], names[1:], strict=True):
        first = recipes[0]
        if other.config.nhead != first.config.nhead:
            raise CheckpointError(
                f"The Stage C checkpoints differ in nhead: {names[0]} has {first.config.nhead} attention heads, {name} "
                f"has {other.config.nhead}. Choose a finetune of the same base."
            )
        for key in sorted(first.shapes.keys() | other.shapes.keys()):
            ours, theirs = (list(each.shapes[key]) if key in each.shapes else "absent" for each in (first, other))
            if ours != theirs:
                raise CheckpointError(
                    f"The Stage C checkpoints differ at {key!r}: {names[0]} has {ours}, {name} has {theirs}. "
                    "Only checkpoints of one shape can be mixed; choose a finetune of the same base."
                )
