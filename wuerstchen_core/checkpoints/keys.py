"""Convert key names of the authors' own files to the published (diffusers) names."""

import re
from collections.abc import Mapping

from torch import Tensor

from ..errors import CheckpointError

AUTHORS_KEYS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        r"(.+\.attention)\.attn\.in_proj_(weight|bias)",
        (r"\1.to_q.\2", r"\1.to_k.\2", r"\1.to_v.\2"),
    ),
    (r"(.+\.attention)\.attn\.out_proj\.(weight|bias)", (r"\1.to_out.0.\2",)),
    (r"vquantizer\.codebook\.weight", (r"vquantizer.embedding.weight",)),
    (r"vquantizer\.ema_(element_count|weight_sum)", ()),
)
"""(Pattern of the whole key, published names). With several names the tensor is split evenly along its first dimension.
With none it is dropped: the running sums of the codebook are used in training only."""

WRAPPER_PREFIXES = ("module.", "_orig_mod.")
"""Prefixes that DistributedDataParallel and torch.compile add to every key."""

COMFYUI_PREFIXES = {"C": "model.diffusion_model.", "B": "model.diffusion_model.", "A": "first_stage_model."}
"""Part of a model -> prefix of its keys in the files of ComfyUI's ModelSave and CheckpointSave."""

_PATTERNS = tuple((re.compile(pattern), targets) for pattern, targets in AUTHORS_KEYS)


def canonical(state: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """Rename tensors to their published names.

    Args:
        state: Tensors by their names in the file, in either style.
        where: Name of the file, for messages.
    Returns:
        dict[str, Tensor]: Tensors by their published names; split tensors are views of the packed one.
    Raises:
        CheckpointError: A packed tensor cannot be split, or two keys mean the same tensor.
    """
    result: dict[str, Tensor] = {}
    for key, tensor in _without_wrapper(state).items():
        targets = _targets(key)
        if len(targets) > 1 and (tensor.ndim == 0 or tensor.shape[0] % len(targets)):
            raise CheckpointError(
                f"{where}: {key!r} has shape {list(tensor.shape)}; expected a first dimension that splits into "
                f"{len(targets)} equal parts. The file is damaged or of another model; download it again."
            )
        parts = tensor.chunk(len(targets)) if len(targets) > 1 else [tensor] * len(targets)
        for target, part in zip(targets, parts, strict=True):
            if target in result:
                raise CheckpointError(
                    f"{where} has two tensors for {target!r}, one of them as {key!r}; expected one key style. "
                    "Keep one of the two and save the file again."
                )
            result[target] = part
    return result


def of_part(state: Mapping[str, Tensor], part: str) -> Mapping[str, Tensor]:
    """Return the tensors of a part from a file of ComfyUI, without their prefix; any other file's as they are.

    What else such a file holds, such as text encoders, is left out.
    """
    prefix = COMFYUI_PREFIXES.get(part)
    if prefix is None:
        return state
    found = {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}
    return found or state


def _targets(key: str) -> tuple[str, ...]:
    """Return the published names of a key."""
    for pattern, targets in _PATTERNS:
        match = pattern.fullmatch(key)
        if match:
            return tuple(match.expand(target) for target in targets)
    return (key,)


def _without_wrapper(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return the tensors without a prefix that all their keys have."""
    for prefix in WRAPPER_PREFIXES:
        if state and all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    return state
