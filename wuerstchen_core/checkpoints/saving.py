"""Save networks in the layout of diffusers: a folder with config.json and safetensors, written whole or not at all."""

# safetensors types save_file only in part
# pyright: reportUnknownVariableType=false

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InputError, WuerstchenError
from ..networks.cocktail_encoder import CocktailEncoder
from ..networks.efficientnet import EfficientNetEncoder
from ..networks.stage_a import StageA
from ..networks.stage_b import StageB
from ..networks.stage_c import StageC
from .components import COCKTAIL_ENCODER, IMAGE_ENCODER, STAGE_A, STAGE_B, STAGE_C, Component
from .layouts import CONFIG_FILE, PREVIEW_FILE, PREVIEWER_FILE, WEIGHT_FILES

Saved = StageA | StageB | StageC | EfficientNetEncoder | CocktailEncoder
"""Network that has a folder of its own."""


def save_stage_c(stage_c: StageC, path: str | Path, *, dtype: torch.dtype | None = None) -> None:
    """Save Stage C as a folder that `load_stage_c` and diffusers' WuerstchenPrior.from_pretrained read.

    Args:
        stage_c: Network to save.
        path: The folder, created with its parents. In an existing one only the files of the checkpoint are replaced.
        dtype: Dtype of the weights in the file; None keeps theirs.
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


def _save(component: Component, network: Saved, path: str | Path, dtype: torch.dtype | None) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    folder = Path(path).expanduser()
    if folder.is_file() or folder.suffix in (".safetensors", ".pt", ".bin"):
        raise InputError(f"{folder} names a file; expected the folder to write config.json and safetensors to.")
    texts = {CONFIG_FILE: json.dumps({"_class_name": component.class_name, **asdict(network.config)}, indent=2)}
    latent_rgb = network.latent_rgb if isinstance(network, StageB | StageC) else None
    if latent_rgb is not None:
        texts[PREVIEW_FILE] = json.dumps({"latent_rgb": _rounded(latent_rgb)})
    files = {WEIGHT_FILES[0]: network.state_dict()}
    if isinstance(network, StageC) and network.previewer is not None:
        files[PREVIEWER_FILE] = network.previewer.layers.state_dict(prefix="blocks.")
    partial = folder.with_name(f".{folder.name}.{os.urandom(8).hex()}.partial")
    try:
        partial.mkdir(parents=True)
        for name, state in files.items():
            save_file(_stored(state, dtype), partial / name, metadata={"format": "pt"})
        for name, text in texts.items():
            (partial / name).write_text(text + "\n", encoding="utf-8")
        if folder.is_dir():
            for file in list(partial.iterdir()):
                os.replace(file, folder / file.name)
        else:
            os.replace(partial, folder)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise WuerstchenError(
            f"{component.title} cannot be saved to {folder}: {reason}. Choose a folder that can be written, "
            "with room for it."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _stored(state: dict[str, Tensor], dtype: torch.dtype | None) -> dict[str, Tensor]:
    return {
        key: tensor.detach().to("cpu", dtype if tensor.is_floating_point() else None).contiguous()
        for key, tensor in state.items()
    }


def _rounded(table: Tensor) -> list[list[float]]:
    return [[round(float(value), 5) for value in row] for row in table]
