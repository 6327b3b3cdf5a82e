"""Merge Checkpoints: weighted averages and added differences of Stage C checkpoints."""

from typing import Any, ClassVar

from .arguments import checked
from .lazy import LazyStageC, lazy_of

SOCKETS = 4
"""Checkpoints that one node merges. Further nodes in a row take more."""
AVERAGE, ADD_DIFFERENCE = "average", "add difference"


@checked
class CheckpointMerge:
    """Merges up to four Stage C checkpoints."""

    CATEGORY = "wuerstchen/checkpoints"
    DESCRIPTION = (
        "Merges Stage C checkpoints of one shape. average: their mean by weight. add difference: stage_c_1 plus what "
        "each of the next ones has learned over the last one connected, from which they were finetuned. The merge is "
        "computed when it is sampled or saved, one weight at a time; merges can be merged again."
    )
    SEARCH_ALIASES: ClassVar = ["wuerstchen merge", "model merge", "add difference", "block weights", "merge blocks"]
    FUNCTION = "merge"
    RETURN_TYPES = ("WUERSTCHEN_STAGE_C",)
    RETURN_NAMES = ("stage_c",)
    OUTPUT_TOOLTIPS = ("The merge, for Stage C Sampler, Save Stage C or another merge.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {**_socket(1), **_socket(2), **_weight(1), **_weight(2)},
            "optional": {
                **_socket(3),
                **_socket(4),
                **_weight(3),
                **_weight(4),
                "mode": (
                    [AVERAGE, ADD_DIFFERENCE],
                    {
                        "default": AVERAGE,
                        "tooltip": "average: the weights are shares of their sum. add difference: 1 + weight_2 * "
                        "(2 - 3), or with four 1 + weight_2 * (2 - 4) + weight_3 * (3 - 4).",
                    },
                ),
                "blocks": (
                    "STRING",
                    {
                        "default": "",
                        "tooltip": "How much of the merge the blocks take, the rest stays stage_c_1: numbers from the "
                        "first block to the last (1, 0.5, 0), or thirds (in=1, mid=0.5, out=0). Empty: all of it.",
                    },
                ),
            },
        }

    def merge(
        self,
        stage_c_1: Any,
        stage_c_2: Any,
        weight_1: float,
        weight_2: float,
        stage_c_3: Any = None,
        stage_c_4: Any = None,
        weight_3: float = 1.0,
        weight_4: float = 1.0,
        mode: Any = AVERAGE,
        blocks: str = "",
    ) -> tuple[Any]:
        from wuerstchen_core.weights.block_weights import BlockWeights
        from wuerstchen_core.weights.merging import Merge

        given = ((stage_c_1, weight_1), (stage_c_2, weight_2), (stage_c_3, weight_3), (stage_c_4, weight_4))
        there = [(lazy_of(stage_c), weight) for stage_c, weight in given if stage_c is not None]
        recipe = Merge(
            [stage_c.recipe for stage_c, _ in there],
            [weight for _, weight in there],
            mode=mode,
            blocks=BlockWeights.parse(blocks),
        )
        return (LazyStageC(recipe, there[0][0].dtype),)


def _socket(number: int) -> dict[str, Any]:
    which = "Checkpoint that the result starts from." if number == 1 else f"Checkpoint number {number}."
    return {f"stage_c_{number}": ("WUERSTCHEN_STAGE_C", {"tooltip": which})}


def _weight(number: int) -> dict[str, Any]:
    options = {"default": 1.0, "min": -4.0, "max": 4.0, "step": 0.05, "round": 0.001}
    return {f"weight_{number}": ("FLOAT", {**options, "tooltip": f"Weight of stage_c_{number}."})}
