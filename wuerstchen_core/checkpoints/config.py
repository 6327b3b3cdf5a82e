"""From the published config.json to a network's config, strictly."""

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from ..errors import CheckpointError
from ..networks.stage_a import StageAConfig
from ..networks.stage_b import StageBConfig
from ..networks.stage_c import StageCConfig

Config = TypeVar("Config", StageAConfig, StageBConfig, StageCConfig)

_HARMLESS = frozenset({"dtype", "torch_dtype"})
"""Fields that other programs add and that do not change the network."""

_LARGEST = {"depth": 1000, "blocks": 1000, "bottleneck_blocks": 1000, "levels": 8, "c_hidden": 100_000}
"""What is beyond any network that fits a machine; other numbers end at a million."""

_NO_HEADS = -1


def config_from(raw: Mapping[str, object], kind: type[Config], where: str) -> Config:
    """The config that a config.json states. An absent field has its default, as in diffusers.

    Args:
        raw: the JSON object; fields that begin with an underscore are ignored.
        where: the file, for messages.
    Raises:
        CheckpointError: a field is unknown, of the wrong type, or does not fit the others.
    """
    known = {field.name: field for field in fields(kind)}
    given = {name: value for name, value in raw.items() if not name.startswith("_") and name not in _HARMLESS}
    for name in given:
        if name not in known:
            raise CheckpointError(
                f"{where} has the field {name!r}; expected only {', '.join(known)}. It may belong to another model; "
                "if it does not change the network, remove it."
            )
    defaults = kind()
    values: dict[str, Any] = {
        name: _convert(name, value, getattr(defaults, name), where) for name, value in given.items()
    }
    config = kind(**values)
    check(config, where)
    return config


def check(config: StageAConfig | StageBConfig | StageCConfig, where: str) -> None:
    """Raises CheckpointError unless the fields of `config` fit together."""
    problem = _problem(config)
    if problem:
        raise CheckpointError(f"{where}: {problem}. Expected the config of a network that exists; download it again.")


def _problem(config: StageAConfig | StageBConfig | StageCConfig) -> str | None:
    if isinstance(config, StageAConfig):
        divisor = 2 ** (config.levels - 1)
        return f"embed_dim {config.embed_dim} is no multiple of {divisor}" if config.embed_dim % divisor else None
    if config.c_r < 4:
        return f"c_r is {config.c_r}, under 4"
    if isinstance(config, StageCConfig):
        if config.nhead < 1 or config.c % config.nhead:
            return f"c {config.c} cannot be split into nhead {config.nhead}"
        return None
    lengths = {name: len(getattr(config, name)) for name in ("c_hidden", "nhead", "blocks", "level_config")}
    lengths["inject_effnet"] = len(config.inject_effnet)
    if len(set(lengths.values())) > 1 or not config.c_hidden:
        return f"the levels are not equally many: {lengths}"
    if config.kernel_size % 2 == 0:
        return f"kernel_size is {config.kernel_size}, which is even"
    for width, heads, letters in zip(config.c_hidden, config.nhead, config.level_config, strict=True):
        if not letters or set(letters) - set("CTA"):
            return f"level_config has {letters!r}, where only C, T and A are known"
        if "A" in letters and (heads < 1 or width % heads):
            return f"c_hidden {width} cannot be split into nhead {heads}"
    return None


def _convert(name: str, value: object, default: object, where: str) -> object:
    """`value` as the type of `default`, or CheckpointError."""
    if isinstance(default, tuple) and isinstance(value, list):
        return tuple(_convert(name, _joined(item), default[0], where) for item in value)
    if name == "dropout" and isinstance(value, list) and value:  # one a level; it matters to training only
        value = max(value, key=lambda item: item if isinstance(item, float) else 0.0)
    if isinstance(default, str) and isinstance(value, str):
        return value
    if isinstance(default, bool) and isinstance(value, bool):
        return value
    if isinstance(default, float) and isinstance(value, int | float) and not isinstance(value, bool):
        lowest_allowed = value >= 0 if name == "dropout" else value > 0
        if math.isfinite(value) and lowest_allowed and value <= 1000:
            return float(value)
    if isinstance(default, int) and not isinstance(default, bool) and isinstance(value, int):
        allowed = 1 <= value <= _LARGEST.get(name, 1_000_000) or (name == "nhead" and value == _NO_HEADS)
        if allowed and not isinstance(value, bool):
            return value
    example = list(default) if isinstance(default, tuple) else default
    raise CheckpointError(
        f"{where}: {name} is {value!r}; expected something like {example!r}. Download the file again."
    )


def _joined(item: object) -> object:
    """["C", "T"] and "CT" are the same level."""
    return "".join(item) if isinstance(item, list) and all(isinstance(letter, str) for letter in item) else item
