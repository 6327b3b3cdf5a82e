"""The config of a network from the names and shapes of its tensors, for files that carry no config.json.

Attention heads leave no trace in the shapes; they are taken to be 64 wide, as in every published checkpoint. Images
have 3 channels and Stage A's latents 4. All functions take tensors under the published names and raise KeyError where
one that they need is absent, ValueError where a shape makes no sense.
"""

import re
from collections.abc import Mapping
from math import isqrt

from torch import Tensor

from ..geometry import STAGE_B_CHANNELS
from ..networks.stage_a import StageAConfig
from ..networks.stage_b import StageBConfig
from ..networks.stage_c import StageCConfig

HEAD_WIDTH = 64
IMAGE_CHANNELS = 3

State = Mapping[str, Tensor]

_LETTER_OF = {
    "depthwise.weight": "C",
    "mapper.weight": "T",
    "attention.to_q.weight": "A",
}
"""A tensor that gives away the type of its block, and the letter of that type in level_config."""


def infer_stage_c(state: State) -> StageCConfig:
    """Stage C's config."""
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
    """Stage B's config. A level's blocks are counted in the shortest repeating unit, which builds the same network."""
    c_cond, clip_embd = state["clip_mapper.weight"].shape
    first = state["embedding.1.weight"]
    patch_size = _patch_size(first.shape[1], STAGE_B_CHANNELS)
    levels = range(_count(state, "down_blocks"))
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
        nhead=tuple(_heads(c) if "A" in unit else -1 for c, (unit, _) in zip(c_hidden, units, strict=True)),
        blocks=tuple(times for _, times in units),
        level_config=tuple(unit for unit, _ in units),
        inject_effnet=tuple(name in state for name in mappers),
        effnet_embd=defaults.effnet_embd if injected is None else injected.shape[1],
        clip_embd=clip_embd,
        kernel_size=defaults.kernel_size if depthwise is None else depthwise.shape[-1],
    )


def infer_stage_a(state: State) -> StageAConfig:
    """Stage A's config, with the published scale_factor."""
    embed_dim, latent_channels = state["up_blocks.0.0.weight"].shape[:2]
    patch = _patch_size(state["in_block.1.weight"].shape[1], IMAGE_CHANNELS)
    levels = _count(state, "down_blocks") // 2
    return StageAConfig(
        in_channels=IMAGE_CHANNELS,
        out_channels=state["out_block.0.weight"].shape[0] // patch**2,
        up_down_scale_factor=patch,
        levels=levels,
        bottleneck_blocks=_count(state, "up_blocks") - 1 - 2 * (levels - 1),
        embed_dim=embed_dim,
        latent_channels=latent_channels,
        num_vq_embeddings=state["vquantizer.embedding.weight"].shape[0],
    )


def _count(state: State, name: str) -> int:
    """How many modules the list `name` has: one more than its largest index."""
    indices = [int(match[1]) for key in state if (match := re.match(rf"{name}\.(\d+)\.", key))]
    if not indices:
        raise KeyError(f"{name}.0")
    return max(indices) + 1


def _any(state: State, pattern: str) -> Tensor | None:
    return next((tensor for key, tensor in state.items() if re.fullmatch(pattern, key)), None)


def _letters(state: State, level: str) -> str:
    """The types of a level's blocks in order, such as "CTACTA"; the change of scale has none."""
    found = ""
    for index in range(_count(state, level)):
        found += next((letter for name, letter in _LETTER_OF.items() if f"{level}.{index}.{name}" in state), "")
    return found


def _repeating_unit(letters: str) -> tuple[str, int]:
    """The shortest unit that, repeated, gives `letters`, and how often: "CTCT" is ("CT", 2)."""
    for length in range(1, len(letters) + 1):
        times, rest = divmod(len(letters), length)
        if rest == 0 and letters[:length] * times == letters:
            return letters[:length], times
    raise ValueError("a level has no blocks")


def _heads(width: int) -> int:
    if width % HEAD_WIDTH:
        raise ValueError(
            f"the number of attention heads cannot be told, since a width of {width} is no multiple of {HEAD_WIDTH}"
        )
    return width // HEAD_WIDTH


def _patch_size(channels: int, image_channels: int) -> int:
    side = isqrt(channels // image_channels)
    if side < 1 or side**2 * image_channels != channels:
        raise ValueError(f"{channels} input channels are no square patch of {image_channels} channels")
    return side
