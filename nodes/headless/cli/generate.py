"""`wuerstchen generate` and `wuerstchen vary`: examples with other prompts, pictures, seeds, sizes and models."""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from wuerstchen_core.checkpoints.presets import DEFAULT_MODEL, PRESETS, Family, family
from wuerstchen_core.files.pictures import read_picture
from wuerstchen_core.files.untrusted import MAX_TEXT_BYTES, size_text
from wuerstchen_core.geometry import MAX_SIZE

from ...registry import NODE_CLASS_MAPPINGS
from ...widgets import LARGEST_SEED
from ..errors import UsageError, did_you_mean
from ..host import HeadlessHost
from ..workflow.documents import Workflow
from .jobs import Variant
from .sweep import MAX_POINTS

PROMPT, NEGATIVE = "Prompt.value", "Negative Prompt.text"
PICTURE, MASK = "Load Image.image", "Mask.image"
SAMPLER, VARIATIONS, DECODER = "Stage C Sampler", "Variations", "Stage B Decode"
"""Titles of these nodes in the examples."""
VARIATIONS_EXAMPLE = "variations"
_LINE = re.compile(r"[^\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+")
"""Lines as `str.splitlines` finds them, but one by one: a list of millions takes gigabytes."""


def prompts_of(given: str | None) -> list[str]:
    """Return the prompt that was given, or one for each line of a piped stdin. Raises: UsageError."""
    if given is not None:
        prompts = [given.strip()] if given.strip() else []
    else:
        lines = [] if sys.stdin.isatty() else (match[0].strip() for match in _LINE.finditer(_piped()))
        prompts = list(islice(filter(None, lines), MAX_POINTS + 1))
    if len(prompts) > MAX_POINTS:
        raise UsageError(
            f"stdin has more than {MAX_POINTS:,} prompts; expected at most that many. Use `wuerstchen batch`."
        )
    if not prompts:
        raise UsageError(
            "The prompt is empty; expected what to draw, such as "
            '`wuerstchen generate "a red heart on a white background"`, or one prompt a line on stdin.'
        )
    return prompts


def example_for(options: argparse.Namespace) -> str | None:
    """Return the name of the example that `generate` runs; None for the default one, text to image.

    Raises:
        UsageError: A picture is missing, or options exclude each other.
    """
    if options.image is None:
        given = [name for name in ("strength", "mask") if getattr(options, name) is not None]
        if given:
            raise UsageError(f"--{given[0]} changes a picture; give one with --image.")
        return None
    if options.size is not None or options.width is not None or options.height is not None:
        raise UsageError("--image decides the size; leave out --size, --width and --height, or scale the picture.")
    _check_files(image=options.image, mask=options.mask)
    return "image_to_image" if options.mask is None else "inpainting_by_mask_file"


def picture_remarks(path: str) -> list[str]:
    """Return what a person should know about a picture that is to be changed, one line each.

    Args:
        path: The picture. One that cannot be read has no remarks; the node that loads it says why.
    """
    with suppress(OSError, ValueError):
        picture = read_picture(Path(path), MAX_SIZE)
        if picture.has_transparency_data and picture.convert("RGBA").getchannel("A").getextrema()[0] != 255:
            return [f"{path} is transparent in places; the colours that are stored there are used."]
    return []


def variation_settings(workflow: Workflow, options: argparse.Namespace) -> dict[str, Any]:
    """Return the settings of the example of variations.

    Raises:
        UsageError: There is no such picture or model.
    """
    _check_files(IMAGE=options.image)
    settings: dict[str, Any] = {
        PICTURE: options.image,
        PROMPT: options.prompt or "",
        f"{VARIATIONS}.count": options.count,
        f"{VARIATIONS}.steps": options.steps,
        f"{VARIATIONS}.strength": options.strength or _family(options).vary_strength,
    }
    return settings | _model_settings(workflow, options)


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
    if options.mask is not None:
        settings[MASK] = options.mask
    if options.image is not None:
        usual = _family(options).image_strength if options.mask is None else 1.0
        settings |= {PICTURE: options.image, f"{SAMPLER}.denoise": options.strength or usual}
    sides: dict[str, int | None] = {"width": options.width, "height": options.height}
    if options.size is not None:
        if any(sides.values()):
            raise UsageError("--size and --width or --height exclude each other; give one of them.")
        sides = dict(zip(sides, options.size, strict=True))
    settings |= _model_settings(workflow, options)
    if options.model in PRESETS:
        suits = family(options.model)
        sides = {name: value or suits.natural_size for name, value in sides.items()}
        settings[f"{SAMPLER}.cfg"] = suits.stage_c_guidance_scale
        settings[f"{SAMPLER}.context"] = suits.context
    if options.cfg is not None:
        settings[f"{SAMPLER}.cfg"] = options.cfg
    return settings | {f"{SAMPLER}.{name}": value for name, value in sides.items() if value is not None}


def variants_for(prompts: Sequence[str], seed: int, count: int) -> list[Variant]:
    """Return one run for each image: `count` seeds from `seed` on for each prompt. Raises: UsageError, for too many."""
    if len(prompts) * count > MAX_POINTS:
        raise UsageError(
            f"{len(prompts)} prompts with {count} seeds each are more than {MAX_POINTS:,} images. Use `wuerstchen "
            "batch`."
        )
    found: list[Variant] = []
    several = len(prompts) * count > 1
    for prompt in prompts:
        for each in (number % (LARGEST_SEED + 1) for number in range(seed, seed + count)):
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


def _piped() -> str:
    """Return the text that is piped into stdin."""
    data = sys.stdin.buffer.read(MAX_TEXT_BYTES + 1)
    if len(data) > MAX_TEXT_BYTES:
        raise UsageError(f"stdin has more than {size_text(MAX_TEXT_BYTES)}; expected one prompt a line.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"stdin is not UTF-8 (byte {data[error.start]:#04x}); expected one prompt a line.") from error


def _family(options: argparse.Namespace) -> Family:
    """Return the settings that suit the model that was asked for; a checkpoint of the user has those of the default."""
    return family(options.model if options.model in PRESETS else DEFAULT_MODEL)


def _check_files(**given: str | None) -> None:
    """Raise UsageError where a file that an argument names is missing. Options are named in small letters."""
    for name, path in given.items():
        if path is not None and not os.path.isfile(path):
            argument = f"--{name}" if name.islower() else name
            raise UsageError(f"{argument} is {path!r}, and there is no such file; expected a PNG, JPEG or WebP file.")


def _model_settings(workflow: Workflow, options: argparse.Namespace) -> dict[str, Any]:
    """Return the loaders' models, and what suits them of Stage B; none where the default example has them."""
    if options.model is None and options.image is None:
        return {}
    settings: dict[str, Any] = dict(_models(workflow, options.model or DEFAULT_MODEL))
    if options.model in PRESETS:
        suits = family(options.model)
        settings[f"{DECODER}.cfg"] = suits.stage_b_guidance_scale
        settings[f"{DECODER}.steps"] = suits.stage_b_steps
        settings[f"{DECODER}.schedule"] = suits.stage_b_schedule
    return settings


def _models(workflow: Workflow, model: str) -> dict[str, str]:
    known = [*PRESETS, *HeadlessHost().model_names()]
    if model not in known:
        hint = did_you_mean(model, known)
        raise UsageError(f"--model is {model!r}; expected one of {', '.join(known)}. {hint}".strip())
    loaders = [node for node in workflow.document.nodes if "Load" in node.type and node.type in NODE_CLASS_MAPPINGS]
    return {f"{node.id}.model": model for node in loaders if model in PRESETS or node.type == "WuerstchenLoadStageC"}
