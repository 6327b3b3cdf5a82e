"""Config of a network, from the published config.json or from the names and shapes of its tensors.

Shapes do not show the number of attention heads: heads are assumed to be 64 wide, as in every published checkpoint.
Images are assumed to have 3 channels, and Stage A's latents 4.
"""

import math
import re
import reprlib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar, cast

from torch import Tensor

from ..errors import CheckpointError
from ..geometry import STAGE_B_CHANNELS
from ..networks.cocktail_encoder import CocktailEncoderConfig
from ..networks.efficientnet import EfficientNetEncoderConfig
from ..networks.stage_a import StageAConfig
from ..networks.stage_b import StageBConfig
from ..networks.stage_c import StageCConfig

AnyConfig = StageAConfig | StageBConfig | StageCConfig | EfficientNetEncoderConfig | CocktailEncoderConfig
Config = TypeVar("Config", StageAConfig, StageBConfig, StageCConfig, EfficientNetEncoderConfig, CocktailEncoderConfig)
State = Mapping[str, Tensor]
"""Tensors by their published names."""

HEAD_WIDTH = 64
IMAGE_CHANNELS = 3

_HARMLESS = frozenset({"dtype", "torch_dtype"})
"""Fields that other programs add and that do not change the network."""

_LARGEST = {
    **{"depth": 1000, "blocks": 1000, "bottleneck_blocks": 1000, "levels": 8},
    **{"kernel_size": 31, "patch_size": 64, "up_down_scale_factor": 64, "num_vq_embeddings": 10_000_000},
}
"""Largest value of a field that is still plausible; 100,000 for other fields."""
_MOST_MODULES = 4000
"""Most entries of a list of modules."""
_MOST_LEVELS = 16
"""Most entries of a field with one entry for each level."""

_NO_HEADS = -1

_LETTER_OF = {
    "depthwise.weight": "C",
    "mapper.weight": "T",
    "attention.to_q.weight": "A",
}
"""Tensor that only one type of block has -> letter of that type in level_config."""


def config_from(raw: Mapping[str, object], kind: type[Config], where: str) -> Config:
    """Convert the content of a config.json. An absent field gets its default, as in diffusers.

    Args:
        raw: JSON object; fields that begin with an underscore are ignored.
        kind: Class of the config.
        where: Name of the file, for messages.
    Raises:
        CheckpointError: A field is unknown, has the wrong type, or contradicts another.
    """
    known = {field.name: field for field in fields(kind)}
    given = {name: value for name, value in raw.items() if not name.startswith("_") and name not in _HARMLESS}
    for name in given:
        if name not in known:
            raise CheckpointError(
                f"{where} has the field {name[:100]!r}; expected only {', '.join(known)}. It may belong to another "
                "model; if it does not change the network, remove it."
            )
    defaults = kind()
    values: dict[str, Any] = {
        name: _convert(name, value, getattr(defaults, name), where) for name, value in given.items()
    }
    config = kind(**values)
    check(config, where)
    return config


def blocks_of(config: AnyConfig) -> int:
    """Return the number of blocks of a network, each of which has a tensor or more."""
    if isinstance(config, StageAConfig):
        return 2 * config.levels + config.bottleneck_blocks
    if isinstance(config, StageBConfig):
        return 2 * sum(len(unit) * times for unit, times in zip(config.level_config, config.blocks, strict=True))
    if isinstance(config, StageCConfig):
        return 3 * config.depth
    return config.blocks if isinstance(config, CocktailEncoderConfig) else 0


def check(config: AnyConfig, where: str) -> None:
    """Check that the fields of a config fit together.

    Args:
        config: The config.
        where: Name of its file, for messages.
    Raises:
        CheckpointError: They do not.
    """
    problem = _out_of_range(config) or _problem(config)
    if problem:
        raise CheckpointError(f"{where}: {problem}. No network has such a config; download the file again.")


def infer_stage_c(state: State) -> StageCConfig:
    """Infer Stage C's config from its tensors.

    Raises:
        KeyError: A tensor that is needed is missing.
        ValueError: A shape is impossible.
    """
    c, c_in = state["projection.weight"].shape[:2]
    return StageCConfig(
        c_in=c_in,
        c=c,
        c_cond=state["cond_mapper.0.weight"].shape[1],
        c_r=state["blocks.1.mapper.weight"].shape[1],
        depth=_count(state, "blocks") // 3,
        nhead=_heads(c),
    )


def infer_stage_b(state: State) -> StageBConfig:
    """Infer Stage B's config from its tensors. Errors as for `infer_stage_c`.

    The blocks of a level become the shortest repeating unit of letters, which builds the same network.
    """
    c_cond, clip_embd = state["clip_mapper.weight"].shape
    first = state["embedding.1.weight"]
    patch_size = _patch_size(first.shape[1], STAGE_B_CHANNELS)
    levels = range(_count(state, "down_blocks"))
    if len(levels) > _MOST_LEVELS:
        raise ValueError(f"down_blocks has {len(levels)} levels, and no network has so many")
    c_hidden = [first.shape[0] if i == 0 else state[f"down_blocks.{i}.0.1.weight"].shape[0] for i in levels]
    units = [_repeating_unit(_letters(state, f"down_blocks.{i}")) for i in levels]
    mappers = [f"effnet_mappers.{i}.weight" for i in levels]
    injected = next((state[name] for name in mappers if name in state), None)
    timesteps = _any(state, r"down_blocks\.\d+\.\d+\.mapper\.weight")
    depthwise = _any(state, r"down_blocks\.\d+\.\d+\.depthwise\.weight")
    defaults = StageBConfig()
    return StageBConfig(
        c_in=STAGE_B_CHANNELS,
        c_out=state["clf.1.weight"].shape[0] // (2 * patch_size**2),
        c_r=defaults.c_r if timesteps is None else timesteps.shape[1],
        patch_size=patch_size,
        c_cond=c_cond,
        c_hidden=tuple(c_hidden),
        nhead=tuple(_heads(c) if "A" in unit else _NO_HEADS for c, (unit, _) in zip(c_hidden, units, strict=True)),
        blocks=tuple(times for _, times in units),
        level_config=tuple(unit for unit, _ in units),
        inject_effnet=tuple(name in state for name in mappers),
        effnet_embd=defaults.effnet_embd if injected is None else injected.shape[1],
        clip_embd=clip_embd,
        kernel_size=defaults.kernel_size if depthwise is None else depthwise.shape[-1],
    )


def infer_stage_a(state: State) -> StageAConfig:
    """Infer Stage A's config from its tensors, with the published scale_factor. Errors as for `infer_stage_c`."""
    embed_dim, latent_channels = state["up_blocks.0.0.weight"].shape[:2]
    patch = _patch_size(state["in_block.1.weight"].shape[1], IMAGE_CHANNELS)
    levels = _count(state, "down_blocks") // 2
    return StageAConfig(
        in_channels=IMAGE_CHANNELS,
        out_channels=state["out_block.0.weight"].shape[0] // patch**2,
        up_down_scale_factor=patch,
        levels=levels,
        # up_blocks: one projection, the bottleneck, and two modules for each further level
        bottleneck_blocks=_count(state, "up_blocks") - 1 - 2 * (levels - 1),
        embed_dim=embed_dim,
        latent_channels=latent_channels,
        num_vq_embeddings=state["vquantizer.embedding.weight"].shape[0],
    )


def infer_efficientnet(state: State) -> EfficientNetEncoderConfig:
    """Infer the config of a published image encoder from its tensors. Errors as for `infer_stage_c`."""
    c_latent, c_cond = state["mapper.0.weight"].shape[:2]
    return EfficientNetEncoderConfig(c_latent=c_latent, c_cond=c_cond)


def infer_cocktail_encoder(state: State) -> CocktailEncoderConfig:
    """Infer the config of cocktail's image encoder from its tensors. Errors as for `infer_stage_c`."""
    layers = range(_count(state, "encoder"))
    strided = [key for index in layers if (key := f"encoder.{index}.0.weight") in state][:-1]
    return CocktailEncoderConfig(
        c_latent=state[f"encoder.{layers[-1]}.weight"].shape[0],
        widths=tuple(state[key].shape[0] for key in strided),
        blocks=sum(f"encoder.{index}.depthwise.weight" in state for index in layers),
    )


def _out_of_range(config: AnyConfig) -> str | None:
    for name, value in ((field.name, getattr(config, field.name)) for field in fields(config)):
        values = cast("tuple[object, ...]", value if isinstance(value, tuple) else (value,))
        for each in values[: _MOST_LEVELS + 1]:
            if isinstance(each, int) and not isinstance(each, bool) and not _is_plausible(name, each):
                return f"{name} is {each}; expected 1 to {_largest(name)}"
        if len(values) > _MOST_LEVELS:
            return f"{name} has {len(values)} entries; expected at most {_MOST_LEVELS}, one for each level"
    return None


def _is_plausible(name: str, value: int) -> bool:
    return 1 <= value <= _largest(name) or (name == "nhead" and value == _NO_HEADS)


def _largest(name: str) -> int:
    return _LARGEST.get(name, 100_000)


def _problem(config: AnyConfig) -> str | None:
    if isinstance(config, CocktailEncoderConfig):
        return None if config.widths else "widths is empty"
    if isinstance(config, EfficientNetEncoderConfig):
        known = EfficientNetEncoderConfig().effnet
        return None if config.effnet == known else f"effnet is {config.effnet!r}; expected {known!r}"
    if isinstance(config, StageAConfig):
        channels = config.in_channels, config.out_channels
        if channels != (IMAGE_CHANNELS, IMAGE_CHANNELS):
            return f"in_channels and out_channels are {channels}; expected {IMAGE_CHANNELS} each, as images have"
        divisor = 2 ** (config.levels - 1)
        return f"embed_dim {config.embed_dim} is no multiple of {divisor}" if config.embed_dim % divisor else None
    if config.c_r < 4:
        return f"c_r is {config.c_r}; expected at least 4"
    if isinstance(config, StageCConfig):
        if config.nhead < 1 or config.c % config.nhead:
            return f"c {config.c} cannot be split into nhead {config.nhead}"
        return None
    lengths = {name: len(getattr(config, name)) for name in ("c_hidden", "nhead", "blocks", "level_config")}
    lengths["inject_effnet"] = len(config.inject_effnet)
    if len(set(lengths.values())) > 1 or not config.c_hidden:
        return f"the fields do not have one entry for each level: {lengths}"
    if config.c_in != config.c_out:
        return f"c_in is {config.c_in} and c_out {config.c_out}; expected the same number"
    if config.kernel_size % 2 == 0:
        return f"kernel_size is {config.kernel_size}; expected an odd number"
    for width, heads, letters in zip(config.c_hidden, config.nhead, config.level_config, strict=True):
        if not letters or set(letters) - set("CTA"):
            return f"level_config has {letters[:40]!r}; expected only the letters C, T and A"
        if "A" in letters and (heads < 1 or width % heads):
            return f"c_hidden {width} cannot be split into nhead {heads}"
    return None


def _convert(name: str, value: object, default: object, where: str) -> object:
    """Return a value of a config.json as the type of its default."""
    items = cast("list[object]", value) if isinstance(value, list) else []
    if isinstance(default, tuple) and isinstance(value, list) and len(items) <= _MOST_LEVELS:
        first = cast("tuple[object, ...]", default)[0]
        return tuple(_convert(name, _joined(item), first, where) for item in items)
    if name == "dropout" and items:
        # diffusers has one value a level; it matters to training only
        value = max(items, key=lambda item: item if isinstance(item, float) else 0.0)
    if isinstance(default, str) and isinstance(value, str):
        return value
    if isinstance(default, bool) and isinstance(value, bool):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and not isinstance(default, bool):
        if isinstance(default, float) and (0 < value <= 1000 or (name == "dropout" and value == 0)):
            return float(value)
        if isinstance(default, int) and isinstance(value, int) and _is_plausible(name, value):
            return value
    example = list(cast("tuple[object, ...]", default)) if isinstance(default, tuple) else default
    raise CheckpointError(
        f"{where}: {name} is {reprlib.repr(cast(object, value))}; expected something like {example!r}. Download the "
        "file again."
    )


def _joined(item: object) -> object:
    """Return a level's letters as one string: some files have ["C", "T"] for "CT"."""
    if not isinstance(item, list):
        return item
    letters = [each for each in cast("list[object]", item) if isinstance(each, str)]
    return "".join(letters) if len(letters) == len(cast("list[object]", item)) else cast("object", item)


def _count(state: State, name: str) -> int:
    """Return the length of a module list: one more than the largest index in its keys."""
    indices = [int(match[1]) for key in state if (match := re.match(rf"{name}\.(\d+)\.", key))]
    if not indices:
        raise KeyError(f"{name}.0")
    if max(indices) >= _MOST_MODULES:
        raise ValueError(f"{name} has an entry {max(indices)}, and no network has so many")
    return max(indices) + 1


def _any(state: State, pattern: str) -> Tensor | None:
    return next((tensor for key, tensor in state.items() if re.fullmatch(pattern, key)), None)


def _letters(state: State, level: str) -> str:
    """Return the types of a level's blocks in order, such as "CTACTA"; its up- or downsampling has no letter."""
    found = ""
    for index in range(_count(state, level)):
        found += next((letter for name, letter in _LETTER_OF.items() if f"{level}.{index}.{name}" in state), "")
    return found


def _repeating_unit(letters: str) -> tuple[str, int]:
    """Return the shortest unit that repeats to `letters`, and its number of times: ("CT", 2) for "CTCT"."""
    for length in range(1, len(letters) + 1):
        times, rest = divmod(len(letters), length)
        if rest == 0 and letters[:length] * times == letters:
            return letters[:length], times
    raise ValueError("a level has no blocks")


def _heads(width: int) -> int:
    if width % HEAD_WIDTH:
        raise ValueError(
            f"the number of attention heads is unknown, since the width {width} is no multiple of {HEAD_WIDTH}"
        )
    return width // HEAD_WIDTH


def _patch_size(channels: int, image_channels: int) -> int:
    side = math.isqrt(channels // image_channels)
    if side < 1 or side**2 * image_channels != channels:
        raise ValueError(f"{channels} input channels are no square patch of {image_channels} channels")
    return side
