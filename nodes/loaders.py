"""Loader nodes for the three stages, the text encoders and the image encoder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import wuerstchen_core
from wuerstchen_core.checkpoints.components import IMAGE_ENCODER, STAGE_A, STAGE_B, STAGE_C, TEXT_ENCODERS, Component
from wuerstchen_core.checkpoints.presets import DEFAULT_MODEL
from wuerstchen_core.errors import InputError

from . import models
from .arguments import checked
from .host import host
from .lazy import LazyStageC

if TYPE_CHECKING:
    from torch import nn

CATEGORY = "wuerstchen/loaders"
_WHERE = (
    "cocktail comes with the pack. The v2 models are the published ones, which Download Weights gets. "
    "Files and folders in the model folder (models/wuerstchen) are listed too."
)


def _stage(for_stage: str) -> Literal["C", "B"]:
    if for_stage not in ("C", "B"):
        raise InputError(f"for_stage is {for_stage!r}; expected C or B.")
    return for_stage


def _model_input(part: str) -> tuple[list[str], dict[str, Any]]:
    options = {"default": DEFAULT_MODEL, "tooltip": f"The checkpoint. {_WHERE}", "takes_path_headless": True}
    return models.choices(part), options


@checked
class LoadTextEncoder:
    """Loads the text encoder of one stage."""

    CATEGORY = CATEGORY
    DESCRIPTION = "Loads the text encoder of Stage C or of Stage B. Each stage works with its own text encoder only."
    SEARCH_ALIASES: ClassVar = ["wuerstchen clip", "würstchen text encoder", "load clip", "clip loader"]
    FUNCTION = "load"
    RETURN_TYPES = ("WUERSTCHEN_TEXT_ENCODER",)
    RETURN_NAMES = ("text_encoder",)
    OUTPUT_TOOLTIPS = ("The text encoder, for Text Encode.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model": _model_input("text_encoder"),
                "for_stage": (
                    ["C", "B"],
                    {
                        "default": "C",
                        "tooltip": "Stage that the prompts are for: C decides the image, B its details.",
                    },
                ),
            },
            "optional": {
                "dtype": (
                    models.TEXT_NAMES,
                    {
                        "default": "default",
                        "tooltip": "Precision of weights and computation; default is float32 on a processor. int8 "
                        "keeps the weights in a quarter of that and multiplies in eight bits.",
                    },
                ),
            },
        }

    @classmethod
    def IS_CHANGED(cls, model: str, for_stage: str, dtype: str = "default") -> str:
        return models.fingerprint(model, TEXT_ENCODERS[_stage(for_stage)].part)

    @classmethod
    def source_files(cls, model: str, for_stage: str, dtype: str = "default") -> list[Path]:
        """List the files that loading reads, for hosts whose cache keys cover the content of files."""
        return models.source_files(model, TEXT_ENCODERS[_stage(for_stage)].part)

    @classmethod
    def precision(cls, model: str, for_stage: str, dtype: str = "default") -> str:
        """Return the precision of the computation, for hosts whose cache keys cover it."""
        part = TEXT_ENCODERS[_stage(for_stage)].part
        return "" if dtype == "default" else models.precision_of(model, dtype, part)

    def load(self, model: str, for_stage: str, dtype: str = "default") -> tuple[Any]:
        stage = _stage(for_stage)
        part = TEXT_ENCODERS[stage].part
        source = models.source_of(model, part)
        kind = None if dtype == "default" else models.dtype_of(dtype, part)
        with models.explained(model, part):
            return (host().keep(wuerstchen_core.load_text_encoder(source, for_stage=stage, dtype=kind)),)


@checked
class LoadImageEncoder:
    """Loads the image encoder."""

    CATEGORY = CATEGORY
    COMPONENT = IMAGE_ENCODER
    DESCRIPTION = (
        "Loads the image encoder, which turns a picture into the image embeddings that Stage C samples: for image to "
        "image, variations and inpainting."
    )
    SEARCH_ALIASES: ClassVar = ["wuerstchen image encoder", "würstchen effnet", "efficientnet", "semantic compressor"]
    FUNCTION = "load"
    RETURN_TYPES = ("WUERSTCHEN_IMAGE_ENCODER",)
    RETURN_NAMES = ("image_encoder",)
    OUTPUT_TOOLTIPS = ("The image encoder, for Image to Stage C.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"model": _model_input(IMAGE_ENCODER.part)}}

    @classmethod
    def IS_CHANGED(cls, model: str) -> str:
        return models.fingerprint(model, IMAGE_ENCODER.part)

    @classmethod
    def source_files(cls, model: str) -> list[Path]:
        """List the files that loading reads, for hosts whose cache keys cover the content of files."""
        return models.source_files(model, IMAGE_ENCODER.part)

    def load(self, model: str) -> tuple[Any]:
        source = models.source_of(model, IMAGE_ENCODER.part)
        with models.explained(model, IMAGE_ENCODER.part):
            return (host().keep(wuerstchen_core.load_image_encoder(source)),)


class _LoadStage:
    """Base of the loaders of the three stages."""

    CATEGORY = CATEGORY
    FUNCTION = "load"
    COMPONENT: ClassVar[Component]
    DTYPES: ClassVar = models.STORED_NAMES
    DTYPE_TOOLTIP: ClassVar = (
        "Precision of weights and computation; default is the best one for this machine. float8_e4m3fn keeps the "
        "weights in half the memory of bfloat16 and computes in bfloat16; int8 does so too, and multiplies in eight "
        "bits, which is faster on processors. Images change a little."
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model": _model_input(cls.COMPONENT.part),
                "dtype": (
                    cls.DTYPES,
                    {"default": "default", "tooltip": cls.DTYPE_TOOLTIP},
                ),
            }
        }

    @classmethod
    def IS_CHANGED(cls, model: str, dtype: str) -> str:
        return models.fingerprint(model, cls.COMPONENT.part)

    @classmethod
    def source_files(cls, model: str, dtype: str) -> list[Path]:
        """List the files that loading reads, for hosts whose cache keys cover the content of files."""
        return models.source_files(model, cls.COMPONENT.part)

    @classmethod
    def precision(cls, model: str, dtype: str) -> str:
        """Return the precision of the computation, for hosts whose cache keys cover it."""
        return models.precision_of(model, dtype, cls.COMPONENT.part)

    def _load(self, load: Callable[..., nn.Module], model: str, dtype: str) -> tuple[Any]:
        part = self.COMPONENT.part
        source = models.source_of(model, part)
        kind = models.dtype_of(dtype, part)
        with models.explained(model, part):
            return (host().keep(load(source, dtype=kind, operations=host().operations(kind))),)


@checked
class LoadStageC(_LoadStage):
    """Loads Stage C."""

    COMPONENT = STAGE_C
    DESCRIPTION = "Loads Stage C, which samples image embeddings for a prompt: the stage that decides the image."
    SEARCH_ALIASES: ClassVar = ["wuerstchen loader", "würstchen prior", "wuerstchen prior", "load checkpoint"]
    RETURN_TYPES = ("WUERSTCHEN_STAGE_C",)
    RETURN_NAMES = ("stage_c",)
    OUTPUT_TOOLTIPS = ("The network, for Stage C Sampler, Interpolate Checkpoints and Save Stage C.",)

    def load(self, model: str, dtype: str) -> tuple[Any]:
        from wuerstchen_core.checkpoints.recipes import Stored

        source, kind = models.source_of(model, STAGE_C.part), models.dtype_of(dtype, STAGE_C.part)
        with models.explained(model, STAGE_C.part):
            return (LazyStageC(Stored(source), kind),)


@checked
class LoadStageB(_LoadStage):
    """Loads Stage B."""

    COMPONENT = STAGE_B
    DESCRIPTION = "Loads Stage B, which fills in the details that Stage C leaves open."
    SEARCH_ALIASES: ClassVar = ["wuerstchen decoder", "würstchen decoder", "diffnext", "load checkpoint"]
    RETURN_TYPES = ("WUERSTCHEN_STAGE_B",)
    RETURN_NAMES = ("stage_b",)
    OUTPUT_TOOLTIPS = ("The network, for Stage B Decode.",)

    def load(self, model: str, dtype: str) -> tuple[Any]:
        return self._load(wuerstchen_core.load_stage_b, model, dtype)


@checked
class LoadStageA(_LoadStage):
    """Loads Stage A."""

    COMPONENT = STAGE_A
    DTYPES = models.DTYPE_NAMES
    DTYPE_TOOLTIP = "Precision of weights and computation; default is the best one for this machine."
    DESCRIPTION = "Loads Stage A, the VQGAN that turns latents into pixels."
    SEARCH_ALIASES: ClassVar = ["wuerstchen vae", "würstchen vqgan", "paella vqgan", "load vae"]
    RETURN_TYPES = ("WUERSTCHEN_STAGE_A",)
    RETURN_NAMES = ("stage_a",)
    OUTPUT_TOOLTIPS = ("The network, for Stage A VQGAN Decode.",)

    def load(self, model: str, dtype: str) -> tuple[Any]:
        return self._load(wuerstchen_core.load_stage_a, model, dtype)
