# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false
# peft is not typed.
"""LoRA layers for training, made by peft, and their file, which diffusers, ComfyUI and `load_lora` read."""

import json
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from ..checkpoints.lora import WORDS_METADATA
from ..checkpoints.writing import Weight, write_tensors
from ..errors import InputError
from ..files.writing import replaced_whole
from ..networks.stage_c import StageC
from ..text.words import listable

Layers = Literal["attention", "all"]
"""Layers that get a LoRA."""
LAYERS: dict[Layers, str] = {
    "attention": r"blocks\.\d+\.attention\.(to_[qkv]|to_out\.0)",
    "all": r"cond_mapper\.[02]|blocks\.\d+\.(attention\.(to_[qkv]|to_out\.0)|channelwise\.[04]|kv_mapper\.1)",
}
"""Name -> pattern of the layers: those of diffusers' scripts, or every linear layer but those of the timestep."""


def add_lora(stage_c: StageC, rank: int, layers: Layers) -> None:
    """Give layers of a network a LoRA in place; only that is trained. It changes nothing at first.

    Args:
        stage_c: Network in eval mode, without gradients.
        rank: Rank of the changes, 1 or more.
        layers: One of LAYERS.
    Raises:
        InputError: peft is not installed, or `rank` is not a positive number.
    """
    if rank < 1:
        raise InputError(f"rank is {rank}; expected 1 or more, such as 4 or 16.")
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise InputError("Training a LoRA needs peft. Run: pip install 'wuerstchen[train]'") from None
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=LAYERS[layers], init_lora_weights="gaussian")
    inject_adapter_in_model(config, stage_c)
    for parameter in stage_c.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


@contextmanager
def without_lora(stage_c: nn.Module) -> Generator[None]:
    """Let a network compute as if it had no LoRA, and record no gradients, until the context ends."""
    from peft.tuners.lora import LoraLayer

    layers = [layer for layer in stage_c.modules() if isinstance(layer, LoraLayer)]
    for layer in layers:
        layer.set_scale("default", 0.0)
    try:
        with torch.no_grad():
            yield
    finally:
        for layer in layers:
            layer.set_scale("default", 1.0)


def save_lora(stage_c: nn.Module, path: Path, words: Sequence[str] = ()) -> None:
    """Write the LoRA of a network, in the key style of diffusers.

    Args:
        stage_c: Network after `add_lora`.
        path: The file.
        words: Words that the LoRA teaches a text encoder which lists those it knows.
    Raises:
        InputError: It cannot be written.
    """
    from peft import get_peft_model_state_dict

    state: dict[str, torch.Tensor] = get_peft_model_state_dict(stage_c, adapter_name="default")
    weights: dict[str, Weight] = {}
    for key, tensor in sorted(state.items()):
        weights[f"prior.{key}"] = Weight(tensor.shape, torch.float16, lambda tensor=tensor: tensor)
    metadata: dict[str, Any] = {WORDS_METADATA: json.dumps(listable(words))} if words else {}
    try:
        with replaced_whole(path) as partial:
            write_tensors(partial, weights, metadata)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}.") from error
