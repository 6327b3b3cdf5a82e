"""Cutting a workflow in two: text and Stage C, and all that follows. What crosses the cut is small."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from ..errors import UsageError
from ..execution.calls import Outputs
from ..workflow.catalog import Catalog
from ..workflow.prompt import Prompt, ancestors, links_of
from .plan import STAGE_C_SAMPLER

_CROSSES = frozenset({"CONDITIONING", "LATENT"})
"""Types of the values that travel. Anything else is made again behind the cut, by the nodes that made it before."""


def nodes_before_cut(prompt: Prompt, catalog: Catalog) -> list[str]:
    """The nodes whose values cross the cut: text embeddings, and what Stage C Samplers give.

    Raises:
        UsageError: the workflow has no Stage C Sampler.
    """
    kinds = {node_id: set(catalog.return_types(node["class_type"])) for node_id, node in prompt.items()}
    samplers = [node_id for node_id, node in prompt.items() if node["class_type"] == STAGE_C_SAMPLER]
    if not samplers:
        raise UsageError("The workflow has no Stage C Sampler, so it cannot be cut there. Use --layout fused.")
    before = ancestors(prompt, [*samplers, *(node_id for node_id, kind in kinds.items() if kind == {"CONDITIONING"})])
    used_behind = {link.source for node_id in prompt if node_id not in before for link in links_of(prompt, node_id)}
    return [node_id for node_id in prompt if node_id in before & used_behind and kinds[node_id] <= _CROSSES]


def packed(values: Mapping[str, Outputs]) -> dict[str, Outputs]:
    """The same values, with no tensor holding more memory than its own."""
    return {node_id: replace(value, slots=_compact(value.slots)) for node_id, value in values.items()}


def _compact(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().contiguous().clone()
    if isinstance(value, Mapping):
        return {key: _compact(each) for key, each in value.items()}
    return type(value)(_compact(each) for each in value) if isinstance(value, (list, tuple)) else value
