"""From a name to a network that the other nodes use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import wuerstchen_core
from wuerstchen_core.errors import InputError

from . import models
from .host import host

if TYPE_CHECKING:
    from torch import nn

CATEGORY = "wuerstchen/loaders"
DEFAULT_MODEL = "cocktail"
_WHERE = (
    "cocktail comes with the pack. The v2 models are the published ones; 'wuerstchen download NAME' fetches them. "
    "Files and folders in the model folder (models/wuerstchen) are listed too."
)


_TEXT_ENCODER_OF: dict[Literal["C", "B"], str] = {"C": "text_encoder_c", "B": "text_encoder_b"}


def _stage(for_stage: str) -> Literal["C", "B"]:
    if for_stage not in ("C", "B"):
        raise InputError(f"for_stage is {for_stage!r}; expected C or B.")
    return for_stage


def _model_input(part: str) -> tuple[list[str], dict[str, Any]]:
    return models.choices(part), {"default": DEFAULT_MODEL, "tooltip": f"The checkpoint. {_WHERE}"}


class LoadTextEncoder:
    """Loads the text encoder of one stage."""

    CATEGORY = CATEGORY
    DESCRIPTION = "Loads the text encoder of Stage C or of Stage B; each stage has its own and understands no other."
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
                        "tooltip": "The stage its prompts go to: C decides the picture, B the details.",
                    },
                ),
            }
        }

    @classmethod
    def IS_CHANGED(cls, model: str, for_stage: str) -> str:
        return models.fingerprint(model, _TEXT_ENCODER_OF[_stage(for_stage)])

    @classmethod
    def source_files(cls, model: str, for_stage: str) -> list[Path]:
        """The files that loading reads, for hosts that tell results apart by what is in them."""
        return models.files_of(model, _TEXT_ENCODER_OF[_stage(for_stage)])

    def load(self, model: str, for_stage: str) -> tuple[Any]:
        stage = _stage(for_stage)
        part = _TEXT_ENCODER_OF[stage]
        source = models.source_of(model, part)
        with models.explained(model, part):
            return (host().keep(wuerstchen_core.load_text_encoder(source, for_stage=stage)),)


class _LoadStage:
    """What the loaders of the three stages share."""

    CATEGORY = CATEGORY
    FUNCTION = "load"
    STAGE: ClassVar[str]

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model": _model_input(cls.STAGE),
                "dtype": (
                    models.DTYPE_NAMES,
                    {
                        "default": "default",
                        "tooltip": "Precision of weights and computation; default is what suits this machine.",
                    },
                ),
            }
        }

    @classmethod
    def IS_CHANGED(cls, model: str, dtype: str) -> str:
        return models.fingerprint(model, cls.STAGE)

    @classmethod
    def source_files(cls, model: str, dtype: str) -> list[Path]:
        """The files that loading reads, for hosts that tell results apart by what is in them."""
        return models.files_of(model, cls.STAGE)

    def _load(self, load: Callable[..., nn.Module], model: str, dtype: str) -> tuple[Any]:
        source = models.source_of(model, self.STAGE)
        kind = models.dtype_of(dtype, self.STAGE)
        with models.explained(model, self.STAGE):
            return (host().keep(load(source, dtype=kind, operations=host().operations(kind))),)


class LoadStageC(_LoadStage):
    """Loads Stage C."""

    STAGE = "C"
    DESCRIPTION = "Loads Stage C, which draws image embeddings for a prompt: the stage that decides the picture."
    SEARCH_ALIASES: ClassVar = ["wuerstchen loader", "würstchen prior", "wuerstchen prior", "load checkpoint"]
    RETURN_TYPES = ("WUERSTCHEN_STAGE_C",)
    RETURN_NAMES = ("stage_c",)
    OUTPUT_TOOLTIPS = ("The network, for Stage C Sampler, Interpolate Checkpoints and Save Stage C.",)

    def load(self, model: str, dtype: str) -> tuple[Any]:
        return self._load(wuerstchen_core.load_stage_c, model, dtype)


class LoadStageB(_LoadStage):
    """Loads Stage B."""

    STAGE = "B"
    DESCRIPTION = "Loads Stage B, which fills in the details that Stage C leaves open."
    SEARCH_ALIASES: ClassVar = ["wuerstchen decoder", "würstchen decoder", "diffnext", "load checkpoint"]
    RETURN_TYPES = ("WUERSTCHEN_STAGE_B",)
    RETURN_NAMES = ("stage_b",)
    OUTPUT_TOOLTIPS = ("The network, for Stage B Decode.",)

    def load(self, model: str, dtype: str) -> tuple[Any]:
        return self._load(wuerstchen_core.load_stage_b, model, dtype)


class LoadStageA(_LoadStage):
    """Loads Stage A."""

    STAGE = "A"
    DESCRIPTION = "Loads Stage A, the VQGAN that turns latents into pixels."
    SEARCH_ALIASES: ClassVar = ["wuerstchen vae", "würstchen vqgan", "paella vqgan", "load vae"]
    RETURN_TYPES = ("WUERSTCHEN_STAGE_A",)
    RETURN_NAMES = ("stage_a",)
    OUTPUT_TOOLTIPS = ("The network, for Stage A VQGAN Decode.",)

    def load(self, model: str, dtype: str) -> tuple[Any]:
        return self._load(wuerstchen_core.load_stage_a, model, dtype)
