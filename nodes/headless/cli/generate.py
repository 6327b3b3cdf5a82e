"""`wuerstchen generate`: the text-to-image example with other prompts, seeds, sizes and models."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wuerstchen_core.checkpoints.presets import PRESETS, family

from ...registry import NODE_CLASS_MAPPINGS
from ..errors import UsageError, did_you_mean
from ..host import HeadlessHost
from ..workflow.documents import Workflow
from .jobs import Variant

PROMPT, NEGATIVE = "Prompt.value", "Negative Prompt.text"
SAMPLER, DECODER = "Stage C Sampler", "Stage B Decode"
"""Titles of these nodes in the example."""


def settings_for(workflow: Workflow, options: argparse.Namespace) -> dict[str, Any]:
    """Return the settings of the example, {"NODE.input": value}, but for the prompt.

    Args:
        workflow: The example.
        options: Options of the verb.
    Raises:
        UsageError: There is no such model, or the size is given twice.
    """
    settings: dict[str, Any] = {f"{SAMPLER}.steps": options.steps}
    if options.negative is not None:
        settings[NEGATIVE] = options.negative
    sides: dict[str, int | None] = {"width": options.width, "height": options.height}
    if options.size is not None:
        if any(sides.values()):
            raise UsageError("--size and --width or --height exclude each other; give one of them.")
        sides = dict(zip(sides, options.size, strict=True))
    if options.model is not None:
        settings |= _models(workflow, options.model)
        if options.model in PRESETS:
            suits = family(options.model)
            sides = {name: value or suits.natural_size for name, value in sides.items()}
            settings[f"{SAMPLER}.cfg"] = suits.stage_c_guidance_scale
            settings[f"{DECODER}.cfg"] = suits.stage_b_guidance_scale
            settings[f"{DECODER}.steps"] = suits.stage_b_steps
            settings[f"{DECODER}.schedule"] = suits.stage_b_schedule
    if options.cfg is not None:
        settings[f"{SAMPLER}.cfg"] = options.cfg
    return settings | {f"{SAMPLER}.{name}": value for name, value in sides.items() if value is not None}


def variants_for(prompts: Sequence[str], seed: int, count: int) -> list[Variant]:
    """Return one run for each image: `count` seeds from `seed` on for each prompt."""
    found: list[Variant] = []
    several = len(prompts) * count > 1
    for prompt in prompts:
        for each in range(seed, seed + count):
            label = f"{prompt}, seed {each}" if several else ""
            fields = {"point": len(found) + 1, "prompt": prompt, "seed": each} if several else {}
            found.append(Variant({PROMPT: prompt}, each, label, fields))
    return found


def numbered(out: str, count: int) -> str:
    """Return an output pattern that gives each of several images a number: star.png becomes star_{index:02}.png.

    A folder, and a pattern with its own {index}, stay as they are.
    """
    path = Path(out)
    if count == 1 or path.suffix.lower() != ".png" or "{index" in out:
        return out
    return str(path.with_name(f"{path.stem}_{{index:0{len(str(count))}}}{path.suffix}"))


def _models(workflow: Workflow, model: str) -> dict[str, str]:
    known = [*PRESETS, *HeadlessHost().model_names()]
    if model not in known:
        hint = did_you_mean(model, known)
        raise UsageError(f"--model is {model!r}; expected one of {', '.join(known)}. {hint}".strip())
    loaders = [node for node in workflow.document.nodes if "Load" in node.type and node.type in NODE_CLASS_MAPPINGS]
    return {f"{node.id}.model": model for node in loaders if model in PRESETS or node.type == "WuerstchenLoadStageC"}
