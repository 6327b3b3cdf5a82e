"""Saving networks in the diffusers layout: a folder with config.json and safetensors, whole or not at all."""

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError, WuerstchenError
from ..networks.stage_a import StageA
from ..networks.stage_b import StageB
from ..networks.stage_c import StageC
from .components import STAGE_A, STAGE_B, STAGE_C, Component
from .layouts import CONFIG_FILE, PREVIEW_FILE, WEIGHT_FILES


def save_stage_c(stage_c: StageC, path: str | Path, *, dtype: torch.dtype | None = None) -> None:
    """Write Stage C as a folder that `load_stage_c` and diffusers' WuerstchenPrior.from_pretrained read.

    Args:
        path: the folder; made with its parents. Where it is there already, only these files in it are replaced.
        dtype: to store the weights in; None keeps theirs.
    Raises:
        InputError: `path` is a file, or named like one.
        WuerstchenError: the disk refused; nothing is left half-written.
    """
    _save(STAGE_C, stage_c, path, dtype)


def save_stage_b(stage_b: StageB, path: str | Path, *, dtype: torch.dtype | None = None) -> None:
    """Write Stage B as a folder that `load_stage_b` and diffusers' WuerstchenDiffNeXt read. As `save_stage_c`."""
    _save(STAGE_B, stage_b, path, dtype)


def save_stage_a(stage_a: StageA, path: str | Path, *, dtype: torch.dtype | None = None) -> None:
    """Write Stage A as a folder that `load_stage_a` and diffusers' PaellaVQModel read. As `save_stage_c`."""
    _save(STAGE_A, stage_a, path, dtype)


def _save(component: Component[Any, Any], network: Any, path: str | Path, dtype: torch.dtype | None) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    folder = Path(path).expanduser()
    if folder.is_file() or folder.suffix in (".safetensors", ".pt", ".bin"):
        raise InputError(f"{folder} names a file; expected the folder to write config.json and safetensors to.")
    config = {"_class_name": component.class_name, **asdict(network.config)}
    state = {
        key: tensor.detach().to("cpu", dtype if tensor.is_floating_point() else None).contiguous()
        for key, tensor in network.state_dict().items()
    }
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        save_file(state, partial / WEIGHT_FILES[0], metadata={"format": "pt"})
        (partial / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        if getattr(network, "latent_rgb", None) is not None:
            preview = {"latent_rgb": [[round(value, 5) for value in row] for row in network.latent_rgb.tolist()]}
            (partial / PREVIEW_FILE).write_text(json.dumps(preview) + "\n", encoding="utf-8")
        if folder.is_dir():
            for file in list(partial.iterdir()):
                os.replace(file, folder / file.name)
        else:
            os.replace(partial, folder)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise WuerstchenError(
            f"Stage {component.stage} cannot be saved to {folder}: {reason}. Choose a folder that can be written, "
            "with room for it."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
