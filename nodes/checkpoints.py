"""Interpolate Checkpoints and Save Stage C."""

from typing import Any, ClassVar

import wuerstchen_core
from wuerstchen_core.errors import InputError

from .arguments import checked
from .host import host
from .lazy import LazyStageC, lazy_of
from .output import numbered_path


@checked
class CheckpointInterpolate:
    """Mixes two Stage C checkpoints."""

    CATEGORY = "wuerstchen/checkpoints"
    DESCRIPTION = (
        "Mixes two Stage C checkpoints of one shape, weight by weight. v2-interpolated is v2-base and v2-aesthetic at "
        "0.5. At 0 and at 1 only one of them is loaded."
    )
    SEARCH_ALIASES: ClassVar = ["wuerstchen merge", "merge checkpoints", "model merge", "interpolate", "lerp"]
    FUNCTION = "interpolate"
    RETURN_TYPES = ("WUERSTCHEN_STAGE_C",)
    RETURN_NAMES = ("stage_c",)
    OUTPUT_TOOLTIPS = ("The mix, for Stage C Sampler or Save Stage C.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "base": ("WUERSTCHEN_STAGE_C", {"lazy": True, "tooltip": "Checkpoint at weight 0."}),
                "finetuned": ("WUERSTCHEN_STAGE_C", {"lazy": True, "tooltip": "Checkpoint at weight 1."}),
                "weight": (
                    "FLOAT",
                    {
                        "default": 0.5,
                        "min": 0.0,
                        "max": 1.0,
                        "step": 0.01,
                        "round": 0.001,
                        "tooltip": "Share of the finetuned checkpoint, from 0 to 1.",
                    },
                ),
            }
        }

    def check_lazy_status(self, weight: float, base: Any = None, finetuned: Any = None) -> list[str]:
        """Return the inputs that are still needed: at weight 0 and 1 only one of the two is."""
        needed = []
        if weight != 1 and base is None:
            needed.append("base")
        if weight != 0 and finetuned is None:
            needed.append("finetuned")
        return needed

    def interpolate(self, weight: float, base: Any = None, finetuned: Any = None) -> tuple[Any]:
        for name in self.check_lazy_status(weight, base, finetuned):
            raise InputError(f"{name} is None; expected Stage C. Connect Load Stage C, or a merge.")
        if weight == 0:
            return (base,)
        if weight == 1:
            return (finetuned,)
        from wuerstchen_core.weights.merging import Interpolation

        first = lazy_of(base)
        return (LazyStageC(Interpolation(first.recipe, lazy_of(finetuned).recipe, weight), first.dtype),)


@checked
class SaveStageC:
    """Writes a Stage C checkpoint to the output folder."""

    CATEGORY = "wuerstchen/checkpoints"
    DESCRIPTION = (
        "Saves a Stage C checkpoint as a folder with config.json and safetensors, which diffusers reads too. "
        "Move the folder to the model folder (models/wuerstchen) to load it. Never overwrites."
    )
    SEARCH_ALIASES: ClassVar = ["wuerstchen save", "save checkpoint", "model save", "export prior"]
    FUNCTION = "save"
    RETURN_TYPES = ()
    RETURN_NAMES = ()
    OUTPUT_TOOLTIPS = ()
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "stage_c": ("WUERSTCHEN_STAGE_C", {"tooltip": "From Load Stage C, Load LoRA or a merge."}),
                "filename_prefix": (
                    "STRING",
                    {
                        "default": "wuerstchen/stage_c",
                        "tooltip": "Name of the folder to write, inside the output folder; a number is added. "
                        "Slashes make subfolders.",
                    },
                ),
            }
        }

    def save(self, stage_c: Any, filename_prefix: str) -> dict[str, Any]:
        path = numbered_path(host().output_folder(), filename_prefix)
        from wuerstchen_core.checkpoints.loading import dtype_for

        there = lazy_of(stage_c)
        dtype = dtype_for(there.recipe, host().device(), there.dtype)
        wuerstchen_core.save_stage_c(there.recipe, path, dtype=dtype)
        return {"ui": {"text": [str(path)]}}
