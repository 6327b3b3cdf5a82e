"""Würstchen v2: text to image, and image to image, in three stages.

Public names are imported on first use, so that importing the package stays fast.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .checkpoints.embeddings import load_embedding as load_embedding
    from .checkpoints.loading import load_image_encoder as load_image_encoder
    from .checkpoints.loading import load_stage_a as load_stage_a
    from .checkpoints.loading import load_stage_b as load_stage_b
    from .checkpoints.loading import load_stage_c as load_stage_c
    from .checkpoints.loading import load_text_encoder as load_text_encoder
    from .checkpoints.lora import load_lora as load_lora
    from .checkpoints.saving import save_stage_c as save_stage_c
    from .errors import CheckpointError as CheckpointError
    from .errors import InputError as InputError
    from .errors import WeightsMissingError as WeightsMissingError
    from .errors import WorkflowError as WorkflowError
    from .errors import WuerstchenError as WuerstchenError
    from .networks.image_encoder import ImageEncoder as ImageEncoder
    from .networks.stage_a import StageA as StageA
    from .networks.stage_a import StageAConfig as StageAConfig
    from .networks.stage_b import StageB as StageB
    from .networks.stage_b import StageBConfig as StageBConfig
    from .networks.stage_c import StageC as StageC
    from .networks.stage_c import StageCConfig as StageCConfig
    from .pipeline.pictures import image_to_image as image_to_image
    from .pipeline.pictures import inpaint as inpaint
    from .pipeline.pictures import vary as vary
    from .pipeline.text_to_image import generate as generate
    from .schedule import DEFAULT_STAGE_B_TIMESTEPS as DEFAULT_STAGE_B_TIMESTEPS
    from .schedule import DEFAULT_STAGE_C_TIMESTEPS as DEFAULT_STAGE_C_TIMESTEPS
    from .schedule import alpha_cumprod as alpha_cumprod
    from .schedule import early_timesteps as early_timesteps
    from .schedule import linear_timesteps as linear_timesteps
    from .schedule import v2_timesteps as v2_timesteps
    from .stages import decode_stage_a as decode_stage_a
    from .stages import encode_stage_a as encode_stage_a
    from .stages import encode_stage_c as encode_stage_c
    from .stages import sample_stage_b as sample_stage_b
    from .stages import sample_stage_c as sample_stage_c
    from .text.encoder import TextEncoder as TextEncoder
    from .weights.block_weights import BlockWeights as BlockWeights
    from .weights.lora import WithLoras as WithLoras
    from .weights.lora import apply_lora as apply_lora
    from .weights.lora import apply_loras as apply_loras
    from .weights.merging import Interpolation as Interpolation
    from .weights.merging import Merge as Merge
    from .weights.merging import interpolate as interpolate
    from .weights.merging import merge as merge

_MODULE_OF = {
    "checkpoints.embeddings": ["load_embedding"],
    "checkpoints.lora": ["load_lora"],
    "checkpoints.saving": ["save_stage_c"],
    "errors": ["CheckpointError", "InputError", "WeightsMissingError", "WorkflowError", "WuerstchenError"],
    "pipeline.pictures": ["image_to_image", "inpaint", "vary"],
    "pipeline.text_to_image": ["generate"],
    "checkpoints.loading": ["load_image_encoder", "load_stage_a", "load_stage_b", "load_stage_c", "load_text_encoder"],
    "schedule": [
        "DEFAULT_STAGE_B_TIMESTEPS",
        "DEFAULT_STAGE_C_TIMESTEPS",
        "alpha_cumprod",
        "early_timesteps",
        "linear_timesteps",
        "v2_timesteps",
    ],
    "networks.image_encoder": ["ImageEncoder"],
    "networks.stage_a": ["StageA", "StageAConfig"],
    "networks.stage_b": ["StageB", "StageBConfig"],
    "networks.stage_c": ["StageC", "StageCConfig"],
    "stages": ["decode_stage_a", "encode_stage_a", "encode_stage_c", "sample_stage_b", "sample_stage_c"],
    "text.encoder": ["TextEncoder"],
    "weights.block_weights": ["BlockWeights"],
    "weights.lora": ["WithLoras", "apply_lora", "apply_loras"],
    "weights.merging": ["Interpolation", "Merge", "interpolate", "merge"],
}
_HOME = {name: module for module, names in _MODULE_OF.items() for name in names}

__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
