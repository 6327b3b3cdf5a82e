"""Compile Stage C and Compile Stage B: networks that run through torch.compile."""

from typing import Any, ClassVar

from .arguments import checked
from .host import host
from .lazy import compiled

_DESCRIPTION = (
    "Runs Stage {stage} through torch.compile. The first image of each size waits for the compiler, which on a CPU "
    "needs a C++ compiler; further images are faster, and the compiled code is kept for later starts."
)


@checked
class CompileStageC:
    """Marks Stage C to run through torch.compile."""

    CATEGORY = "wuerstchen/checkpoints"
    DESCRIPTION = _DESCRIPTION.format(stage="C")
    SEARCH_ALIASES: ClassVar = ["torch compile", "torchcompile", "wuerstchen compile", "inductor", "speed up"]
    FUNCTION = "compile"
    RETURN_TYPES = ("WUERSTCHEN_STAGE_C",)
    RETURN_NAMES = ("stage_c",)
    OUTPUT_TOOLTIPS = ("The same network, compiled when it samples. The input network is unchanged.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "stage_c": ("WUERSTCHEN_STAGE_C", {"tooltip": "From Load Stage C, Load LoRA or a merge."}),
            }
        }

    def compile(self, stage_c: Any) -> tuple[Any]:
        return (compiled(stage_c),)


@checked
class CompileStageB:
    """Marks Stage B to run through torch.compile."""

    CATEGORY = "wuerstchen/checkpoints"
    DESCRIPTION = _DESCRIPTION.format(stage="B")
    SEARCH_ALIASES: ClassVar = CompileStageC.SEARCH_ALIASES
    FUNCTION = "compile"
    RETURN_TYPES = ("WUERSTCHEN_STAGE_B",)
    RETURN_NAMES = ("stage_b",)
    OUTPUT_TOOLTIPS = CompileStageC.OUTPUT_TOOLTIPS

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"stage_b": ("WUERSTCHEN_STAGE_B", {"tooltip": "From Load Stage B."})}}

    def compile(self, stage_b: Any) -> tuple[Any]:
        return (host().compiled(stage_b),)
