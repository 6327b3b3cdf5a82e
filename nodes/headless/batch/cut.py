"""Cut a workflow after Stage C: text and Stage C before the cut, all other nodes after it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from ..errors import UsageError
from ..execution.calls import Outputs
from ..workflow.catalog import Catalog
from ..workflow.prompt import Prompt, ancestors, links_of
from .rows.plan import STAGE_C_SAMPLER

_SENT_TYPES = frozenset({"CONDITIONING", "LATENT"})
"""Types of the results that are sent across the cut, which are small. Nodes with other results run on both sides."""


def nodes_before_cut(prompt: Prompt, catalog: Catalog) -> list[str]:
    """Return the nodes whose results are sent across the cut: text encoders and Stage C Samplers.

    Raises:
        UsageError: The workflow has no Stage C Sampler.
    """
    types = {node_id: set(catalog.return_types(node["class_type"])) for node_id, node in prompt.items()}
    samplers = [node_id for node_id, node in prompt.items() if node["class_type"] == STAGE_C_SAMPLER]
    if not samplers:
        raise UsageError("The workflow has no Stage C Sampler, so it cannot be cut there. Use --layout fused.")
    encoders = [node_id for node_id, returned in types.items() if returned == {"CONDITIONING"}]
    before = ancestors(prompt, [*samplers, *encoders])
    used_after = {link.source for node_id in prompt if node_id not in before for link in links_of(prompt, node_id)}
    return [node_id for node_id in prompt if node_id in before & used_after and types[node_id] <= _SENT_TYPES]


def packed(values: Mapping[str, Outputs]) -> dict[str, Outputs]:
    """Return the same results on the CPU, with no tensor that is a view of a larger one."""
    return {node_id: replace(value, slots=_compact(value.slots)) for node_id, value in values.items()}


def _compact(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().contiguous().clone()
    if isinstance(value, Mapping):
        return {key: _compact(each) for key, each in value.items()}
    return type(value)(_compact(each) for each in value) if isinstance(value, (list, tuple)) else value
