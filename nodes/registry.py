"""Node classes by id. Workflow files contain these ids, so they never change."""

from typing import Any

from .checkpoints import CheckpointInterpolate, SaveStageC
from .compiling import CompileStageB, CompileStageC
from .download import DownloadWeights
from .image_encoder import ImageEncode
from .keep import KeepOnDisk
from .loaders import LoadImageEncoder, LoadStageA, LoadStageB, LoadStageC, LoadTextEncoder
from .lora import LoadLora
from .merging import CheckpointMerge
from .stage_a import StageADecode, StageAEncode
from .stage_b import StageBDecode
from .stage_c import StageCSampler
from .text import TextEncode
from .variations import Variations

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
    "WuerstchenDownload": DownloadWeights,
    "WuerstchenKeep": KeepOnDisk,
    "WuerstchenLoadImageEncoder": LoadImageEncoder,
    "WuerstchenImageEncode": ImageEncode,
    "WuerstchenStageAEncode": StageAEncode,
    "WuerstchenVariations": Variations,
    "WuerstchenLoadLoRA": LoadLora,
    "WuerstchenMergeCheckpoints": CheckpointMerge,
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
    "WuerstchenDownload": "Download Weights",
    "WuerstchenKeep": "Keep on Disk",
    "WuerstchenLoadImageEncoder": "Load Image Encoder",
    "WuerstchenImageEncode": "Image to Stage C",
    "WuerstchenStageAEncode": "Stage A VQGAN Encode",
    "WuerstchenVariations": "Variations",
    "WuerstchenLoadLoRA": "Load LoRA",
    "WuerstchenMergeCheckpoints": "Merge Checkpoints",
}

COMFYUI_ONLY = {
    "WuerstchenStageCToModel": "Stage C to MODEL",
    "WuerstchenModelToStageC": "MODEL to Stage C",
    "WuerstchenStageBToModel": "Stage B to MODEL",
    "WuerstchenStageAToVAE": "Stage A to VAE",
    "WuerstchenImageEncoderToVAE": "Image Encoder to VAE",
    "WuerstchenSigmas": "Würstchen Sigmas",
    "WuerstchenEmptyLatent": "Empty Würstchen Latent",
}
"""Display names of the nodes of `comfy.nodes`, which exist inside ComfyUI only. These ids never change, either."""
