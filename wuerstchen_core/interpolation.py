"""Mixing two Stage C checkpoints into one, as v2-interpolated was made from v2-base and v2-aesthetic."""

import torch
from torch import nn

from .errors import CheckpointError, InputError
from .networks.blocks import Operations
from .networks.stage_c import StageC


def interpolate(base: StageC, finetuned: StageC, weight: float, *, operations: Operations = nn) -> StageC:
    """Linear mix of every weight, computed in float32.

    Args:
        base, finetuned: two networks of the same shape; neither is changed.
        weight: 0 gives base, 1 gives finetuned.
        operations: the namespace that the new network's layers come from.
    Returns:
        StageC: a new network on base's device, in base's dtype.
    Raises:
        CheckpointError: the two differ in shape or in attention heads; names the first key that differs.
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
    with torch.device("meta"):
        result = StageC(base.config, operations)
    result.load_state_dict(mixed, strict=True, assign=True)
    result.compute_dtype, result.latent_rgb = base.compute_dtype, base.latent_rgb
    return result.eval().requires_grad_(False)
