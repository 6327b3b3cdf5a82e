"""ComfyUI's own nodes that shared workflows need, by their ids, and the catalog of all nodes known here."""

import sys
from typing import Any

from ...registry import COMFYUI_ONLY, NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS
from ..workflow.catalog import Catalog
from .blends import ImageBatch, ImageBlend
from .images import LoadImage, PreviewImage, SaveImage
from .latents import LoadLatent, SaveLatent
from .masks import ImageCompositeMasked, LoadImageMask, SetLatentNoiseMask


class _Primitive:
    """Returns the value of its one field."""

    CATEGORY = "utils/primitive"
    FUNCTION = "give"
    RETURN_TYPES: tuple[str, ...] = ()
    FIELD: tuple[str, dict[str, Any]]

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"value": cls.FIELD}}

    def give(self, value: Any) -> tuple[Any]:
        return (value,)


class PrimitiveInt(_Primitive):
    RETURN_TYPES = ("INT",)
    FIELD = ("INT", {"min": -sys.maxsize, "max": sys.maxsize, "control_after_generate": True})


class PrimitiveFloat(_Primitive):
    RETURN_TYPES = ("FLOAT",)
    FIELD = ("FLOAT", {})


class PrimitiveString(_Primitive):
    RETURN_TYPES = ("STRING",)
    FIELD = ("STRING", {})


class PrimitiveStringMultiline(_Primitive):
    RETURN_TYPES = ("STRING",)
    FIELD = ("STRING", {"multiline": True})


class PrimitiveBoolean(_Primitive):
    RETURN_TYPES = ("BOOLEAN",)
    FIELD = ("BOOLEAN", {})


CLASSES: dict[str, type] = {
    "SaveImage": SaveImage,
    "PreviewImage": PreviewImage,
    "LoadImage": LoadImage,
    "LoadImageMask": LoadImageMask,
    "ImageBatch": ImageBatch,
    "ImageBlend": ImageBlend,
    "SetLatentNoiseMask": SetLatentNoiseMask,
    "ImageCompositeMasked": ImageCompositeMasked,
    "SaveLatent": SaveLatent,
    "LoadLatent": LoadLatent,
    "PrimitiveInt": PrimitiveInt,
    "PrimitiveFloat": PrimitiveFloat,
    "PrimitiveString": PrimitiveString,
    "PrimitiveStringMultiline": PrimitiveStringMultiline,
    "PrimitiveBoolean": PrimitiveBoolean,
}

DISPLAY_NAMES = {
    "SaveImage": "Save Image",
    "PreviewImage": "Preview Image",
    "LoadImage": "Load Image",
    "LoadImageMask": "Load Image (as Mask)",
    "ImageBatch": "Batch Images",
    "ImageBlend": "Image Blend",
    "SetLatentNoiseMask": "Set Latent Noise Mask",
    "ImageCompositeMasked": "ImageCompositeMasked",
    "SaveLatent": "SaveLatent",
    "LoadLatent": "LoadLatent",
    "PrimitiveInt": "Int",
    "PrimitiveFloat": "Float",
    "PrimitiveString": "String",
    "PrimitiveStringMultiline": "String (Multiline)",
    "PrimitiveBoolean": "Boolean",
}


def default_catalog() -> Catalog:
    """Return this pack's nodes and the stock ones."""
    return Catalog({**CLASSES, **NODE_CLASS_MAPPINGS}, {**DISPLAY_NAMES, **NODE_DISPLAY_NAME_MAPPINGS}, COMFYUI_ONLY)
