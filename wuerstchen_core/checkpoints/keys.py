"""Key names of the authors' own files, as a table, and their conversion to the published (diffusers) names."""

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
"""(pattern of the whole key, names it becomes). Several names: the tensor is split evenly along its first dimension.
No name: the tensor is dropped; the codebook's running sums are of use to training only."""

WRAPPER_PREFIXES = ("module.", "_orig_mod.")
"""What DistributedDataParallel and torch.compile put before every key."""

_PATTERNS = tuple((re.compile(pattern), targets) for pattern, targets in AUTHORS_KEYS)


def canonical(state: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """Tensors under the names that the networks have; split tensors are views of the packed ones.

    Args:
        where: the file, for messages.
    Raises:
        CheckpointError: a packed tensor cannot be split, or two keys mean the same weight.
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


def _targets(key: str) -> tuple[str, ...]:
    for pattern, targets in _PATTERNS:
        match = pattern.fullmatch(key)
        if match:
            return tuple(match.expand(target) for target in targets)
    return (key,)


def _without_wrapper(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    for prefix in WRAPPER_PREFIXES:
        if state and all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    return state
