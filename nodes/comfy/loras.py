# pyright: reportMissingImports=false
"""LoRAs of every published key style in ComfyUI's own loaders, on the MODEL of Stage C.

ComfyUI looks a LoRA's keys up by the names that it knows for a network, and skips the others. Its function that does so
is wrapped here: where the network is Stage C, the keys are first renamed to one of those names. For every other model
the call passes through unchanged.
"""

from collections.abc import Mapping
from functools import wraps
from typing import Any

import comfy.lora

from wuerstchen_core.checkpoints.lora import renamed_for
from wuerstchen_core.checkpoints.lora_keys import EMBEDDING, read_key
from wuerstchen_core.errors import CheckpointError

_PREFIX = "diffusion_model."
_MARK = f"{_PREFIX}cond_mapper.0.weight"
"""Weight that only Stage C has, among the targets that ComfyUI lists for a MODEL."""
_WRAPPED = "reads_wuerstchen"


def read_every_style() -> None:
    """Let ComfyUI's loaders read every key style on Stage C, from now on."""
    if hasattr(comfy.lora.load_lora, _WRAPPED):
        return
    load = comfy.lora.load_lora

    @wraps(load)
    def load_lora(lora: Any, to_load: Any, *given: Any, **more: Any) -> Any:
        if isinstance(to_load, Mapping) and _MARK in to_load.values():
            _check(lora)
            lora = renamed_for(lora, _PREFIX)
        return load(lora, to_load, *given, **more)

    setattr(load_lora, _WRAPPED, True)
    comfy.lora.load_lora = load_lora


def check_shapes(patches: Mapping[Any, Any], own: Mapping[str, Any], prefix: str) -> None:
    """Check that LoRAs fit the weights that they change.

    Args:
        patches: Patches by key, as ComfyUI's `add_patches` takes them.
        own: The weights of the MODEL by key.
        prefix: Prefix of the network's keys.
    Raises:
        CheckpointError: A LoRA was made for a network of another width.
    """
    for key, patch in patches.items():
        matrices = getattr(patch, "weights", None)
        if getattr(patch, "name", "") != "lora" or key not in own or not isinstance(matrices, tuple):
            continue
        up, down = matrices[:2]
        theirs, ours = [up.shape[0], down[0].numel()], [own[key].shape[0], own[key][0].numel()]
        if theirs != ours:
            raise CheckpointError(
                f"The LoRA changes {key.removeprefix(prefix)!r} by {theirs}; expected {ours}. It was made for a "
                "network of another width; choose a LoRA of the model that is loaded."
            )


def _check(lora: Mapping[str, Any]) -> None:
    """Raise CheckpointError where a file has no key of Stage C, or one that fits no layer."""
    known = [read_key(key) for key in lora]
    if not any(known):
        raise CheckpointError(
            f"This LoRA is of another model (its first keys are {list(lora)[:3]}); expected keys such as "
            "'prior.blocks.2.attention.to_q.lora_A.weight'. Choose a LoRA that was trained on Stage C."
        )
    for key, found in zip(lora, known, strict=True):
        if found is None and not EMBEDDING.fullmatch(key):
            raise CheckpointError(
                f"The key {key!r} of this LoRA fits no layer of Stage C or its text encoder. A part of it would be "
                "left out, so none of it is used; ask whoever made it for a file of Stage C alone."
            )
