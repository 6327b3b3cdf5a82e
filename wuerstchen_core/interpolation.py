"""Interpolation of two Stage C checkpoints, the way v2-interpolated was made from v2-base and v2-aesthetic."""

import torch
from torch import nn

from .errors import CheckpointError, InputError
from .networks.blocks import Operations
from .networks.float8 import FLOAT8, Float8Operations
from .networks.rebuild import rebuild
from .networks.stage_c import StageC


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
    if not 0 <= weight <= 1:
        raise InputError(f"weight is {weight!r}; expected a number from 0 (base) to 1 (finetuned).")
    if finetuned.config.nhead != base.config.nhead:
        raise CheckpointError(
            f"The two Stage C checkpoints differ in nhead: base has {base.config.nhead} attention heads, finetuned has "
            f"{finetuned.config.nhead}. Choose a finetune of the same base."
        )
    theirs = finetuned.state_dict()
    ours = base.state_dict()
    for key in sorted(ours.keys() | theirs.keys()):
        shapes = [list(state[key].shape) if key in state else "absent" for state in (ours, theirs)]
        if shapes[0] != shapes[1]:
            raise CheckpointError(
                f"The two Stage C checkpoints differ at {key!r}: base has {shapes[0]}, finetuned has {shapes[1]}. "
                "Only checkpoints of one shape can be interpolated; choose a finetune of the same base."
            )
    mixed = {
        key: torch.lerp(value.float(), theirs[key].to(value.device).float(), weight).to(value.dtype)
        for key, value in ours.items()
    }
    if operations is None:
        in_eight_bits = base.projection.weight.dtype == FLOAT8
        operations = Float8Operations(base.compute_dtype) if in_eight_bits and base.compute_dtype else nn
    return rebuild(base, operations, weights=mixed)
