"""Random LoRAs for the tiny networks, and the key styles in which people publish them."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from wuerstchen_core import StageC

RANK, ALPHA = 4, 2.0


class Pair(NamedTuple):
    """The two matrices of a layer."""

    down: Tensor
    up: Tensor


def attention_layers(depth: int = 2) -> list[str]:
    """Layers that diffusers' scripts train."""
    blocks = range(2, 3 * depth, 3)
    return [f"blocks.{block}.attention.{name}" for block in blocks for name in ("to_q", "to_k", "to_v", "to_out.0")]


def every_layer(network: StageC) -> list[str]:
    """Layers that trainers such as OneTrainer may train."""
    return [key.removesuffix(".weight") for key, weight in network.state_dict().items() if key.endswith("weight")]


def pairs(shapes: Mapping[str, Any], layers: list[str], seed: int = 0, rank: int = RANK) -> dict[str, Pair]:
    """Random matrices that change the output clearly. `shapes` holds tensors or shapes by key, as a state_dict does."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for layer in layers:
        given = shapes[f"{layer}.weight"]
        shape = tuple(given.shape if isinstance(given, Tensor) else given)
        down = torch.randn(rank, *shape[1:], generator=generator) / shape[1] ** 0.5
        up = torch.randn(shape[0], rank, *[1] * (len(shape) - 2), generator=generator) * 0.3
        found[layer] = Pair(down, up)
    return found


def deltas(made: Mapping[str, Pair], scale: float = 1.0) -> dict[str, Tensor]:
    """Changes of the weights by plain arithmetic in float64."""
    return {
        f"{layer}.weight": ((up.double().flatten(1) @ down.double().flatten(1)) * scale).reshape(
            up.shape[0], *down.shape[1:]
        )
        for layer, (down, up) in made.items()
    }


def _written(prefix: str, down: str, up: str, *, underscores: bool = False, alpha: str = "") -> Callable[..., Any]:
    def write(made: Mapping[str, Pair]) -> dict[str, Tensor]:
        state = {}
        for layer, pair in made.items():
            name = prefix + (layer.replace(".", "_") if underscores else layer)
            state[name + down], state[name + up] = pair.down, pair.up
            if alpha:
                state[name + alpha] = torch.tensor(ALPHA)
        return state

    return write


def _processors(prefix: str) -> Callable[..., Any]:
    """Diffusers' form before peft: the matrices belong to attention processors."""

    def write(made: Mapping[str, Pair]) -> dict[str, Tensor]:
        state = {}
        for layer, pair in made.items():
            block, _, name = layer.partition(".attention.")
            start = f"{prefix}{block}.attention.processor.{name.removesuffix('.0')}_lora"
            state[f"{start}.down.weight"], state[f"{start}.up.weight"] = pair.down, pair.up
        return state

    return write


STYLES: dict[str, tuple[Callable[..., dict[str, Tensor]], float]] = {
    "diffusers": (_written("prior.", ".lora_A.weight", ".lora_B.weight"), 1.0),
    "diffusers before peft": (_processors("prior."), 1.0),
    "processors alone": (_processors(""), 1.0),
    "diffusers, third form": (_written("prior.", ".lora.down.weight", ".lora.up.weight"), 1.0),
    "peft": (_written("base_model.model.", ".lora_A.weight", ".lora_B.weight"), 1.0),
    "peft in training": (_written("base_model.model.", ".lora_A.default.weight", ".lora_B.default.weight"), 1.0),
    "bare": (_written("", ".lora_A.weight", ".lora_B.weight"), 1.0),
    "ComfyUI": (_written("diffusion_model.", ".lora_down.weight", ".lora_up.weight", alpha=".alpha"), ALPHA / RANK),
    "OneTrainer": (_written("prior.", ".lora_down.weight", ".lora_up.weight", alpha=".alpha"), ALPHA / RANK),
    "kohya": (
        _written("lora_unet_", ".lora_down.weight", ".lora_up.weight", underscores=True, alpha=".alpha"),
        ALPHA / RANK,
    ),
    "kohya, prior": (
        _written("lora_prior_unet_", ".lora_down.weight", ".lora_up.weight", underscores=True, alpha=".alpha"),
        ALPHA / RANK,
    ),
}
"""Style -> function from matrices to a file's tensors, and the scale that the file gives them."""
