"""`wuerstchen generate`: the text-to-image example with another prompt, size and model."""

from typing import Any

from wuerstchen_core.checkpoints.presets import PRESETS, natural_size, stage_b_guidance

from ...registry import NODE_CLASS_MAPPINGS
from ..errors import UsageError
from ..host import HeadlessHost
from ..workflow.documents import Workflow

PROMPT, NEGATIVE = "Prompt.value", "Negative Prompt.text"
SAMPLER, DECODER = "Stage C Sampler", "Stage B Decode"
"""Titles of these nodes in the example."""


def settings_for(
    workflow: Workflow, prompt: str, negative: str | None, width: int | None, height: int | None, model: str | None
) -> dict[str, Any]:
    """Return the settings of the example, {"NODE.input": value}.

    Args:
        workflow: The example.
        prompt: Text prompt.
        negative: Negative text prompt; None for the example's own.
        width: Width of the image in pixels; None for the width that the model was made for.
        height: Height of the image in pixels, like `width`.
        model: A preset for every stage, or a checkpoint in the model folder for Stage C; None for the example's own.
    Raises:
        UsageError: There is no such model.
    """
    settings: dict[str, Any] = {PROMPT: prompt}
    if negative is not None:
        settings[NEGATIVE] = negative
    sides = {"width": width, "height": height}
    if model is not None:
        settings |= _models(workflow, model)
        if model in PRESETS:
            sides = {name: value or natural_size(model) for name, value in sides.items()}
            settings[f"{DECODER}.cfg"] = stage_b_guidance(model)
    return settings | {f"{SAMPLER}.{name}": value for name, value in sides.items() if value is not None}


def _models(workflow: Workflow, model: str) -> dict[str, str]:
    known = [*PRESETS, *HeadlessHost().model_names()]
    if model not in known:
        raise UsageError(f"--model is {model!r}; expected one of {', '.join(known)}.")
    loaders = [node for node in workflow.document.nodes if "Load" in node.type and node.type in NODE_CLASS_MAPPINGS]
    return {f"{node.id}.model": model for node in loaders if model in PRESETS or node.type == "WuerstchenLoadStageC"}
