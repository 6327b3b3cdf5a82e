"""The nodes by their ids, which workflow files name and which therefore never change."""

from typing import Any

from .checkpoints import CheckpointInterpolate, SaveStageC
from .compiling import CompileStageB, CompileStageC
from .loaders import LoadStageA, LoadStageB, LoadStageC, LoadTextEncoder
from .stage_a import StageADecode
from .stage_b import StageBDecode
from .stage_c import StageCSampler
from .text import TextEncode

NODE_CLASS_MAPPINGS: dict[str, Any] = {
    "WuerstchenLoadTextEncoder": LoadTextEncoder,
    "WuerstchenLoadStageC": LoadStageC,
    "WuerstchenLoadStageB": LoadStageB,
    "WuerstchenLoadStageA": LoadStageA,
    "WuerstchenTextEncode": TextEncode,
    "WuerstchenStageCSampler": StageCSampler,
    "WuerstchenStageBDecode": StageBDecode,
    "WuerstchenStageADecode": StageADecode,
    "WuerstchenCheckpointInterpolate": CheckpointInterpolate,
    "WuerstchenSaveStageC": SaveStageC,
    "WuerstchenCompileStageC": CompileStageC,
    "WuerstchenCompileStageB": CompileStageB,
}

NODE_DISPLAY_NAME_MAPPINGS = {
    "WuerstchenLoadTextEncoder": "Load Text Encoder",
    "WuerstchenLoadStageC": "Load Stage C",
    "WuerstchenLoadStageB": "Load Stage B",
    "WuerstchenLoadStageA": "Load Stage A",
    "WuerstchenTextEncode": "Text Encode",
    "WuerstchenStageCSampler": "Stage C Sampler",
    "WuerstchenStageBDecode": "Stage B Decode",
    "WuerstchenStageADecode": "Stage A VQGAN Decode",
    "WuerstchenCheckpointInterpolate": "Interpolate Checkpoints",
    "WuerstchenSaveStageC": "Save Stage C",
    "WuerstchenCompileStageC": "Compile Stage C",
    "WuerstchenCompileStageB": "Compile Stage B",
}

COMFYUI_ONLY = {
    "WuerstchenStageCToModel": "Stage C to MODEL",
    "WuerstchenStageBToModel": "Stage B to MODEL",
    "WuerstchenStageAToVAE": "Stage A to VAE",
    "WuerstchenSigmas": "Würstchen Sigmas",
    "WuerstchenEmptyLatent": "Empty Würstchen Latent",
}
"""Nodes of `comfy.nodes`, which lead into what only ComfyUI has; the same promise holds for their ids."""
