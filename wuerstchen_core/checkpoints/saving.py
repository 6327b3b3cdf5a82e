"""Save networks in the layout of diffusers: a folder with config.json and safetensors, written whole or not at all."""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InputError, WuerstchenError
from ..files.places import expanded
from ..networks import int8
from ..networks.cocktail_encoder import CocktailEncoder
from ..networks.efficientnet import EfficientNetEncoder
from ..networks.float8 import FLOAT8, eight_bit_keys
from ..networks.operations import compute_dtype
from ..networks.stage_a import StageA
from ..networks.stage_b import StageB
from ..networks.stage_c import StageC
from .components import COCKTAIL_ENCODER, IMAGE_ENCODER, STAGE_A, STAGE_B, STAGE_C, Component
from .layouts import CONFIG_FILE, PREVIEW_FILE, PREVIEWER_FILE, WEIGHT_FILES
from .recipes import Recipe
from .writing import Weight, write_tensors

Saved = StageA | StageB | StageC | EfficientNetEncoder | CocktailEncoder
"""Network that has a folder of its own."""


def save_stage_c(stage_c: StageC | Recipe, path: str | Path, *, dtype: torch.dtype | None = None) -> None:
    """Save Stage C as a folder that `load_stage_c` and diffusers' WuerstchenPrior.from_pretrained read.

    Args:
        stage_c: Network to save, or a recipe, whose weights are made and written one by one.
        path: The folder, created with its parents. In an existing one only the files of the checkpoint are replaced.
        dtype: Dtype of the weights in the file; None keeps theirs, which for a recipe is that of its first checkpoint.
    Raises:
        InputError: `path` is a file, or named like one.
        WuerstchenError: The folder cannot be written; nothing is left half-written.
    """
    _save(STAGE_C, stage_c, path, dtype)


def save_stage_b(stage_b: StageB, path: str | Path, *, dtype: torch.dtype | None = None) -> None:
    """Save Stage B as a folder that `load_stage_b` and diffusers' WuerstchenDiffNeXt read; see `save_stage_c`."""
    _save(STAGE_B, stage_b, path, dtype)


def save_stage_a(stage_a: StageA, path: str | Path, *, dtype: torch.dtype | None = None) -> None:
    """Save Stage A as a folder that `load_stage_a` and diffusers' PaellaVQModel read; see `save_stage_c`."""
    _save(STAGE_A, stage_a, path, dtype)


def save_image_encoder(
    encoder: EfficientNetEncoder | CocktailEncoder, path: str | Path, *, dtype: torch.dtype | None = None
) -> None:
    """Save an image encoder as a folder that `load_image_encoder` reads; see `save_stage_c`."""
    component = COCKTAIL_ENCODER if isinstance(encoder, CocktailEncoder) else IMAGE_ENCODER
    _save(component, encoder, path, dtype)


def _save(component: Component, network: Saved | Recipe, path: str | Path, dtype: torch.dtype | None) -> None:
    folder = expanded(path)
    if folder.is_file() or folder.suffix in (".safetensors", ".pt", ".bin"):
        raise InputError(f"{folder} names a file; expected the folder to write config.json and safetensors to.")
    texts = {CONFIG_FILE: json.dumps({"_class_name": component.class_name, **asdict(network.config)}, indent=2)}
    latent_rgb = network.latent_rgb if isinstance(network, StageB | StageC | Recipe) else None
    if latent_rgb is not None:
        texts[PREVIEW_FILE] = json.dumps({"latent_rgb": _rounded(latent_rgb)})
    files = {WEIGHT_FILES[0]: _weights_of(network, dtype)}
    if isinstance(network, StageC | Recipe) and network.previewer is not None:
        files[PREVIEWER_FILE] = _of_state(network.previewer.layers.state_dict(prefix="blocks."), dtype)
    partial = folder.with_name(f".{folder.name}.{os.urandom(8).hex()}.partial")
    try:
        partial.mkdir(parents=True)
        for name, weights in files.items():
            write_tensors(partial / name, weights)
        for name, text in texts.items():
            (partial / name).write_text(text + "\n", encoding="utf-8")
        if folder.is_dir():
            for file in list(partial.iterdir()):
                os.replace(file, folder / file.name)
        else:
            os.replace(partial, folder)
    except OSError as error:
        reason = error.strerror or error
        raise WuerstchenError(
            f"{component.title} cannot be saved to {folder}: {reason}. Choose a folder that can be written, "
            "with room for it."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _weights_of(network: Saved | Recipe, dtype: torch.dtype | None) -> dict[str, Weight]:
    if not isinstance(network, Recipe):
        return _of_state(int8.floating_state(network), dtype)
    recipe: Recipe = network
    kind = recipe.dtype if dtype is None else dtype
    with torch.device("meta"):
        eight_bits = eight_bit_keys(StageC(recipe.config)) if kind == FLOAT8 else set[str]()
    return {
        key: Weight(
            shape,
            torch.bfloat16 if kind == FLOAT8 and key not in eight_bits else kind,
            lambda key=key: recipe.tensor(key),
        )
        for key, shape in recipe.shapes.items()
    }


def _of_state(state: Mapping[str, Tensor | int8.Linear], dtype: torch.dtype | None) -> dict[str, Weight]:
    return {
        key: _of_tensor(value, dtype) if isinstance(value, Tensor) else _of_layer(value, dtype)
        for key, value in state.items()
    }


def _of_tensor(tensor: Tensor, dtype: torch.dtype | None) -> Weight:
    kind = tensor.dtype if dtype is None or not tensor.is_floating_point() else dtype
    return Weight(tensor.shape, kind, lambda: tensor)


def _of_layer(layer: int8.Linear, dtype: torch.dtype | None) -> Weight:
    kind = dtype or compute_dtype(torch.device("cpu"))
    return Weight(layer.weight.shape, kind, lambda: int8.floating(layer, slice(None), kind))


def _rounded(table: Tensor) -> list[list[float]]:
    return [[round(float(value), 5) for value in row] for row in table]
