"""What each stage is called: in this project, in diffusers, and in a folder. One table for loading and saving."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import Tensor, nn

from ..networks.blocks import Operations
from ..networks.stage_a import StageA, StageAConfig
from ..networks.stage_b import StageB, StageBConfig
from ..networks.stage_c import StageC, StageCConfig
from .infer import infer_stage_a, infer_stage_b, infer_stage_c

Config = TypeVar("Config", StageAConfig, StageBConfig, StageCConfig)
Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Component(Generic[Network, Config]):
    """One of the three networks.

    stage: "A", "B" or "C". folder: its folder in a diffusers pipeline. class_name: its class there. mark: a key that
    only this network has. infer: its config from the shapes of its tensors.
    """

    stage: str
    folder: str
    class_name: str
    mark: str
    network: Callable[[Config, Operations], Network]
    config: type[Config]
    infer: Callable[[Mapping[str, Tensor]], Config]


STAGE_A = Component("A", "vqgan", "PaellaVQModel", "vquantizer.embedding.weight", StageA, StageAConfig, infer_stage_a)
STAGE_B = Component("B", "decoder", "WuerstchenDiffNeXt", "clip_mapper.weight", StageB, StageBConfig, infer_stage_b)
STAGE_C = Component("C", "prior", "WuerstchenPrior", "cond_mapper.0.weight", StageC, StageCConfig, infer_stage_c)
COMPONENTS = (STAGE_A, STAGE_B, STAGE_C)

_TEXT_MARKS = ("text_model.embeddings.token_embedding.weight", "embeddings.token_embedding.weight")


def describe(state: Mapping[str, Tensor]) -> str | None:
    """Which of the networks the keys are of, in words; None where they are of no stage."""
    for component in COMPONENTS:
        if component.mark in state:
            return f"Stage {component.stage} ({component.folder})"
    return "a text encoder" if any(mark in state for mark in _TEXT_MARKS) else None
