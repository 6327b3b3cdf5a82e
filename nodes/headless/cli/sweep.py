"""`--sweep NODE.input=values`: every combination of the values of several inputs."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from wuerstchen_core.files.untrusted import parse_json

from ..errors import UsageError
from ..workflow.catalog import Catalog, Input
from ..workflow.node_names import NodeNames
from ..workflow.overrides import typed

MAX_POINTS = 10_000
_KINDS = {"INT": int, "FLOAT": (int, float), "BOOLEAN": bool}
"""Type of input -> types of its values in JSON; texts for any other."""
_NUMBER = re.compile(r"-?[\d.]+")
_EXPECTED = (
    "expected NODE.input=VALUES: values with commas between (3,4), a range (1..8, or 0..1..0.25 with its step), or a "
    'JSON list (["a, b", "c"])'
)


@dataclass(frozen=True)
class Axis:
    """Values of one input, in order.

    Attributes:
        key: "NODE.input" as it was typed.
        values: Values that the input takes.
    """

    key: str
    values: list[Any]


def axes(prompt: Mapping[str, Any], catalog: Catalog, texts: Sequence[str]) -> list[Axis]:
    """Read the axes of a sweep from its options.

    Args:
        prompt: The workflow in the API format.
        catalog: Node classes.
        texts: Options, each "NODE.input=VALUES".
    Raises:
        UsageError: An option names no input, a value is not of its input's type, or there are too many combinations.
    """
    names = NodeNames(prompt, catalog)
    found: list[Axis] = []
    keys: dict[tuple[str, str], str] = {}
    for text in texts:
        key, equals, values = text.partition("=")
        if not equals or not values:
            raise UsageError(f"--sweep got {text!r}; {_EXPECTED}.")
        key = key.strip()
        node_id, declared = names.find_input(key, option="--sweep")
        earlier = keys.setdefault((node_id, declared.name), key)
        if len(keys) == len(found):
            both = key if earlier == key else f"{earlier} and {key}, which are one input,"
            raise UsageError(f"--sweep names {both} twice; expected one --sweep for each input, with all its values.")
        found.append(Axis(key, _values(values, declared, key)))
        if not found[-1].values:
            raise UsageError(f"--sweep {key} has no values; {_EXPECTED}.")
    if math.prod(len(axis.values) for axis in found) > MAX_POINTS:
        raise UsageError(f"--sweep makes more than {MAX_POINTS} combinations; leave out some values.")
    return found


def points(found: Sequence[Axis]) -> list[dict[str, Any]]:
    """Return every combination as settings, the last axis varying fastest; a single empty one without axes."""
    return [
        dict(zip((axis.key for axis in found), values, strict=True)) for values in product(*(a.values for a in found))
    ]


def label(settings: Mapping[str, Any]) -> str:
    """Format a combination for people: `cfg=3, seed=1`."""
    return ", ".join(f"{key.rpartition('.')[2]}={value}" for key, value in settings.items())


def _values(text: str, declared: Input, key: str) -> list[Any]:
    if text.lstrip().startswith("["):
        try:
            parts: list[Any] = parse_json(text)
        except ValueError as error:
            raise UsageError(f"--sweep {key}: {text!r} is no JSON list ({error}); {_EXPECTED}.") from error
        for part in parts:
            if not isinstance(part, _KINDS.get(declared.type, str)) or (
                isinstance(part, bool) and declared.type != "BOOLEAN"
            ):
                raise UsageError(f"--sweep {key}: {part!r} is no value of type {declared.type}; {_EXPECTED}.")
    else:
        parts = [part.strip() for part in text.split(",")]
    values: list[Any] = []
    for part in parts:
        bounds = part.split("..", 3) if isinstance(part, str) and declared.type in ("INT", "FLOAT") else []
        is_range = len(bounds) in (2, 3) and all(_NUMBER.fullmatch(each) for each in bounds)
        steps = _range(bounds, declared, key) if is_range else [part]
        values += [typed(each, declared, key, option="--sweep") for each in steps]
    return values


def _range(bounds: Sequence[str], declared: Input, key: str) -> list[str]:
    """Return the numbers of a range with both ends, as texts without the noise of binary fractions.

    Args:
        bounds: Its first number, its last one, and the step between two, if that is not 1.
    """
    text = "..".join(bounds)
    kind = int if declared.type == "INT" else float
    try:
        start, end, step = (kind(each) for each in (*bounds, "1")[:3])
        if not math.isfinite(start) or not math.isfinite(end):
            raise ValueError("it has no end")
    except (ValueError, OverflowError) as error:
        raise UsageError(f"--sweep {key}: {text!r} is no range of {declared.type}; {_EXPECTED}.") from error
    if step <= 0:
        raise UsageError(f"--sweep {key}: {text!r} has the step {step}; expected one above 0.")
    if abs(end - start) > step * MAX_POINTS:
        raise UsageError(f"--sweep {key}: {text!r} has too many values; expected at most {MAX_POINTS}.")
    count = math.floor(abs(end - start) / step + 1e-9) + 1
    sign = 1 if end >= start else -1
    numbers = [start + sign * index * step for index in range(count)]
    return [str(number) if declared.type == "INT" else f"{number:.10g}" for number in numbers]
